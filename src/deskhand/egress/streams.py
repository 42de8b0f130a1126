"""Byte streams: a socket, and TLS on top of one, with the same three operations."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

from .frames import Frames
from .secrets import Mask

CHUNK: Final = 64 << 10


class Stream(Protocol):
    """Bytes in both directions. One reader and one writer may use it at the same time."""

    async def read(self) -> bytes:
        """Some bytes, at most `CHUNK`; empty at the end. Raises `OSError`."""
        ...

    async def write(self, data: bytes) -> None:
        """Return when there is room for more. Raises `OSError`."""
        ...

    async def end(self) -> None:
        """Say that nothing more will be written. Raises `OSError`."""
        ...


class SocketStream:
    """An asyncio connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @property
    def at_end(self) -> bool:
        """True if the other side has closed and everything has been read."""
        return self._reader.at_eof() or self._writer.is_closing()

    async def read(self) -> bytes:
        return await self._reader.read(CHUNK)

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def end(self) -> None:
        if self._writer.can_write_eof():
            self._writer.write_eof()

    def abort(self) -> None:
        """Let go at once: a message that was not whole must not look as if it were."""
        self._writer.transport.abort()

    async def close(self) -> None:
        """Let go once everything is written, within moments. Idempotent."""
        self._writer.close()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(1.0):
                await self._writer.wait_closed()
        self._writer.transport.abort()


class Unread:
    """A stream some of whose bytes were read already."""

    def __init__(self, below: Stream, given: bytes) -> None:
        self._below = below
        self._given = given

    async def read(self) -> bytes:
        if self._given:
            given, self._given = self._given[:CHUNK], self._given[CHUNK:]
            return given
        return await self._below.read()

    async def write(self, data: bytes) -> None:
        await self._below.write(data)

    async def end(self) -> None:
        await self._below.end()


class TlsServerStream:
    """The server's side of TLS over another stream. Raises `ssl.SSLError` (an `OSError`) as TLS fails."""

    def __init__(self, below: Stream, context: ssl.SSLContext) -> None:
        self._below = below
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def handshake(self) -> None:
        """Agree on keys. If that fails, the client has been told why."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                data = await self._below.read()
                if not data:
                    raise ConnectionResetError("the client left during the TLS handshake") from None
                self._incoming.write(data)
            except ssl.SSLError:
                await self._flush()
                raise
            else:
                await self._flush()
                return

    async def read(self) -> bytes:
        while True:
            try:
                return self._tls.read(CHUNK)
            except ssl.SSLWantReadError:
                await self._flush()
                data = await self._below.read()
                if not data:
                    return b""
                self._incoming.write(data)
            except ssl.SSLZeroReturnError:
                return b""

    async def write(self, data: bytes) -> None:
        for start in range(0, len(data), CHUNK):
            self._tls.write(data[start : start + CHUNK])
            await self._flush()

    async def end(self) -> None:
        with suppress(ssl.SSLError):
            self._tls.unwrap()
        await self._flush()

    async def _flush(self) -> None:
        # Taken out and handed over without a pause between, so that two tasks keep the order.
        if data := self._outgoing.read():
            await self._below.write(data)


@dataclass(slots=True)
class Traffic:
    """Bytes that left and that came back. `cut` says that they were more than there may be."""

    sent: int = 0
    received: int = 0
    cut: bool = False


class Metered:
    """A connection to the outside, every byte of which counts: as `traffic`, and by `spend`, which says if it may move.

    What may not is an end of the connection.
    """

    def __init__(self, below: SocketStream, spend: Callable[[int], bool], traffic: Traffic) -> None:
        self.traffic = traffic
        self._below = below
        self._spend = spend

    @property
    def at_end(self) -> bool:
        """True if the other side has closed and everything has been read."""
        return self._below.at_end

    async def read(self) -> bytes:
        data = await self._below.read()
        self._count(len(data))
        self.traffic.received += len(data)
        return data

    async def write(self, data: bytes) -> None:
        self._count(len(data))
        self.traffic.sent += len(data)
        await self._below.write(data)

    async def end(self) -> None:
        await self._below.end()

    def abort(self) -> None:
        """Let go at once."""
        self._below.abort()

    def _count(self, size: int) -> None:
        if size and not self._spend(size):
            self.traffic.cut = True
            self.abort()
            raise ConnectionAbortedError("this container has moved as many bytes as it may")


class Paced:
    """A stream of one of many connections that come from the same place: what it reads has to wait for its turn."""

    def __init__(self, below: Stream, turn: Callable[[], Awaitable[None]]) -> None:
        self._below = below
        self._turn = turn
        self._read = b""

    async def read(self) -> bytes:
        if not self._read:
            self._read = await self._below.read()
        await self._turn()  # whoever gives up here has lost nothing
        data, self._read = self._read, b""
        return data

    async def write(self, data: bytes) -> None:
        await self._below.write(data)

    async def end(self) -> None:
        await self._below.end()


class MaskedStream:
    """A stream of WebSocket frames that are masked as they are read, with what `mask` says then."""

    def __init__(self, below: Stream, mask: Callable[[], Mask]) -> None:
        self._below = below
        self._mask = mask
        self._frames = Frames(mask())

    async def read(self) -> bytes:
        while not (passed := self._frames.next()):
            data = await self._below.read()
            if not data:
                return self._frames.finish()
            self._frames.feed(data)
            self._frames.masking.mask = self._mask()
        return passed

    async def write(self, data: bytes) -> None:
        await self._below.write(data)

    async def end(self) -> None:
        await self._below.end()


async def relay(inside: Stream, outside: Stream, idle_s: float) -> None:
    """Copy in both directions until both have ended, failed, or nothing has moved for `idle_s`."""
    clock = asyncio.get_running_loop().time
    last = clock()

    async def read(source: Stream) -> bytes:
        nonlocal last
        while True:
            try:
                async with asyncio.timeout(idle_s):
                    data = await source.read()
                last = clock()
                return data
            except TimeoutError:
                if clock() - last >= idle_s:
                    raise

    async def copy(source: Stream, target: Stream) -> None:
        with suppress(OSError):
            while data := await read(source):
                await target.write(data)
        with suppress(OSError):
            await target.end()

    async with asyncio.TaskGroup() as group:
        group.create_task(copy(inside, outside))
        group.create_task(copy(outside, inside))
