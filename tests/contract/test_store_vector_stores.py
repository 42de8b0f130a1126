"""The shipped stores behind vector stores against their conformance suite, on each database that there is."""

import asyncio
from uuid import uuid4

import pytest

from deskhand.core.chunking import ChunkSizes
from deskhand.ports.vector_stores import NewFile
from deskhand.store.database import Database
from deskhand.store.files import SqlFiles
from deskhand.store.indexing import SqlIndexingJobs
from deskhand.store.postgres import PostgresDatabase
from deskhand.store.search import search_index
from deskhand.store.vector_stores import SqlVectorStores
from deskhand.testing.conformance_vector_stores import SHELF_CHECKS, ShelfCheck, Shelves, made

from ..postgres import Cluster

pytestmark = pytest.mark.anyio


def shelves(database: Database) -> Shelves:
    index, vectors = search_index(database)
    jobs = SqlIndexingJobs(database, vectors)
    return Shelves(SqlVectorStores(database), jobs, jobs, index, SqlFiles(database))


async def test_processes_put_the_same_file_into_a_store_at_once(postgres: Cluster) -> None:
    url = postgres.create(f"t_{uuid4().hex}")
    async with PostgresDatabase.open(url) as one, PostgresDatabase.open(url) as other:
        records = [await made(shelves(one)) for _ in range(20)]
        new = [NewFile("file-a", "a.txt", {}, ChunkSizes())]
        for record in records:
            both = [shelves(database).records.add_files(record, new, 2000, None, 10) for database in (one, other)]
            assert await asyncio.gather(*both) == [True, True]
        assert {counts.total for counts in await shelves(other).records.counts(records)} == {1}


@pytest.mark.parametrize("check", SHELF_CHECKS, ids=lambda check: check.__name__)
async def test_vector_stores(database: Database, check: ShelfCheck) -> None:
    await check(shelves(database))
