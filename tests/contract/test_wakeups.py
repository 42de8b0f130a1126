"""Wake-ups within a process and between processes that share a PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from deskhand.ports.wakeups import Wakeups
from deskhand.store.postgres_wakeups import PostgresWakeups
from deskhand.store.wakeups import LocalWakeups

from ..postgres import Cluster
from ..postgres import cluster as new_cluster

pytestmark = pytest.mark.anyio

SECONDS = 30.0


@pytest.fixture(params=["local", "postgres"])
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Wakeups, Wakeups]]:
    """Where a wake-up is given, and where it is heard."""
    if request.param == "local":
        local = LocalWakeups()
        yield local, local
        return
    url = request.getfixturevalue("postgres").url()
    async with PostgresWakeups(url).serving() as one, PostgresWakeups(url).serving() as other:
        await heard(one, other, "ready")
        yield one, other


async def heard(teller: Wakeups, hearer: Wakeups, name: str) -> None:
    """Return when a wake-up of `teller` has come to `hearer`; it is given again and again, as one may be lost."""
    async with hearer.listening(name) as taps, asyncio.timeout(SECONDS):
        task = asyncio.ensure_future(anext(taps))
        while not task.done():
            teller.wake(name)
            await asyncio.wait([task], timeout=0.1)


async def test_a_wake_up_is_heard_under_its_name_only(pair: tuple[Wakeups, Wakeups]) -> None:
    one, other = pair
    async with other.listening("a") as a, other.listening("b") as b, asyncio.timeout(SECONDS):
        waiting = asyncio.ensure_future(anext(b))
        for _ in range(100):
            one.wake("a")
        await anext(a)
        assert not waiting.done()
        one.wake("b")
        await waiting


async def test_names_may_be_anything(pair: tuple[Wakeups, Wakeups]) -> None:
    one, other = pair
    for name in ("", "it's; --", "é😀", "x" * 200):
        async with other.listening(name) as taps, asyncio.timeout(SECONDS):
            one.wake(name)
            await anext(taps)


async def test_who_wakes_hears_it_too_and_only_once(postgres: Cluster) -> None:
    async with PostgresWakeups(postgres.url()).serving() as one, PostgresWakeups(postgres.url()).serving() as other:
        await heard(one, other, "ready")
        async with one.listening("a") as taps, other.listening("a") as elsewhere, asyncio.timeout(SECONDS):
            one.wake("a")
            await anext(taps)
            await anext(elsewhere)
            waiting = asyncio.ensure_future(anext(taps))
            # In order: what came before this has come.
            await heard(other, one, "after")
            assert not waiting.done()
            waiting.cancel()


async def test_a_last_wake_up_is_still_told(postgres: Cluster) -> None:
    async with PostgresWakeups(postgres.url()).serving() as other:
        async with other.listening("bye") as taps:
            async with PostgresWakeups(postgres.url()).serving() as one:
                await heard(one, other, "ready")
                one.wake("bye")
            async with asyncio.timeout(SECONDS):
                await anext(taps)


@asynccontextmanager
async def _restarted(running: Cluster) -> AsyncIterator[None]:
    await asyncio.to_thread(running.stop)
    yield
    await asyncio.to_thread(running.start)


async def test_wake_ups_go_on_after_the_server_was_gone() -> None:
    with new_cluster() as running:
        async with PostgresWakeups(running.url()).serving() as one, PostgresWakeups(running.url()).serving() as other:
            await heard(one, other, "a")
            async with _restarted(running):
                # Those of the process itself need no server.
                await heard(one, one, "a")
            await heard(one, other, "a")
