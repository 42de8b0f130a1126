"""The command line. Heavy parts are imported when a command needs them, so that `--help` is quick."""

import asyncio
import errno
import gc
import logging
import resource
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import structlog
import typer
import uvloop

from . import __version__
from .core.errors import DeskhandError
from .settings import Settings, SettingsError, from_process, table

app = typer.Typer(
    name="deskhand",
    help="A self-hosted server for OpenAI's Responses API in which the model has a computer.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)

T = TypeVar("T")

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

    settings = _settings(config, host=host, port=port, data_dir=data_dir)
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
        _stop(reason)


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

    settings = _settings(config, data_dir=data_dir)
    _configure_logging("warning")
    raise typer.Exit(run(examine(settings)))


@app.command()
def settings() -> None:
    """Print every setting with its variable, default and meaning."""
    typer.echo(table())


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"deskhand {__version__}")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on the fast event loop. An interrupt, or a stop during start-up, ends it quietly."""
    # A busy event loop hands the interpreter over to the database's threads only so often: the default of 5 ms let a
    # commit wait for seconds.
    sys.setswitchinterval(0.0005)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(main)
        except (KeyboardInterrupt, asyncio.CancelledError):
            raise typer.Exit(130) from None


def _settings(config: Path | None, **given: object) -> Settings:
    try:
        return from_process(config, **given)
    except SettingsError as exc:
        _stop(str(exc))


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


def _stop(message: str) -> NoReturn:
    typer.echo(f"deskhand: {message}", err=True)
    raise typer.Exit(1)


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
