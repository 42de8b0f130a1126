"""Kill everything, at random, under streams that somebody reads: python -m tests.crash [--kills 100] [--postgres].

With SQLite there is one server; with PostgreSQL there are two that share it, and the database is killed as well.
Clients start background runs, read their events as they come, lose the connection when the server is killed, and go on
from the last number that they saw. Every run is then looked at as a whole: exactly one ending; numbers without gap or
repeat; what was read in pieces is what is read at once, to the byte; the events add up to the response; and no command
was begun twice, of which the commands themselves keep a record.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import httpx2
import psycopg

from deskhand.core.fold import fold
from deskhand.sandboxes.layout import layout, load
from deskhand.store.rows import stored_event

from .conftest import KEY, Server, launched, upstream_process
from .postgres import SAFE, Cluster, cluster

SHELL: Final[Any] = {"type": "shell", "environment": {"type": "container_auto"}}
CLIENTS: Final = 8
LIFE_S: Final = (0.3, 3.0)
"""How long a server lives."""

PATIENCE_S: Final = 120.0
"""How long a run may take to its end once nothing is killed any more."""


_UNFINISHED: Final = "SELECT id FROM responses WHERE status IN ('queued', 'in_progress')"
_BROKEN: Final = """
SELECT response_id FROM events GROUP BY response_id
HAVING COUNT(*) <> MAX(sequence_number) + 1
OR SUM(CASE WHEN type IN ('response.completed', 'response.failed', 'response.incomplete') THEN 1 ELSE 0 END) <> 1
"""


class Broken(AssertionError):
    """A promise was broken."""


@dataclass(slots=True)
class Told:
    """What one client was told of a run: the bytes of each event, in the order in which they came."""

    script: str
    events: list[bytes] = field(default_factory=list)
    connections: int = 0

    @property
    def response_id(self) -> str:
        """The response's id; "" if the client was told nothing."""
        return str(json.loads(self.events[0])["response"]["id"]) if self.events else ""

    @property
    def over(self) -> bool:
        """Whether the ending was read."""
        return bool(self.events) and stored_event(self.events[-1].decode()).terminal


@dataclass(slots=True)
class World:
    """The servers of the moment, and what was done."""

    chance: random.Random
    servers: list[Server]
    counts: Counter[str] = field(default_factory=Counter)
    told: list[Told] = field(default_factory=list)
    stopping: bool = False

    def client(self) -> httpx2.AsyncClient:
        """A connection to any server of the moment."""
        headers = {"authorization": f"Bearer {KEY}"}
        return httpx2.AsyncClient(base_url=self.chance.choice(self.servers).url, headers=headers, timeout=30)


def _script(chance: random.Random, number: int) -> str:
    """What a run does. Each command notes in a file that it has begun, and the last one shows the file."""
    match chance.randrange(4):
        case 0:
            return "@@ say " + " ".join(f"word{n}" for n in range(chance.randrange(5, 80)))
        case 1:
            return f"@@ think of {number}\n@@ python print({number})\n@@ say done"
        case _:
            steps = [
                f"@@ shell echo {number}-{step} >> begun; echo out; sleep {chance.uniform(0, 0.6):.2f}"
                for step in range(chance.randrange(1, 4))
            ]
            return "\n".join([*steps, "@@ shell cat begun", "@@ say done"])


async def _use(world: World) -> None:
    """One client: run after run, each read to its end."""
    while not world.stopping:
        told = Told(_script(world.chance, world.counts["runs"]))
        world.counts["runs"] += 1
        tools = [SHELL, {"type": "code_interpreter", "container": {"type": "auto"}}]
        body = {"model": "m", "input": told.script, "tools": tools, "background": True, "stream": True}
        with suppress(httpx2.HTTPError):
            async with world.client() as http, http.stream("POST", "/v1/responses", json=body) as answer:
                await _take(told, answer)
        if not told.events:
            world.counts["unanswered"] += 1
            await asyncio.sleep(0.1)
            continue
        world.told.append(told)
        if world.chance.random() < 0.1:
            await _cancel(world, told)
        await _follow(world, told)


