"""Chunks by their words and by their vectors, in the database."""

from array import array
from collections.abc import Collection, Sequence
from typing import Any, Protocol

from ..ports.vector_stores import IndexedFile, Passage, VectorStoreRecord
from ..wire.codec import decode, encode
from .database import Connection, Database
from .queries import load
from .text import column
from .vectors import BytesVectors, PgVectors, Vectors, postgres_array

SPARE = 50
"""More chunks are looked at than asked for, as some may be of files that are not indexed yet; of all if too few are."""


class Words(Protocol):
    """A database's way to find words."""

    def find(
        self, connection: Connection, store: int, terms: Sequence[str], files: Collection[int] | None, limit: int
    ) -> Sequence[tuple[int, float]]:
        """Chunks with some of the terms, best first, with scores above 0."""
        ...


class SqlSearchIndex:
    """The `SearchIndex` of a database."""

    def __init__(self, database: Database, words: Words, vectors: Vectors) -> None:
        self._database = database
        self._sql = load("vector_stores", database.driver)
        self._words = words
        self._vectors = vectors

    async def files(self, record: VectorStoreRecord) -> Sequence[IndexedFile]:
        """The indexed files of a store."""
        rows = await self._database.read(lambda c: [*self._sql.indexed_files(c, store=record.seq)])
        return [IndexedFile(seq, {} if text == "{}" else decode(text)) for seq, text in rows]

    async def by_words(
        self, record: VectorStoreRecord, terms: Sequence[str], files: Collection[int] | None, limit: int
    ) -> Sequence[tuple[int, float]]:
        """Chunks that have some of the words."""
        fit = [column(term).replace('"', " ") for term in terms]
        if not fit:
            return []
        return await self._database.read(lambda c: self._words.find(c, record.seq, fit, files, limit))

    async def by_vector(
        self, record: VectorStoreRecord, vector: "array[float]", files: Collection[int] | None, limit: int
    ) -> Sequence[tuple[int, float]]:
        """Chunks with vectors near this one, which has the size of the store's."""
        if not record.dimensions:
            return []
        live = [file.seq for file in await self.files(record)]
        return await self._vectors.near(record, vector, live, files, limit)

    async def passages(self, seqs: Sequence[int]) -> Sequence[Passage]:
        """The chunks, in this order."""

        def unit(connection: Connection) -> list[Passage]:
            rows = [self._sql.passage(connection, seq=seq) for seq in seqs]
            return [_passage(*row) for row in rows if row is not None]

        return await self._database.read(unit)


class SqliteWords:
    """Words through FTS5 and its BM25. How rare a word is, is counted over all stores of the database."""

    def __init__(self, driver: Any) -> None:
        self._sql = load("sqlite/search", driver)

    def find(
        self, connection: Connection, store: int, terms: Sequence[str], files: Collection[int] | None, limit: int
    ) -> Sequence[tuple[int, float]]:
        """Chunks with some of the terms."""
        wanted = " OR ".join(f'"{term}"' for term in terms)
        match = f'store_seq : "{store}" AND text : ({wanted})'
        if files is None:
            rows = [*self._sql.by_words(connection, match=match, limit=limit + SPARE)]
            if len(rows) < limit:
                rows = self._sql.by_words_of(connection, match=match, store=store, limit=limit)
        else:
            rows = self._sql.by_words_in(connection, match=match, files=encode([*files]).decode(), limit=limit)
        return [(int(seq), float(score)) for seq, score in rows][:limit]


class PostgresWords:
    """Words through the stored tsvector and its cover density ranking."""

    def __init__(self, driver: Any) -> None:
        self._sql = load("postgres/search", driver)

    def find(
        self, connection: Connection, store: int, terms: Sequence[str], files: Collection[int] | None, limit: int
    ) -> Sequence[tuple[int, float]]:
        """Chunks with some of the terms."""
        match = " or ".join(f'"{term}"' for term in terms)
        among = None if files is None else postgres_array(files)
        rows = self._sql.by_words(connection, store=store, match=match, files=among, limit=limit)
        return [(int(seq), float(score)) for seq, score in rows]


def search_index(database: Database) -> tuple[SqlSearchIndex, Vectors]:
    """The index of a database, whichever it is, and its vectors."""
    if database.driver == "sqlite3":
        vectors: Vectors = BytesVectors(database)
        return SqlSearchIndex(database, SqliteWords(database.driver), vectors), vectors
    vectors = PgVectors(database)
    return SqlSearchIndex(database, PostgresWords(database.driver), vectors), vectors


def _passage(seq: int, file_id: str, filename: str, attributes: str, text: str) -> Passage:
    """The chunk of a row."""
    return Passage(seq, file_id, filename, decode(attributes), text)
