"""`deskhand doctor`: what this host can enforce, in plain words, with the command that mends what is missing."""

import os
import tempfile
from pathlib import Path

from rich.console import Console

from .composition.backing import IsolationTooWeak, require_isolation
from .composition.embeddings import load_local
from .core.errors import DeskhandError
from .ports.sandbox import EngineReport, Finding
from .sandboxes.registry import build
from .settings import MissingPackage, Settings


async def examine(settings: Settings) -> int:
    """Try the isolation engine out and print what was found. Returns the exit status: 1 if hosted tools cannot run."""
    console = Console(highlight=False, soft_wrap=True)
    data = _writable(settings.data_dir)
    with tempfile.TemporaryDirectory(prefix="deskhand-doctor-") as scratch:
        names = (settings.engine, *settings.more_engines)
        engine = build(names, Path(scratch), settings.container_image, settings.data_dir / "images")
        report = await engine.probe()
        await engine.sweep(())
    embeddings = _embeddings(settings)
    for finding in (data, *embeddings):
        _show(console, finding)
    for found in (report, *report.others):
        console.print(f"\n[bold]{found.engine}[/], level {found.level}")
        for finding in found.findings:
            _show(console, finding)
    console.print()
    console.print(_verdict(report))
    for other in report.others:
        console.print(_offer(other))
    weak = _too_weak(report, settings)
    if weak:
        console.print(f"[bold red]The server does not start[/]: {weak}")
    return 0 if report.usable and data.ok and not weak and all(finding.ok for finding in embeddings) else 1


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


def _offer(report: EngineReport) -> str:
    if report.usable:
        return f"A container may ask for isolation level [bold]{report.level}[/] ({report.engine})."
    return f"[bold red]No container can have {report.engine}[/] until what is marked MISSING is mended."


def _too_weak(report: EngineReport, settings: Settings) -> str:
    try:
        require_isolation(report, settings.min_isolation)
    except IsolationTooWeak as exc:
        return str(exc)
    return ""


def _embeddings(settings: Settings) -> list[Finding]:
    """What there is to say of the local embedding model, if one is set."""
    path = settings.embedding_model_path
    if path is None:
        return []
    mend = "choose another with DESKHAND_EMBEDDING_MODEL_PATH, or unset it"
    try:
        model = load_local(path)
    except MissingPackage as exc:
        return [Finding("embedding model", ok=False, detail=str(exc))]
    except DeskhandError as exc:
        return [Finding("embedding model", ok=False, detail=str(exc), mend=mend)]
    detail = f"{settings.embedding_name()} makes {model.dimensions} dimensions of at most {model.longest} tokens"
    return [Finding("embedding model", ok=True, detail=detail)]


def _writable(data_dir: Path) -> Finding:
    place = data_dir
    while not place.exists() and place != place.parent:
        place = place.parent
    ok = place.is_dir() and os.access(place, os.W_OK)
    detail = f"{data_dir} can be written" if ok else f"{data_dir} cannot be written by this user"
    return Finding("data directory", ok=ok, detail=detail, mend="" if ok else "choose another with --data-dir")
