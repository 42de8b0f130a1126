"""Containers over a real engine and a real database, with a clock that the test turns."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from deskhand.core.errors import ApiError
from deskhand.engine.container_files import ContainerFiles
from deskhand.engine.container_order import ContainerPolicy, Order
from deskhand.engine.containers import Containers
from deskhand.engine.files import Files
from deskhand.engine.snapshots import SnapshotPolicy, Snapshots
from deskhand.ports.sandbox import Command, Exited, Limits, SandboxGone
from deskhand.ports.store import Page
from deskhand.sandboxes.bubblewrap import BubblewrapEngine
from deskhand.store.blobs import DiskBlobs
from deskhand.store.containers import SqlContainers
from deskhand.store.files import SqlFiles
from deskhand.store.snapshots import SqlSnapshots
from deskhand.store.sqlite import SqliteDatabase

pytestmark = pytest.mark.anyio
OWNER = "proj_a"


@dataclass
class Clock:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def rooms(root: Path, clock: Clock) -> AsyncIterator[tuple[Containers, ContainerFiles]]:
    engine = BubblewrapEngine(root / "sandboxes")
    report = await engine.probe()
    async with SqliteDatabase.open(root / "db.sqlite") as database:
        store = SqlContainers(database)
        policy = ContainerPolicy(idle_minutes=20, limits=Limits(disk_bytes=64 << 20, disk_inodes=1000))
        snapshots = Snapshots(SqlSnapshots(database), engine, SnapshotPolicy(), clock)
        containers = Containers(store, engine, report, policy, snapshots, clock)
        files = Files(SqlFiles(database), DiskBlobs(root / "blobs"), 1 << 20)
        async with containers.serving():
            yield containers, ContainerFiles(containers, store, files)
            for record in await store.live():
                await containers.delete(record.owner, record.id)
    await engine.sweep(())


async def run(containers: Containers, container_id: str, command: str) -> int:
    sandbox = await containers.sandbox(OWNER, container_id)
    ended = [event async for event in sandbox.exec(Command(("sh", "-c", command), 30, 1000, 1000))][-1]
    assert isinstance(ended, Exited)
    return ended.code


async def test_twenty_idle_minutes_end_a_container_and_every_use_starts_them_anew(tmp_path: Path) -> None:
    clock = Clock()
    async with rooms(tmp_path, clock) as (containers, files):
        record = await containers.create(OWNER, Order("c"))
        assert await run(containers, record.id, "echo x > f") == 0
        for use in range(3):
            clock.now += 19 * 60
            match use:
                case 0:
                    assert await run(containers, record.id, "true") == 0
                case 1:
                    await files.list(OWNER, record.id, Page())
                case _:
                    await containers.alive(OWNER, record.id)
        assert (await containers.get(OWNER, record.id)).state == "running"
        clock.now += 20 * 60
        assert (await containers.get(OWNER, record.id)).state == "expired"
        with pytest.raises(ApiError, match="Container is expired."):
            await containers.alive(OWNER, record.id)
        with pytest.raises(ApiError, match="Container is expired."):
            await files.list(OWNER, record.id, Page())
        with pytest.raises(SandboxGone):
            await containers.sandbox(OWNER, record.id)
        assert [r.id for r in (await containers.list(OWNER, Page(), None)).data] == [record.id]


async def test_a_running_command_keeps_its_container_alive(tmp_path: Path) -> None:
    clock = Clock()
    async with rooms(tmp_path, clock) as (containers, _):
        record = await containers.create(OWNER, Order("c", idle_minutes=1))
        sandbox = await containers.sandbox(OWNER, record.id)
        command = Command(("sh", "-c", "echo begun; sleep 1"), 30, 1000, 1000)
        async for _event in sandbox.exec(command):
            clock.now += 3600
            assert (await containers.get(OWNER, record.id)).state == "running"
        clock.now += 60
        assert (await containers.get(OWNER, record.id)).state == "expired"


async def test_a_restarted_server_finds_its_containers_and_sweeps_what_nobody_owns(tmp_path: Path) -> None:
    clock = Clock()
    engine = BubblewrapEngine(tmp_path / "sandboxes")
    async with SqliteDatabase.open(tmp_path / "db.sqlite") as database:
        store = SqlContainers(database)
        snapshots = Snapshots(SqlSnapshots(database), engine, SnapshotPolicy(), clock)
        first = Containers(store, engine, await engine.probe(), ContainerPolicy(), snapshots, clock)
        kept = await first.create(OWNER, Order("kept"))
        lost = await first.create(OWNER, Order("lost"))
        assert await run(first, kept.id, "sleep 1000 & echo $! > pid") == 0
        assert await run(first, lost.id, "true") == 0
        await store.delete(OWNER, lost.id)
    async with rooms(tmp_path, clock) as (containers, _):
        assert await run(containers, kept.id, "kill -0 $(cat pid)") == 0
        assert await BubblewrapEngine(tmp_path / "sandboxes").attach(lost.id) is None


async def told_that_it_died(containers: Containers, container_id: str) -> str:
    with pytest.raises(SandboxGone) as raised:
        await run(containers, container_id, "sleep 20")
    return str(raised.value)


async def test_a_computer_that_died_is_started_again_on_the_same_files(tmp_path: Path) -> None:
    async with rooms(tmp_path, Clock()) as (containers, _):
        record = await containers.create(OWNER, Order("c"))
        assert await run(containers, record.id, "echo x > f") == 0
        async with asyncio.TaskGroup() as group:
            dying = group.create_task(told_that_it_died(containers, record.id))
            await asyncio.sleep(0.3)
            (kept,) = (tmp_path / "sandboxes").rglob("record.json")
            os.kill(json.loads(kept.read_text())["init"]["pid"], signal.SIGKILL)
        assert "Files in the working directory are kept" in dying.result()
        assert await run(containers, record.id, "grep -q x f") == 0
