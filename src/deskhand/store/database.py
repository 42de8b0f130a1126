"""One SQLite database for asyncio: a writer thread that commits in groups, and reader threads beside it.

Rule 1: a write has happened, durably, when its `await` returns. Units that queue up while the disk is busy share the
        next transaction, so the cost of an fsync is paid once for all of them.
Rule 2: a unit that fails takes only itself back. A transaction that fails takes all of its units back, and says so.
Rule 3: the threads never die of what a unit does; they end when the database is closed, with the queue done.
"""

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from ..core.errors import StoreUnavailable
from .migrate import migrate

T = TypeVar("T")
Unit = Callable[[sqlite3.Connection], T]
"""What to do with a connection, on a thread of the database.

It must not begin or end transactions, and may be run again after it was taken back.
"""

READERS = 2
GROUP_LIMIT = 256
BUSY_SECONDS = 10.0

_CLOSED = "The database is closed. Start the server again to use it."
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


class _Job(Generic[T]):
    """A unit, and how it went."""

    __slots__ = ("error", "future", "result", "unit")

    def __init__(self, unit: Unit[T], future: "asyncio.Future[T]") -> None:
        self.unit = unit
        self.future = future
        self.result: T | None = None
        self.error: Exception | None = None

    def run(self, connection: sqlite3.Connection) -> None:
        """Run the unit, for the first time or again."""
        self.error = None
        try:
            self.result = self.unit(connection)
        except Exception as error:
            self.error = unavailable(error)

    def settle(self) -> None:
        """Tell the waiter, if it still waits."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)  # type: ignore[arg-type]  # set when there is no error


_Queue = SimpleQueue["_Job[Any] | None"]


class Database:
    """A database that is open. Get one from `Database.open`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._writes: _Queue = SimpleQueue()
        self._reads: _Queue = SimpleQueue()
        self._done = _Done(loop)
        self._loop = loop
        self._closed = False

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> AsyncIterator["Database"]:
        """Open the database at `path`, made or migrated if need be, until the block ends.

        Writes that are queued when the block ends are still done. Raises `StoreUnavailable`, also for a database that
        a newer version has written.
        """
        # Not on a thread: alembic is global to the process, and nothing is served yet.
        writing, *reading = _connections(path)
        database = cls(asyncio.get_running_loop())
        done = database._done
        writer = threading.Thread(target=_write_forever, args=(writing, database._writes, done), daemon=True)
        readers = [
            threading.Thread(target=_read_forever, args=(connection, database._reads, done), daemon=True)
            for connection in reading
        ]
        for thread in (writer, *readers):
            thread.start()
        try:
            yield database
        finally:
            database._closed = True
            database._writes.put(None)
            for _ in readers:
                database._reads.put(None)
            # Readers first: the last connection to go moves the write-ahead log into the database.
            await asyncio.to_thread(_join, [*readers, writer])

    async def write(self, unit: Unit[T]) -> T:
        """Run `unit` in a transaction; its result once that is on disk.

        A unit runs once queued, even if the waiter is cancelled; units run in the order of their calls. Raises what the
        unit raised, and `StoreUnavailable`.
        """
        return await self._queue(self._writes, unit)

    async def read(self, unit: Unit[T]) -> T:
        """Run `unit` on a connection that cannot write, beside writes and other reads.

        Each statement sees one state of the database; two statements may see two. Raises as `write` does.
        """
        return await self._queue(self._reads, unit)

    def _queue(self, queue: _Queue, unit: Unit[T]) -> "asyncio.Future[T]":
        if self._closed:
            raise StoreUnavailable(_CLOSED)
        future: asyncio.Future[T] = self._loop.create_future()
        queue.put(_Job(unit, future))
        return future


