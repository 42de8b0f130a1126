"""Write `docs/reference/attacks.md` from a run: python -m tests.attacks.table [ENGINE ...].

Without a name every engine is attacked. The columns of engines that are not named stay as they are.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import pytest

from deskhand.sandboxes.registry import ENGINES

from .cases import GROUPS, NOT_BUILT, Case, all_cases

PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "attacks.md"
ENGINE_NAMES: Final = sorted(set(ENGINES) - {"none"})

Verdict = Literal["holds", "differs", "not run", "FAILS"]
WORST: Final[Sequence[Verdict]] = ("FAILS", "differs", "not run", "holds")

INTRODUCTION: Final = """# What is attacked, and what holds

Written by `python -m tests.attacks.table` from a run of `tests/attacks/`; do not edit. Each attack is made on every
engine, by a program inside a container or through the API of a real server; what tells whether it got anywhere is
outside: files, sockets and listeners on the host, the host's processes, mounts, control groups and memory. Each has a
control: where nothing forbids it, the same attempt works. The ids are those of a survey of sandboxes, how they are
tested and how they have failed; what our own attempts have added continues the numbers of its group.

**holds**: what must happen, did. **differs**: it does not, and the reason is below. **not run**: not possible on the
machine of the run, for the reason below."""


@dataclass(slots=True)
class Recorder:
    """A pytest plugin that keeps the worst verdict of each test on each engine, and the reasons."""

    verdicts: dict[tuple[str, str], Verdict] = field(default_factory=dict)
    reasons: dict[tuple[str, str], str] = field(default_factory=dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called by pytest for the set-up, the call and the tear-down of each test."""
        known = dict(report.user_properties)
        if "case" not in known or (report.when != "call" and report.passed):
            return
        verdict, reason = judge(report)
        key = str(known["test"]), str(known["engine"])
        before = self.verdicts.get(key, "holds")
        self.verdicts[key] = min(before, verdict, key=WORST.index)
        if reason:
            self.reasons[key] = reason


def judge(report: pytest.TestReport) -> tuple[Verdict, str]:
    """What a report of pytest says of the case."""
    if report.failed:
        return "FAILS", ""
    if report.skipped and hasattr(report, "wasxfail"):
        return "differs", report.wasxfail.removeprefix("reason: ")
    if report.skipped:
        words = report.longrepr[2] if isinstance(report.longrepr, tuple | list) else str(report.longrepr)
        return "not run", words.removeprefix("Skipped: ")
    return "holds", ""


@dataclass(slots=True)
class Results:
    """What is known of every engine: verdicts by test and engine, and lines that say why."""

    verdicts: dict[tuple[str, str], Verdict] = field(default_factory=dict)
    why: dict[str, list[str]] = field(default_factory=dict)

    def take(self, engine: str, verdicts: Mapping[str, Verdict], reasons: Mapping[str, str]) -> None:
        """Put what a run on one engine has found in the place of what was known of it."""
        self.verdicts = {key: verdict for key, verdict in self.verdicts.items() if key[1] != engine}
        self.verdicts |= {(test, engine): verdict for test, verdict in verdicts.items()}
        ids = {case.test: case.id for case in all_cases()}
        found: dict[str, list[str]] = {}
        for test, reason in sorted(reasons.items(), key=lambda pair: ids[pair[0]]):
            found.setdefault(reason, []).append(ids[test])
        self.why[engine] = [f"- {engine}, {named(names)}: {reason}" for reason, names in found.items()]


def named(names: Sequence[str]) -> str:
    """The ids of cases, each once."""
    return "every case" if len(names) > 60 else ", ".join(dict.fromkeys(names))


def read(text: str) -> Results:
    """What the page says."""
    results = Results()
    rows = {row(case): case.test for case in all_cases()}
    for line in text.splitlines():
        start = next((start for start in rows if line.startswith(start)), "")
        if start:
            cells = [cell.strip() for cell in line[len(start) :].strip(" |").split("|")]
            verdicts: dict[str, Verdict] = {word: word for word in WORST}
            for engine, word in zip(ENGINE_NAMES, cells, strict=False):
                results.verdicts[rows[start], engine] = verdicts.get(word, "not run")
        engine = line[2:].partition(",")[0]
        if line.startswith("- ") and engine in ENGINE_NAMES:
            results.why.setdefault(engine, []).append(line)
    return results


