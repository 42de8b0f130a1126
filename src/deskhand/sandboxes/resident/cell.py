"""A cell of Python from request to last frame."""

from __future__ import annotations

import _struct
import posix as os
import time

from .command import KILL_TICK_S, PAUSE_AT, SPAWN_REASONS
from .kernel import Kernel, was_started_before
from .output import Output
from .processes import kill_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .agent import Agent
    from .connection import Connection
    from .settings import Reader

INTERRUPTIONS = (False, True, True, True)
"""How a cell whose time is up is interrupted, in turn: the interpreter alone, then with all that it has started."""
INTERRUPTION_S = 0.5
PNG = b"\x89PNG\r\n\x1a\n"
ENDED, DEADLINE, BROKEN, NOT_STARTED = range(4)


class Cell:
    """One piece of code for the interpreter: waiting for one, then running, then being interrupted, then dying."""

    def __init__(self, agent: Agent, connection: Connection, request: Reader) -> None:
        self.agent = agent
        self.connection = connection
        self.timeout, head, tail, self.images, self.image_bytes = request.take(">dQQII")
        (self.code,) = request.strings()
        self.output = Output(connection, head, tail)
        self.kernel: Kernel | None = None
        self.interruptions = 0
        self.running = False
        self.abandoned = False
        self.dying = False
        self.passes = 0
        self.alarm = 0.0

    def start(self) -> None:
        """Run on the interpreter that there is; else ask the client for one, which has faster ways than we have."""
        self.kernel = self.agent.kernel
        if self.kernel is not None:
            self.kernel.submit(self)
        else:
            self.connection.expecting = self
            self.connection.send(b"N", bytes((was_started_before(),)))

    def supply(self, payload: bytes, fds: list[int]) -> None:
        """The client has an interpreter for us, or leaves it to us to start one."""
        if self.agent.kernel is None:
            try:
                if len(fds) == 2:
                    self.agent.kernel = Kernel.adopt(self.agent, _struct.unpack(">I", payload)[0], *fds)
                    fds = []
                else:
                    self.agent.kernel = Kernel.start(self.agent)
            except OSError as exc:
                self.report(b"L", bytes((NOT_STARTED, 0, 0, SPAWN_REASONS.get(exc.errno or 0, 0))))
                return
        for fd in fds:
            os.close(fd)
        self.start()

    def begin(self) -> None:
        self.running = True
        self.alarm = time.monotonic() + self.timeout
        self.agent.timed.add(self)

    def is_choked(self) -> bool:
        """True if the client does not read fast enough."""
        return len(self.connection.outbox) >= PAUSE_AT

    def resume(self) -> None:
        if self.kernel is not None:
            self.kernel.resume()

    def show(self, picture: bytes) -> None:
        if self.images > 0 and len(picture) <= self.image_bytes and picture.startswith(PNG):
            self.images -= 1
            self.image_bytes -= len(picture)
            self.connection.send(b"I", picture)

    def finish(self, failed: int) -> None:
        if not self.dying:
            self.report(b"F", bytes((2 if self.interruptions else int(failed != 0),)))

    def on_alarm(self, now: float) -> None:
        if self.dying:
            self.kill(now)
        elif self.interruptions < len(INTERRUPTIONS):
            self.interrupt(now)
        else:
            self.dying = True
            self.kill(now)

    def interrupt(self, now: float) -> None:
        assert self.kernel is not None
        self.kernel.interrupt(group=INTERRUPTIONS[self.interruptions])
        self.interruptions += 1
        self.alarm = now + INTERRUPTION_S

    def kill(self, now: float) -> None:
        kernel = self.kernel
        assert kernel is not None
        self.passes += 1
        alive = kill_all(kernel.mark, self.agent.mark, kernel.pid if kernel.status is None else 0, self.passes)
        if alive or kernel.status is None:
            self.alarm = now + KILL_TICK_S
        else:
            self.report(b"L", bytes((DEADLINE, 0, 0, 0)))

    def on_kernel_exit(self, status: int) -> None:
        if self.dying:
            return
        kernel = self.kernel
        assert kernel is not None
        signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        code = 0 if signal else os.WEXITSTATUS(status)
        self.report(b"L", bytes((BROKEN if kernel.broken and signal == 9 else ENDED, code, signal, 0)))

    def abandon(self) -> None:
        """The client is gone."""
        if not self.running:
            if self.kernel is not None:
                self.kernel.leave(self)
            self.kernel = None
            self.connection.done()
        elif not self.abandoned:
            self.abandoned = True
            if self.interruptions == 0:
                self.interrupt(time.monotonic())

    def report(self, kind: bytes, payload: bytes) -> None:
        self.agent.timed.discard(self)
        self.running = False
        self.output.finish()
        self.connection.send(kind, payload)
        if self.kernel is not None:
            self.kernel.leave(self)
        self.connection.done()
