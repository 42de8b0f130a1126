"""What the stores ask of a database, whichever it is. `sqlite` and `postgres` are the two that there are."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

Connection = Any
"""A connection of the database's driver. Stores hand it to their queries; only the driver's own module looks inside."""

Unit = Callable[[Connection], T]
"""What to do with a connection, on a thread of the database.

It must not begin or end transactions, and may be run again after it was taken back.
"""

Driver = Any
"""What turns the named queries into calls of a driver: an aiosql adapter, or the name of one."""


class IntegrityViolated(Exception):
    """A row does not fit the others: its key is taken, or what it belongs to is not there."""


class Database(Protocol):
    """A database that is open."""

    @property
    def driver(self) -> Driver:
        """For `queries.load`."""
        ...

    async def write(self, unit: Unit[T]) -> T:
        """Run `unit` in a transaction of its own; its result once that is on disk.

        Transactions are as if they ran one after the other, those of other processes too. A unit runs once queued, even
        if the waiter is cancelled; units of one process run in the order of their calls. Raises what the unit raised,
        `IntegrityViolated`, and `StoreUnavailable`.
        """
        ...

    async def read(self, unit: Unit[T]) -> T:
        """Run `unit` on a connection that cannot write, beside writes and other reads.

        Each statement sees one state of the database; two statements may see two. Raises as `write` does.
        """
        ...

    async def scrub(self) -> None:
        """Make sure that what was deleted does not linger in files of the database longer than it must.

        Left for another time if somebody is in the way for long. Raises `StoreUnavailable`.
        """
        ...
