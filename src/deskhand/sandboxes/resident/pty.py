"""An interactive terminal: a program on a pseudo-terminal of the container's own devpts, never one of the host's.

Sources: pts(4), ioctl_tty(2), setsid(2): a session leader that opens a terminal without O_NOCTTY has it as its
controlling terminal, which is how posix_spawn(3) can give one to a program.
"""

from __future__ import annotations

import _struct
import fcntl
import posix as os
import select
import time

from .pipes import READ_SIZE
from .processes import kill_all
from .settings import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .agent import Agent
    from .connection import Connection

TIOCGPTN, TIOCSPTLCK, TIOCSWINSZ = 0x80045430, 0x40045431, 0x5414
PAUSE_AT = 256 << 10
HOLD_AT = 64 << 10
KILL_TICK_S = 0.005


class Terminal:
    """A program and its terminal, from request to last frame. The end of the connection kills what it started."""

    def __init__(self, agent: Agent, connection: Connection, request: Reader) -> None:
        self.agent = agent
        self.connection = connection
        self.rows, self.columns = request.take(">HH")
        self.argv = request.strings()
        self.env = dict(agent.env)
        self.env.update(request.pairs())
        if not self.argv or any(b"\0" in word for word in (*self.argv, *self.env, *self.env.values())):
            raise ValueError("bad command")
        self.master = -1
        self.pid = 0
        self.status: int | None = None
        self.dying = False
        self.passes = 0
        self.alarm = 0.0
        self.typed = bytearray()

    def start(self) -> None:
        self.mark = self.agent.next_mark()
        try:
            self.master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC | os.O_NONBLOCK)
            fcntl.ioctl(self.master, TIOCSPTLCK, _struct.pack("i", 0))
            number = _struct.unpack("i", fcntl.ioctl(self.master, TIOCGPTN, b"\0\0\0\0"))[0]
            self.resize(self.rows, self.columns)
            slave = f"/dev/pts/{number}"
            actions = [
                (os.POSIX_SPAWN_OPEN, 0, slave, os.O_RDWR, 0),
                (os.POSIX_SPAWN_DUP2, 0, 1),
                (os.POSIX_SPAWN_DUP2, 0, 2),
            ]
            self.pid = self.agent.launch(self.argv, self.env, actions)
        except OSError as exc:
            self.connection.send(b"O", b"\1" + (exc.strerror or "cannot start").encode() + b"\r\n")
            self.report(b"E", b"\x7e\0\0")
            return
        self.agent.commands[self.pid] = self
        self.resume()

    def resume(self) -> None:
        full = len(self.connection.outbox) >= PAUSE_AT
        events = (0 if full else select.EPOLLIN) | (select.EPOLLOUT if self.typed else 0)
        if self.master >= 0:
            self.agent.watch(self.master, events, self.on_terminal)

    def on_terminal(self, events: int) -> None:
        if events & select.EPOLLOUT:
            self.type()
        if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR) and self.read():
            self.resume()

    def read(self) -> bool:
        """Move what was printed to the client. False if there was nothing, or nobody has the terminal open (EIO)."""
        try:
            data = os.read(self.master, READ_SIZE)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if data:
            self.connection.send(b"O", b"\1" + data)
            return True
        self.hang_up()
        return False

    def take(self, kind: int, payload: bytes) -> None:
        """What the client sends while the program runs."""
        if kind == ord("I"):
            self.typed += payload
            self.type()
        elif kind == ord("R") and len(payload) == 4:
            self.resize(*_struct.unpack(">HH", payload))

    def type(self) -> None:
        if self.master < 0:
            return
        try:
            while self.typed:
                del self.typed[: os.write(self.master, self.typed[:4096])]
        except BlockingIOError:
            pass
        except OSError:
            self.typed.clear()
        self.connection.hold(len(self.typed) >= HOLD_AT)
        self.resume()

    def resize(self, rows: int, columns: int) -> None:
        try:
            fcntl.ioctl(self.master, TIOCSWINSZ, _struct.pack("HHHH", rows, columns, 0, 0))
        except OSError:
            pass

    def on_exit(self, status: int) -> None:
        """The program has ended; what it has left behind on its terminal goes with it."""
        self.status = status
        if not self.dying:
            for _ in range(16):
                if self.master < 0 or not self.read():
                    break
            self.die()

    def hang_up(self) -> None:
        if self.master >= 0:
            self.agent.unwatch(self.master)
            os.close(self.master)
            self.master = -1

    def abandon(self) -> None:
        if not self.dying:
            self.die()

    def die(self) -> None:
        self.dying = True
        self.hang_up()
        self.agent.timed.add(self)
        self.on_alarm(time.monotonic())

    def on_alarm(self, now: float) -> None:
        self.passes += 1
        alive = kill_all(self.mark, self.agent.mark, self.pid if self.status is None else 0, self.passes)
        if alive or self.status is None:
            self.alarm = now + KILL_TICK_S
            return
        signal = os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else 0
        code = 128 + signal if signal else os.WEXITSTATUS(self.status)
        self.report(b"E", _struct.pack(">BBB", code & 0xFF, signal, 0))

    def report(self, kind: bytes, payload: bytes) -> None:
        self.agent.timed.discard(self)
        self.hang_up()
        self.connection.send(kind, payload)
        self.connection.hold(False)
        self.connection.done()
