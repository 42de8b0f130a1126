"""HTTP for libraries that speak it through httpx: a transport that reaches only addresses that were checked.

Proxies of the environment are not asked, nothing is redirected here, answers come as they are sent (no compression, so
that few bytes cannot become many), and no answer is longer than it may be.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any, Final

import h11
import httpx2

from .dialer import Dialer, DialFailed
from .hosts import BadHost, normalise
from .http1 import Peer
from .post import WORDS
from .streams import SocketStream

MOST_IDLE: Final = 8
"""Connections that are kept for what is asked next."""

Place = tuple[str, int, bool]
"""Host, port, and whether it is spoken to through TLS."""


class AnswerTooLong(httpx2.StreamError):
    """A body has more bytes than are read."""

    def __init__(self, most_bytes: int) -> None:
        super().__init__(f"the answer has more than {most_bytes} bytes")


class CheckedTransport(httpx2.AsyncBaseTransport):
    """Sends requests in HTTP/1.1 through `dialer` and keeps connections; a body may have `most_bytes`.

    Raises what httpx's own transport does, with messages that name no address, and of the URL the host at most.
    """

    def __init__(self, dialer: Dialer, most_bytes: int) -> None:
        self._dialer = dialer
        self._most_bytes = most_bytes
        self._idle: list[tuple[Place, Peer, SocketStream]] = []
        self._open: set[SocketStream] = set()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        timeout: Mapping[str, Any] = request.extensions.get("timeout", {})
        place, peer, stream = await self._connection(request)
        try:
            async with asyncio.timeout(timeout.get("read")):
                await _send(peer, request)
                head = await peer.response()
            headers = httpx2.Headers(list(head.headers))
            if headers.get("content-encoding", "identity").strip().lower() != "identity":
                raise h11.RemoteProtocolError("the answer is compressed, which it was asked not to be")
        except BaseException as exc:
            self._drop(stream)
            raise _words(exc, request) from None
        body = _Body(self, place, peer, stream, request, timeout.get("read"))
        return httpx2.Response(head.status_code, headers=headers, stream=body, request=request)

    async def aclose(self) -> None:
        for stream in list(self._open):
            self._drop(stream)

    @property
    def most_bytes(self) -> int:
        """The longest body that is read."""
        return self._most_bytes

    def give_back(self, place: Place, peer: Peer, stream: SocketStream) -> None:
        """Keep a connection whose answer was read, or close it if it was not."""
        if stream in self._open and peer.reusable and len(self._idle) < MOST_IDLE:
            peer.http.start_next_cycle()
            self._idle.append((place, peer, stream))
        else:
            self._drop(stream)

    async def _connection(self, request: httpx2.Request) -> tuple[Place, Peer, SocketStream]:
        url = request.url
        try:
            host = normalise(url.host)
        except BadHost as exc:
            raise httpx2.UnsupportedProtocol(str(exc), request=request) from None
        encrypted = url.scheme == "https"
        place = (host, url.port or (443 if encrypted else 80), encrypted)
        for kept in [kept for kept in self._idle if kept[0] == place]:
            self._idle.remove(kept)
            if not kept[2].at_end:
                return kept
            self._drop(kept[2])
        try:
            stream = await self._dialer.dial(host, place[1], encrypted=encrypted)
        except DialFailed as exc:
            raise httpx2.ConnectError(WORDS.get(exc.reason, str(exc)), request=request) from None
        self._open.add(stream)
        return place, Peer(stream, h11.CLIENT), stream

    def _drop(self, stream: SocketStream) -> None:
        self._open.discard(stream)
        stream.abort()


class _Body(httpx2.AsyncByteStream):
    """The body of an answer, read as it is asked for."""

    def __init__(
        self,
        transport: CheckedTransport,
        place: Place,
        peer: Peer,
        stream: SocketStream,
        request: httpx2.Request,
        read_s: float | None,
    ) -> None:
        self._transport = transport
        self._place, self._peer, self._stream = place, peer, stream
        self._request = request
        self._read_s = read_s

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        pieces = self._peer.body()
        while True:
            try:
                async with asyncio.timeout(self._read_s):
                    piece = await anext(pieces)
            except StopAsyncIteration:
                return
            except (OSError, TimeoutError, h11.ProtocolError) as exc:
                raise _words(exc, self._request) from None
            size += len(piece)
            if size > self._transport.most_bytes:
                raise AnswerTooLong(self._transport.most_bytes)
            yield piece

    async def aclose(self) -> None:
        self._transport.give_back(self._place, self._peer, self._stream)


async def _send(peer: Peer, request: httpx2.Request) -> None:
    headers = [(name, value) for name, value in request.headers.raw if name.lower() != b"accept-encoding"]
    headers.append((b"accept-encoding", b"identity"))
    await peer.send(h11.Request(method=request.method, target=request.url.raw_path, headers=headers))
    assert isinstance(request.stream, httpx2.AsyncByteStream)
    with suppress(OSError):  # it may have answered before it read everything
        async for piece in request.stream:
            await peer.send(h11.Data(data=piece))
        await peer.send(h11.EndOfMessage())


def _words(exc: BaseException, request: httpx2.Request) -> BaseException:
    """The error of httpx for one of ours; others as they are."""
    match exc:
        case TimeoutError():
            return httpx2.ReadTimeout("there was no answer in time", request=request)
        case h11.LocalProtocolError():
            return httpx2.LocalProtocolError("the request cannot be said in HTTP/1.1", request=request)
        case h11.ProtocolError():
            return httpx2.RemoteProtocolError(f"the answer is not HTTP/1.1: {exc}", request=request)
        case OSError():
            return httpx2.ReadError("the connection broke", request=request)
        case _:
            return exc
