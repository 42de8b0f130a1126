"""The outermost layer: request ids, keys, timings and errors, around every route. Pure ASGI."""

import secrets
import time

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .auth import Keys
from .errors import answer, as_api_error


class Edge:
    """Wraps the application. `/v1` needs a key; its project becomes `request.state.owner`."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        request_id = f"req_{secrets.token_hex(16)}"
        begun = complete = False

        async def send_with_headers(message: Message) -> None:
            nonlocal begun, complete
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers["openai-version"] = "2020-10-01"
                headers["openai-processing-ms"] = str(int((time.perf_counter() - began) * 1000))
            elif message["type"] == "http.response.body":
                complete = not message.get("more_body", False)
            await send(message)

        scope.setdefault("state", {})["request_id"] = request_id
        try:
            with structlog.contextvars.bound_contextvars(request_id=request_id):
                await self._answer(scope, receive, send_with_headers)
        except Exception as exc:
            if complete:
                return
            if begun:
                raise
            await answer(as_api_error(exc, scope["path"]))(scope, receive, send_with_headers)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path == "/v1" or path.startswith("/v1/"):
            scope["state"]["owner"] = self._keys.owner(Request(scope))
        await self._app(scope, receive, send)
