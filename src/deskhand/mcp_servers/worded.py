"""What HTTP says, in words that the MCP library passes on: between it and the transport.

The library keeps no HTTP status of a request that failed, opens a stream of news that nobody here reads, and follows a
server that ends its streams at once without end.
"""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import httpx2
import msgspec

_LONGEST_ERROR: Final = 64 << 10
_INTERNAL_ERROR: Final = -32603
"""JSON-RPC's code for a server that failed (JSON-RPC 2.0, 5.1)."""


class Worded(httpx2.AsyncBaseTransport):
    """Sends at most `requests`, and gives errors of HTTP to requests of JSON-RPC as errors of JSON-RPC.

    `failed` hears of messages that a server refused, where the library would not say so. With `news` its standing
    stream is opened: one that answers nothing but is all there is of the older transport.
    """

    def __init__(
        self, below: httpx2.AsyncBaseTransport, requests: int, *, news: bool, failed: Callable[[int], None]
    ) -> None:
        self._below = below
        self._left = requests
        self._news = news
        self._failed = failed

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self._left -= 1
        if self._left < 0:
            raise httpx2.ConnectError("it was asked too often in one response", request=request)
        if request.method == "GET" and not self._news and "last-event-id" not in request.headers:
            return httpx2.Response(HTTPStatus.METHOD_NOT_ALLOWED, request=request)
        response = await self._below.handle_async_request(request)
        if request.method == "POST" and response.status_code >= HTTPStatus.BAD_REQUEST:
            self._failed(response.status_code)
            return await _as_error(response, request)
        return response

    async def aclose(self) -> None:
        await self._below.aclose()


def words(status: int) -> str:
    """An HTTP status as people read it."""
    try:
        return f"HTTP {status} ({HTTPStatus(status).phrase})"
    except ValueError:
        return f"HTTP {status}"


async def _as_error(response: httpx2.Response, request: httpx2.Request) -> httpx2.Response:
    """The answer if it is an error of JSON-RPC already, else one that has the status."""
    status = response.status_code
    error: dict[str, Any] = {"code": _INTERNAL_ERROR, "message": words(status), "data": {"http_status": status}}
    said = await _start(response)
    if isinstance(said, dict) and isinstance(said.get("error"), dict) and said.get("jsonrpc") == "2.0":
        error = said["error"]
    body = msgspec.json.encode({"jsonrpc": "2.0", "id": None, "error": error})
    headers = {"content-type": "application/json"}
    if location := response.headers.get("mcp-session-id"):
        headers["mcp-session-id"] = location
    return httpx2.Response(status, headers=headers, content=body, request=request)


async def _start(response: httpx2.Response) -> Any:
    """What an answer says, if that is JSON and short."""
    body = b""
    try:
        async for piece in response.aiter_raw():
            body += piece
            if len(body) > _LONGEST_ERROR:
                return None
        return msgspec.json.decode(body)
    except (httpx2.HTTPError, httpx2.StreamError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    finally:
        await response.aclose()
