"""The HTTP application: routes, and the edge around them."""

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp

from ..core.errors import ApiError, DeskhandError
from ..ports.sandbox import SandboxError
from .auth import Keys
from .edge import Edge
from .errors import answer, on_error


def build_app(routes: Sequence[Route], keys: Keys) -> ASGIApp:
    """The ASGI application that serves `routes`."""
    app = Starlette(
        routes=list(routes),
        exception_handlers={
            HTTPException: _on_http_error,
            DeskhandError: on_error,
            SandboxError: on_error,
            Exception: on_error,
        },
    )
    app.router.redirect_slashes = False
    return Edge(app, keys)


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
