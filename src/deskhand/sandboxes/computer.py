"""A running container, as the rest of Deskhand sees it."""

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, aclosing, asynccontextmanager
from pathlib import Path
from typing import assert_never

from deskhand.ports.sandbox import (
    Cell,
    CellEnded,
    CellEvent,
    CellInterrupted,
    Command,
    Dropped,
    ExecEvent,
    Exited,
    InterpreterLost,
    InterpreterRenewed,
    Limits,
    Output,
    Picture,
    SandboxExhausted,
    SandboxGone,
    SandboxUnavailable,
    Session,
    Terminal,
    TimedOut,
)

from . import cgroups, processes
from .connection import Channel
from .interpreters import Interpreter
from .layout import Running
from .protocol import CommandReply, Ended, Expired, Finished, Lost, Shortage, Wanted
from .quota import watched
from .sizes import in_words
from .terminal import AgentTerminal


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
        lend: Callable[[Running], Awaitable[Interpreter | None]],
    ) -> None:
        self._container_id = container_id
        self._socket = socket
        self._limits = limits
        self._running = running
        self._dial = dial
        self._full = full
        self._lend = lend
        self._cells = asyncio.Lock()

    @property
    def container_id(self) -> str:
        return self._container_id

    @property
    def running(self) -> Running:
        """The host's view: first process and cgroups."""
        return self._running

    def exec(self, command: Command) -> AsyncGenerator[ExecEvent, None]:
        events = self._exec(command)
        return events if self._full is None else watched(events, self._full, lambda words: Exited(137, 9, words))

    def run_code(self, cell: Cell) -> AsyncGenerator[CellEvent, None]:
        events = self._run_code(cell)
        return events if self._full is None else watched(events, self._full, InterpreterLost)

    @asynccontextmanager
    async def open_terminal(self, session: Session) -> AsyncIterator[Terminal]:
        with self._dial(self._socket) as channel:
            try:
                await channel.begin_terminal(session)
                yield AgentTerminal(channel, self._full)
            except SandboxUnavailable:
                await asyncio.to_thread(processes.kill, self._running.init, processes.KILL_PATIENCE_S)
                raise
            finally:
                await channel.hang_up()

    async def _exec(self, command: Command) -> AsyncGenerator[ExecEvent, None]:
        killed_before = sys.maxsize
        with self._dial(self._socket) as channel:
            try:
                await channel.begin(command)
                killed_before = cgroups.oom_kills(self._running.group)  # now, while the agent is at work
                async with aclosing(channel.replies(command)) as events:
                    async for event in events:
                        yield self._translate(event, killed_before)
            except SandboxGone as exc:
                raise self._why_gone(exc, killed_before) from exc
            except SandboxUnavailable:
                await asyncio.to_thread(processes.kill, self._running.init, processes.KILL_PATIENCE_S)
                raise

    async def ping(self) -> None:
        with self._dial(self._socket) as channel:
            await channel.ping()

    async def _run_code(self, cell: Cell) -> AsyncGenerator[CellEvent, None]:
        killed_before = sys.maxsize
        async with self._cells:
            with self._dial(self._socket) as channel:
                try:
                    await channel.begin_cell(cell)
                    killed_before = cgroups.oom_kills(self._running.group)
                    async with aclosing(channel.cell_replies(cell)) as replies:
                        async for reply in replies:
                            if isinstance(reply, Wanted):
                                await self._supply(channel)
                                if reply.again:
                                    yield InterpreterRenewed()
                            else:
                                yield self._translate_cell(reply, killed_before)
                except SandboxGone as exc:
                    raise self._why_gone(exc, killed_before) from exc
                except SandboxUnavailable:
                    await asyncio.to_thread(processes.kill, self._running.init, processes.KILL_PATIENCE_S)
                    raise

    async def _supply(self, channel: Channel) -> None:
        """Give the container the interpreter that it wants: a warm one if there is one, else it starts its own."""
        interpreter = await self._lend(self._running)
        if interpreter is None:
            await channel.start_interpreter()
            return
        with interpreter:
            await channel.lend_interpreter(interpreter.pid, interpreter.descriptors)

    def _translate_cell(self, reply: Output | Dropped | Picture | Finished | Lost, killed_before: int) -> CellEvent:
        match reply:
            case Output() | Dropped() | Picture():
                return reply
            case Finished("interrupted"):
                return CellInterrupted()
            case Finished(outcome):
                return CellEnded(outcome == "failed")
            case Lost():
                return InterpreterLost(self._why_lost(reply, killed_before))
            case _:
                assert_never(reply)

    def _why_lost(self, lost: Lost, killed_before: int) -> str:
        if lost.loss in ("broken", "ended") and cgroups.oom_kills(self._running.group) > killed_before:
            return f"out of memory: the container has {in_words(self._limits.memory_bytes)} of memory in all"
        match lost.loss:
            case "deadline":
                return "it did not heed the interruption at its deadline and was killed"
            case "broken":
                return "the code broke its connection to the computer, so it was ended"
            case "not started":
                return f"it could not be started; {self._shortage(lost.shortage) or 'try again'}"
            case "ended" if lost.signal:
                return f"it was ended by signal {lost.signal} ({_signal_name(lost.signal)})"
            case "ended":
                return f"the code ended it with exit code {lost.code}"
            case _:
                assert_never(lost.loss)

    def _why_gone(self, gone: SandboxGone, killed_before: int) -> SandboxGone:
        if cgroups.oom_kills(self._running.group) <= killed_before:
            return gone
        return SandboxExhausted(f"the computer ran out of memory (it has {in_words(self._limits.memory_bytes)} in all)")

    def _translate(self, event: CommandReply, killed_before: int) -> ExecEvent:
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
        if words := self._shortage(ended.shortage):
            return words
        if ended.code != 0 and cgroups.oom_kills(self._running.group) > killed_before:
            have = in_words(self._limits.memory_bytes)
            return f"out of memory: a process was killed because the container has {have} of memory in all"
        return ""

    def _shortage(self, shortage: Shortage) -> str:
        match shortage:
            case "processes":
                return f"too many processes: the container may have {self._limits.pids} at once; end some and try again"
            case "memory":
                return f"out of memory: the container has {in_words(self._limits.memory_bytes)}"
            case "files":
                return f"too many open files: a process may have {self._limits.open_files}"
            case "":
                return ""
            case _:
                assert_never(shortage)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
