"""Raw bytes as an answer. They come from users and from containers, so a browser must not run them."""

from collections.abc import AsyncIterator
from urllib.parse import quote

from starlette.responses import StreamingResponse


async def download(filename: str, chunks: AsyncIterator[bytes]) -> StreamingResponse:
    """`chunks` as a download. The first chunk is read before the answer begins, so that a missing file is an error."""
    first = await anext(chunks, b"")

    async def body() -> AsyncIterator[bytes]:
        if first:
            yield first
        async for chunk in chunks:
            yield chunk

    name = quote(filename.encode("utf-8", "replace"), safe="")
    headers = {"content-disposition": f"attachment; filename*=UTF-8''{name}", "x-content-type-options": "nosniff"}
    return StreamingResponse(body(), media_type="application/octet-stream", headers=headers)
