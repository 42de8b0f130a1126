"""Vector stores on a PostgreSQL that has pgvector, which then does what the server does elsewhere."""

from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

import pytest

from deskhand.store.database import Database
from deskhand.store.postgres import PostgresDatabase
from deskhand.store.vectors import PgVectors
from deskhand.testing.conformance_vector_stores import SHELF_CHECKS, ShelfCheck, index, made

from ..postgres import Cluster, cluster
from .test_store_vector_stores import shelves

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def with_pgvector() -> Iterator[Cluster]:
    """A server of the wheel that has both."""
    found = find_spec("pgserver")
    if found is None or found.origin is None:
        pytest.skip("there is no wheel of PostgreSQL with pgvector for this Python: pip install pgserver")
    with cluster(bin_=Path(found.origin).parent / "pginstall" / "bin") as running:
        yield running


@pytest.fixture
async def database(with_pgvector: Cluster) -> AsyncIterator[Database]:
    name = f"t_{uuid4().hex}"
    async with PostgresDatabase.open(with_pgvector.create(name)) as opened:
        yield opened
    with_pgvector.drop(name)


@pytest.mark.parametrize("check", SHELF_CHECKS, ids=lambda check: check.__name__)
async def test_vector_stores(database: Database, check: ShelfCheck) -> None:
    await check(shelves(database))


async def test_vectors_are_kept_for_pgvector_alone(database: Database) -> None:
    vectors = PgVectors(database)
    assert await vectors.keeper() is vectors
    await index(shelves(database), await made(shelves(database), "file-a"), "file-a")
    count = "SELECT count(embedding), count(vector) FROM vector_store_chunks"
    assert await database.read(lambda connection: connection.execute(count).fetchone()) == (3, 0)
