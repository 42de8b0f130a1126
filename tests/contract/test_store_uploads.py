"""The store of uploads in parts, on each database."""

import asyncio
from dataclasses import replace

import pytest

from deskhand.ports.store import FileRecord
from deskhand.ports.uploads import PartRecord, Room, UploadRecord
from deskhand.store.database import Database
from deskhand.store.files import SqlFiles
from deskhand.store.part_uploads import SqlUploads

pytestmark = pytest.mark.anyio

UPLOAD = UploadRecord("upload_1", "a", "größe.bin", 5 << 31, "user_data", 1000, 4600, 7200)
PART = PartRecord("part_1", "upload_1", 3 << 30, 1001, "blob1")
FILE = FileRecord("file_1", "a", "größe.bin", 5 << 31, "user_data", 1002, 8202, "whole")
ROOM = Room(3, 8 << 30)


async def begun(database: Database, *records: UploadRecord) -> SqlUploads:
    store = SqlUploads(database)
    for record in records:
        assert await store.add(record, 10)
    return store


async def test_an_upload_is_kept_for_its_owner(database: Database) -> None:
    store = await begun(database, UPLOAD, replace(UPLOAD, id="upload_2", file_expires_after=None))
    assert await store.get("a", "upload_1") == UPLOAD
    assert (await store.get("a", "upload_2")) == replace(UPLOAD, id="upload_2", file_expires_after=None)
    assert await store.get("b", "upload_1") is None


async def test_so_many_may_be_under_way(database: Database) -> None:
    store = await begun(database, UPLOAD)
    assert not await store.add(replace(UPLOAD, id="upload_2"), 1)
    assert await store.add(replace(UPLOAD, id="upload_3", owner="b"), 1)
    assert await store.add(replace(UPLOAD, id="upload_4", created_at=4600, expires_at=9000), 1), "the first is over"
    assert await store.get("a", "upload_2") is None


async def test_parts_come_in_order_as_long_as_there_is_room(database: Database) -> None:
    store = await begun(database, UPLOAD)
    second = replace(PART, id="part_2", blob="blob2")
    assert [await store.add_part("a", part, ROOM) for part in (PART, second)] == ["added", "added"]
    assert await store.add_part("a", replace(PART, id="part_3"), ROOM) == "full", "of bytes"
    small = [await store.add_part("a", replace(PART, id=f"part_{n}", bytes=1), ROOM) for n in (4, 5)]
    assert small == ["added", "full"], "of parts"
    assert await store.parts("upload_1") == [PART, second, replace(PART, id="part_4", bytes=1)]
    assert await store.add_part("b", replace(PART, id="part_6"), ROOM) == "over"
    assert await store.add_part("a", replace(PART, id="part_7", upload_id="other"), ROOM) == "over"
    assert await store.add_part("a", replace(PART, id="part_8", created_at=4600), ROOM) == "over"


async def test_one_of_many_completes(database: Database) -> None:
    store = await begun(database, UPLOAD)
    await store.add_part("a", PART, ROOM)
    assert not await store.complete("b", "upload_1", FILE)
    ended = await asyncio.gather(
        *(store.complete("a", "upload_1", replace(FILE, id=f"file_{n}")) for n in range(5)),
        store.cancel("a", "upload_1", 1002),
    )
    assert sum(ended) == 1
    record = await store.get("a", "upload_1")
    assert record is not None
    kept = [n for n in range(5) if await SqlFiles(database).get("a", f"file_{n}") is not None]
    assert kept == ([ended.index(True)] if record.state == "completed" else [])
    assert record.file_id == (f"file_{kept[0]}" if kept else None)
    assert await store.add_part("a", replace(PART, id="part_2"), ROOM) == "over"


async def test_bytes_are_in_use_as_long_as_a_file_or_a_part_names_them(database: Database) -> None:
    store, files = await begun(database, UPLOAD), SqlFiles(database)
    assert not await files.blob_in_use("blob1")
    await store.add_part("a", PART, ROOM)
    assert await files.blob_in_use("blob1")
    assert await store.delete_parts("upload_1") == [PART]
    assert not await files.blob_in_use("blob1")
    assert await store.delete_parts("upload_1") == []


async def test_what_is_not_completed_in_time_ends_and_is_forgotten(database: Database) -> None:
    late = replace(UPLOAD, id="upload_2", created_at=2000, expires_at=5600)
    store = await begun(database, UPLOAD, late)
    await store.add_part("a", PART, ROOM)
    await store.expire(4599)
    assert await store.ended_with_parts(10) == []
    await store.expire(4600)
    assert await store.ended_with_parts(10) == ["upload_1"]
    assert not await store.cancel("a", "upload_1", 4600)
    await store.forget(10_000)
    assert (await store.get("a", "upload_1")) == replace(UPLOAD, state="expired"), "its part is still there"
    await store.delete_parts("upload_1")
    await store.forget(4600)
    assert await store.get("a", "upload_1") is not None
    await store.forget(4601)
    assert await store.get("a", "upload_1") is None
    assert await store.get("a", "upload_2") == late
