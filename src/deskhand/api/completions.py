"""`/v1/completions`, the legacy endpoint."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp

from ..engine.legacy_completions import LegacyCompletions, read_legacy
from .bodies import drop_body, read_body, read_object
from .json import json
from .spoken import spoken, too_deep
from .stream import unless_gone


@dataclass(frozen=True, slots=True)
class CompletionsApi:
    """Completions of prompts."""

    completions: LegacyCompletions
    max_body_bytes: int

    def routes(self) -> list[Route]:
        """The routes of this resource."""
        return [Route("/v1/completions", self.create, methods=["POST"])]

    async def create(self, request: Request) -> ASGIApp:
        owner = request.state.owner
        with too_deep():
            asked = read_legacy(read_object(await read_body(request, self.max_body_bytes)))
            drop_body(request)
            if asked.asked.stream:
                return await spoken(request, self.completions.stream(owner, asked))
            return json(await unless_gone(request.receive, self.completions.whole(owner, asked)))
