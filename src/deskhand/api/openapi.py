"""The OpenAPI document of this server: made of its routes, of what `operations` says of them, and of the wire types."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute

from .. import __version__
from ..wire.answers import Error
from ..wire.codec import encode
from .operations import OPERATIONS, Operation, Parameter
from .schemas import Json, Schemas, inline

VERSION: Final = "3.1.0"
UNDESCRIBED: Final = "x-undescribed"
"""Marks a route that `operations` does not know. Tests let none pass."""

_ABOUT: Final = (
    "OpenAI's API as this server has it, and its own extensions. Requests need `Authorization: Bearer KEY`. "
    "Unknown paths under `/v1` are answered by a 404 with an `error`."
)
_CONVERTED = re.compile(r"\{(\w+):\w+\}")
_NAMED = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class OpenApi:
    """Serves the document. It tells nothing of anybody's data, so `/openapi.json` needs no key."""

    document: bytes

    def routes(self) -> list[Route]:
        """The routes of this resource."""
        return [
            Route("/openapi.json", self.show, methods=["GET"]),
            Route("/v1/openapi.json", self.show, methods=["GET"]),
        ]

    async def show(self, request: Request) -> Response:
        return Response(self.document, media_type="application/json")


def with_document(routes: Sequence[Route], sockets: Sequence[WebSocketRoute]) -> Sequence[Route]:
    """The routes, and those that serve the document of all of them."""
    own = OpenApi(b"").routes()
    return [*OpenApi(encode(document([*routes, *own], sockets))).routes(), *routes]


def document(routes: Iterable[Route], sockets: Iterable[WebSocketRoute]) -> Json:
    """The OpenAPI document of `routes`. `sockets` are only named, as OpenAPI cannot say more of them."""
    schemas = Schemas(
        (kind for operation in OPERATIONS.values() for kind in operation.bodies.values()),
        [Error, *(kind for operation in OPERATIONS.values() for kind in operation.answers.values())],
    )
    paths: dict[str, Json] = {}
    for route in routes:
        path = template(route.path)
        for method in sorted((route.methods or set()) - {"HEAD"}):
            paths.setdefault(path, {})[method.lower()] = _operation(method, path, schemas)
    return {
        "openapi": VERSION,
        "info": {"title": "Deskhand", "version": __version__, "description": _ABOUT},
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "responses": {"Error": _answer("What went wrong.", {"application/json": schemas.of(Error)})},
        },
        "x-websockets": sorted(template(socket.path) for socket in sockets),
    }


def template(path: str) -> str:
    """A route's path as OpenAPI spells it."""
    return _CONVERTED.sub(r"{\1}", path)


def _operation(method: str, path: str, schemas: Schemas) -> Json:
    known = OPERATIONS.get((method, path))
    said: Json = {UNDESCRIBED: True} if known is None else _described(known, schemas)
    names = _NAMED.findall(path)
    named = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    return {
        "operationId": _operation_id(method, path),
        "tags": [_tag(path)],
        **said,
        "parameters": [*named, *said.get("parameters", [])],
        "responses": {
            **said.get("responses", {}),
            "4XX": {"$ref": "#/components/responses/Error"},
            "5XX": {"$ref": "#/components/responses/Error"},
        },
        **({"security": [{"key": []}]} if path.startswith("/v1") else {}),
    }


def _described(operation: Operation, schemas: Schemas) -> Json:
    """What is known of an operation beside where it is."""
    content = {media: _content(media, kind, schemas) for media, kind in operation.answers.items()}
    said: Json = {
        "summary": operation.summary,
        "parameters": [_parameter(parameter) for parameter in operation.query],
        "responses": {"200": {"description": operation.summary, "content": content}},
    }
    if operation.bodies:
        bodies = {media: {"schema": schemas.of(kind)} for media, kind in operation.bodies.items()}
        said["requestBody"] = {"required": not operation.optional, "content": bodies}
    return said


def _content(media: str, kind: Any, schemas: Schemas) -> Json:
    match media:
        case "application/octet-stream":
            return {"schema": {"type": "string", "format": "binary"}}
        case "text/event-stream":
            # The schema of one event, as readers take it; OpenAPI 3.1 itself has none for a sequence.
            data = {"type": "string", "contentMediaType": "application/json", "contentSchema": schemas.of(kind)}
            event = {"type": "object", "required": ["data"], "properties": {"event": {"type": "string"}, "data": data}}
            return {"schema": event}
        case _:
            return {"schema": schemas.of(kind)}


def _parameter(parameter: Parameter) -> Json:
    return {
        "name": parameter.name,
        "in": "query",
        "required": False,
        "description": parameter.about,
        "schema": inline(parameter.kind),
    }


def _answer(about: str, content: Json) -> Json:
    return {"description": about, "content": {media: {"schema": schema} for media, schema in content.items()}}


def _operation_id(method: str, path: str) -> str:
    root = "" if path.startswith("/v1/") else "root"
    return "_".join([method.lower(), *re.findall(r"\w+", root + path.removeprefix("/v1"))])


def _tag(path: str) -> str:
    return path.removeprefix("/v1").split("/")[1]
