"""Requests whose container is on another host, passed on to it as they came; those of the Responses API that come over
a WebSocket as streamed ones.

The other host checks the key again; this one only carries bytes. One hop: whoever gets a request that was passed on
answers it or refuses it.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import aiohttp
import msgspec
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect
from yarl import URL

from ..core.errors import ApiError
from ..engine.hosts import Elsewhere
from ..models.sse import EventSplitter
from ..wire.codec import encode
from .bodies import is_spent, kept_body
from .errors import answer
from .stream import until_gone

HOP = "deskhand-hop"
_CONNECT_SECONDS = 5.0
_LONGEST_REFUSAL: Final = 64 << 10
_GONE: Final = 1011
"""The closing code of a server that cannot go on (RFC 6455, section 7.4.1)."""
_UNSAID: Final = (None, 1005, 1006)
"""What stands for a closing code that nobody has sent."""
_ONE_HOP_ONLY = frozenset(
    # RFC 9110, section 7.6.1; and what belongs to this connection, or was dealt with here.
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
        "upgrade", "host", "content-length", "expect", "accept-encoding", "idempotency-key", "date", "server",
        "sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions", "sec-websocket-protocol",
    }
)  # fmt: skip


class Forwarding:
    """Passes requests on. Get one from `Forwarding.open`."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator["Forwarding"]:
        """With connections to other hosts, until the block ends."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS)
        jar = aiohttp.DummyCookieJar()
        async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False, cookie_jar=jar) as session:
            yield cls(session)

    async def answer(self, request: Request, exc: Exception) -> Response:
        """The answer of the host that `exc` names, or why there is none."""
        assert isinstance(exc, Elsewhere)
        if not exc.url or HOP in request.headers or is_spent(request):
            return answer(exc)
        return _PassedOn(self._session, kept_body(request), exc)

    @asynccontextmanager
    async def told(self, elsewhere: Elsewhere, headers: Headers, body: Mapping[str, Any]) -> AsyncIterator["Told"]:
        """What the host of `elsewhere` tells of the response to a streamed `body`, until the block ends.

        `headers` are those that the client came with. Raises the other host's `ApiError`, and `elsewhere` if it cannot
        be reached any more.
        """
        if not elsewhere.url:
            raise elsewhere
        url = URL(f"{elsewhere.url.rstrip('/')}/v1/responses")
        own = {"content-type": "application/json", HOP: "1"}
        sent = [(name, value) for name, value in _passed(headers) if name not in own]
        try:
            async with self._session.post(
                url, headers=[*sent, *own.items()], data=encode(body), allow_redirects=False
            ) as found:
                if found.status != 200:
                    raise _refusal(found, await found.content.read(_LONGEST_REFUSAL))
                yield Told(found)
        except (aiohttp.ClientError, OSError):
            raise elsewhere from None

    async def relay(self, socket: WebSocket, elsewhere: Elsewhere) -> None:
        """Carry messages between a client whose connection is not accepted yet and the host of `elsewhere`.

        Raises `ApiError` if that host refuses, and `elsewhere` if it cannot be reached; the connection is as it was.
        """
        if not elsewhere.url or HOP in socket.headers:
            raise elsewhere
        headers = [*_passed(socket.headers), (HOP, "1")]
        try:
            there = await self._session.ws_connect(_target(elsewhere.url, socket.scope), headers=headers)
        except aiohttp.WSServerHandshakeError as exc:
            message = f"The host of this container refused the connection ({exc.status})."
            raise ApiError(message, status=exc.status) from None
        except (aiohttp.ClientError, OSError):
            raise elsewhere from None
        async with there:
            await socket.accept()
            async with asyncio.TaskGroup() as group:
                ways = group.create_task(_down(there, socket)), group.create_task(_up(socket, there))
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                for way in ways:
                    way.cancel()


async def _down(there: aiohttp.ClientWebSocketResponse, socket: WebSocket) -> None:
    with suppress(RuntimeError, WebSocketDisconnect):  # of a client that has gone
        async for message in there:
            match message.type:
                case aiohttp.WSMsgType.BINARY:
                    await socket.send_bytes(message.data)
                case aiohttp.WSMsgType.TEXT:
                    await socket.send_text(message.data)
                case _:
                    break
        await socket.close(_GONE if there.close_code in _UNSAID else there.close_code)


async def _up(socket: WebSocket, there: aiohttp.ClientWebSocketResponse) -> None:
    with suppress(aiohttp.ClientError, OSError):  # of a host that has gone, which the other way tells
        while (message := await socket.receive())["type"] != "websocket.disconnect":
            if (data := message.get("bytes")) is not None:
                await there.send_bytes(data)
            else:
                await there.send_str(message.get("text") or "")


class Told:
    """The events of a response that another host makes, as it sends them."""

    def __init__(self, found: aiohttp.ClientResponse) -> None:
        self._found = found

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        splitter = EventSplitter()
        async for chunk in self._found.content.iter_any():
            for payload in splitter.feed(chunk):
                yield msgspec.json.decode(payload)

    def cancel(self) -> None:
        """Hear no more: the other host sees that its client is gone, and ends the run."""
        self._found.close()


class _PassedOn(Response):
    """An answer that another host gives."""

    def __init__(self, session: aiohttp.ClientSession, body: bytes | None, elsewhere: Elsewhere) -> None:
        super().__init__()
        self._session = session
        self._sent = body
        self._elsewhere = elsewhere

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, sent = Request(scope, receive), asyncio.Event()
        data = self._sent if self._sent is not None else _chunks(request, sent)
        if self._sent is not None:
            sent.set()
        async with asyncio.TaskGroup() as group:
            passing = group.create_task(self._pass_on(request, data, send))
            gone = group.create_task(_until_gone(receive, sent))
            # The other host is to see that its client is gone: it may run something for it.
            await asyncio.wait((passing, gone), return_when=asyncio.FIRST_COMPLETED)
            passing.cancel()
            gone.cancel()

    async def _pass_on(self, request: Request, data: bytes | AsyncIterator[bytes], send: Send) -> None:
        begun = False
        try:
            async with self._session.request(
                request.method,
                _target(self._elsewhere.url, request.scope),
                headers=[*_passed(request.headers), (HOP, "1")],
                data=data,
                allow_redirects=False,
            ) as found:
                kept = [
                    (name.lower().encode("latin-1"), value.encode("latin-1"))
                    for name, value in found.headers.items()
                    if name.lower() not in _ONE_HOP_ONLY
                ]
                begun = True
                await send({"type": "http.response.start", "status": found.status, "headers": kept})
                async for chunk in found.content.iter_any():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except (aiohttp.ClientError, OSError):
            if begun:
                raise
            await answer(self._elsewhere)(request.scope, request.receive, send)


def _passed(headers: Headers) -> Iterator[tuple[str, str]]:
    return ((name, value) for name, value in headers.items() if name not in _ONE_HOP_ONLY)


def _refusal(found: aiohttp.ClientResponse, body: bytes) -> ApiError:
    """An error of another host as if it were of this one."""
    try:
        error = msgspec.json.decode(body, type=_Refused).error
    except msgspec.DecodeError:
        error = _Error(f"The host of this container answered {found.status}.")
    later = found.headers.get("retry-after", "")
    return ApiError(
        error.message,
        status=found.status,
        code=error.code,
        param=error.param,
        kind=error.type,
        retry_after=int(later) if later.isdecimal() else None,
    )


class _Error(msgspec.Struct):
    message: str
    type: str = "server_error"
    param: str | None = None
    code: str | None = None


class _Refused(msgspec.Struct):
    error: _Error


def _target(url: str, scope: Scope) -> URL:
    """The address at the other host, to the byte: `..` that was encoded must not become a path there."""
    path, query = scope["raw_path"].decode("ascii"), scope["query_string"].decode("latin-1")
    return URL(f"{url.rstrip('/')}{path}{'?' if query else ''}{query}", encoded=True)


async def _chunks(request: Request, sent: asyncio.Event) -> AsyncIterator[bytes]:
    """The body of a request; notes when that has ended."""
    async for chunk in request.stream():
        yield chunk
    sent.set()


async def _until_gone(receive: Receive, sent: asyncio.Event) -> None:
    await sent.wait()
    await until_gone(receive)
