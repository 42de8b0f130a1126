"""The `Idempotency-Key` header: a POST that is sent again under the same key is answered again, and done once.

Pure ASGI, inside the edge, where the project is known. A body is not held back: it is digested as the route reads it. A
route that refuses a body before it has read all of it has done nothing, and the key is free again. Statuses are those
of the IETF draft "The Idempotency-Key HTTP Header Field", section 2.7: 409 while the first request runs, 422 for
another request under the key. The SDK tries a 409 again and a 422 not (API reference, "Retry contract").
"""

from contextlib import suppress
from typing import Final
from urllib.parse import quote, urlencode

import structlog
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response as HttpResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..core.errors import ApiError, StoreUnavailable
from ..core.fingerprint import Fingerprint
from ..engine.idempotency import Answer, Idempotency, KeyClaim, Stored, Used
from ..wire.request import CreateResponse
from ..wire.response import Response

log = structlog.get_logger()

HEADER: Final = b"idempotency-key"
LONGEST_KEY: Final = 255
_REPLAYED: Final = "idempotent-replayed"
_EXCHANGE: Final = "idempotent_exchange"
_TRIED_AGAIN: Final = frozenset({408, 409, 425, 429})
"""Answers that ask for the same request again: they settle nothing (API reference, "Retry contract")."""
_UNSTORED: Final = frozenset(
    {
        "/v1/responses/compact",
        "/v1/responses/input_tokens",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
    }
)
"""What clients send and get here is stored nowhere, so not with a key either."""


