"""Streams of the older endpoints: `data:` lines without names, `[DONE]` at the end, made while they are read."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp

from ..core.errors import ApiError
from .errors import as_api_error, error_fields
from .sse import DONE, data_frame
from .stream import FrameStream, unless_gone

Chunks = AsyncGenerator[Mapping[str, Any], None]


async def spoken(request: Request, chunks: Chunks) -> ASGIApp:
    """The answer that tells `chunks`. Raises what went wrong before the first one: that has a status of its own."""
    try:
        first = await unless_gone(request.receive, _first(chunks))
    except BaseException:
        await chunks.aclose()
        raise
    return FrameStream(_frames(first, chunks, request.url.path))


@contextmanager
def too_deep() -> Iterator[None]:
    """Make a body that is nested too deeply the client's mistake. Raises `ApiError`."""
    try:
        yield
    except RecursionError:
        raise ApiError("The JSON body of your request is nested too deeply.", code="invalid_json") from None


async def _first(chunks: AsyncIterator[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    return await anext(chunks, None)


async def _frames(first: Mapping[str, Any] | None, chunks: Chunks, path: str) -> AsyncGenerator[bytes, None]:
    async with aclosing(chunks):
        if first is not None:
            yield data_frame(first)
        try:
            async for chunk in chunks:
                yield data_frame(chunk)
        except Exception as exc:
            # Clients read the error in the stream; one that just ends they take for a whole answer, or for none.
            yield data_frame({"error": error_fields(as_api_error(exc, path))})
            return
        yield DONE
