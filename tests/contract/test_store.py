"""The shipped stores against their conformance suites."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from deskhand.ports.runs import Claim, Written
from deskhand.store.blobs import DiskBlobs
from deskhand.store.containers import SqlContainers
from deskhand.store.database import Database
from deskhand.store.files import SqlFiles
from deskhand.store.memory import Discard, EndingLog, MemoryLog
from deskhand.store.responses import SqlResponses
from deskhand.store.runs import SqlRuns
from deskhand.store.skills import SqlSkills
from deskhand.store.snapshots import SqlSnapshots
from deskhand.testing import conformance_records as records
from deskhand.testing import conformance_store as suite
from deskhand.testing.conformance_runs import RUN_CHECKS, RunCheck
from deskhand.testing.conformance_skills import SKILL_CHECKS, SkillCheck
from deskhand.testing.conformance_snapshot_records import SNAPSHOT_RECORD_CHECKS, SnapshotCheck
from deskhand.wire.events import Event

pytestmark = pytest.mark.anyio


def _name(check: Callable[..., Awaitable[None]]) -> str:
    return check.__name__


@pytest.mark.parametrize("check", suite.RESPONSE_CHECKS, ids=_name)
async def test_responses(database: Database, check: suite.ResponseCheck) -> None:
    await check(SqlResponses(database))


@pytest.mark.parametrize("check", RUN_CHECKS, ids=_name)
async def test_runs(database: Database, check: RunCheck) -> None:
    await check(SqlResponses(database), SqlRuns(database))


@pytest.mark.parametrize("check", records.FILE_CHECKS, ids=_name)
async def test_files(database: Database, check: records.FileCheck) -> None:
    await check(SqlFiles(database))


@pytest.mark.parametrize("check", records.CONTAINER_CHECKS, ids=_name)
async def test_containers(database: Database, check: records.ContainerCheck) -> None:
    await check(SqlContainers(database))


@pytest.mark.parametrize("check", SKILL_CHECKS, ids=_name)
async def test_skills(database: Database, check: SkillCheck) -> None:
    await check(SqlSkills(database), SqlContainers(database))


@pytest.mark.parametrize("check", SNAPSHOT_RECORD_CHECKS, ids=_name)
async def test_snapshots(database: Database, check: SnapshotCheck) -> None:
    await check(SqlSnapshots(database), SqlContainers(database))


@pytest.mark.parametrize("check", records.BLOB_CHECKS, ids=_name)
async def test_blobs_on_disk(tmp_path: Path, check: records.BlobCheck) -> None:
    await check(DiskBlobs(tmp_path / "blobs"))
    assert not list((tmp_path / "blobs" / "incoming").glob("*"))


async def test_equal_bytes_are_on_disk_once(tmp_path: Path) -> None:
    blobs = DiskBlobs(tmp_path / "blobs")
    assert await blobs.put(records.chunked(b"x"), max_bytes=1) == await blobs.put(records.chunked(b"x"), max_bytes=1)


@pytest.mark.parametrize("check", suite.LOG_CHECKS, ids=_name)
async def test_the_log_in_memory(check: suite.LogCheck) -> None:
    await check(MemoryLog())


async def test_a_reader_gets_what_was_appended_in_one_turn_as_one_batch() -> None:
    log = MemoryLog()
    for number in range(50):
        await log.append(suite.numbered(number, 1))
    batch = await anext(log.tail())
    assert len(batch) == 50


async def test_what_is_discarded_is_not_found() -> None:
    store, response = Discard(), suite.begun()
    await store.create("proj", response, [suite.asked("q")])
    await store.save(Claim(response.id), Written({0: suite.said("a")}))
    await store.finish(Claim(response.id), response, Written())
    found: list[Any] = [
        await store.get("proj", response.id),
        await store.given("proj", response.id),
        await store.item("proj", "msg"),
        await store.context("proj", response.id),
        await store.delete("proj", response.id),
    ]
    assert not any(found)


async def test_deleting_leaves_no_rows(database: Database) -> None:
    store = SqlResponses(database)
    root = await suite.stored(store, "proj")
    leaf = await suite.stored(store, "proj", after=root)
    assert await store.delete("proj", root.id)
    assert await store.delete("proj", leaf.id)
    for table in ("responses", "items"):
        rows = await database.read(lambda c, table=table: c.execute(f"SELECT * FROM {table}").fetchall())  # type: ignore[misc]  # mypy cannot infer a lambda's default
        assert rows == []


async def test_storing_a_turn_costs_its_new_items_only(database: Database) -> None:
    store = SqlResponses(database)
    first = await suite.stored(store, "proj")
    await suite.stored(store, "proj", after=first)
    count = await database.read(lambda connection: connection.execute("SELECT COUNT(*) FROM items").fetchone()[0])
    assert count == 4


async def test_an_ending_log_keeps_the_terminal_event_only() -> None:
    log = EndingLog()
    await log.append([Event("response.output_text.delta", 0, {"delta": "x"})])
    assert not log.ended
    ending = Event("response.completed", 1, {})
    await log.append([ending])
    assert log.ended
    assert await log.last() == ending
    assert [batch async for batch in log.tail()] == [[ending]]
    assert [batch async for batch in log.tail(after=1)] == []
