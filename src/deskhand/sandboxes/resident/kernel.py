"""The agent's side of the container's Python interpreter (`interpreter.py`): one process, one cell at a time.

The interpreter shares its process with whatever it is given to run, so what it says is bounded here and believed
nowhere: a number ties its words to the cell that runs, and words out of form end it.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import _struct
import errno
import posix as os
import resource
import select
import time

from .pipes import PIPE_SIZE, READ_SIZE, discard
from .processes import MARK_LIMIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .agent import Agent
    from .cell import Cell

BOOT = b"import sys; sys.path.insert(0, '/opt/deskhand'); from resident.interpreter import main; main()"
ENDING_S = 0.2
FALLBACK = b"/usr/bin/python3"
MARKER = "/run/.python"
"""Made with the first interpreter of a container. It is on the container's disk, and so outlives its computer."""


class Kernel:
    """A running interpreter. `control` is the agent's end of its socket, `output` of its pipe."""

    def __init__(self, agent: Agent, pid: int, mark: int, control: int, output: int) -> None:
        self.agent = agent
        self.pid = pid
        self.mark = mark
        self.control = control
        self.output = output
        self.status: int | None = None
        self.broken = False
        self.alarm = 0.0
        self.number = 0
        self.cell: Cell | None = None
        self.queue: list[Cell] = []
        self.inbox = bytearray()
        self.outbox = bytearray()
        for fd in (control, output):
            os.set_blocking(fd, False)
            os.set_inheritable(fd, False)
        agent.commands[pid] = self
        self.resume()

    @classmethod
    def start(cls, agent: Agent) -> Kernel:
        """Start a new process. Raises `OSError`."""
        mark = agent.next_mark()
        ours, theirs = _socket.socketpair()
        read, write = os.pipe2(os.O_CLOEXEC)
        try:
            arguments = [b"-I", b"-c", BOOT]
            try:
                pid = agent.spawn([b"python3", *arguments], agent.env, write, write, theirs.fileno())
            except FileNotFoundError:  # the model has removed its virtual environment
                pid = agent.spawn([FALLBACK, *arguments], agent.env, write, write, theirs.fileno())
        except OSError:
            os.close(read)
            raise
        finally:
            os.close(write)
            theirs.close()
        return cls(agent, pid, mark, ours.detach(), read)

    @classmethod
    def adopt(cls, agent: Agent, pid: int, control: int, output: int) -> Kernel:
        """Take over a process that the server has put into this container and that has run nothing yet."""
        mark = agent.next_mark()
        try:
            resource.prlimit(pid, MARK_LIMIT, (mark, mark))
        except OSError:
            pass  # it is dead already, as its end of file will say
        kernel = cls(agent, pid, mark, control, output)
        words = [word for pair in agent.env.items() for word in pair]
        text = b"".join(_struct.pack(">I", len(word)) + word for word in words)
        kernel.send(b"E", _struct.pack(">I", len(words)) + text)
        return kernel

    # Cells

    def submit(self, cell: Cell) -> None:
        if self.cell is not None:
            self.queue.append(cell)
            return
        self.cell = cell
        self.number += 1
        cell.begin()
        self.send(b"C", _struct.pack(">III", self.number, cell.images, cell.image_bytes) + cell.code)

    def leave(self, cell: Cell) -> None:
        """The cell is over, or wants to run no more."""
        if self.cell is not cell:
            self.queue.remove(cell)
            return
        self.cell = None
        if self.agent.kernel is self and self.queue:
            self.submit(self.queue.pop(0))

    def interrupt(self, *, group: bool) -> None:
        try:
            if group:
                os.killpg(self.pid, _signal.SIGINT)
            else:
                os.kill(self.pid, _signal.SIGINT)
        except OSError:
            pass

    # Events

    def resume(self) -> None:
        if self.output >= 0:
            self.agent.watch(self.output, select.EPOLLIN, self.on_output)
        if self.control >= 0:
            events = select.EPOLLIN | (select.EPOLLOUT if self.outbox else 0)
            self.agent.watch(self.control, events, self.on_control)

    def pause(self) -> None:
        for fd in (self.output, self.control):
            if fd >= 0:
                self.agent.unwatch(fd)

    def on_output(self, _events: int) -> None:
        self.read_output()
        if self.cell is not None and self.cell.is_choked():
            self.pause()

    def read_output(self) -> int:
        """Give what was printed to the cell that runs, or to nobody."""
        try:
            data = os.read(self.output, READ_SIZE)
        except BlockingIOError:
            return 0
        if not data:  # the cell has closed its standard output, and every process that had it is gone
            self.agent.unwatch(self.output)
            os.close(self.output)
            self.output = -1
        elif self.cell is not None:
            self.cell.output.take(1, data)
        return len(data)

    def drain(self) -> None:
        """Take what was printed before now without waiting for writers that may never stop."""
        budget = 4 * PIPE_SIZE
        while self.output >= 0 and budget > 0:
            count = self.read_output()
            if count == 0:
                return
            budget -= count

    def on_control(self, events: int) -> None:
        if events & select.EPOLLOUT:
            self.flush()
        try:
            data = os.read(self.control, READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            # It is ending, or has closed its end and runs on.
            self.agent.unwatch(self.control)
            self.alarm = time.monotonic() + ENDING_S
            self.agent.timed.add(self)
            return
        self.inbox += data
        self.parse()
        if self.cell is not None and self.cell.is_choked():
            self.pause()

    def parse(self) -> None:
        while len(self.inbox) >= 5 and not self.broken:
            size, kind = _struct.unpack_from(">IB", self.inbox)
            if size > self.longest(kind):
                self.cut()
                return
            if len(self.inbox) < 5 + size:
                return
            payload = bytes(self.inbox[5 : 5 + size])
            del self.inbox[: 5 + size]
            self.hear(kind, payload)

    def longest(self, kind: int) -> int:
        if kind == ord("I"):
            return 4 + self.cell.image_bytes if self.cell is not None else 0
        return 5 if kind in (ord("F"), ord("H")) else -1

    def hear(self, kind: int, payload: bytes) -> None:
        if kind == ord("H"):
            return
        if len(payload) < 4 + (kind == ord("F")):
            self.cut()
            return
        cell = self.cell
        if cell is None or _struct.unpack_from(">I", payload)[0] != self.number:
            return
        self.drain()
        if kind == ord("I"):
            cell.show(payload[4:])
        else:
            cell.finish(payload[4])

    def send(self, kind: bytes, payload: bytes) -> None:
        self.outbox += _struct.pack(">I", len(payload)) + kind + payload
        self.flush()

    def flush(self) -> None:
        try:
            while self.outbox:
                del self.outbox[: os.write(self.control, memoryview(self.outbox)[:READ_SIZE].tobytes())]
        except BlockingIOError:
            pass
        except OSError:
            self.outbox.clear()  # it is gone; its end of file says so, too
        self.resume()

    def on_alarm(self, _now: float) -> None:
        self.agent.timed.discard(self)
        self.cut()

    def cut(self) -> None:
        """It does not speak to us any more, or not in form: end it."""
        self.broken = True
        self.agent.unwatch(self.control)
        try:
            os.kill(self.pid, _signal.SIGKILL)
        except ProcessLookupError:  # collected before it was known
            self.agent.commands.pop(self.pid, None)
            self.on_exit(0)

    def on_exit(self, status: int) -> None:
        if self.status is not None:
            return
        self.status = status
        self.agent.timed.discard(self)
        if self.agent.kernel is self:
            self.agent.kernel = None
        self.agent.unwatch(self.control)
        os.close(self.control)
        self.control = -1
        self.drain()
        cell, output = self.cell, self.output
        if cell is not None:
            cell.on_kernel_exit(status)
        for waiting in self.queue:
            waiting.start()
        self.queue = []
        if output >= 0 and self.output >= 0:
            # What a background process prints from now on is for nobody; closing would kill it with SIGPIPE.
            self.agent.watch(output, select.EPOLLIN, lambda _events: discard(self.agent, output))


def was_started_before() -> bool:
    """Tell whether this container had an interpreter before, and remember that it has one now."""
    try:
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        os.close(os.open(MARKER, flags, 0o600))
    except OSError as exc:
        return exc.errno == errno.EEXIST
    return False
