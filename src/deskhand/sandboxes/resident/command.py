"""A command from request to last frame."""

from __future__ import annotations

import _struct
import errno
import posix as os
import select
import time

from .output import Output
from .pipes import PIPE_SIZE, READ_SIZE, discard, widen
from .processes import kill_all
from .settings import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .agent import Agent
    from .connection import Connection

PAUSE_AT = 512 << 10
GRACE_S = 0.2
KILL_TICK_S = 0.005
SPAWN_REASONS = {errno.EAGAIN: 1, errno.ENOMEM: 2, errno.EMFILE: 3, errno.ENFILE: 3}


class Command:
    """A command from request to last frame: running, then ending (grace) or dying (being killed), then finished."""

    def __init__(self, agent: Agent, connection: Connection, request: Reader) -> None:
        self.agent = agent
        self.connection = connection
        self.timeout, head, tail = request.take(">dQQ")
        self.output = Output(connection, head, tail)
        self.argv = request.strings()
        self.env = dict(agent.env)
        self.env.update(request.pairs())
        if not self.argv or any(b"\0" in word for word in (*self.argv, *self.env, *self.env.values())):
            raise ValueError("bad command")
        self.pid = 0
        self.status: int | None = None
        self.outcome = b"E"
        self.dying = False
        self.passes = 0
        self.alarm = 0.0
        self.pipes: dict[int, int] = {}

    def start(self) -> None:
        self.mark = self.agent.next_mark()
        ends: list[int] = []
        try:
            ends += os.pipe2(os.O_CLOEXEC)
            ends += os.pipe2(os.O_CLOEXEC)
            self.pid = self.agent.spawn(self.argv, self.env, ends[1], ends[3])
        except OSError as exc:
            for fd in ends:
                os.close(fd)
            self.refuse(exc)
            return
        os.close(ends[1])
        os.close(ends[3])
        self.pipes = {ends[0]: 1, ends[2]: 2}
        for fd in self.pipes:
            os.set_blocking(fd, False)
        self.agent.commands[self.pid] = self
        self.alarm = time.monotonic() + self.timeout
        self.agent.timed.add(self)
        self.resume()

    def refuse(self, exc: OSError) -> None:
        """Answer as a shell does: 127 for a missing command, 126 for one that could not be started."""
        text = b"%s: %s\n" % (self.argv[0][:200], (exc.strerror or "cannot start").encode())
        self.output.take(2, text)
        code = 127 if exc.errno == errno.ENOENT else 126
        self.report(b"E", _struct.pack(">BBB", code, 0, SPAWN_REASONS.get(exc.errno or 0, 0)))

    def resume(self) -> None:
        for fd in self.pipes:
            self.agent.watch(fd, select.EPOLLIN, lambda _events, fd=fd: self.on_output(fd))  # type: ignore[misc]

    def pause(self) -> None:
        for fd in self.pipes:
            self.agent.unwatch(fd)

    def on_output(self, fd: int) -> None:
        self.read(fd)
        if self.status is not None and not self.pipes and not self.dying:
            self.complete()
        elif len(self.connection.outbox) >= PAUSE_AT:
            self.pause()

    def read(self, fd: int) -> int:
        """Move what a pipe holds into the head or the tail; return how much that was."""
        try:
            data = os.read(fd, READ_SIZE)
        except BlockingIOError:
            return 0
        if data:
            if len(data) == 1 << 16:  # a full pipe of default size: this command has much to say
                widen(fd)
            self.output.take(self.pipes[fd], data)
        else:
            del self.pipes[fd]
            self.agent.unwatch(fd)
            os.close(fd)
        return len(data)

    def on_exit(self, status: int) -> None:
        self.status = status
        if self.dying:
            return
        if not self.pipes:
            self.complete()
        else:
            self.alarm = min(self.alarm, time.monotonic() + GRACE_S)
            self.empty_pipes()

    def empty_pipes(self) -> None:
        """Take what was written before now without waiting for writers that may never stop."""
        budget = 4 * PIPE_SIZE
        for fd in list(self.pipes):
            while fd in self.pipes and budget > 0:
                count = self.read(fd)
                budget -= count
                if count == 0:
                    break
        if not self.pipes and self.status is not None and not self.dying:
            self.complete()

    def on_alarm(self, now: float) -> None:
        if self.dying:
            self.kill(now)
        elif self.status is not None:
            self.empty_pipes()
            if self in self.agent.timed:
                self.complete()
        else:
            self.die(b"T")

    def abandon(self) -> None:
        if not self.dying:
            self.die(b"")

    def die(self, outcome: bytes) -> None:
        self.outcome = outcome
        self.dying = True
        self.agent.timed.add(self)
        self.kill(time.monotonic())

    def kill(self, now: float) -> None:
        self.passes += 1
        alive = kill_all(self.mark, self.agent.mark, self.pid if self.status is None else 0, self.passes)
        if alive or self.status is None:
            self.alarm = now + KILL_TICK_S
            return
        self.empty_pipes()
        self.report(self.outcome, b"")

    def complete(self) -> None:
        status = self.status or 0
        signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        code = 128 + signal if signal else os.WEXITSTATUS(status)
        self.report(b"E", _struct.pack(">BBB", code & 0xFF, signal, 0))

    def report(self, kind: bytes, payload: bytes) -> None:
        self.agent.timed.discard(self)
        self.output.finish()
        if kind:
            self.connection.send(kind, payload)
        for fd in self.pipes:
            # A background process still writes here: closing would kill it with SIGPIPE, so read into nothing.
            self.agent.watch(fd, select.EPOLLIN, lambda _events, fd=fd: discard(self.agent, fd))  # type: ignore[misc]
        self.pipes = {}
        self.connection.done()
