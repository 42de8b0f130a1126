"""Write `docs/reference/attacks.md` from a run: python -m tests.attacks.table [options of pytest]."""

import os
import platform
import sys
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


def page(cases: Sequence[Case], recorder: Recorder) -> str:
    """The whole page."""
    parts = [INTRODUCTION, f"The run: {where()}.", summary(recorder)]
    for letter, title in GROUPS.items():
        chosen = [case for case in cases if case.id.startswith(letter)]
        if chosen:
            parts.append(f"## {letter}: {title}\n\n" + table(chosen, recorder.verdicts))
    parts.append("## Why\n\n" + "\n".join(why(cases, recorder)))
    parts.append("## Not built\n\n" + "\n".join(f"- {name}: {reason}." for name, reason in NOT_BUILT.items()))
    return "\n\n".join(parts) + "\n"


def where() -> str:
    """The machine of this run."""
    who = "root" if os.geteuid() == 0 else "an ordinary user"
    groups = "v2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "v1"
    return f"Linux {platform.release().split('-')[0]}, {platform.machine()}, as {who}, control groups {groups}"


def summary(recorder: Recorder) -> str:
    """How many of each verdict for each engine."""
    lines = [f"| engine | {' | '.join(reversed(WORST))} |", "|---" * (len(WORST) + 1) + "|"]
    for engine in ENGINE_NAMES:
        count = Counter(verdict for (_, name), verdict in recorder.verdicts.items() if name in (engine, ""))
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
    """What an engine did, or what is so for every engine."""
    return verdicts.get((case.test, engine)) or verdicts.get((case.test, "")) or "not run"


def why(cases: Sequence[Case], recorder: Recorder) -> Sequence[str]:
    """The reasons, each once, with the cases and engines that it is for."""
    ids = {case.test: case.id for case in cases}
    found: dict[tuple[str, str], list[str]] = {}
    for (test, engine), reason in sorted(recorder.reasons.items(), key=lambda pair: (pair[0][1], ids[pair[0][0]])):
        found.setdefault((engine, reason), []).append(ids[test])
    lines = []
    for (engine, reason), names in found.items():
        shown = "all" if len(names) > 60 else ", ".join(dict.fromkeys(names))
        lines.append(f"- {engine or 'every engine'}, {shown}: {reason}")
    return lines or ["Nothing differs, and everything was run."]


def main() -> int:
    """Run the attacks, write the page."""
    os.environ.setdefault("DESKHAND_ATTACK_ENGINES", "all")  # before the tests are imported
    recorder = Recorder()
    folder = str(Path(__file__).parent)
    code = pytest.main([folder, "-q", "-p", "no:cacheprovider", "--deselect", f"{folder}/test_table.py", *sys.argv[1:]],
                       plugins=[recorder])  # fmt: skip
    if not recorder.verdicts:
        return int(code)
    PAGE.write_text(page(all_cases(), recorder))
    print(f"{PAGE}: {Counter(recorder.verdicts.values())}")
    return int(code)


if __name__ == "__main__":
    raise SystemExit(main())
