"""What only PostgreSQL has: servers that go away and come back, lost answers, other processes, and bad URLs."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from deskhand.core.errors import StoreUnavailable
from deskhand.store.database import Connection, Database
from deskhand.store.migrate import REVISIONS
from deskhand.store.postgres import PATIENCE_SECONDS, PostgresDatabase, PostgresLink, parsed, why_not_connected
from deskhand.store.responses import SqlResponses
from deskhand.testing.conformance_store import asked, stored, unique

from ..postgres import PASSWORD, QUOTED_PASSWORD, SAFE, Cluster
from ..postgres import cluster as new_cluster

pytestmark = pytest.mark.anyio

SECONDS = 30.0


@pytest.fixture(scope="module")
def own() -> Iterator[Cluster]:
    """A server that tests may stop. Its disk is synchronised: it is killed too."""
    with new_cluster(SAFE) as running:
        yield running


@pytest.fixture
def url(own: Cluster) -> str:
    return own.create(f"t_{uuid4().hex}")


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    async with PostgresDatabase.open(url) as opened:
        await opened.write(lambda connection: connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY)"))
        yield opened


class Insertion:
    """A unit that inserts a number."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __call__(self, connection: Connection) -> int:
        connection.execute(f"INSERT INTO t (n) VALUES ({self._number})")
        return self._number


def _numbers(connection: Connection) -> list[int]:
    return [number for (number,) in connection.execute("SELECT n FROM t ORDER BY n")]


async def test_a_restart_is_not_noticed(own: Cluster, database: Database) -> None:
    """Not even by units that were under way: a transaction that was taken back is done again."""
    written: list[int] = []

    async def write(first: int) -> None:
        for number in range(first, first + 400):
            written.append(await database.write(Insertion(number)))

    async def restart() -> None:
        for end in (own.stop, own.crash):
            await asyncio.sleep(0.2)
            await asyncio.to_thread(end)
            await asyncio.to_thread(own.start)

    async with asyncio.TaskGroup() as group:
        group.create_task(restart())
        for writer in range(4):
            group.create_task(write(writer * 1000))
    assert await database.read(_numbers) == sorted(written)
    assert len(written) == 1600


async def test_while_the_server_is_gone_calls_are_refused_and_then_taken_again(
    own: Cluster, database: Database
) -> None:
    await database.write(Insertion(1))
    await asyncio.to_thread(own.stop)
    try:
        for call in (database.write, database.read, database.write, database.read):
            with pytest.raises(StoreUnavailable, match="cannot be reached: the connection was refused") as refused:
                await call(Insertion(2))
            assert PASSWORD not in str(refused.value)
        # Once the server is known to be gone, nobody waits for it: a hundred calls take no hundred times as long.
        start = time.monotonic()
        many = await asyncio.gather(*(database.read(_numbers) for _ in range(100)), return_exceptions=True)
        assert all(isinstance(result, StoreUnavailable) for result in many)
        assert time.monotonic() - start < 10 * PATIENCE_SECONDS
    finally:
        await asyncio.to_thread(own.start)
    async with asyncio.timeout(SECONDS):
        while True:
            with suppress(StoreUnavailable):
                await database.write(Insertion(3))
                break
    async with asyncio.timeout(SECONDS):
        while True:
            with suppress(StoreUnavailable):
                assert await database.read(_numbers) == [1, 3]
                break


