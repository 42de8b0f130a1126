"""Talk to the agent of one container: one connection a command, so that a connection's end is the command's end."""

import asyncio
import os
import socket
import stat
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final, TypeVar

from deskhand.ports.sandbox import Cell, Command, Output, SandboxGone, SandboxUnavailable, Session
from deskhand.unix_address import address_of

from .protocol import (
    HEADER,
    CellReply,
    CellTranscript,
    CommandReply,
    Ended,
    Expired,
    Finished,
    Lost,
    Pong,
    ProtocolError,
    Reply,
    Transcript,
    adopt_frame,
    cell_frame,
    exec_frame,
    parse_header,
    parse_reply,
    pause_frame,
    ping_frame,
    start_frame,
    terminal_frame,
)

R = TypeVar("R")
"""What a transcript lets pass."""

KILL_PATIENCE_S: Final = 20.0
"""How long after a command's own deadline the agent may take to kill its processes and to say so."""

FAREWELL_S: Final = 5.0
"""How long to wait for the agent to confirm that an abandoned command is dead."""

PING_S: Final = 10.0
TERMINAL_S: Final = 30 * 24 * 3600.0
"""How long a terminal may be silent."""

READ_SIZE: Final = 256 << 10
"""Size of sun_path (unix(7)); longer ones are reached through their directory's descriptor."""


