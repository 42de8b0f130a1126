"""`/v1/models`."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..core.errors import ApiError
from ..ports.upstreams import Upstreams
from .codex_catalogue import catalogue
from .json import json


@dataclass(frozen=True, slots=True)
class ModelsApi:
    """The names that are served."""

    upstreams: Upstreams
    created_at: int

    def routes(self) -> list[Route]:
        """The routes of this resource."""
        one = "/v1/models/{id:path}"
        return [
            Route("/v1/models", self.list, methods=["GET"]),
            Route(one, self.retrieve, methods=["GET"]),
            Route(one, self.delete, methods=["DELETE"]),
        ]

    async def list(self, request: Request) -> Response:
        names = await self.upstreams.names()
        if "client_version" in request.query_params:
            return json(catalogue(names))
        return json({"object": "list", "data": [self._view(name) for name in names]})

    async def retrieve(self, request: Request) -> Response:
        name = request.path_params["id"]
        await self.upstreams.resolve(name)
        return json(self._view(name))

    async def delete(self, request: Request) -> Response:
        name = request.path_params["id"]
        await self.upstreams.resolve(name)
        raise ApiError(
            f"The model '{name}' cannot be deleted here. What is served is set in the server's configuration.",
            status=403,
            code="insufficient_permissions",
            param="model",
        )

    def _view(self, name: str) -> dict[str, object]:
        return {"id": name, "object": "model", "created": self.created_at, "owned_by": "deskhand"}
