"""What every command has in common: it reads settings, runs a coroutine, and may stop with one line."""

import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import typer
import uvloop

from .settings import Settings, SettingsError, from_process

T = TypeVar("T")


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


def read_settings(config: Path | None, **given: object) -> Settings:
    """The settings of this process; a bad one ends it."""
    try:
        return from_process(config, **given)
    except SettingsError as exc:
        stop(str(exc))


def stop(message: str) -> NoReturn:
    """Say why and end with exit code 1."""
    typer.echo(f"deskhand: {message}", err=True)
    raise typer.Exit(1)
