"""A load generator that costs little: keep-alive HTTP/1.1 over bare sockets, one request at a time per connection."""

import asyncio
import json
import time
from typing import Any
from urllib.parse import urlsplit

from .figures import Figures


class Connection:
    """One keep-alive connection."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = str(parts.hostname), int(parts.port or 80)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def post(self, path: str, body: bytes, key: str) -> bytes:
        """Send a request and return the body of its answer. Raises `AssertionError` if it is not a 200."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        assert self._reader is not None
        head = (
            f"POST {path} HTTP/1.1\r\nhost: {self._host}\r\nauthorization: Bearer {key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)
        status, headers = _head(await self._reader.readuntil(b"\r\n\r\n"))
        if "content-length" in headers:
            answer = await self._reader.readexactly(int(headers["content-length"]))
        else:
            answer = await self._chunks(self._reader)
        assert status == 200, (status, answer[:300])
        return answer

    async def _chunks(self, reader: asyncio.StreamReader) -> bytes:
        pieces = []
        while size := int(await reader.readuntil(b"\r\n"), 16):
            pieces.append((await reader.readexactly(size + 2))[:-2])
        await reader.readexactly(2)
        return b"".join(pieces)

    def close(self) -> None:
        """Close the connection."""
        if self._writer is not None:
            self._writer.close()


async def measure(
    name: str, url: str, path: str, body: dict[str, Any], key: str, *, concurrency: int, requests: int
) -> Figures:
    """Latencies of `requests` requests over `concurrency` connections, after a warm-up."""
    data = json.dumps(body).encode()
    connections = [Connection(url) for _ in range(concurrency)]
    for connection in connections:
        for _ in range(3):
            await connection.post(path, data, key)
    seconds: list[float] = []

    async def work(connection: Connection) -> None:
        for _ in range(requests // concurrency):
            began = time.perf_counter()
            await connection.post(path, data, key)
            seconds.append(time.perf_counter() - began)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for connection in connections:
            group.create_task(work(connection))
    took = time.perf_counter() - began
    for connection in connections:
        connection.close()
    return Figures(name, seconds, len(seconds) / took)


def _head(data: bytes) -> tuple[int, dict[str, str]]:
    lines = data.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return int(lines[0].split()[1]), headers