def page(cases: Sequence[Case], results: Results) -> str:
    """The whole page."""
    parts = [INTRODUCTION, f"The run: {where()}.", summary(results)]
    for letter, title in GROUPS.items():
        chosen = [case for case in cases if case.id.startswith(letter)]
        if chosen:
            parts.append(f"## {letter}: {title}\n\n" + table(chosen, results.verdicts))
    lines = [line for engine in ENGINE_NAMES for line in results.why.get(engine, [])]
    parts.append("## Why\n\n" + "\n".join(lines or ["Nothing differs, and everything was run."]))
    parts.append("## Not built\n\n" + "\n".join(f"- {name}: {reason}." for name, reason in NOT_BUILT.items()))
    return "\n\n".join(parts) + "\n"


def where() -> str:
    """The machine of this run."""
    who = "root" if os.geteuid() == 0 else "an ordinary user"
    groups = "v2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "v1"
    return f"Linux {platform.release().split('-')[0]}, {platform.machine()}, as {who}, control groups {groups}"


def summary(results: Results) -> str:
    """How many of each verdict for each engine."""
    lines = [f"| engine | {' | '.join(reversed(WORST))} |", "|---" * (len(WORST) + 1) + "|"]
    for engine in ENGINE_NAMES:
        count = Counter(verdict for (_, name), verdict in results.verdicts.items() if name == engine)
        lines.append(f"| {engine} | {' | '.join(str(count[verdict]) for verdict in reversed(WORST))} |")
    return "\n".join(lines)


def table(cases: Sequence[Case], verdicts: Mapping[tuple[str, str], Verdict]) -> str:
    """The rows of a group."""
    lines = [f"| case | attempt | must happen | {' | '.join(ENGINE_NAMES)} |", "|---" * (3 + len(ENGINE_NAMES)) + "|"]
    for case in cases:
        lines.append(f"{row(case)} {' | '.join(cell(case, engine, verdicts) for engine in ENGINE_NAMES)} |")
    return "\n".join(lines)


def row(case: Case) -> str:
    """The beginning of a row, which is the same whatever the run said."""
    return f"| {case.id} | {escaped(case.attempt)} | {escaped(case.expect)} |"


def escaped(text: str) -> str:
    """Text for a cell."""
    return text.replace("|", "\\|")


def cell(case: Case, engine: str, verdicts: Mapping[tuple[str, str], Verdict]) -> str:
    """What an engine did."""
    return verdicts.get((case.test, engine), "not run")


def attack(engine: str) -> tuple[dict[str, Verdict], dict[str, str]]:
    """Run the attacks on one engine, in a process of its own; verdicts and reasons by test."""
    with tempfile.NamedTemporaryFile() as told:
        subprocess.run([sys.executable, "-m", __spec__.name, "--record", told.name],
                       env={**os.environ, "DESKHAND_ATTACK_ENGINES": engine}, check=True)  # fmt: skip
        found = json.loads(Path(told.name).read_text())
    return found["verdicts"], found["reasons"]


def record(target: Path) -> None:
    """Run the attacks, and tell what they found."""
    recorder = Recorder()
    folder = str(Path(__file__).parent)
    pytest.main(
        [folder, "-q", "-p", "no:cacheprovider", "--timeout", "300", f"--ignore={folder}/test_table.py"],
        plugins=[recorder],
    )
    verdicts = {test: verdict for (test, _), verdict in recorder.verdicts.items()}
    reasons = {test: reason for (test, _), reason in recorder.reasons.items()}
    target.write_text(json.dumps({"verdicts": verdicts, "reasons": reasons}))


def main() -> None:
    """Attack the engines that are named, and write the page."""
    if sys.argv[1:2] == ["--record"]:
        return record(Path(sys.argv[2]))
    for engine in sys.argv[1:] or ENGINE_NAMES:
        verdicts, reasons = attack(engine)
        results = read(PAGE.read_text()) if PAGE.exists() else Results()
        results.take(engine, verdicts, reasons)
        PAGE.write_text(page(all_cases(), results))
        print(f"{PAGE}: {engine}: {dict(Counter(verdicts.values()))}")
    return None


if __name__ == "__main__":
    main()
