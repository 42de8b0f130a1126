"""What the engine needs from remote MCP servers: their tools, and calls of them, for as long as a response runs."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

PICTURES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
"""Media types that models see."""


@dataclass(frozen=True, slots=True)
class RemoteServer:
    """Where a server is, and what is sent along to it. Nothing of this is logged."""

    label: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class RemoteTool:
    """A tool as its server describes it; `read_only` is what the server says of itself."""

    name: str
    description: str
    input_schema: Mapping[str, Any]
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class RemotePicture:
    """An image among what a tool answered: its media type, and its bytes in base64."""

    media_type: str
    data: str


@dataclass(frozen=True, slots=True)
class RemoteResult:
    """What a tool answered, in order. `failed` if it says that it failed."""

    parts: Sequence[str | RemotePicture]
    failed: bool = False


class RemoteFailure(Exception):
    """A server did not do what was asked. The message may be shown: it has no path, no header and no address.

    `kind` is the API's name of it, and `code` that of JSON-RPC or of HTTP.
    """

    def __init__(self, kind: Literal["mcp_protocol_error", "http_error"], code: int, message: str) -> None:
        super().__init__(message)
        self.kind: Literal["mcp_protocol_error", "http_error"] = kind
        self.code = code


class RemoteConnections(Protocol):
    """One connection per server, made when it is first needed. Calls may be made at the same time."""

    async def tools(self, server: RemoteServer) -> Sequence[RemoteTool]:
        """The tools that a server offers. Raises `RemoteFailure`."""
        ...

    async def call(self, server: RemoteServer, name: str, arguments: Mapping[str, Any]) -> RemoteResult:
        """Call a tool. Raises `RemoteFailure`. Cancelling cancels the call."""
        ...


class RemoteServers(Protocol):
    """Connects to remote MCP servers."""

    def connected(self) -> AbstractAsyncContextManager[RemoteConnections]:
        """Connections for one response; they are closed when the block ends."""
        ...
