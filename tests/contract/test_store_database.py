"""The database under the stores: group commits, failing units, full disks, kills, versions."""

import asyncio
import random
import re
import resource
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from deskhand.core.errors import StoreUnavailable
from deskhand.ports.runs import Claim, Written
from deskhand.store import migrate
from deskhand.store.blobs import DiskBlobs
from deskhand.store.responses import SqlResponses
from deskhand.store.runs import SqlRuns
from deskhand.store.sqlite import SqliteDatabase
from deskhand.testing.conformance_records import chunked, content
from deskhand.testing.conformance_store import asked, begun, said, stored, unique

pytestmark = pytest.mark.anyio

WRITER = """
import asyncio, sys
from pathlib import Path
from deskhand.store.sqlite import SqliteDatabase
from deskhand.store.responses import SqlResponses
from deskhand.store.runs import SqlRuns
from deskhand.testing.conformance_store import stored

async def write(store):
    while True:
        print((await stored(store, "proj")).id, flush=True)

async def main():
    async with SqliteDatabase.open(Path(sys.argv[1])) as database, asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(write(SqlResponses(database)))

asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


@pytest.fixture
async def database(path: Path) -> AsyncIterator[SqliteDatabase]:
    async with SqliteDatabase.open(path) as opened:
        yield opened


async def test_a_full_database_is_said_and_got_over(database: SqliteDatabase) -> None:
    store = SqlResponses(database)
    before = await stored(store, "proj")
    pages = await database.write(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
    await database.write(lambda c: c.execute(f"PRAGMA max_page_count = {pages + 4}").fetchone())
    big, small = begun(), begun()
    results = await asyncio.gather(
        store.create("proj", big, [asked("x" * 1_000_000)]),
        store.create("proj", small, [asked("y")]),
        return_exceptions=True,
    )
    assert isinstance(results[0], StoreUnavailable)
    assert "full" in str(results[0])
    # SQLite may have to take back the whole transaction; what counts is that the answer and the disk agree.
    assert (await store.get("proj", small.id) is not None) == (results[1] is None)
    assert await store.get("proj", big.id) is None
    assert await store.get("proj", before.id) == before
    await database.write(lambda c: c.execute("PRAGMA max_page_count = 1000000").fetchone())
    after = await stored(store, "proj", given=asked("x" * 1_000_000))
    assert await store.get("proj", after.id) == after


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let the disk refuse to make any file larger than this."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_disk_that_refuses_is_said_and_got_over(tmp_path: Path, database: SqliteDatabase) -> None:
    store, blobs, response = SqlResponses(database), DiskBlobs(tmp_path / "blobs"), begun()
    data = b"x" * 4_000_000
    with file_size_limit(1_000_000):
        with pytest.raises(StoreUnavailable):
            await store.create("proj", response, [asked("x" * 4_000_000)])
        with pytest.raises(StoreUnavailable):
            await blobs.put(chunked(data), max_bytes=len(data))
    assert not list((tmp_path / "blobs" / "incoming").iterdir())
    assert await store.get("proj", response.id) is None
    await store.create("proj", response, [asked("x" * 4_000_000)])
    assert await store.get("proj", response.id) == response
    blob = await blobs.put(chunked(data), max_bytes=len(data))
    assert await content(blobs, blob.key) == data


async def test_what_was_left_half_uploaded_is_removed(tmp_path: Path) -> None:
    (tmp_path / "incoming").mkdir()
    (tmp_path / "incoming" / "half").write_bytes(b"x")
    DiskBlobs(tmp_path)
    assert not list((tmp_path / "incoming").iterdir())


async def test_nothing_that_was_stored_is_lost_by_a_kill(path: Path) -> None:
    printed: list[str] = []
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            printed += [process.stdout.readline().strip() for _ in range(20)]
            # At a random moment; a writer that waits for the pipe to be read is as good a victim.
            time.sleep(random.uniform(0.01, 0.15))
            process.kill()
            printed += [line.strip() for line in process.stdout if line.endswith("\n")]
    assert len(set(printed)) == len(printed) >= 60
    async with SqliteDatabase.open(path) as database:
        store = SqlResponses(database)
        for id_ in printed:
            response = await store.get("proj", id_)
            assert response is not None
            assert response.status == "completed"
            assert len(response.output) == 1
            assert len(await store.given("proj", id_) or ()) == 1
        orphans = await SqlRuns(database).orphans(1000)
        assert {orphan.response_id for orphan in orphans}.isdisjoint(printed)
        assert await database.read(lambda c: c.execute("PRAGMA integrity_check").fetchall()) == [("ok",)]
        assert await database.read(lambda c: c.execute("PRAGMA foreign_key_check").fetchall()) == []


async def test_a_database_of_a_newer_version_is_refused(path: Path, database: SqliteDatabase) -> None:
    await database.write(lambda c: c.execute("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreUnavailable, match="9999.*newer version"):
        async with SqliteDatabase.open(path):
            pass


async def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello " * 1000)
    for place in (tmp_path / "text", tmp_path / "missing" / "db", tmp_path):
        with pytest.raises(StoreUnavailable):
            async with SqliteDatabase.open(place):
                pass


async def test_databases_may_be_opened_for_the_first_time_at_once(path: Path) -> None:
    async def use() -> None:
        async with SqliteDatabase.open(path) as opened:
            await stored(SqlResponses(opened), unique("proj"))

    await asyncio.gather(use(), use(), use())


async def test_a_migration_that_fails_leaves_nothing(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE containers (id TEXT)")
    connection.close()
    with pytest.raises(Exception, match="containers"):
        async with SqliteDatabase.open(path):
            pass
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("containers",)]
    connection.close()


async def test_a_current_database_opens_without_alembic(path: Path, database: SqliteDatabase) -> None:
    code = (
        "import asyncio, sys; from pathlib import Path; from deskhand.store.sqlite import SqliteDatabase\n"
        "async def main():\n    async with SqliteDatabase.open(Path(sys.argv[1])): pass\n"
        "asyncio.run(main())\nassert not {'alembic', 'sqlalchemy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)


async def test_every_revision_is_known_in_order() -> None:
    scripts = ScriptDirectory(str(Path(migrate.__file__).parent / "migrations"))
    assert tuple(reversed([script.revision for script in scripts.walk_revisions()])) == migrate.REVISIONS


async def test_queries_use_no_sqlite_only_function() -> None:
    folder = Path(migrate.__file__).parent / "sql"
    for file in folder.glob("*.sql"):
        statements = re.sub(r"--.*", "", file.read_text())
        called = {name.upper() for name in re.findall(r"\b(\w+)\(", statements)}
        assert called <= {"CAST", "COALESCE", "COUNT", "LENGTH", "MAX", "ROW_NUMBER", "SUM"}, file.name


async def test_an_item_is_durable_for_other_readers_on_return(path: Path, database: SqliteDatabase) -> None:
    store, response, item = SqlResponses(database), begun(), said("a")
    await store.create("proj", response, [])
    await store.save(Claim(response.id), Written({0: item}))
    async with SqliteDatabase.open(path) as second:
        found = await SqlResponses(second).get("proj", response.id)
    assert found is not None
    assert found.output == [item]


async def test_nothing_deleted_is_left_in_a_log_when_the_database_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "deskhand.sqlite"
    for _ in range(150):
        async with SqliteDatabase.open(path) as database:
            await database.write(lambda c: c.execute("UPDATE alembic_version SET version_num = version_num"))
            assert path.with_name(path.name + "-wal").exists()
        assert not path.with_name(path.name + "-wal").exists()
