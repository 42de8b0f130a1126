"""`deskhand doctor`: what this host can enforce, in plain words, with the command that mends what is missing."""

import os
import tempfile
from pathlib import Path

from rich.console import Console

from .ports.sandbox import EngineReport, Finding
from .sandboxes.registry import ENGINES
from .settings import Settings


async def examine(settings: Settings) -> int:
    """Try the isolation engine out and print what was found. Returns the exit status: 1 if hosted tools cannot run."""
    console = Console(highlight=False, soft_wrap=True)
    data = _writable(settings.data_dir)
    with tempfile.TemporaryDirectory(prefix="deskhand-doctor-") as scratch:
        engine = ENGINES[settings.engine](Path(scratch))
        report = await engine.probe()
        await engine.sweep(())
    findings = [data, *report.findings]
    for finding in findings:
        _show(console, finding)
    console.print()
    console.print(_verdict(report))
    return 0 if report.usable and data.ok else 1


def _show(console: Console, finding: Finding) -> None:
    mark = "[green]ok     [/]" if finding.ok else "[red]MISSING[/]" if finding.required else "[yellow]weak   [/]"
    console.print(f"{mark} {finding.name}: {finding.detail}")
    if not finding.ok and finding.mend:
        console.print(f"        to mend it: {finding.mend}", markup=False)


def _verdict(report: EngineReport) -> str:
    if not report.usable:
        return "[bold red]Hosted tools are refused on this host[/] until what is marked MISSING is mended."
    if report.weaknesses:
        return f"Hosted tools run at isolation level [bold]{report.level}[/], with the weaknesses above."
    return f"Hosted tools run at isolation level [bold]{report.level}[/]; everything is enforced."


def _writable(data_dir: Path) -> Finding:
    place = data_dir
    while not place.exists() and place != place.parent:
        place = place.parent
    ok = place.is_dir() and os.access(place, os.W_OK)
    detail = f"{data_dir} can be written" if ok else f"{data_dir} cannot be written by this user"
    return Finding("data directory", ok=ok, detail=detail, mend="" if ok else "choose another with --data-dir")