async def _follow(world: World, told: Told) -> None:
    """Read on from the last number that was seen, from whichever server there is, until the ending."""
    deadline = time.monotonic() + PATIENCE_S
    while not told.over:
        if time.monotonic() > deadline:
            raise Broken(f"{told.response_id} did not end: {told.script!r}")
        last = json.loads(told.events[-1])["sequence_number"]
        query = {"stream": "true", "starting_after": str(last)}
        try:
            async with (
                world.client() as http,
                http.stream("GET", f"/v1/responses/{told.response_id}", params=query) as answer,
            ):
                if answer.status_code == 404:
                    raise Broken(f"{told.response_id} was answered and is not there")
                if answer.status_code == 503:
                    world.counts["503 meanwhile"] += 1
                    await asyncio.sleep(0.2)
                    continue
                await _take(told, answer)
        except httpx2.HTTPError:
            await asyncio.sleep(0.05)


async def _take(told: Told, answer: httpx2.Response) -> None:
    told.connections += 1
    async for line in answer.aiter_lines():
        if line.startswith("data: "):
            told.events.append(line.removeprefix("data: ").encode())


async def _cancel(world: World, told: Told) -> None:
    await asyncio.sleep(world.chance.uniform(0, 0.5))
    with suppress(httpx2.HTTPError):
        async with world.client() as http:
            await http.post(f"/v1/responses/{told.response_id}/cancel")
            world.counts["cancels"] += 1


def _strike(world: World) -> None:
    """Kill the first process of a container."""
    place = layout(world.chance.choice(world.servers).data_dir / "sandboxes", as_root=os.geteuid() == 0)
    for folder in place.containers.iterdir():
        record = load(place.place(folder.name))
        if record is not None and record.init is not None:
            with suppress(ProcessLookupError):
                os.kill(record.init.pid, signal.SIGKILL)
                world.counts["containers killed"] += 1
                return


async def _check(world: World, told: Told) -> None:
    """Hold what a client was told against everything that the server knows."""
    async with world.client() as http:
        async with http.stream("GET", f"/v1/responses/{told.response_id}", params={"stream": "true"}) as answer:
            whole = Told(told.script)
            await _take(whole, answer)
        retrieved = (await http.get(f"/v1/responses/{told.response_id}")).json()
    if whole.events != told.events:
        raise Broken(
            f"{told.response_id}: read in {told.connections} pieces it is not what it is at once: "
            f"{len(told.events)} and {len(whole.events)} events (status {answer.status_code})"
        )
    events = [json.loads(data) for data in told.events]
    if [event["sequence_number"] for event in events] != list(range(len(events))):
        raise Broken(f"{told.response_id}: numbers {[event['sequence_number'] for event in events]}")
    stored = [stored_event(data.decode()) for data in told.events]
    if [event.terminal for event in stored].count(True) != 1 or events[-1]["response"] != retrieved:
        raise Broken(f"{told.response_id}: not one ending, or not that which is stored")
    if fold(stored) != stored[-1].fields["response"]:
        raise Broken(f"{told.response_id}: its events do not add up to it")
    world.counts[retrieved["status"]] += 1
    world.counts["events"] += len(events)
    world.counts["pieces"] += told.connections
    outputs = [item for item in retrieved["output"] if item["type"] == "shell_call_output"]
    shown = [line for item in outputs[-1:] for part in item["output"] for line in part["stdout"].split()]
    if len(set(shown)) != len(shown):
        raise Broken(f"{told.response_id}: a command was begun twice: {shown}")
    interrupted = sum("interrupted" in part["stderr"] for item in outputs for part in item["output"])
    world.counts["commands"] += len(outputs)
    world.counts["commands interrupted"] += interrupted


class Site(Protocol):
    """Where servers keep what they share."""

    def settings(self, number: int) -> dict[str, str]:
        """The settings of a server."""
        ...

    def crash(self) -> bool:
        """Kill the database and start it again; False if it is none that can be."""
        ...

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Ask the database."""
        ...


@dataclass(frozen=True)
class Alone:
    """One server with its SQLite."""

    folder: Path

    def settings(self, number: int) -> dict[str, str]:
        """Its own database, also where other tests have PostgreSQL."""
        return {"database_url": ""}

    def crash(self) -> bool:
        """It dies with its server."""
        return False

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Ask the file."""
        with closing(sqlite3.connect(f"file:{self.folder}/data0/deskhand.sqlite?mode=ro", uri=True)) as rows:
            return rows.execute(statement).fetchall()


