"""WebSockets at the edge: the same keys and the same errors as for HTTP, told before a connection is accepted.

A path that has no WebSocket is answered as a GET with an `Upgrade` header is. Source: ASGI's "WebSocket Denial
Response" extension.
"""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.routing import Match, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from ..engine.hosts import Elsewhere
from .auth import Keys
from .errors import answer, as_api_error
from .forward import Forwarding

_DENIAL = {
    "http.response.start": "websocket.http.response.start",
    "http.response.body": "websocket.http.response.body",
}


class Sockets:
    """The edge of `routes`; whatever else asks for a WebSocket goes to `http` as a plain request."""

    def __init__(
        self, app: ASGIApp, http: ASGIApp, routes: Sequence[WebSocketRoute], keys: Keys, forwarding: Forwarding
    ) -> None:
        self._forwarding = forwarding
        self._app = app
        self._http = http
        self._routes = routes
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        as_http = {**scope, "type": "http", "method": "GET", "http_version": "1.1"}
        if all(route.matches(scope)[0] is Match.NONE for route in self._routes):
            await self._http(as_http, _nothing, _denying(send))
            return
        accepted = False

        async def watched(message: Message) -> None:
            nonlocal accepted
            accepted = accepted or message["type"] == "websocket.accept"
            await send(message)

        await receive()  # "websocket.connect"
        try:
            scope.setdefault("state", {})["owner"] = self._keys.owner(Request(as_http))
            try:
                await self._app(scope, _connecting(receive), watched)
            except Elsewhere as exc:
                await self._forwarding.relay(WebSocket(scope, _connecting(receive), watched), exc)
        except Exception as exc:
            error = as_api_error(exc, scope["path"])
            if not accepted:
                await answer(error)(as_http, _nothing, _denying(send))
            else:
                await send({"type": "websocket.close", "code": 1011})


async def _nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


def _connecting(receive: Receive) -> Receive:
    """`receive`, whose first message was taken already."""
    messages: list[Message] = [{"type": "websocket.connect"}]

    async def next_message() -> Message:
        return messages.pop() if messages else await receive()

    return next_message


def _denying(send: Send) -> Send:
    async def translated(message: Message) -> None:
        await send({**message, "type": _DENIAL[message["type"]]})

    return translated
