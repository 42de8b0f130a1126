"""Talk to the agent of one container: one connection a command, so that a connection's end is the command's end."""

import asyncio
import os
import socket
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from deskhand.ports.sandbox import Command, Dropped, Output, SandboxGone, SandboxUnavailable

from .protocol import (
    HEADER,
    Ended,
    Expired,
    Pong,
    ProtocolError,
    Reply,
    Transcript,
    exec_frame,
    parse_header,
    parse_reply,
    ping_frame,
)

KILL_PATIENCE_S: Final = 20.0
"""How long after a command's own deadline the agent may take to kill its processes and to say so."""

FAREWELL_S: Final = 5.0
"""How long to wait for the agent to confirm that an abandoned command is dead."""

PING_S: Final = 10.0
READ_SIZE: Final = 256 << 10
LONGEST_ADDRESS: Final = 108
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

    async def begin(self, command: Command) -> None:
        """Have `command` started. Raises `SandboxGone`, `SandboxUnavailable`, `ValueError`."""
        await self._send(exec_frame(command))

    async def replies(self, command: Command) -> AsyncGenerator[Output | Dropped | Ended | Expired, None]:
        """Yield what comes of the command that was begun. Raises `SandboxGone`, `SandboxUnavailable`."""
        transcript = Transcript(command.head_bytes, command.tail_bytes)
        patience_s = command.timeout_s + KILL_PATIENCE_S
        ended = False
        try:
            while not ended:
                # Only waiting counts, not what the consumer does meanwhile: an agent that drips cannot prolong it.
                began = time.monotonic()
                event = _admit(transcript, await self._receive(patience_s))
                patience_s -= time.monotonic() - began
                ended = isinstance(event, Ended | Expired)
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
        """Half-close, which tells the agent to kill the command, and wait until it has closed its side."""
        try:
            async with asyncio.timeout(FAREWELL_S):
                self._socket.shutdown(socket.SHUT_WR)
                while await self._loop.sock_recv(self._socket, READ_SIZE):
                    pass
        except (OSError, TimeoutError):
            return


@contextmanager
def dial(path: Path) -> Iterator[Channel]:
    """Connect to the agent that listens on `path`. Raises `SandboxGone` if nobody does.

    Never waits: a Unix socket connects at once or not at all.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.setblocking(False)
        try:
            _connect(connection, path)
        except BlockingIOError as exc:
            raise SandboxUnavailable("too many commands are waiting for the container") from exc
        except OSError as exc:
            raise SandboxGone("the container does not run") from exc
        yield Channel(connection)


def _admit(transcript: Transcript, reply: Reply) -> Output | Dropped | Ended | Expired:
    try:
        return transcript.admit(reply)
    except ProtocolError as exc:
        raise SandboxUnavailable(f"the container's agent cannot be trusted any more: it sent {exc}") from exc


def _connect(connection: socket.socket, path: Path) -> None:
    address = os.fsencode(path)
    if len(address) < LONGEST_ADDRESS:
        connection.connect(address)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)
