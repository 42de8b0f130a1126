"""A running container, as the rest of Deskhand sees it."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, aclosing
from pathlib import Path
from typing import Final, assert_never

from deskhand.ports.sandbox import (
    Command,
    Dropped,
    ExecEvent,
    Exited,
    Limits,
    Output,
    SandboxUnavailable,
    TimedOut,
)

from . import cgroups, processes
from .connection import Channel
from .layout import Running
from .protocol import Ended, Expired
from .quota import watched

KILL_PATIENCE_S: Final = 10.0


class Computer:
    """A `Sandbox`: commands go to the container's agent, each over a connection of its own.

    An agent that breaks the protocol or falls silent is not asked again: its container is killed. `full` watches a disk
    that has no ceiling of its own; it returns why nothing more may be written, or "".
    """

    def __init__(
        self,
        container_id: str,
        socket: Path,
        limits: Limits,
        running: Running,
        dial: Callable[[Path], AbstractContextManager[Channel]],
        full: Callable[[], str] | None,
    ) -> None:
        self._container_id = container_id
        self._socket = socket
        self._limits = limits
        self._running = running
        self._dial = dial
        self._full = full

    @property
    def container_id(self) -> str:
        return self._container_id

    @property
    def running(self) -> Running:
        """The host's view: first process and cgroups."""
        return self._running

    def exec(self, command: Command) -> AsyncGenerator[ExecEvent, None]:
        events = self._exec(command)
        return events if self._full is None else watched(events, self._full)

    async def _exec(self, command: Command) -> AsyncGenerator[ExecEvent, None]:
        with self._dial(self._socket) as channel:
            try:
                await channel.begin(command)
                killed_before = cgroups.oom_kills(self._running.group)  # now, while the agent is at work
                async with aclosing(channel.replies(command)) as events:
                    async for event in events:
                        yield self._translate(event, killed_before)
            except SandboxUnavailable:
                await asyncio.to_thread(processes.kill, self._running.init, KILL_PATIENCE_S)
                raise

    async def ping(self) -> None:
        with self._dial(self._socket) as channel:
            await channel.ping()

    def _translate(self, event: Output | Dropped | Ended | Expired, killed_before: int) -> ExecEvent:
        match event:
            case Output() | Dropped():
                return event
            case Ended(code, signal):
                return Exited(code, signal, self._note(event, killed_before))
            case Expired():
                return TimedOut()
            case _:
                assert_never(event)

    def _note(self, ended: Ended, killed_before: int) -> str:
        match ended.shortage:
            case "processes":
                return f"too many processes: the container may have {self._limits.pids} at once; end some and try again"
            case "memory":
                return f"out of memory: the container has {size(self._limits.memory_bytes)}"
            case "files":
                return f"too many open files: a process may have {self._limits.open_files}"
            case "":
                pass
            case _:
                assert_never(ended.shortage)
        if ended.code != 0 and cgroups.oom_kills(self._running.group) > killed_before:
            have = size(self._limits.memory_bytes)
            return f"out of memory: a process was killed because the container has {have} of memory in all"
        return ""


def size(count: int) -> str:
    """Write a number of bytes as people do: "512 MiB"."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count} bytes"
