"""`/v1/responses/compact` and `/v1/responses/input_tokens`."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..core.errors import ApiError, UpstreamError
from ..engine.contexts import Contexts
from ..wire.context import CompactContext, CountTokens
from .bodies import read_json
from .json import json
from .stream import unless_gone


@dataclass(frozen=True, slots=True)
class ContextsApi:
    """Compact a context, or count its tokens, without a response."""

    contexts: Contexts
    max_body_bytes: int

    def routes(self) -> list[Route]:
        """The routes of this resource."""
        return [
            Route("/v1/responses/compact", self.compact, methods=["POST"]),
            Route("/v1/responses/input_tokens", self.count, methods=["POST"]),
        ]

    async def compact(self, request: Request) -> Response:
        body = await read_json(request, CompactContext, self.max_body_bytes)
        try:
            return json(await unless_gone(request.receive, self.contexts.compact(request.state.owner, body)))
        except UpstreamError as exc:
            raise _answered(exc) from None
        except RecursionError:
            raise _too_deep() from None

    async def count(self, request: Request) -> Response:
        body = await read_json(request, CountTokens, self.max_body_bytes)
        try:
            return json(await self.contexts.count(request.state.owner, body))
        except RecursionError:
            raise _too_deep() from None


def _answered(exc: UpstreamError) -> ApiError:
    """A failure of the upstream as an answer: there is no response that could carry it."""
    if exc.code == "rate_limit_exceeded":
        wait = None if exc.retry_after is None else max(1, round(exc.retry_after))
        return ApiError(exc.message, status=429, code=exc.code, kind="requests", retry_after=wait)
    if exc.code in {"invalid_prompt", "context_length_exceeded"}:
        return ApiError(exc.message, code=exc.code)
    return ApiError(exc.message, status=502, code=exc.code, kind="server_error")


def _too_deep() -> ApiError:
    return ApiError("The JSON body of your request is nested too deeply.", code="invalid_json")
