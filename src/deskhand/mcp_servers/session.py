"""One server, spoken to through the official client library: streamable HTTP, or the SSE transport before it.

Protocols 2026-07-28 and the older ones that begin with a handshake (MCP specification, "Lifecycle", "Transports").
Results are not checked against the schema that the server gave for them: whoever lies in the one lies in the other, and
a hostile schema costs more than it is worth.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import anyio
import httpx2
import mcp_types as types
from mcp import MCPError
from mcp.client.client import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from pydantic import ValidationError

from ..ports.mcp import RemoteFailure, RemoteResult, RemoteServer, RemoteTool
from .bounds import McpBounds
from .connections import ConnectionLost
from .results import remote_result, remote_tool, size
from .sparse import Sparse
from .worded import Worded, words

_OLDER: Final = frozenset({400, 404, 405, 406, 415, 501})
"""Answers of servers that know the older transport only (MCP specification, "Backwards Compatibility")."""
_STATUSES: Final = range(100, 600)
_CODES: Final = range(-(1 << 31), 1 << 31)
"""Codes that every client can read."""
_INVALID: Final = -32600
_BAD_GATEWAY: Final = 502


class Session:
    """A connected server. Raises `RemoteFailure`."""

    def __init__(self, client: Client, bounds: McpBounds) -> None:
        self._client = client
        self._bounds = bounds

    async def tools(self) -> Sequence[RemoteTool]:
        """Every tool that can be offered, each name once."""
        try:
            return await self._tools()
        except Exception as exc:
            raise failure(exc, self._bounds) from None

    async def call(self, name: str, arguments: Mapping[str, Any]) -> RemoteResult:
        """Call a tool."""
        request = types.CallToolRequest(params=types.CallToolRequestParams(name=name, arguments=dict(arguments)))
        try:
            try:
                result = await self._client.session.send_request(request, types.CallToolResult)
            except MCPError as exc:
                if exc.code != types.HEADER_MISMATCH:
                    raise
                # Its headers repeat some of the arguments, as its listing says, which came from the context.
                await self._tools()
                result = await self._client.session.send_request(request, types.CallToolResult)
            return remote_result(result, self._bounds)
        except Exception as exc:
            raise failure(exc, self._bounds) from None

    async def _tools(self) -> Sequence[RemoteTool]:
        bounds = self._bounds
        found: dict[str, RemoteTool] = {}
        cursor: str | None = None
        for _ in range(bounds.pages):
            page = await self._client.session.list_tools(params=types.PaginatedRequestParams(cursor=cursor))
            for listed in page.tools:
                if (tool := remote_tool(listed, bounds)) is not None:
                    found.setdefault(tool.name, tool)
            if len(found) > bounds.tools:
                raise RemoteFailure("mcp_protocol_error", _INVALID, f"it lists more than {bounds.tools} tools")
            if size(list(found.values())) > bounds.listing_characters:
                words = f"its list of tools is longer than {bounds.listing_characters} characters"
                raise RemoteFailure("mcp_protocol_error", _INVALID, words)
            cursor = page.next_cursor
            if cursor is None:
                return list(found.values())
        raise RemoteFailure("mcp_protocol_error", _INVALID, f"its list of tools has more than {bounds.pages} pages")


@asynccontextmanager
async def connected(
    server: RemoteServer, transport: Callable[[int], httpx2.AsyncBaseTransport], bounds: McpBounds, version: str
) -> AsyncIterator[Session]:
    """A connection for as long as the block runs, in the task that enters it.

    Raises `RemoteFailure`, also when a connection that was open is lost: that ends the block, as if it were cancelled.
    """
    info = types.Implementation(name="deskhand", version=version)
    try:
        async with AsyncExitStack() as stack:
            yield Session(await _client(stack, server, transport, bounds, info), bounds)
    except Exception as exc:
        raise failure(exc, bounds) from None


async def _client(
    stack: AsyncExitStack,
    server: RemoteServer,
    transport: Callable[[int], httpx2.AsyncBaseTransport],
    bounds: McpBounds,
    info: types.Implementation,
) -> Client:
    try:
        streamable = Client(_streamable(server, transport, bounds), cache=None, client_info=info)
        return await stack.enter_async_context(streamable)
    except Exception as exc:
        first = failure(exc, bounds)
        if first.kind != "http_error" or first.code not in _OLDER:
            raise first from None
    try:
        older = Client(_older(server, transport, bounds), mode="legacy", cache=None, client_info=info)
        return await stack.enter_async_context(older)
    except Exception as exc:
        second = failure(exc, bounds)
        # It was no server of that kind either: what it said first is what it is about.
        raise (first if second.kind == "http_error" and second.code != _BAD_GATEWAY else second) from None


@asynccontextmanager
async def _streamable(
    server: RemoteServer, transport: Callable[[int], httpx2.AsyncBaseTransport], bounds: McpBounds
) -> AsyncIterator[Any]:
    below = Sparse(transport(bounds.bytes), bounds.values)
    worded = Worded(below, bounds.requests, news=False, failed=lambda _: None)
    async with _http(worded, server, bounds) as http:
        async with streamable_http_client(server.url, http_client=http, max_sse_event_size=bounds.bytes) as streams:
            yield streams


@asynccontextmanager
async def _older(
    server: RemoteServer, transport: Callable[[int], httpx2.AsyncBaseTransport], bounds: McpBounds
) -> AsyncIterator[Any]:
    """The older transport. One refused message ends it: its library would wait for the answer."""
    refused = _Refused()
    # The one stream carries every answer of the connection.
    below = Sparse(transport(4 * bounds.bytes), 4 * bounds.values)
    worded = Worded(below, bounds.requests, news=True, failed=refused.hear)

    def client(
        headers: dict[str, str] | None = None, timeout: httpx2.Timeout | None = None, auth: httpx2.Auth | None = None
    ) -> httpx2.AsyncClient:
        return _http(worded, server, bounds)

    async with sse_client(server.url, httpx_client_factory=client) as streams:
        async with anyio.create_task_group() as group:
            group.start_soon(refused.raised)
            yield streams
            group.cancel_scope.cancel()


class _Refused:
    """Waits for a message to be refused, and raises that."""

    def __init__(self) -> None:
        self._status = 0
        self._heard = anyio.Event()

    def hear(self, status: int) -> None:
        self._status = status
        self._heard.set()

    async def raised(self) -> None:
        await self._heard.wait()
        raise RemoteFailure("http_error", self._status, words(self._status))


def _http(transport: httpx2.AsyncBaseTransport, server: RemoteServer, bounds: McpBounds) -> httpx2.AsyncClient:
    timeout = httpx2.Timeout(bounds.listing_s, read=max(bounds.call_s, bounds.listing_s))
    return httpx2.AsyncClient(transport=transport, headers=dict(server.headers), timeout=timeout, trust_env=False)


def failure(exc: BaseException, bounds: McpBounds) -> RemoteFailure:
    """What went wrong, as the API tells it."""
    match exc:
        case BaseExceptionGroup(exceptions=inner):
            return failure(next((e for e in inner if isinstance(e, Exception)), inner[0]), bounds)
        case RemoteFailure():
            return exc
        case MCPError(error=types.ErrorData(data={"http_status": int(status)})) if status in _STATUSES:
            return RemoteFailure("http_error", status, words(status))
        case MCPError(code=types.CONNECTION_CLOSED, message="Connection closed"):
            return ConnectionLost()
        case MCPError(code=types.INVALID_REQUEST, message=said) if said.startswith("Redirect to "):
            # The library says where to, with a path that may be a secret.
            return RemoteFailure("http_error", _BAD_GATEWAY, "it redirects to elsewhere, which is not followed")
        case MCPError():
            code = exc.code if exc.code in _CODES else _INVALID
            return RemoteFailure("mcp_protocol_error", code, exc.message[: bounds.message_characters])
        case httpx2.HTTPStatusError(response=response):
            return RemoteFailure("http_error", response.status_code, words(response.status_code))
        case httpx2.HTTPError() | httpx2.StreamError():
            return RemoteFailure("http_error", _BAD_GATEWAY, str(exc)[: bounds.message_characters])
        case ValidationError():
            return RemoteFailure("mcp_protocol_error", _INVALID, "its answer is not what the protocol asks for")
        case _:
            return RemoteFailure("mcp_protocol_error", _INVALID, "it does not speak the Model Context Protocol")
