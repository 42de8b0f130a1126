"""Units of work on each database: groups that commit together, failing units, waiters that go away, the end."""

import asyncio

import pytest

from deskhand.core.errors import StoreUnavailable
from deskhand.store.database import Connection, Database, IntegrityViolated

from .conftest import OpenAnother

pytestmark = pytest.mark.anyio


@pytest.fixture
async def numbers(database: Database) -> Database:
    """A database with a table of numbers."""
    await database.write(lambda connection: connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY)"))
    return database


class Insert:
    """A unit that inserts a number, and may then fail."""

    def __init__(self, number: int, then: Exception | None = None) -> None:
        self._number = number
        self._then = then

    def __call__(self, connection: Connection) -> int:
        connection.execute(f"INSERT INTO t (n) VALUES ({self._number})")
        if self._then is not None:
            raise self._then
        return self._number


def _numbers(connection: Connection) -> list[int]:
    return [number for (number,) in connection.execute("SELECT n FROM t ORDER BY n")]


async def test_a_failing_unit_does_not_fail_its_neighbours(numbers: Database) -> None:
    units = [Insert(n, ValueError(str(n)) if n % 3 == 1 else None) for n in range(30)]
    results = await asyncio.gather(*(numbers.write(unit) for unit in units), return_exceptions=True)
    for number, result in enumerate(results):
        if number % 3 == 1:
            assert isinstance(result, ValueError)
        else:
            assert result == number
    assert await numbers.read(_numbers) == [n for n in range(30) if n % 3 != 1]


async def test_a_constraint_fails_its_own_unit_only(numbers: Database) -> None:
    results = await asyncio.gather(*(numbers.write(Insert(n)) for n in (1, 2, 1, 3)), return_exceptions=True)
    assert [type(result) for result in results] == [int, int, IntegrityViolated, int]
    assert await numbers.read(_numbers) == [1, 2, 3]


async def test_a_write_happens_even_if_its_waiter_is_cancelled(numbers: Database) -> None:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(numbers.write(Insert(1)))
        await asyncio.sleep(0)
        task.cancel()
    assert await numbers.write(_numbers) == [1]


async def test_readers_cannot_write(numbers: Database) -> None:
    with pytest.raises(StoreUnavailable, match="read-only"):
        await numbers.read(Insert(1))


async def test_queued_writes_are_done_before_the_database_closes(open_another: OpenAnother, numbers: Database) -> None:
    async with open_another() as second:
        waiting = [asyncio.ensure_future(second.write(Insert(n))) for n in range(1000)]
        await asyncio.sleep(0)
    assert await asyncio.gather(*waiting) == list(range(1000))
    assert await numbers.read(_numbers) == list(range(1000))
    with pytest.raises(StoreUnavailable, match="closed"):
        await second.write(Insert(2000))
    with pytest.raises(StoreUnavailable, match="closed"):
        await second.read(_numbers)


async def test_transactions_are_as_if_one_after_the_other(open_another: OpenAnother, numbers: Database) -> None:
    """Each takes the next number, so that none may look before another has written."""

    def take_next(connection: Connection) -> None:
        most = connection.execute("SELECT COALESCE(MAX(n), 0) FROM t").fetchone()[0]
        connection.execute(f"INSERT INTO t (n) VALUES ({most + 1})")

    async def take(database: Database) -> None:
        for _ in range(20):
            await database.write(take_next)

    async with open_another() as second, open_another() as third:
        await asyncio.gather(*(take(database) for database in (numbers, second, third) for _ in range(2)))
    assert await numbers.read(_numbers) == list(range(1, 121))