class Channel:
    """One connection to an agent, straight on the socket: streams would add a third to a command's round trip."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()

    async def ping(self) -> None:
        """Raises `SandboxGone`, `SandboxUnavailable`."""
        await self._send(ping_frame())
        match await self._receive(PING_S):
            case Pong():
                return
            case other:
                raise SandboxUnavailable(f"the container answered a ping with {type(other).__name__}")

    async def pause(self) -> None:
        """Have every process of the container stand still until this connection ends. Raises as `ping` does."""
        await self._send(pause_frame())
        match await self._receive(PING_S):
            case Pong():
                return
            case other:
                raise SandboxUnavailable(f"the container answered a pause with {type(other).__name__}")

    async def begin_terminal(self, session: Session) -> None:
        """Have `session` started. Raises `SandboxGone`, `SandboxUnavailable`, `ValueError`."""
        await self._send(terminal_frame(session))

    async def tell_terminal(self, frame: bytes) -> None:
        """Send a frame for the program that was begun, however long it takes none. Raises `SandboxGone`."""
        try:
            await self._loop.sock_sendall(self._socket, frame)
        except OSError as exc:
            raise SandboxGone("the container died") from exc

    async def hear_terminal(self) -> Output | Ended:
        """What comes next of the program that was begun. Raises `SandboxGone`, `SandboxUnavailable`."""
        match await self._receive(TERMINAL_S):
            case Output() | Ended() as reply:
                return reply
            case other:
                raise SandboxUnavailable(f"the container's agent cannot be trusted any more: {type(other).__name__}")

    async def hang_up(self) -> None:
        """End what was begun, and return when it has ended or a few seconds have passed."""
        await self._abandon()

    async def begin(self, command: Command) -> None:
        """Have `command` started. Raises `SandboxGone`, `SandboxUnavailable`, `ValueError`."""
        await self._send(exec_frame(command))

    def replies(self, command: Command) -> AsyncGenerator[CommandReply, None]:
        """Yield what comes of the command that was begun. Raises `SandboxGone`, `SandboxUnavailable`."""
        return self._replies(Transcript(command.head_bytes, command.tail_bytes).admit, command.timeout_s)

    async def begin_cell(self, cell: Cell) -> None:
        """Have `cell` run, as soon as there is an interpreter. Raises `SandboxGone`, `SandboxUnavailable`."""
        await self._send(cell_frame(cell))

    def cell_replies(self, cell: Cell) -> AsyncGenerator[CellReply, None]:
        """Yield what comes of the cell that was begun. Raises `SandboxGone`, `SandboxUnavailable`."""
        return self._replies(CellTranscript(cell).admit, cell.timeout_s)

    async def start_interpreter(self) -> None:
        """Have the agent start the interpreter that it wants. Raises `SandboxGone`, `SandboxUnavailable`."""
        await self._send(start_frame())

    async def lend_interpreter(self, pid: int, descriptors: Sequence[int]) -> None:
        """Give the agent an interpreter: its pid in there, its socket and its pipe. Raises `SandboxGone`."""
        try:
            socket.send_fds(self._socket, [adopt_frame(pid)], descriptors)
        except OSError as exc:
            raise SandboxGone("the container died") from exc

    async def _replies(self, admit: Callable[[Reply], R], timeout_s: float) -> AsyncGenerator[R, None]:
        patience_s = timeout_s + KILL_PATIENCE_S
        ended = False
        try:
            while not ended:
                # Only waiting counts, not what the consumer does meanwhile: an agent that drips cannot prolong it.
                began = time.monotonic()
                event = _admit(admit, await self._receive(patience_s))
                patience_s -= time.monotonic() - began
                ended = isinstance(event, Ended | Expired | Finished | Lost)
                yield event
        finally:
            if not ended:
                await self._abandon()

    async def _send(self, frame: bytes) -> None:
        try:
            sent = self._socket.send(frame)
        except BlockingIOError:
            sent = 0
        except OSError as exc:
            raise SandboxGone("the container died") from exc
        if sent < len(frame):
            await self._send_rest(frame[sent:])

    async def _send_rest(self, frame: bytes) -> None:
        try:
            async with asyncio.timeout(FAREWELL_S):
                await self._loop.sock_sendall(self._socket, frame)
        except TimeoutError as exc:
            raise SandboxUnavailable("the container does not take commands any more") from exc
        except OSError as exc:
            raise SandboxGone("the container died") from exc

    async def _receive(self, patience_s: float) -> Reply:
        try:
            async with asyncio.timeout(patience_s):
                size, kind = parse_header(await self._take(HEADER.size))
                return parse_reply(kind, await self._take(size))
        except TimeoutError as exc:
            raise SandboxUnavailable(f"the container did not answer within {patience_s:.0f} s") from exc
        except ProtocolError as exc:
            raise SandboxUnavailable(f"the container's agent cannot be trusted any more: it sent {exc}") from exc

    async def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            try:
                data = await self._loop.sock_recv(self._socket, READ_SIZE)
            except OSError:
                data = b""
            if not data:
                raise SandboxGone("the container died")
            self._buffer += data
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    async def _abandon(self) -> None:
        """Half-close, which tells the agent to end the command, and wait until it has closed its side."""
        try:
            async with asyncio.timeout(FAREWELL_S):
                self._socket.shutdown(socket.SHUT_WR)
                while await self._loop.sock_recv(self._socket, READ_SIZE):
                    pass
        except (OSError, TimeoutError):
            return


def dial(path: Path) -> AbstractContextManager[Channel]:
    """Connect to the agent that listens on `path`. Raises `SandboxGone` if nobody does.

    Never waits: a Unix socket connects at once or not at all.
    """
    return _dialled(path, _connect)


def dial_inside(path: Path) -> AbstractContextManager[Channel]:
    """The same where the container made the socket and may put a link in its place: only what is there itself counts.

    It takes a tenth of a millisecond more.
    """
    return _dialled(path, _connect_to_itself)


@contextmanager
def _dialled(path: Path, connect: Callable[[socket.socket, Path], None]) -> Iterator[Channel]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.setblocking(False)
        try:
            connect(connection, path)
        except BlockingIOError as exc:
            raise SandboxUnavailable("too many commands are waiting for the container") from exc
        except OSError as exc:
            raise SandboxGone("the container does not run") from exc
        yield Channel(connection)


def _admit(admit: Callable[[Reply], R], reply: Reply) -> R:
    try:
        return admit(reply)
    except ProtocolError as exc:
        raise SandboxUnavailable(f"the container's agent cannot be trusted any more: it sent {exc}") from exc


def _connect(connection: socket.socket, path: Path) -> None:
    with address_of(path) as address:
        connection.connect(address)


def _connect_to_itself(connection: socket.socket, path: Path) -> None:
    handle = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISSOCK(os.fstat(handle).st_mode):
            raise FileNotFoundError(f"{path} is not a socket")
        connection.connect(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)
