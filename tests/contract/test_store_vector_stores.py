"""The shipped stores behind vector stores against their conformance suite, on each database that there is."""

import pytest

from deskhand.store.database import Database
from deskhand.store.files import SqlFiles
from deskhand.store.indexing import SqlIndexingJobs
from deskhand.store.search import search_index
from deskhand.store.vector_stores import SqlVectorStores
from deskhand.testing.conformance_vector_stores import SHELF_CHECKS, ShelfCheck, Shelves

pytestmark = pytest.mark.anyio


def shelves(database: Database) -> Shelves:
    index, vectors = search_index(database)
    jobs = SqlIndexingJobs(database, vectors)
    return Shelves(SqlVectorStores(database), jobs, jobs, index, SqlFiles(database))


@pytest.mark.parametrize("check", SHELF_CHECKS, ids=lambda check: check.__name__)
async def test_vector_stores(database: Database, check: ShelfCheck) -> None:
    await check(shelves(database))
