"""`/v1/embeddings`."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..engine.embeddings import Embeddings
from ..wire.chat import CreateEmbeddings
from .bodies import drop_body, read_json
from .json import json
from .stream import unless_gone


@dataclass(frozen=True, slots=True)
class EmbeddingsApi:
    """Vectors of texts."""

    embeddings: Embeddings
    max_body_bytes: int

    def routes(self) -> list[Route]:
        """The routes of this resource."""
        return [Route("/v1/embeddings", self.create, methods=["POST"])]

    async def create(self, request: Request) -> Response:
        asked = await read_json(request, CreateEmbeddings, self.max_body_bytes)
        drop_body(request)
        return json(await unless_gone(request.receive, self.embeddings.create(request.state.owner, asked)))
