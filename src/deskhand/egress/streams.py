"""Byte streams: a socket, and TLS on top of one, with the same three operations."""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

from .secrets import Mask, Masking

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
    """Bytes that left and that came back."""

    sent: int = 0
    received: int = 0


class MaskedStream:
    """A stream that is masked as it is read."""

    def __init__(self, below: Stream, mask: Mask) -> None:
        self._below = below
        self._masking = Masking(mask)

    async def read(self) -> bytes:
        while data := await self._below.read():
            if passed := self._masking.feed(data):
                return passed
        return self._masking.finish()

    async def write(self, data: bytes) -> None:
        await self._below.write(data)

    async def end(self) -> None:
        await self._below.end()


async def relay(inside: Stream, outside: Stream, traffic: Traffic, idle_s: float) -> None:
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

    async def copy(source: Stream, target: Stream, count: Callable[[int], None]) -> None:
        with suppress(OSError):
            while data := await read(source):
                count(len(data))
                await target.write(data)
        with suppress(OSError):
            await target.end()

    def sent(size: int) -> None:
        traffic.sent += size

    def received(size: int) -> None:
        traffic.received += size

    async with asyncio.TaskGroup() as group:
        group.create_task(copy(inside, outside, sent))
        group.create_task(copy(outside, inside, received))
