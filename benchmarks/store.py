"""What storing a response costs: `create` and `finish`, durably, on SQLite and on PostgreSQL, against a bare sqlite3
insert loop in the same run. PostgreSQL is on the same machine, with its own defaults.

Run: python -m benchmarks.store
"""

import asyncio
import sqlite3
import tempfile
import time
from pathlib import Path

import msgspec

from deskhand.ports.runs import Claim, Written
from deskhand.store.database import Database
from deskhand.store.postgres import PostgresDatabase
from deskhand.store.responses import SqlResponses
from deskhand.store.sqlite import SqliteDatabase
from deskhand.wire.items import Message
from deskhand.wire.parts import InputText, OutputText
from deskhand.wire.response import Response
from tests.postgres import SAFE, cluster, programs

from .figures import Figures, show

SECONDS = 3.0
BODY = "x" * 2000  # the size of a typical stored row


def bare(path: Path) -> float:
    """Durable one-row transactions a second, one after the other, on a bare connection."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT)")
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS / 3:
        connection.execute("INSERT INTO t (body) VALUES (?)", (BODY,))
        count += 1
    connection.close()
    return count / (time.perf_counter() - start)


async def pair(store: SqlResponses, name: str) -> float:
    """Seconds for one response's `create` and `finish`, one item each side."""
    response = Response(id=f"resp_{name}", created_at=1, model="m", instructions="Be brief.")
    given = Message(id=f"msg_in_{name}", role="user", content=(InputText(text="What is the weather like?"),))
    said = Message(id=f"msg_out_{name}", role="assistant", content=(OutputText(text=BODY[:500]),))
    start = time.perf_counter()
    await store.create("proj", response, [given])
    ended = msgspec.structs.replace(response, status="completed", output=[said])
    await store.finish(Claim(response.id), ended, Written({0: said}))
    return time.perf_counter() - start


async def load(store: SqlResponses, concurrency: int) -> tuple[float, list[float]]:
    """Pairs a second, and each pair's seconds, with so many writers at once."""
    times: list[float] = []
    end = time.perf_counter() + SECONDS

    async def writer(number: int) -> None:
        count = 0
        while time.perf_counter() < end:
            times.append(await pair(store, f"{concurrency}_{number}_{count}"))
            count += 1

    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(concurrency):
            group.create_task(writer(number))
    return len(times) / (time.perf_counter() - start), times


async def measure(directory: Path) -> None:
    """Measure and print."""
    commits = bare(directory / "bare.sqlite")
    print(f"\nstore: a bare sqlite3 loop makes {commits:,.0f} durable one-row commits/s here")
    async with SqliteDatabase.open(directory / "store.sqlite") as database:
        cases, rates = await of(database, "SQLite")
    if programs() is not None:
        with cluster(SAFE) as running:
            async with PostgresDatabase.open(running.create("bench")) as postgres:
                others, other_rates = await of(postgres, "PostgreSQL")
        cases, rates = cases + others, rates + other_rates
    show("store: one response, both writes durable", cases)
    multiples = ", ".join(f"{rate * 2 / commits:.2f}" for rate in rates)
    print(f"  commits a second, as multiples of the bare loop's: {multiples}")


async def of(database: Database, name: str) -> tuple[list[Figures], list[float]]:
    """The figures of a database, and pairs a second."""
    cases, rates = [], []
    for concurrency in (1, 32):
        rate, times = await load(SqlResponses(database), concurrency)
        cases.append(Figures(f"{name}: create+finish, {concurrency} at once", times, rate))
        rates.append(rate)
    return cases, rates


def main() -> None:
    """Measure in a directory that is removed."""
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(measure(Path(name)))


if __name__ == "__main__":
    main()
