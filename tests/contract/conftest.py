"""Contract tests run on asyncio, which Deskhand is written for, and on each database that there is."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from uuid import uuid4

import pytest

from deskhand.store.database import Database
from deskhand.store.postgres import PostgresDatabase
from deskhand.store.sqlite import SqliteDatabase

from ..postgres import Cluster

OpenAnother = Callable[[], AbstractAsyncContextManager[Database]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["sqlite", "postgres"])
def open_another(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenAnother]:
    """Opens an empty database, the same each time; once for each kind of database."""
    if request.param == "sqlite":
        yield lambda: SqliteDatabase.open(tmp_path / "store.sqlite")
        return
    cluster: Cluster = request.getfixturevalue("postgres")
    name = f"t_{uuid4().hex}"
    url = cluster.create(name)
    yield lambda: PostgresDatabase.open(url)
    cluster.drop(name)


@pytest.fixture
async def database(open_another: OpenAnother) -> AsyncIterator[Database]:
    """A database that is empty, once of each kind."""
    async with open_another() as opened:
        yield opened