class IdempotencyKeys:
    """Around the application; requests without the header pass by."""

    def __init__(self, app: ASGIApp, idempotency: Idempotency, max_body_bytes: int) -> None:
        self._app = app
        self._idempotency = idempotency
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST" and any(name == HEADER for name, _ in scope["headers"]) and _owned(scope):
            await self._once(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _once(self, scope: Scope, receive: Receive, send: Send) -> None:
        fingerprint = _fingerprint(scope)
        found = await self._idempotency.claim(scope["state"]["owner"], _key(scope), fingerprint)
        match found:
            case KeyClaim():
                found.on_disk = scope["path"] not in _UNSTORED
                await self._first(found, scope, receive, send)
            case Used():
                await _read_all(receive, fingerprint, self._max_body_bytes)
                told = await self._idempotency.again(found, fingerprint.value())
                await self._again(told, scope, receive, send)

    async def _first(self, claim: KeyClaim, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = _Exchange(claim, self._idempotency, receive, send, self._max_body_bytes)
        exchange.read = _bodyless(scope)
        scope["state"][_EXCHANGE] = exchange
        try:
            await self._app(scope, exchange.receive, exchange.send)
        finally:
            await exchange.end()

    async def _again(self, told: Answer | Stored, scope: Scope, receive: Receive, send: Send) -> None:
        match told:
            case Answer(status, content_type, body):
                response = HttpResponse(body, status, {_REPLAYED: "true"}, content_type or None)
                await response(scope, receive, send)
            case Stored(response_id, query):
                path = f"/v1/responses/{response_id}"
                reading = {
                    **scope,
                    "method": "GET",
                    "path": path,
                    "raw_path": quote(path).encode(),
                    "query_string": query.encode(),
                }
                await self._app(reading, receive, _marked(send))


class _Exchange:
    """One request that holds a key, between its client and its route."""

    def __init__(
        self, claim: KeyClaim, idempotency: Idempotency, receive: Receive, send: Send, max_body_bytes: int
    ) -> None:
        self._claim = claim
        self._idempotency = idempotency
        self._receive = receive
        self._send = send
        self._max_body_bytes = max_body_bytes
        self.read = False
        self._gone = False
        self._settled = False
        self._recording = idempotency.recording()
        self._status = 0
        self._content_type = ""

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._claim.fingerprint.feed(message.get("body", b""))
            self.read = self.read or not message.get("more_body", False)
        else:
            self._gone = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._content_type = Headers(raw=message["headers"]).get("content-type", "")
            if self._claim.lasting and self._keeps():
                await self._settle()
        elif message["type"] == "http.response.body" and not self._settled:
            self._recording.add(message.get("body", b""))
            if not message.get("more_body", False):
                await self._read_rest()
            # Before the client can know that it has all of it, and send the next one.
            if not message.get("more_body", False) and self._keeps() and not self._gone:
                await self._settle()
        await self._send(message)

    async def announce(self, response: Response, body: CreateResponse) -> None:
        """Keep in mind which response the route is about to start."""
        background = bool(body.background)
        query = _reading(body) if background or not body.stream else None
        await self._idempotency.name(self._claim, response.id, query, lasting=background)

    def keep_off_disk(self) -> None:
        """What is answered may not be stored, whoever answers it."""
        self._claim.on_disk = False

    async def end(self) -> None:
        """Give back what has settled nothing. Idempotent."""
        self._recording.close()
        if self._settled:
            return
        self._settled = True
        if self._claim.lasting and (not self._status or self._keeps()):
            self._idempotency.abandon(self._claim)
        elif self._gone:
            await self._idempotency.left(self._claim)
        else:
            await self._idempotency.release(self._claim)

    def _keeps(self) -> bool:
        most = 400 if self._claim.response_id else 500
        return self.read and self._status < most and self._status not in _TRIED_AGAIN

    async def _read_rest(self) -> None:
        """Read what a route that did its work had no use for."""
        if not self.read and self._status < 400:
            with suppress(ApiError, ClientDisconnect):
                await _read_all(self._receive, self._claim.fingerprint, self._max_body_bytes)
                self.read = True

    async def _settle(self) -> None:
        self._settled = True
        body = self._recording.body()
        streamed = self._content_type.startswith("text/event-stream")
        self._claim.on_disk = self._claim.on_disk and not streamed
        answer = None if body is None else Answer(self._status, self._content_type, body)
        try:
            await self._idempotency.settle(self._claim, answer)
        except StoreUnavailable as exc:
            # What was done is done, and its client must know.
            log.warning("idempotency.not_kept", error=str(exc))
        finally:
            self._recording.close()


def keep_off_disk(request: Request, body: CreateResponse) -> None:
    """Tell the key of a request, if it has one, that its answer may not be stored, if `body` says so.

    Said as soon as that is known: what is refused, or answered by another host, also tells of what was asked.
    """
    exchange: _Exchange | None = request.scope["state"].get(_EXCHANGE)
    if exchange is not None and body.store is False:
        exchange.keep_off_disk()


async def announce(request: Request, response: Response, body: CreateResponse) -> None:
    """Tell the key of a request, if it has one, which response is about to be stored for it, if it is."""
    exchange: _Exchange | None = request.scope["state"].get(_EXCHANGE)
    if exchange is not None and response.store:
        await exchange.announce(response, body)


def _reading(body: CreateResponse) -> str:
    """The query string with which a stored response is read as its creator was told it."""
    fields = [("include[]", str(part)) for part in body.include or ()]
    if body.stream:
        fields.append(("stream", "true"))
        if body.stream_options is not None and body.stream_options.include_obfuscation is False:
            fields.append(("include_obfuscation", "false"))
    return urlencode(fields)


def _owned(scope: Scope) -> bool:
    return "owner" in scope["state"]


def _key(scope: Scope) -> str:
    """The key. Raises `ApiError` (400)."""
    values = [value for name, value in scope["headers"] if name == HEADER]
    key: str = values[0].decode("latin-1")
    if len(values) > 1 or not 1 <= len(key) <= LONGEST_KEY or not all(" " <= letter <= "~" for letter in key):
        raise ApiError(
            f"Invalid Idempotency-Key header: expected one, of 1 to {LONGEST_KEY} printable ASCII characters.",
            code="invalid_value",
            param="Idempotency-Key",
        )
    return key


def _fingerprint(scope: Scope) -> Fingerprint:
    content_type = Headers(scope=scope).get("content-type", "")
    _, options = parse_options_header(content_type)
    target = scope["path"].encode("utf-8", "surrogateescape") + b"?" + scope["query_string"]
    return Fingerprint(scope["method"], target, content_type, options.get(b"boundary", b""))


def _bodyless(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return "transfer-encoding" not in headers and headers.get("content-length", "0") == "0"


async def _read_all(receive: Receive, fingerprint: Fingerprint, max_bytes: int) -> None:
    """Digest a body. Raises `ApiError` (413)."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        data = message.get("body", b"")
        size += len(data)
        if size > max_bytes:
            raise ApiError(f"The request body is larger than this server takes ({max_bytes} bytes).", status=413)
        fingerprint.feed(data)
        more = message.get("more_body", False)


def _marked(send: Send) -> Send:
    async def marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)[_REPLAYED] = "true"
        await send(message)

    return marked
