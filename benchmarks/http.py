"""(a) What Deskhand adds to a text response, and (d) a whole tool turn, against calling the mock upstream directly."""

import asyncio
from typing import Any

import uvloop

from .figures import Figures, show
from .load import measure
from .processes import KEY, deskhand, upstream

REQUESTS = 2000
CHAT: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}
TEXT: dict[str, Any] = {"model": "scripted", "input": "hi"}
TURN: dict[str, Any] = {
    "model": "scripted",
    "input": "@@ shell true",
    "tools": [{"type": "shell", "environment": {"type": "container_auto"}}],
}


async def text(mock: str, server: str) -> None:
    """Text responses at concurrency 1 and 32: streamed and not, stored and not."""
    for concurrency in (1, 32):
        requests = REQUESTS if concurrency > 1 else REQUESTS // 4
        for streamed in (False, True):
            direct = await measure(
                "the mock upstream, directly",
                mock,
                "/v1/chat/completions",
                {**CHAT, "stream": streamed},
                KEY,
                concurrency=concurrency,
                requests=requests,
            )
            cases = [direct]
            for store in (True, False):
                name = f"deskhand, {'stored' if store else 'store: false'}"
                body = {**TEXT, "stream": streamed, "store": store}
                cases.append(
                    await measure(name, server, "/v1/responses", body, KEY, concurrency=concurrency, requests=requests)
                )
            show(f"(a) {'streamed' if streamed else 'plain'} text, concurrency {concurrency}", cases, direct)


async def turn(server: str) -> None:
    """A tool turn in a container that runs already, and in a new one."""
    new = await measure("one tool turn, new container", server, "/v1/responses", TURN, KEY, concurrency=1, requests=30)
    first = await first_container(server)
    body = {**TURN, "tools": [{"type": "shell", "environment": first}]}
    running = await measure(
        "one tool turn, running container", server, "/v1/responses", body, KEY, concurrency=1, requests=200
    )
    text_turn: Figures = await measure(
        "two text responses' worth (one, doubled)", server, "/v1/responses", TEXT, KEY, concurrency=1, requests=200
    )
    doubled = Figures(text_turn.name, [2 * second for second in text_turn.seconds])
    show("(d) one whole tool turn: model, command, model", [doubled, running, new], doubled)


async def first_container(server: str) -> dict[str, Any]:
    """A container that runs, as a reference."""
    import json

    from .load import Connection

    connection = Connection(server)
    answer = json.loads(await connection.post("/v1/responses", json.dumps(TURN).encode(), KEY))
    connection.close()
    environment: dict[str, Any] = answer["tools"][0]["environment"]
    return environment


def main() -> None:
    """Measure and print."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        with upstream("--fast", "20") as mock, deskhand(mock) as server:
            runner.run(text(mock, server))
        with upstream() as mock, deskhand(mock) as server:
            runner.run(turn(server))


if __name__ == "__main__":
    main()
