"""The HTTP application: routes, and the edge around them."""

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from ..core.errors import ApiError, DeskhandError
from ..engine.hosts import Elsewhere
from ..engine.idempotency import Idempotency
from ..ports.sandbox import SandboxError
from .auth import Keys
from .edge import Edge
from .errors import answer, on_error
from .forward import Forwarding
from .idempotency import IdempotencyKeys
from .openapi import with_document
from .sockets import Sockets


def build_app(
    routes: Sequence[Route],
    sockets: Sequence[WebSocketRoute],
    keys: Keys,
    idempotency: Idempotency,
    forwarding: Forwarding,
    max_body_bytes: int,
) -> ASGIApp:
    """The ASGI application that serves `routes` and `sockets`.

    A request that is sent again under its idempotency key is read up to `max_body_bytes`.
    """
    app = Starlette(
        routes=[*with_document(routes, sockets), *sockets],
        exception_handlers={
            HTTPException: _on_http_error,
            Elsewhere: forwarding.answer,
            DeskhandError: on_error,
            SandboxError: on_error,
            Exception: on_error,
        },
    )
    app.router.redirect_slashes = False
    edge = Edge(IdempotencyKeys(app, idempotency, max_body_bytes), keys)
    upgrades = Sockets(app.router, edge, sockets, keys, forwarding)

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        await (upgrades if scope["type"] == "websocket" else edge)(scope, receive, send)

    return serve


async def _on_http_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    if exc.status_code == 404:
        message = f"Invalid URL ({request.method} {request.url.path})"
    elif exc.status_code == 405:
        message = f"Not allowed to {request.method} {request.url.path}."
    else:
        message = str(exc.detail)
    response = answer(ApiError(message, status=exc.status_code))
    if exc.status_code == 405:
        response.headers["allow"] = ", ".join(sorted(_methods(request)))
    return response


def _methods(request: Request) -> set[str]:
    """What may be done at the path of `request`: one resource has a route for each method."""
    routes = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    return {method for route in routes for method in route.methods or ()}