@dataclass(frozen=True)
class Shared:
    """Servers that share a PostgreSQL."""

    cluster: Cluster
    url: str

    def settings(self, number: int) -> dict[str, str]:
        """The database, and an address for the others."""
        port = str(_free_port())
        shared = {"database_url": self.url, "secret_key": "0123456789abcdef" * 2}
        return {**shared, "port": port, "advertise_url": f"http://127.0.0.1:{port}"}

    def crash(self) -> bool:
        """Kill all of its processes."""
        self.cluster.crash()
        time.sleep(0.5)
        self.cluster.start()
        return True

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Ask the server."""
        with psycopg.connect(self.url) as connection:
            return connection.execute(statement).fetchall()


@contextmanager
def site(folder: Path, postgres: bool) -> Iterator[Site]:
    """What is shared, until the block ends."""
    if not postgres:
        yield Alone(folder)
        return
    with cluster(SAFE) as running:
        yield Shared(running, running.create("crash"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def crash(folder: Path, kills: int, seed: int, postgres: bool, tell: Callable[[str], None]) -> Counter[str]:
    """Kill the servers `kills` times under their clients, then check every run. Raises `Broken`."""
    with ExitStack() as stack:
        upstream = stack.enter_context(upstream_process("--delay", "0.01"))
        shared = stack.enter_context(site(folder, postgres))

        def start(number: int) -> Server:
            return stack.enter_context(launched(folder / f"data{number}", upstream, **shared.settings(number)))

        world = World(random.Random(seed), [start(number) for number in range(2 if postgres else 1)])
        asyncio.run(_live(world, kills, start, shared, tell))
        return world.counts


async def _live(
    world: World, kills: int, start: Callable[[int], Server], shared: Site, tell: Callable[[str], None]
) -> None:
    async with asyncio.TaskGroup() as group:
        clients = [group.create_task(_use(world)) for _ in range(CLIENTS)]
        for count in range(kills):
            await asyncio.sleep(world.chance.uniform(*LIFE_S))
            if world.chance.random() < 0.3:
                _strike(world)
            if world.chance.random() < 0.2 and await asyncio.to_thread(shared.crash):
                world.counts["database kills"] += 1
                continue
            number = world.chance.randrange(len(world.servers))
            hard = world.chance.random() < 0.8
            process = world.servers[number].process
            process.send_signal(signal.SIGKILL if hard else signal.SIGTERM)
            await asyncio.to_thread(process.wait)
            world.counts["kills" if hard else "stops"] += 1
            world.servers[number] = await asyncio.to_thread(start, number)
            if (count + 1) % 10 == 0:
                tell(f"{count + 1} of {kills}: {len(world.told)} runs")
        world.stopping = True
        await asyncio.wait(clients)
    for told in world.told:
        await _check(world, told)
    await asyncio.to_thread(_check_rows, world, shared)


def _check_rows(world: World, shared: Site) -> None:
    """Every response that is stored has ended, also those of which no client knows."""
    deadline = time.monotonic() + PATIENCE_S
    while unfinished := shared.rows(_UNFINISHED):
        if time.monotonic() > deadline:
            raise Broken(f"never ended: {unfinished}")
        time.sleep(0.2)
    if broken := shared.rows(_BROKEN):
        raise Broken(f"stored events with a gap, or without one ending: {broken}")
    ((world.counts["stored"],),) = shared.rows("SELECT COUNT(*) FROM responses")


def main() -> int:
    """Run it; the exit status says whether every promise held."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--kills", type=int, default=100)
    options.add_argument("--postgres", action="store_true", help="two servers on one PostgreSQL")
    options.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    given = options.parse_args()
    print(f"seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        counts = crash(Path(folder), given.kills, given.seed, given.postgres, lambda text: print(text, flush=True))
    for name, count in sorted(counts.items()):
        print(f"{count:8,}  {name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
