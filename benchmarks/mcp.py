"""What Deskhand adds to a call of a remote MCP server's tool, against calling the server with the official client."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
import uvloop
from mcp import Client
from mcp.server.mcpserver import MCPServer

from .figures import Figures, show
from .load import Connection, measure
from .processes import KEY, served, upstream

CALLS = 300
AT_ONCE = 8
CALL = '@@ mcp echo {"text": "hi"}'


def serve(port: int) -> None:
    """An MCP server with one tool, which answers at once."""
    server: MCPServer = MCPServer("bench", log_level="ERROR")

    @server.tool()
    def echo(text: str) -> str:
        return text

    uvicorn.run(server.streamable_http_app(), port=port, log_config=None, access_log=False)


@contextmanager
def remote() -> Iterator[str]:
    """That server as a process; its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", __spec__.name, str(port)])
    try:
        for _ in range(400):
            with socket.socket() as attempt:
                if attempt.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.kill()
        process.wait()


async def direct(url: str) -> tuple[Figures, Figures]:
    """Calls on a connection that is open, and on one of its own with the list of tools before."""
    open_, new = [], []
    async with Client(url) as client:
        for _ in range(CALLS):
            begun = time.perf_counter()
            await client.call_tool("echo", {"text": "hi"})
            open_.append(time.perf_counter() - begun)
    for _ in range(CALLS // 3):
        begun = time.perf_counter()
        async with Client(url) as client:
            await client.list_tools()
            await client.call_tool("echo", {"text": "hi"})
        new.append(time.perf_counter() - begun)
    return (
        Figures("the server directly, connection open", open_),
        Figures("the server directly: connect, list, call", new),
    )


async def calls(url: str, server: str) -> None:
    """A response with a call, one whose context has the list, and one with many calls at the same time."""
    tool = {"type": "mcp", "server_label": "bench", "server_url": url, "require_approval": "never"}
    body: dict[str, Any] = {"model": "scripted", "input": CALL, "tools": [tool]}
    connection = Connection(server)
    first = json.loads(await connection.post("/v1/responses", json.dumps(body).encode(), KEY))
    connection.close()
    assert [item["type"] for item in first["output"]] == ["mcp_list_tools", "mcp_call", "message"]
    user = {"role": "user", "content": CALL}
    listed = {**body, "input": [first["output"][0], user]}
    many = {
        **listed,
        "input": [first["output"][0], {**user, "content": "\n@@& ".join([CALL] + [CALL[3:]] * (AT_ONCE - 1))}],
    }
    text = await _measured("", server, {"model": "scripted", "input": "hi"})
    floor = Figures("two text responses, no call", [2 * second for second in text.seconds])
    open_, new = await direct(url)
    cases = [
        open_,
        new,
        floor,
        await _measured("one call, the list in the context", server, listed),
        await _measured("connect, list, one call", server, body),
        await _measured(f"{AT_ONCE} calls at once, the list in the context", server, many),
    ]
    show("an MCP call: model, call, model", cases, floor)
    one, eight = cases[3].at(50), cases[5].at(50)
    print(
        f"each further call of the same turn: {(eight - one) / (AT_ONCE - 1):.2f} ms (directly {open_.at(50):.2f} ms)"
    )
    print(f"the first, connection included: {one - floor.at(50):.2f} ms (directly, with the list, {new.at(50):.2f} ms)")


async def _measured(name: str, server: str, body: dict[str, Any]) -> Figures:
    return await measure(name, server, "/v1/responses", body, KEY, concurrency=1, requests=CALLS)


def main() -> None:
    """Measure and print."""
    with remote() as url, upstream() as mock, served(mock, allow_private_hosts="127.0.0.1") as server:
        uvloop.run(calls(url, server.url))


if __name__ == "__main__":
    if sys.argv[1:]:
        serve(int(sys.argv[1]))
    else:
        main()
