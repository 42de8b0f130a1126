"""Spare computers: started before they are asked for, given out once, and never left behind."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from deskhand.ports.sandbox import Command, SandboxSpec
from deskhand.sandboxes import processes
from deskhand.sandboxes.layout import Record, layout, load
from deskhand.testing.conformance_sandbox_bench import SMALL, Bench, gather

from .conftest import needs_bwrap, needs_root
from .test_lifecycle import _settled, _traces

pytestmark = [pytest.mark.anyio, needs_bwrap]


@asynccontextmanager
async def warm(bench: Bench, count: int = 1) -> AsyncIterator[None]:
    keeping = asyncio.create_task(bench.engine.keep_warm(count))
    await asyncio.sleep(0)  # it begins
    try:
        yield
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping


async def spare(root: Path) -> Record:
    """The record of the one spare that is ready."""
    containers = layout(root, as_root=os.geteuid() == 0).containers
    for _ in range(500):
        for path in containers.glob("warm-*"):
            record = load(layout(root, as_root=os.geteuid() == 0).place(path.name))
            if record is not None and record.warm:
                await asyncio.sleep(0.1)  # from its record to the pool it is one turn of this loop
                return record
        await asyncio.sleep(0.02)
    raise AssertionError("there is no spare after 10 s")


async def test_nothing_is_started_before_somebody_has_asked(bench: Bench, root: Path) -> None:
    async with warm(bench):
        await asyncio.sleep(0.2)
        assert _traces(root) == []
        async with bench.desk():
            assert (await spare(root)).container_id.startswith("warm-")


async def test_a_spare_is_given_out_once(bench: Bench, root: Path) -> None:
    async with warm(bench), bench.desk() as first:
        await first.run("echo mine > /tmp/note")
        ready = await spare(root)
        async with bench.desk() as second:
            record = load(layout(root, as_root=os.geteuid() == 0).place(second.container_id))
            assert record is not None
            assert (record.init, record.uid, record.warm) == (ready.init, ready.uid, False)
            assert (await second.run("pwd; cat /tmp/note")).text == "/mnt/data"
            assert [file.path for file in await second.workspace.list(9)] == []
            await second.run("echo theirs > file")
            assert [file.path for file in await second.workspace.list(9)] == ["file"]
            following = await spare(root)
            assert following.init != ready.init
            # A restarted server finds the one that was given out under its own id.
            again = await bench.make().attach(second.container_id)
            assert again is not None
            assert (await gather(again, Command(("cat", "file"), 9, 99, 0))).text == "theirs"
        assert ready.init is not None
        assert not processes.is_alive(ready.init)


async def test_a_spare_that_does_not_fit_is_not_given_out(bench: Bench, root: Path) -> None:
    async with warm(bench), bench.desk():
        ready = await spare(root)
        assert ready.init is not None
        async with bench.desk(SPOKEN="spec") as other:
            assert (await other.run("echo $SPOKEN")).text == "spec"
            record = load(layout(root, as_root=os.geteuid() == 0).place(other.container_id))
            assert record is not None
            assert record.init != ready.init
            assert not processes.is_alive(ready.init)


async def test_no_spare_outlives_its_server(bench: Bench, root: Path) -> None:
    async with warm(bench):
        async with bench.desk():
            ready = await spare(root)
        assert ready.init is not None
    assert not processes.is_alive(ready.init)
    assert await _settled(root) == []


@needs_root
async def test_a_server_that_dies_while_it_gives_a_spare_out_leaves_nothing(bench: Bench, root: Path) -> None:
    place = layout(root, as_root=os.geteuid() == 0)
    keeping = asyncio.create_task(bench.engine.keep_warm(1))
    await asyncio.sleep(0)
    async with bench.desk():
        ready = await spare(root)
        keeping.cancel()  # its own clean-up finds nothing under the old name
        place.place(ready.container_id).data.rename(place.place("given").data)
        with suppress(asyncio.CancelledError):
            await keeping
    engine = bench.make()
    await engine.sweep(())
    assert ready.init is not None
    assert not processes.is_alive(ready.init)
    assert await _settled(root) == []


async def test_a_spare_that_has_died_is_replaced_by_a_fresh_start(bench: Bench, root: Path) -> None:
    async with warm(bench), bench.desk():
        ready = await spare(root)
        assert ready.init is not None
        await asyncio.to_thread(processes.kill, ready.init, 5.0)
        await bench.engine.allocate("late", SMALL)
        sandbox = await bench.engine.start(SandboxSpec("late", SMALL))
        assert (await gather(sandbox, Command(("echo", "up"), 9, 99, 0))).text == "up"
        await bench.engine.destroy("late")