class _Done:
    """Brings results from the threads to the event loop, waking it once for all that are ready."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._jobs: deque[_Job[Any]] = deque()
        self._waking = False

    def put(self, jobs: Sequence[_Job[Any]]) -> None:
        """Settle `jobs` on the event loop. Called on threads."""
        self._jobs.extend(jobs)
        if not self._waking:
            self._waking = True
            # A loop that was closed under us has no one left to tell.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        # First, so that a result that comes while the deque empties wakes the loop again.
        self._waking = False
        while self._jobs:
            self._jobs.popleft().settle()


def unavailable(error: Exception) -> Exception:
    """`error` as `StoreUnavailable` if the disk or the file is the cause, else unchanged."""
    if not isinstance(error, sqlite3.Error):
        return error
    code = getattr(error, "sqlite_errorcode", None)
    advice = _DISK_TROUBLE.get(code & 0xFF) if isinstance(code, int) else None
    if advice is None:
        return error
    typed = StoreUnavailable(f"{advice} ({error})")
    typed.__cause__ = error
    return typed


def connect(path: Path) -> sqlite3.Connection:
    """A connection that commits only when told to, for any thread."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")
    # What was deleted shall not linger in free pages where that costs no extra I/O.
    connection.execute("PRAGMA secure_delete = FAST")
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
        migrate(opened[0])
        for connection in opened[1:]:
            connection.execute("PRAGMA query_only = ON")
    except BaseException as error:
        for connection in opened:
            connection.close()
        if isinstance(error, sqlite3.Error):
            raise unavailable(error) from error
        raise
    return opened


def _join(threads: Sequence[threading.Thread]) -> None:
    for thread in threads:
        thread.join()


def _write_forever(connection: sqlite3.Connection, queue: _Queue, done: _Done) -> None:
    try:
        while batch := _next_batch(queue):
            _commit(connection, batch)
            done.put(batch)
    finally:
        connection.close()


def _next_batch(queue: _Queue) -> list[_Job[Any]]:
    """Everything that is queued, at least one job; empty at the end."""
    job = queue.get()
    batch: list[_Job[Any]] = []
    with suppress(Empty):
        while job is not None:
            batch.append(job)
            if len(batch) == GROUP_LIMIT:
                break
            job = queue.get_nowait()
        else:
            if batch:
                queue.put(None)
    return batch


def _commit(connection: sqlite3.Connection, batch: Sequence[_Job[Any]]) -> None:
    """Run `batch` in one transaction.

    At first without savepoints: every statement hands the GIL over and has to get it back from a busy event loop.
    """
    try:
        connection.execute("BEGIN IMMEDIATE")
        for job in batch:
            job.run(connection)
            if job.error is not None:
                break
        else:
            connection.execute("COMMIT")
            return
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if len(batch) > 1:
            _commit_apart(connection, batch)
    except Exception as error:
        _take_back(connection, batch, error)


def _commit_apart(connection: sqlite3.Connection, batch: Sequence[_Job[Any]]) -> None:
    """Run `batch` in one transaction, each unit in a savepoint, so that a failing one takes only itself back."""
    connection.execute("BEGIN IMMEDIATE")
    for job in batch:
        connection.execute("SAVEPOINT unit")
        job.run(connection)
        if job.error is not None:
            if not connection.in_transaction:
                raise job.error
            connection.execute("ROLLBACK TO unit")
        connection.execute("RELEASE unit")
    connection.execute("COMMIT")


def _take_back(connection: sqlite3.Connection, batch: Sequence[_Job[Any]], error: Exception) -> None:
    """Fail every unit of a transaction that is lost."""
    cause = unavailable(error)
    for job in batch:
        if job.error is None:
            message = str(cause) if isinstance(cause, StoreUnavailable) else f"Nothing could be stored: {cause}"
            job.error = StoreUnavailable(message)
            job.error.__cause__ = error
    if connection.in_transaction:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


def _read_forever(connection: sqlite3.Connection, queue: _Queue, done: _Done) -> None:
    try:
        while (job := queue.get()) is not None:
            job.run(connection)
            done.put([job])
    finally:
        connection.close()
