"""One SQLite database in a file: the default, for a server that is alone."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from ..core.errors import StoreUnavailable
from .database import Driver, IntegrityViolated
from .migrate import migrate_sqlite
from .threads import DatabaseThreads

READERS = 2
BUSY_SECONDS = 10.0
SCRUB_BUSY_MS = 1000

_DISK_TROUBLE = {
    sqlite3.SQLITE_FULL: "The disk or the database is full. Free some space; nothing else needs to be done.",
    sqlite3.SQLITE_IOERR: "The disk reports an error. Check the disk and the system's log.",
    sqlite3.SQLITE_READONLY: "The database is read-only. Check the permissions and the mount of the data directory.",
    sqlite3.SQLITE_CANTOPEN: "The database cannot be opened. Check that the data directory exists and is writable.",
    sqlite3.SQLITE_BUSY: "Another process holds the database. Stop it, or give this server its own data directory.",
    sqlite3.SQLITE_LOCKED: "Another process holds the database. Stop it, or give this server its own data directory.",
    sqlite3.SQLITE_NOMEM: "There was no memory left for the database.",
    sqlite3.SQLITE_CORRUPT: "The database file is damaged. Stop the server and restore it from a backup.",
    sqlite3.SQLITE_NOTADB: "The database file is not a database. Move it away, or restore it from a backup.",
}


class SqliteDatabase(DatabaseThreads):
    """The `Database` of a file. Get one from `SqliteDatabase.open`."""

    driver: Final[Driver] = "sqlite3"

    def __init__(self, path: Path) -> None:
        writing, *reading = _connections(path)
        super().__init__(SqliteLink(writing), [SqliteLink(connection) for connection in reading])
        self._path = path

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> AsyncIterator["SqliteDatabase"]:
        """Open the database at `path`, made or migrated if need be, until the block ends.

        Writes that are queued when the block ends are still done. Raises `StoreUnavailable`, also for a database that
        a newer version has written.
        """
        # Not on a thread: alembic is global to the process, and nothing is served yet.
        database = cls(path)
        async with database.running():
            yield database

    async def scrub(self) -> None:
        """Move what was committed into the database and empty the write-ahead log, which has what pages were before.

        Left for another time if somebody is in the way for long. Raises `StoreUnavailable`.
        """
        await asyncio.to_thread(_empty_log, self._path)


class SqliteLink:
    """The `Link` of a connection to a file, which is never lost."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def connection(self) -> sqlite3.Connection:
        """The connection."""
        return self._connection

    def begin(self) -> None:
        """Begin, waiting until nobody else writes."""
        self._connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Commit."""
        self._connection.execute("COMMIT")

    def rollback(self) -> None:
        """Roll back, unless SQLite has done so."""
        if self._connection.in_transaction:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def in_transaction(self) -> bool:
        """Whether SQLite has not rolled back by itself, as it does when the disk is full."""
        return self._connection.in_transaction

    def passes(self, error: Exception) -> bool:
        """Nothing that fails here would go well at once."""
        return False

    def wait(self, tries: int) -> bool:
        """Nothing is tried again."""
        return False

    def explained(self, error: Exception) -> Exception:
        """Trouble of the disk, or of the file."""
        return explained(error)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def explained(error: Exception) -> Exception:
    """`error` as `StoreUnavailable` if the disk or the file is the cause, as `IntegrityViolated`, or unchanged."""
    match error:
        case sqlite3.IntegrityError():
            typed: Exception = IntegrityViolated(str(error))
        case sqlite3.Error():
            code = getattr(error, "sqlite_errorcode", None)
            advice = _DISK_TROUBLE.get(code & 0xFF) if isinstance(code, int) else None
            if advice is None:
                return error
            typed = StoreUnavailable(f"{advice} ({error})")
        case _:
            return error
    typed.__cause__ = error
    return typed


def connect(path: Path) -> sqlite3.Connection:
    """A connection that commits only when told to, for any thread."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")
    # What was deleted shall not linger: FAST would leave it in free pages, which is where long texts go.
    connection.execute("PRAGMA secure_delete = ON")
    return connection


def _connections(path: Path) -> list[sqlite3.Connection]:
    """The writer's connection, then the readers', to a database that is current."""
    opened: list[sqlite3.Connection] = []
    # Nobody else's to read, wherever the operator keeps it; SQLite gives its other files the mode of this one.
    # Not opened and closed here: that would release the locks of a connection to it (sqlite.org/howtocorrupt, 2.2).
    if path.parent.is_dir():
        path.touch(mode=0o600)
        path.chmod(0o600)
    try:
        for _ in range(1 + READERS):
            opened.append(connect(path))
        opened[0].execute("PRAGMA journal_mode = WAL")
        migrate_sqlite(opened[0])
        for connection in opened[1:]:
            connection.execute("PRAGMA query_only = ON")
    except BaseException as error:
        for connection in opened:
            connection.close()
        if isinstance(error, sqlite3.Error):
            raise explained(error) from error
        raise
    return opened


def _empty_log(path: Path) -> None:
    connection = connect(path)
    try:
        connection.execute(f"PRAGMA busy_timeout = {SCRUB_BUSY_MS}")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.Error as error:
        raise explained(error) from error
    finally:
        connection.close()