class Cutter:
    """A wire to the server that breaks when a commit was sent and before its answer arrives."""

    def __init__(self, port: int, cuts: int) -> None:
        self._server_port = port
        self.cuts = cuts
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.open = True
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                if not self.open:
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self._server_port))
                threading.Thread(target=self._up, args=(client, server), daemon=True).start()
                threading.Thread(target=self._down, args=(client, server), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if b"COMMIT" in data and self.cuts > 0:
                    self.cuts -= 1
                    client.shutdown(socket.SHUT_RDWR)
                    server.sendall(data)
                    time.sleep(0.2)  # the server has the commit, and nobody hears what it says
                    break
                server.sendall(data)
        server.close()

    def _down(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)
        client.close()

    def close(self) -> None:
        """Take no more connections."""
        self._listening.close()


@contextmanager
def cutter(port: int, cuts: int) -> Iterator[Cutter]:
    made = Cutter(port, cuts)
    try:
        yield made
    finally:
        made.close()


async def test_a_lost_answer_is_asked_for(own: Cluster, url: str, database: Database) -> None:
    with cutter(own.port, cuts=3) as wire:
        async with PostgresDatabase.open(url.replace(str(own.port), str(wire.port))) as cut:
            for number in range(5):
                assert await cut.write(Insertion(number)) == number
        assert wire.cuts == 0
    assert await database.read(_numbers) == [0, 1, 2, 3, 4]


async def test_a_killed_server_does_not_take_another_transaction_for_this_one(own: Cluster, url: str) -> None:
    """It gives the ids of transactions that it has forgotten to others."""
    async with PostgresDatabase.open(url):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE n (number INTEGER)")
    link = PostgresLink(parsed(url), "SET lock_timeout = '10s'")
    for number, killed in ((1, False), (2, True)):
        link.connection().execute("SELECT 1")
        link.begin()
        link.connection().execute("INSERT INTO n VALUES (%s)", (number,))
        if killed:
            own.crash()
            own.start()
            with psycopg.connect(url, autocommit=True) as other:
                for _ in range(5):
                    other.execute("INSERT INTO n VALUES (0)")
            with pytest.raises(StoreUnavailable) as raised:
                link.commit()
            assert link.passes(raised.value), "it can be done again"
        else:
            link.commit()
    rows = link.connection().execute("SELECT DISTINCT number FROM n ORDER BY number").fetchall()
    assert [number for (number,) in rows] == [0, 1]
    link.close()


async def test_an_answer_that_nobody_can_give_is_said(own: Cluster, url: str, database: Database) -> None:
    with cutter(own.port, cuts=0) as wire:
        async with PostgresDatabase.open(url.replace(str(own.port), str(wire.port))) as cut:
            assert await cut.write(Insertion(1)) == 1
            wire.cuts, wire.open = 1, False
            with pytest.raises(StoreUnavailable, match="may be stored or not"):
                await cut.write(Insertion(2))
    assert await database.read(_numbers) == [1, 2]


async def test_a_connection_that_is_ended_by_the_operator_is_made_again(url: str, database: Database) -> None:
    assert await database.read(_numbers) == []
    with psycopg.connect(url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'deskhand' AND datname = current_database()"
        )
    assert await asyncio.gather(*(database.write(Insertion(n)) for n in range(3))) == [0, 1, 2]
    assert await asyncio.gather(*(database.read(_numbers) for _ in range(4))) == [[0, 1, 2]] * 4


async def test_processes_may_migrate_at_once(own: Cluster) -> None:
    url = own.create_empty(f"t_{uuid4().hex}")
    code = (
        "import asyncio, sys; from deskhand.store.postgres import PostgresDatabase\n"
        "async def main():\n    async with PostgresDatabase.open(sys.argv[1]): pass\n"
        "asyncio.run(main())"
    )
    processes = [await asyncio.create_subprocess_exec(sys.executable, "-c", code, url) for _ in range(3)]
    assert [await process.wait() for process in processes] == [0, 0, 0]
    async with PostgresDatabase.open(url) as opened:
        revision = await opened.read(lambda c: c.execute("SELECT version_num FROM alembic_version").fetchall())
        assert revision == [(REVISIONS[-1],)]
        await stored(SqlResponses(opened), unique("proj"))


async def test_a_migration_that_fails_leaves_nothing(own: Cluster) -> None:
    url = own.create_empty(f"t_{uuid4().hex}")
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE containers (id TEXT)")
    with pytest.raises(Exception, match="containers"):
        async with PostgresDatabase.open(url):
            pass
    with psycopg.connect(url) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert tables == [("containers",)]


async def test_a_database_of_a_newer_version_is_refused(url: str, database: Database) -> None:
    await database.write(lambda c: c.execute("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreUnavailable, match="9999.*newer version"):
        async with PostgresDatabase.open(url):
            pass


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("/t_", "/no_such_"), "no such database"),
        ((QUOTED_PASSWORD, "wrong"), "refuses the user or the password"),
        (("deskhand:", "nobody:"), "refuses the user or the password"),
        (("127.0.0.1", "p%40ss@host.invalid"), "does not resolve"),
        (("postgresql:", "mysql:"), "not of the form"),
        (("/t_", "/?unknown=p%40ss&"), "not of the form"),
    ],
)
async def test_what_is_wrong_with_a_url_is_said_without_its_password(
    url: str, change: tuple[str, str], words: str
) -> None:
    with pytest.raises(StoreUnavailable, match=words) as refused:
        async with PostgresDatabase.open(url.replace(*change)):
            pass
    text = str(refused.value) + repr(refused.value.__cause__)
    assert PASSWORD not in text
    assert QUOTED_PASSWORD not in text
    assert "ss@" not in text
    assert not {"wrong", "mysql"} & set(text.replace("'", " ").split())


def test_a_failure_that_is_not_known_still_says_what_to_check() -> None:
    assert "DESKHAND_DATABASE_URL" in why_not_connected("something new: p@ss/word")
    assert "p@ss" not in why_not_connected("something new: p@ss/word")


async def test_who_holds_what_is_to_be_written_is_not_waited_for_for_ever(url: str, database: Database) -> None:
    await database.write(Insertion(1))
    with psycopg.connect(url) as other:
        other.execute("UPDATE t SET n = 1 WHERE n = 1")
        with pytest.raises(StoreUnavailable, match="pg_stat_activity"):
            await database.write(lambda c: (c.execute("SET LOCAL lock_timeout = 100"), c.execute("DELETE FROM t")))
    await database.write(lambda c: c.execute("DELETE FROM t"))
    assert await database.read(_numbers) == []


async def test_readers_cannot_write(database: Database) -> None:
    with pytest.raises(StoreUnavailable, match="read-only"):
        await database.read(Insertion(1))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk, which only root may")
async def test_a_full_disk_is_said_and_got_over(tmp_path_factory: pytest.TempPathFactory, own: Cluster) -> None:
    place = Path(own.directory) / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", place], check=True)
    try:
        shutil.chown(place, "postgres", "postgres")
        name = f"t_{uuid4().hex}"
        url = own.create(name)
        with psycopg.connect(own.url(), autocommit=True) as connection:
            connection.execute(f"CREATE TABLESPACE small LOCATION '{place}'")
            connection.execute(f"ALTER DATABASE {name} SET TABLESPACE small")
        async with PostgresDatabase.open(url) as database:
            store = SqlResponses(database)
            before = await stored(store, "proj")
            filler = place / "filler"
            with filler.open("wb", buffering=0) as file, suppress(OSError):
                while file.write(bytes(4096)):
                    pass
            with pytest.raises(StoreUnavailable, match="disk of the database is full"):
                await stored(store, "proj", given=asked(os.urandom(1_000_000).hex()))
            assert await store.get("proj", before.id) == before
            filler.unlink()
            after = await stored(store, "proj")
            assert await store.get("proj", after.id) == after
        own.drop(name)
        with psycopg.connect(own.url(), autocommit=True) as connection:
            connection.execute("DROP TABLESPACE small")
    finally:
        subprocess.run(["umount", "-l", place], check=True)
