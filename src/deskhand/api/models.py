"""`/v1/models`."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..ports.upstreams import Upstreams
from .json import json


@dataclass(frozen=True, slots=True)
class ModelsApi:
    """The names that are served."""

    upstreams: Upstreams
    created_at: int

    def routes(self) -> list[Route]:
        """The routes of this resource."""
        return [
            Route("/v1/models", self.list, methods=["GET"]),
            Route("/v1/models/{id:path}", self.retrieve, methods=["GET"]),
        ]

    async def list(self, request: Request) -> Response:
        names = await self.upstreams.names()
        return json({"object": "list", "data": [self._view(name) for name in names]})

    async def retrieve(self, request: Request) -> Response:
        name = request.path_params["id"]
        await self.upstreams.resolve(name)
        return json(self._view(name))

    def _view(self, name: str) -> dict[str, object]:
        return {"id": name, "object": "model", "created": self.created_at, "owned_by": "deskhand"}
