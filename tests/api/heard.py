"""A scripted upstream inside the test's own process, so that a test can read what reached the model."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

from deskhand.testing.upstream import ScriptedUpstream, serve_upstream

from ..conftest import Server


@dataclass(frozen=True)
class Heard:
    """A server behind which the upstream listens, spoken to in one `dialect` (`chat` or `responses`)."""

    server: Server
    upstream: ScriptedUpstream
    dialect: str
    http: httpx2.Client

    def ask(self, **body: Any) -> tuple[dict[str, Any], list[Mapping[str, Any]]]:
        """The response to `body`, and the requests that reached the upstream meanwhile."""
        before = len(self.upstream.requests)
        answer = self.http.post("/v1/responses", json={"model": "m", "input": "@@ say ok", **body})
        assert answer.status_code == 200, answer.text
        return answer.json(), [seen.body for seen in self.upstream.requests[before:]]

    def refused(self, **body: Any) -> tuple[int, dict[str, Any]]:
        """Status and error of a request that must be refused before the upstream hears of it."""
        before = len(self.upstream.requests)
        answer = self.http.post("/v1/responses", json={"model": "m", "input": "@@ say ok", **body})
        assert len(self.upstream.requests) == before
        return answer.status_code, answer.json()["error"]


@contextmanager
def listening() -> Iterator[ScriptedUpstream]:
    """The upstream, served by a thread until the block ends."""
    ready: list[ScriptedUpstream] = []
    up = threading.Event()
    loop = asyncio.new_event_loop()
    over = asyncio.Event()

    async def serve() -> None:
        async with serve_upstream() as upstream:
            ready.append(upstream)
            up.set()
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert up.wait(30)
        yield ready[0]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()
