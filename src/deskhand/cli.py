"""The command line. Heavy parts are imported when a command needs them, so that `--help` is quick."""

import errno
import gc
import logging
import resource
import sys
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer

from . import __version__
from .cli_containers import app as containers_app
from .cli_egress import app as egress_app
from .command_line import read_settings, run, stop
from .core.errors import DeskhandError
from .settings import table

app = typer.Typer(
    name="deskhand",
    help="A self-hosted server for OpenAI's Responses API in which the model has a computer.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)

_DISK_TROUBLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Where everything is kept.")]
Config = Annotated[Path | None, typer.Option("--config", help="A TOML file of settings (see `deskhand settings`).")]


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on [default: 127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 picks a free one [default: 8080].")] = None,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Serve the API until interrupted."""
    from .banner import show_banner, show_made_key
    from .keys import load_keys
    from .server import Listening, serve

    settings = read_settings(config, host=host, port=port, data_dir=data_dir)
    _configure_logging(settings.log_level)
    _allow_many_connections()

    def announce(listening: Listening) -> None:
        # What was made at start lives for ever: the collector need not look at it again, which took it 50 ms a time.
        gc.collect()
        gc.freeze()
        show_banner(settings, listening)
        if keyring.made:
            show_made_key(listening.url, keyring.made, settings.data_dir)

    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        keyring = load_keys(settings)
        run(serve(settings, keyring, announce))
    except Exception as exc:
        if (reason := _reason(exc, settings.data_dir)) is None:
            raise
        stop(reason)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where to put the file that the agent makes.")] = Path("demo-output"),
) -> None:
    """Start a server on the built-in offline model, send it one real request, and show what the agent does."""
    from .demo import run_demo

    _configure_logging("warning")
    raise typer.Exit(run(run_demo(out)))


@app.command()
def doctor(config: Config = None, data_dir: DataDir = None) -> None:
    """Say what this host can enforce, what is missing, and the command that mends it."""
    from .doctor import examine

    settings = read_settings(config, data_dir=data_dir)
    _configure_logging("warning")
    raise typer.Exit(run(examine(settings)))


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="The archive to write; it must not be there yet.")],
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Write database, files, skills and keys into one archive, while the server runs or not.

    Whoever has the archive has the keys. Containers, snapshots, and what is kept in S3 are not in it.
    """
    from .backup import back_up
    from .progress import shown

    settings = read_settings(config, data_dir=data_dir)
    try:
        with shown() as show:
            done = back_up(settings, file, show)
    except (DeskhandError, OSError) as exc:
        stop(f"nothing was backed up: {exc}")
    typer.echo(f"{file}: the database and {done.blobs} files, {file.stat().st_size:,} bytes")
    _tell_what_is_missing(done.missing, done.elsewhere)


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="An archive that `deskhand backup` wrote.", exists=True, dir_okay=False)],
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Fill a data directory from an archive. It must be empty, and so must the database of DESKHAND_DATABASE_URL.

    Containers are not in an archive: they have expired. Background responses that were under way go on.
    """
    from .composition.backing import locked
    from .progress import shown
    from .restore import check_empty, restore

    settings = read_settings(config, data_dir=data_dir)
    try:
        check_empty(settings.data_dir)
        with locked(settings.data_dir), shown() as show:
            done = restore(settings, file, show)
    except (DeskhandError, OSError) as exc:
        stop(f"nothing was restored: {exc}")
    typer.echo(f"{settings.data_dir}: the database and {done.blobs} files")
    _tell_what_is_missing(done.missing, done.elsewhere)


def _tell_what_is_missing(missing: int, elsewhere: bool) -> None:
    if missing:
        typer.echo(f"deskhand: the bytes of {missing} files or skills are not there: they were lost before", err=True)
    if elsewhere:
        typer.echo("The bytes of files and skills are in S3. Back up the bucket with its own tools.", err=True)


app.add_typer(containers_app, name="containers")
app.add_typer(egress_app, name="egress")
kit_app = typer.Typer(help="The data packages of containers: numpy, pandas, matplotlib, and office files.")
app.add_typer(kit_app, name="kit", no_args_is_help=True)


@kit_app.command("install")
def kit_install() -> None:
    """Install the data packages once for all servers of this host (about 250 MB). Does nothing if they are there."""
    from .sandboxes import kit

    try:
        path = kit.install(lambda words: typer.echo(f"  {words}"))
    except kit.KitError as exc:
        stop(str(exc))
    typer.echo(f"containers have the data packages, from {path}")


@kit_app.command("path")
def kit_path() -> None:
    """Print where the data packages are; exit status 1 if they are not installed."""
    from .sandboxes import kit

    found = kit.finding()
    typer.echo(found.detail)
    raise typer.Exit(0 if found.ok else 1)


@app.command()
def settings() -> None:
    """Print every setting with its variable, default and meaning."""
    typer.echo(table())


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"deskhand {__version__}")


def _reason(exc: Exception, data_dir: Path) -> str | None:
    """Why the server cannot start, if that is the operator's to mend; None for our bug."""
    match exc:
        case DeskhandError():
            return str(exc)
        case OSError() if exc.errno in _DISK_TROUBLE or Path(exc.filename or "/").is_relative_to(data_dir):
            return (
                f"cannot use the data directory {str(data_dir)!r}: {exc.strerror}. Mend it, or choose another with "
                "--data-dir."
            )
        case ExceptionGroup(exceptions=(only,)):
            return _reason(only, data_dir)
        case _:
            return None


def _allow_many_connections() -> None:
    """Lift the soft limit of open files, 1024 on most systems, as far as this process may: a connection is a file."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _configure_logging(level: str) -> None:
    """Log to stderr: readable on a terminal, JSON lines elsewhere. Tracebacks show no values, which may be secret."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if sys.stderr.isatty():
        shared.append(structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback))
    else:
        shared += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=shared,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(name)s: %(message)s")
    # It repeats what servers say, and where they are.
    logging.getLogger("mcp").setLevel(logging.CRITICAL + 1)
