"""One client of the agent: frames in, frames out."""

from __future__ import annotations

import _socket
import _struct
import posix as os
import select

from .command import PAUSE_AT, Command
from .pipes import READ_SIZE
from .settings import BAD_STRUCT, Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .agent import Agent
    from .cell import Cell
    from .pause import Pause
    from .pty import Terminal

MSG_CMSG_CLOEXEC = 0x40000000
MAX_REQUEST = 8 << 20


class Connection:
    """One client. Its end of file, in the middle of a command, kills the command."""

    def __init__(self, agent: Agent, fd: int) -> None:
        self.agent = agent
        self.fd = fd
        self.inbox = bytearray()
        self.outbox = bytearray()
        self.command: Command | Cell | Pause | Terminal | None = None
        self.terminal: Terminal | None = None
        self.expecting: Cell | None = None
        self.fds: list[int] = []
        self.reading = True
        self.held = False
        self.broken = False
        self.listen()

    def listen(self) -> None:
        events = (select.EPOLLIN if self.reading and not self.held else 0) | (select.EPOLLOUT if self.outbox else 0)
        self.agent.watch(self.fd, events, self.on_event)

    def on_event(self, events: int) -> None:
        if events & select.EPOLLOUT or (self.outbox and not self.reading):
            self.flush()
        if self.reading and events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            self.receive()
        elif events & (select.EPOLLHUP | select.EPOLLERR):
            self.lose()

    def hold(self, held: bool) -> None:
        """Read no more for now, or read on."""
        if held != self.held:
            self.held = held
            if self.reading:
                self.listen()

    def receive(self) -> None:
        try:
            data = self.read_with_descriptors() if self.expecting is not None else os.read(self.fd, 1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.inbox += data
        if not data or len(self.inbox) > MAX_REQUEST:
            self.finish()
        else:
            self.next_request()

    def read_with_descriptors(self) -> bytes:
        end = _socket.socket(fileno=self.fd)
        try:
            data, ancillary, _, _ = end.recvmsg(1 << 16, _socket.CMSG_SPACE(8), MSG_CMSG_CLOEXEC)
        finally:
            end.detach()
        for level, kind, passed in ancillary:
            if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                self.fds += _struct.unpack(f"{len(passed) // 4}i", passed[: len(passed) // 4 * 4])
        return data

    def next_request(self) -> None:
        """Serve the next request, and for a terminal all that has come in already."""
        while self.next_frame() and self.terminal is not None:
            pass

    def next_frame(self) -> bool:
        busy = self.command is not None and self.expecting is None and self.terminal is None
        if busy or len(self.inbox) < 5:
            return False
        size, kind = _struct.unpack_from(">IB", self.inbox)
        if size > MAX_REQUEST:
            self.finish()
            return False
        if len(self.inbox) < 5 + size:
            return False
        payload = bytes(self.inbox[5 : 5 + size])
        del self.inbox[: 5 + size]
        self.serve(kind, payload)
        return True

    def serve(self, kind: int, payload: bytes) -> None:
        if self.terminal is not None:
            self.terminal.take(kind, payload)
            return
        if kind == ord("P"):
            self.send(b"Q", b"")
            self.next_request()
            return
        if self.expecting is not None:
            cell, self.expecting = self.expecting, None
            fds, self.fds = self.fds, []
            cell.supply(payload, fds)
            return
        try:
            if kind == ord("Y"):
                from .cell import Cell  # only containers that run Python pay for it

                self.command = Cell(self.agent, self, Reader(payload))
            elif kind == ord("X"):
                self.command = Command(self.agent, self, Reader(payload))
            elif kind == ord("T"):
                from .pty import Terminal

                self.command = self.terminal = Terminal(self.agent, self, Reader(payload))
            elif kind == ord("Z"):
                from .pause import Pause

                self.command = Pause(self.agent, self)
            else:
                raise ValueError("unknown frame")
        except (ValueError, BAD_STRUCT):
            self.finish()
            return
        self.command.start()

    def send(self, kind: bytes, payload: bytes) -> None:
        if self.broken:
            return
        frame = _struct.pack(">I", len(payload)) + kind + payload
        if not self.outbox:
            try:
                frame = frame[os.write(self.fd, frame) :]
            except BlockingIOError:
                pass
            except OSError:
                self.broken = True
                return
        if frame:
            self.outbox += frame
            self.listen()

    def flush(self) -> None:
        try:
            del self.outbox[: os.write(self.fd, memoryview(self.outbox)[:READ_SIZE].tobytes())]
        except BlockingIOError:
            return
        except OSError:
            self.lose()
            return
        if len(self.outbox) < PAUSE_AT and self.command is not None:
            self.command.resume()
        if not self.outbox and not self.reading and self.command is None:
            self.close()
        else:
            self.listen()

    def lose(self) -> None:
        """The client cannot be written to any more."""
        self.broken = True
        self.outbox.clear()
        self.finish()

    def finish(self) -> None:
        """The client has said its last word: kill its command, then let it see end of file."""
        self.reading = False
        self.agent.unwatch(self.fd)
        if self.command is not None:
            self.command.abandon()
        elif self.outbox:
            self.listen()
        else:
            self.close()

    def done(self) -> None:
        self.command = self.terminal = None
        if self.reading:
            self.next_request()
        elif self.outbox and not self.broken:
            self.listen()
        else:
            self.close()

    def close(self) -> None:
        self.agent.unwatch(self.fd)
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        for fd in self.fds:
            os.close(fd)
        self.fds = []
