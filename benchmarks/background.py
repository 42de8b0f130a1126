"""Background runs: how fast they start, how late their readers see an event, and what resuming and long chains cost.

Run: python -m benchmarks.background
"""

import asyncio
import json
import multiprocessing
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import uvloop
from aiohttp import web

from .figures import Figures, show
from .processes import KEY, Served, served

RUNS = 1000
LIVE = 200
SPOKEN_S = 10.0
"""How long each of the live streams speaks, five words a second."""

EVENTS = 10_000
DEPTH = 1000
HEADERS = {"authorization": f"Bearer {KEY}"}
LIMITS = {"max_background_runs": str(RUNS), "max_concurrent_runs": str(RUNS)}


@contextmanager
def telling_upstream() -> Iterator[str]:
    """An upstream whose words are the time at which it says them. `say N PAUSE` tells how many, and how fast."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    process = multiprocessing.get_context("spawn").Process(target=_serve_upstream, args=(port,), daemon=True)
    process.start()
    for _ in range(200):
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.join()


def _serve_upstream(port: int) -> None:
    uvloop.install()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", _tell)
    web.run_app(app, host="127.0.0.1", port=port, print=None, backlog=4096)


async def _tell(request: web.Request) -> web.StreamResponse:
    asked = (await request.json())["messages"][-1]["content"]
    text = asked if isinstance(asked, str) else asked[0]["text"]
    _, count, pause_s = text.split()
    answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await answer.prepare(request)
    for _ in range(int(count)):
        if float(pause_s):
            await asyncio.sleep(float(pause_s))
        await answer.write(_chunk({"content": f"{time.monotonic():.6f} "}))
    await answer.write(_chunk({}, "stop") + b"data: [DONE]\n\n")
    return answer


def _chunk(delta: dict[str, Any], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return (
        b"data: " + json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [choice]}).encode() + b"\n\n"
    )


async def _events(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async for line in answer.content:
        if line.startswith(b"data: "):
            yield line[6:]


async def _follow(http: aiohttp.ClientSession, url: str, count: int, pause_s: float, lags: list[float]) -> str:
    """Run a resumable response to its end, noting how long after its saying each word came; its id."""
    body = {"model": "m", "input": f"say {count} {pause_s}", "background": True, "stream": True}
    response_id = ""
    async with http.post(f"{url}/v1/responses", json=body) as answer:
        async for data in _events(answer):
            now = time.monotonic()
            if b'"response.output_text.delta"' in data:
                lags.append(now - float(json.loads(data)["delta"]))
            elif not response_id:
                response_id = json.loads(data)["response"]["id"]
    return response_id


async def live(server: Served) -> None:
    """The lag of events with many live streams."""
    lags: list[float] = []
    async with _client() as http, asyncio.TaskGroup() as group:
        for _ in range(LIVE):
            group.create_task(_follow(http, server.url, int(SPOKEN_S * 5), 0.2, lags))
            await asyncio.sleep(1 / LIVE)
    show(f"(k) from upstream to reader, {LIVE} live resumable streams", [Figures("lag of an event", lags)])


async def many(server: Served) -> None:
    """Many background runs that are under way at once."""
    before = server.resident_mb
    async with _client() as http:
        began = time.perf_counter()
        ids: list[str] = []

        async def start() -> None:
            body = {"model": "m", "input": "say 60 0.5", "background": True}
            async with http.post(f"{server.url}/v1/responses", json=body) as answer:
                ids.append((await answer.json())["id"])

        for _ in range(RUNS // 50):
            async with asyncio.TaskGroup() as group:
                for _ in range(50):
                    group.create_task(start())
        started_s = time.perf_counter() - began
        held = server.resident_mb
        print(f"\n(l) {RUNS} background runs at once: {RUNS / started_s:.0f} started a second, "
              f"{(held - before) * 1000 / RUNS:.0f} kB each ({before:.0f} to {held:.0f} MB)")  # fmt: skip
        for response_id in ids:
            while (await _get(http, server.url, response_id))["status"] not in {"completed", "failed"}:  # noqa: ASYNC110
                await asyncio.sleep(0.5)
        statuses = {(await _get(http, server.url, response_id))["status"] for response_id in ids}
        print(f"    all ended after {time.perf_counter() - began:.1f} s: {', '.join(sorted(statuses))}")


async def resumed(server: Served) -> None:
    """A long stream read as it is made, and read again."""
    async with _client() as http:
        began = time.perf_counter()
        response_id = await _follow(http, server.url, EVENTS, 0, [])
        fresh = [time.perf_counter() - began]
        again = []
        for _ in range(5):
            began, count = time.perf_counter(), 0
            query = {"stream": "true"}
            async with http.get(f"{server.url}/v1/responses/{response_id}", params=query) as answer:
                async for _ in _events(answer):
                    count += 1
            assert count > EVENTS
            again.append(time.perf_counter() - began)
    base = Figures("as it is made", fresh, EVENTS / min(fresh))
    show(f"(m) a stream of {EVENTS:,} events", [base, Figures("read again", again, EVENTS / min(again))], base)


async def chain(server: Served) -> None:
    """What the place in a chain costs."""
    async with _client() as http:

        async def say(previous: str | None) -> str:
            body = {"model": "m", "input": "say 1 0", "previous_response_id": previous}
            async with http.post(f"{server.url}/v1/responses", json=body) as answer:
                return str((await answer.json())["id"])

        first = last = await say(None)
        for _ in range(DEPTH - 1):
            last = await say(last)
        base = Figures("GET at depth 1", await _times(lambda: _get(http, server.url, first)))
        deep = Figures(f"GET at depth {DEPTH}", await _times(lambda: _get(http, server.url, last)))
        show("(n) retrieving a response", [base, deep], base)
        base = Figures("a turn after 1", await _times(lambda: say(first), 40))
        deep = Figures(f"a turn after {DEPTH}", await _times(lambda: say(last), 40))
        show("(n) going on from a response", [base, deep], base)


async def _get(http: aiohttp.ClientSession, url: str, response_id: str) -> dict[str, Any]:
    async with http.get(f"{url}/v1/responses/{response_id}") as answer:
        found: dict[str, Any] = await answer.json()
        return found


async def _times(act: Callable[[], Any], count: int = 200) -> list[float]:
    times = []
    for _ in range(count):
        began = time.perf_counter()
        await act()
        times.append(time.perf_counter() - began)
    return times


def _client() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(headers=HEADERS, connector=aiohttp.TCPConnector(limit=0), read_bufsize=1 << 20)


def main() -> None:
    """Measure and print."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, telling_upstream() as upstream:
        for measure in (live, many, resumed, chain):
            with served(upstream, **LIMITS) as server:
                runner.run(measure(server))


if __name__ == "__main__":
    main()
