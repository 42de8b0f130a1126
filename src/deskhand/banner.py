"""What `deskhand serve` prints when it is up."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from . import __version__
from .server import Listening
from .settings import Settings

MAX_MODELS = 12


def show_banner(settings: Settings, listening: Listening) -> None:
    """Say where the server listens, what isolates the model's commands, and which models are served."""
    console = Console(stderr=True, highlight=False)
    report = listening.served.report
    rows = Table.grid(padding=(0, 2))
    rows.add_row("address", f"{listening.url}/v1")
    if report.usable:
        rows.add_row("isolation", f"{report.level} ({report.engine})")
    else:
        reason = next(f for f in report.findings if f.required and not f.ok)
        rows.add_row("isolation", f"[bold red]none: hosted tools are refused[/]: {reason.detail}")
        if reason.mend:
            rows.add_row("", f"to mend it: {reason.mend}")
    for finding in report.weaknesses:
        if not finding.required:
            rows.add_row("[yellow]not enforced[/]", f"{finding.name}: {finding.detail}")
    rows.add_row("models", _models(listening))
    rows.add_row("data", str(settings.data_dir))
    console.print(f"\n[bold]Deskhand {__version__}[/]")
    console.print(rows)
    if not settings.all_upstreams():
        console.print("\nNo upstream is set, so the built-in offline [bold]demo[/] model answers: it is not an LLM.")
        console.print("Set DESKHAND_UPSTREAM_URL to your model server, for example http://127.0.0.1:11434/v1 (Ollama).")


def show_made_key(url: str, key: str, data_dir: Path) -> None:
    """Show a key that was just made, once, ready to paste."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"\nA key was made and kept in {data_dir / 'api_key'}. It is shown only now:\n")
    console.print(f"export OPENAI_BASE_URL={url}/v1 OPENAI_API_KEY={key}", markup=False)
    console.print()


def _models(listening: Listening) -> str:
    names = list(listening.served.models)
    more = len(names) - MAX_MODELS
    return ", ".join(names[:MAX_MODELS]) + (f" and {more} more" if more > 0 else "") or "whatever the upstream serves"
