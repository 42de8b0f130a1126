"""A database's threads for asyncio: one that writes and commits in groups, and some that read beside it.

Rule 1: a write has happened, durably, when its `await` returns. Units that queue up while the disk is busy share the
        next transaction, so the cost of an fsync is paid once for all of them.
Rule 2: a unit that fails takes only itself back. A transaction that fails takes all of its units back, and says so.
Rule 3: the threads never die of what a unit does; they end when the database is closed, with the queue done.
"""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

from ..core.errors import StoreUnavailable
from .database import Connection, Unit

T = TypeVar("T")

GROUP_LIMIT = 256

_CLOSED = "The database is closed. Start the server again to use it."


class Link(Protocol):
    """A thread's way to the database: a connection that is used by nobody else, and how its driver does things."""

    def connection(self) -> Connection:
        """The connection, made again if it was lost. Raises `StoreUnavailable`."""
        ...

    def begin(self) -> None:
        """Begin a transaction that others cannot disturb."""
        ...

    def commit(self) -> None:
        """Commit, durably. Raises whatever means that nothing was committed, and `StoreUnavailable` if that is open."""
        ...

    def rollback(self) -> None:
        """Roll back, if there is something to roll back. Raises nothing."""
        ...

    def in_transaction(self) -> bool:
        """Whether a transaction is open, perhaps a failed one. Databases end one by themselves if they must."""
        ...

    def passes(self, error: Exception) -> bool:
        """Whether the same may go well another time, on the same connection or another."""
        ...

    def wait(self, tries: int) -> bool:
        """Wait before the next try of what failed so many times and passes; False if it was tried long enough."""
        ...

    def explained(self, error: Exception) -> Exception:
        """The driver's `error` as `StoreUnavailable` or `IntegrityViolated` if it is one, else unchanged."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class Job(Generic[T]):
    """A unit, and how it went."""

    __slots__ = ("error", "future", "result", "unit")

    def __init__(self, unit: Unit[T], future: "asyncio.Future[T]") -> None:
        self.unit = unit
        self.future = future
        self.result: T | None = None
        self.error: Exception | None = None

    def run(self, connection: Connection) -> None:
        """Run the unit, for the first time or again."""
        self.error = None
        try:
            self.result = self.unit(connection)
        except Exception as error:
            self.error = error

    def settle(self) -> None:
        """Tell the waiter, if it still waits."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)  # type: ignore[arg-type]  # set when there is no error


_Queue = SimpleQueue["Job[Any] | None"]


class DatabaseThreads:
    """The threads of a database: `writing` is the link of the one that writes, `reading` are those of the others."""

    def __init__(self, writing: Link, reading: Sequence[Link]) -> None:
        self._writing = writing
        self._reading = reading
        self._writes: _Queue = SimpleQueue()
        self._reads: _Queue = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._closed = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the threads until the block ends. Writes that are queued then are still done."""
        done = _Done(self._loop)
        writer = threading.Thread(target=_write_forever, args=(self._writing, self._writes, done), daemon=True)
        readers = [
            threading.Thread(target=_read_forever, args=(link, self._reads, done), daemon=True)
            for link in self._reading
        ]
        for thread in (writer, *readers):
            thread.start()
        try:
            yield
        finally:
            self._closed = True
            # One after the other: the last connection of SQLite to go moves the write-ahead log into the database, with
            # what was deleted, and none does so while another is just going.
            for _ in readers:
                self._reads.put(None)
            await asyncio.to_thread(_join, readers)
            self._writes.put(None)
            await asyncio.to_thread(_join, [writer])

    async def write(self, unit: Unit[T]) -> T:
        """See `Database`."""
        return await self._queue(self._writes, unit)

    async def read(self, unit: Unit[T]) -> T:
        """See `Database`."""
        return await self._queue(self._reads, unit)

    def _queue(self, queue: _Queue, unit: Unit[T]) -> "asyncio.Future[T]":
        if self._closed:
            raise StoreUnavailable(_CLOSED)
        future: asyncio.Future[T] = self._loop.create_future()
        queue.put(Job(unit, future))
        return future


class _Done:
    """Brings results from the threads to the event loop, waking it once for all that are ready."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._jobs: deque[Job[Any]] = deque()
        self._waking = False

    def put(self, jobs: Sequence[Job[Any]]) -> None:
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


def _join(threads: Sequence[threading.Thread]) -> None:
    for thread in threads:
        thread.join()


def _write_forever(link: Link, queue: _Queue, done: _Done) -> None:
    try:
        while batch := _next_batch(queue):
            _commit(link, batch)
            _explain(link, batch)
            done.put(batch)
    finally:
        link.close()


def _read_forever(link: Link, queue: _Queue, done: _Done) -> None:
    try:
        while (job := queue.get()) is not None:
            _read(link, job)
            _explain(link, [job])
            done.put([job])
    finally:
        link.close()


def _next_batch(queue: _Queue) -> list[Job[Any]]:
    """Everything that is queued, at least one job; empty at the end."""
    job = queue.get()
    batch: list[Job[Any]] = []
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


def _commit(link: Link, batch: Sequence[Job[Any]]) -> None:
    """Run `batch` in one transaction, as often as it takes."""
    tries = 0
    while True:
        try:
            return _commit_together(link, batch)
        except Exception as error:
            link.rollback()
            tries += 1
            if not link.passes(error) or not link.wait(tries):
                return _take_back(link, batch, error)


def _commit_together(link: Link, batch: Sequence[Job[Any]]) -> None:
    """Run `batch` in one transaction.

    At first without savepoints: every statement hands the GIL over and has to get it back from a busy event loop.
    """
    connection = link.connection()
    link.begin()
    for job in batch:
        job.run(connection)
        if job.error is not None:
            break
    else:
        return link.commit()
    if link.passes(job.error):
        raise job.error
    link.rollback()
    if len(batch) > 1:
        _commit_apart(link, connection, batch)


def _commit_apart(link: Link, connection: Connection, batch: Sequence[Job[Any]]) -> None:
    """Run `batch` in one transaction, each unit in a savepoint, so that a failing one takes only itself back."""
    link.begin()
    for job in batch:
        connection.execute("SAVEPOINT unit")
        job.run(connection)
        if job.error is not None:
            if link.passes(job.error) or not link.in_transaction():
                raise job.error
            connection.execute("ROLLBACK TO SAVEPOINT unit")
        connection.execute("RELEASE SAVEPOINT unit")
    link.commit()


def _take_back(link: Link, batch: Sequence[Job[Any]], error: Exception) -> None:
    """Fail every unit of a transaction that is lost."""
    cause = link.explained(error)
    for job in batch:
        if job.error is None:
            message = str(cause) if isinstance(cause, StoreUnavailable) else f"Nothing could be stored: {cause}"
            job.error = StoreUnavailable(message)
            job.error.__cause__ = error


def _read(link: Link, job: Job[Any]) -> None:
    """Run `job`, as often as it takes."""
    tries = 0
    while True:
        try:
            job.run(link.connection())
        except Exception as error:
            job.error = error
        if job.error is None:
            return
        tries += 1
        if not link.passes(job.error) or not link.wait(tries):
            return


def _explain(link: Link, batch: Sequence[Job[Any]]) -> None:
    for job in batch:
        if job.error is not None:
            job.error = link.explained(job.error)
