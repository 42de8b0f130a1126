"""MCP servers for tests: real ones, made with the official package, on real sockets."""

import base64
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from mcp.server.mcpserver import Image, MCPServer
from mcp_types import ToolAnnotations
from starlette.types import ASGIApp, Receive, Scope, Send

START_SECONDS = 20.0


@dataclass
class Heard:
    """What a server got: every request's method and path, with its headers."""

    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def headers(self, name: str) -> set[str]:
        return {headers.get(name, "") for _, _, headers in self.requests}


@dataclass
class Running:
    """A server on a port of its own; `most_at_once` counts calls of `wait` that ran at the same time."""

    origin: str
    heard: Heard

    @property
    def url(self) -> str:
        return f"{self.origin}/mcp"

    @property
    def older_url(self) -> str:
        return f"{self.origin}/sse"


def listening(app: ASGIApp, heard: Heard) -> ASGIApp:
    async def recorded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            heard.requests.append((scope["method"], scope["path"], headers))
        await app(scope, receive, send)

    return recorded


@contextmanager
def serving(app: ASGIApp) -> Iterator[Running]:
    """Serve an application until the block ends."""
    heard = Heard()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        config = uvicorn.Config(listening(app, heard), log_config=None, timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + START_SECONDS
        while not server.started:
            assert time.monotonic() < deadline, "the MCP server did not start"
            time.sleep(0.01)
        try:
            yield Running(f"http://127.0.0.1:{port}", heard)
        finally:
            server.should_exit = True
            thread.join(10)


def png() -> bytes:
    """One red pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0\xff\0\0")) + chunk(b"IEND", b"")
    )


PNG = base64.b64encode(png()).decode()


def calculator() -> MCPServer:
    """Tools of every kind."""
    import asyncio

    server: MCPServer = MCPServer("calculator")
    under_way = {"now": 0, "most": 0}

    @server.tool(description="Add two numbers", annotations=ToolAnnotations(read_only_hint=True))
    def add(a: int, b: int) -> int:
        return a + b

    @server.tool(description="Delete what there is")
    def delete(what: str) -> str:
        return f"DELETED {what}"

    @server.tool()
    def broken() -> str:
        raise ValueError("kaputt")

    @server.tool(structured_output=False)
    def draw() -> list[Any]:
        return ["a red dot:", Image(data=png(), format="png")]

    @server.tool()
    async def wait(seconds: float) -> str:
        """Wait, and say how many waited at the same time."""
        under_way["now"] += 1
        under_way["most"] = max(under_way["most"], under_way["now"])
        await asyncio.sleep(seconds)
        under_way["now"] -= 1
        return f"AT ONCE {under_way['most']}"

    return server


def both(server: MCPServer) -> ASGIApp:
    """A server under both transports: `/mcp` and `/sse`."""
    app = server.streamable_http_app()
    app.router.routes.extend(server.sse_app().routes)
    return app
