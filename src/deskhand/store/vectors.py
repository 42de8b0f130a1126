"""Vectors in the database, and those near another one.

Kept as single precision in bytes they are compared here, exactly, all of a store at once: 100,000 of 384 numbers take
some milliseconds. Where PostgreSQL has pgvector they are kept for that, and compared there.
"""

import asyncio
import threading
from array import array
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from ..ports.vector_stores import VectorStoreRecord
from .database import Connection, Database
from .queries import load

MAX_CACHED_BYTES: Final = 1 << 30
"""Of vectors in memory, all stores together. A larger store is read for each search."""
PAGE: Final = 2000
"""Vectors that are read at once, so that others get their turn at the database."""
MAX_DIMENSIONS: Final = 16_000
"""What pgvector takes (its README, "Vectors")."""

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


class Keeper(Protocol):
    """Writes chunks with their vectors."""

    def written(self, vector: "array[float]") -> Any:
        """A vector, brought to length 1, as a parameter of `insert`."""
        ...

    def insert(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert chunks."""
        ...

    def give(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write vectors of chunks that are there."""
        ...


class Vectors(Protocol):
    """The vectors of a database."""

    async def keeper(self) -> Keeper:
        """What writes chunks."""
        ...

    async def near(
        self,
        record: VectorStoreRecord,
        vector: "array[float]",
        live: Sequence[int],
        files: Collection[int] | None,
        limit: int,
    ) -> Sequence[tuple[int, float]]:
        """The chunks with the nearest vectors, with their cosines; `live` are the store's indexed files."""
        ...


@dataclass(frozen=True, slots=True)
class _Held:
    """Vectors in memory: row by row the chunk, the file that it is of, and the vector."""

    chunks: Integers
    files: Integers
    matrix: Floats
    known: frozenset[int] = frozenset()
    revision: int = -1


@dataclass(slots=True)
class _Cached:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    held: _Held | None = None


class BytesVectors:
    """The `Vectors` of any database: bytes there, a matrix of each store here."""

    def __init__(self, database: Database, max_cached_bytes: int = MAX_CACHED_BYTES) -> None:
        self._database = database
        self._sql = load("vector_stores", database.driver)
        self._max_cached_bytes = max_cached_bytes
        self._cached: OrderedDict[int, _Cached] = OrderedDict()

    async def keeper(self) -> Keeper:
        """What writes bytes."""
        return self

    def written(self, vector: "array[float]") -> bytes:
        """Little-endian single precision."""
        return _unit(vector).astype("<f4").tobytes()

    def insert(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert chunks."""
        self._sql.insert_chunks(connection, rows)

    def give(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write vectors."""
        self._sql.give_vectors(connection, rows)

    async def near(
        self,
        record: VectorStoreRecord,
        vector: "array[float]",
        live: Sequence[int],
        files: Collection[int] | None,
        limit: int,
    ) -> Sequence[tuple[int, float]]:
        """The nearest, of all that there are. Raises `ValueError` if vectors are not of one size."""
        asked, wanted = _unit(vector), None if files is None else np.fromiter(files, np.int64, len(files))
        cached = self._cached.setdefault(record.seq, _Cached())
        self._cached.move_to_end(record.seq)
        async with cached.lock:
            held = cached.held
            if held is None or held.revision != record.revision:
                held = await self._refreshed(record, held, live)
                # What is too large to stay is used this once.
                cached.held = held if held.matrix.nbytes <= self._max_cached_bytes else None
        self._forget()
        return await asyncio.to_thread(_nearest, held, asked, wanted, limit)

    async def _refreshed(self, record: VectorStoreRecord, held: _Held | None, live: Sequence[int]) -> _Held:
        """What is held of a store as it is now: files that have gone are left out, new ones read."""
        wanted = frozenset(live)
        width = record.dimensions
        if held is None or held.matrix.shape[1] != width:
            held = _Held(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, width), np.float32))
        if held.known:
            pages = [await self._page("vectors_of_file", width, file=seq) for seq in sorted(wanted - held.known)]
        else:
            pages = [await self._page("vectors_of_store", width, store=record.seq)]
        parts = [held, *pages]
        return await asyncio.to_thread(_joined, parts, wanted, record.revision)

    async def _page(self, query: str, width: int, **key: int) -> _Held:
        """All vectors that a query has, read in pages."""
        select, after = getattr(self._sql, query), 0
        parts: list[_Held] = []
        while True:
            place = after
            rows = await self._database.read(lambda c: [*select(c, **key, after=place, limit=PAGE)])  # noqa: B023
            if rows:
                parts.append(await asyncio.to_thread(_parsed, rows, width))
                after = rows[-1][0]
            if len(rows) < PAGE:
                return await asyncio.to_thread(_joined, parts, None, -1) if parts else _parsed([], width)

    def _forget(self) -> None:
        """Keep within the bound: the stores that were searched longest ago go."""
        sizes = {seq: one.held.matrix.nbytes if one.held else 0 for seq, one in self._cached.items()}
        total = sum(sizes.values())
        for seq in [*self._cached]:
            if total <= self._max_cached_bytes and len(self._cached) <= 1000:
                return
            if not self._cached[seq].lock.locked():
                total -= sizes[seq]
                del self._cached[seq]


class PgVectors:
    """The `Vectors` of a PostgreSQL with pgvector, and of one without, where `BytesVectors` do it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = load("postgres/search", database.driver)
        self._bytes = BytesVectors(database)
        self._there: bool | None = None

    async def keeper(self) -> Keeper:
        """What writes for pgvector, or bytes."""
        return self if await self._has_pgvector() else self._bytes

    def written(self, vector: "array[float]") -> str:
        """As pgvector reads it."""
        return f"[{','.join(format(number, '.9g') for number in _unit(vector).tolist())}]"

    def insert(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert chunks."""
        self._sql.insert_chunks(connection, rows)

    def give(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write vectors."""
        self._sql.give_vectors(connection, rows)

    async def near(
        self,
        record: VectorStoreRecord,
        vector: "array[float]",
        live: Sequence[int],
        files: Collection[int] | None,
        limit: int,
    ) -> Sequence[tuple[int, float]]:
        """The nearest, found by the database."""
        if not await self._has_pgvector():
            return await self._bytes.near(record, vector, live, files, limit)
        row = {
            "store": record.seq,
            "vector": self.written(vector),
            "files": None if files is None else postgres_array(files),
            "limit": limit,
        }
        return await self._database.read(lambda c: [(int(s), float(x)) for s, x in self._sql.by_vector(c, **row)])

    async def _has_pgvector(self) -> bool:
        if self._there is None:
            self._there = await self._database.read(lambda c: self._sql.has_vectors(c)) is not None
        return self._there


def postgres_array(numbers: Collection[int]) -> str:
    """Numbers as PostgreSQL reads an array."""
    return f"{{{','.join(map(str, numbers))}}}"


def _unit(vector: "array[float]") -> Floats:
    """A vector of length 1, or nothing but zeros."""
    numbers = np.asarray(vector, np.float64)
    length = float(np.linalg.norm(numbers))
    return (numbers / length if length > 0 and np.isfinite(length) else np.zeros_like(numbers)).astype(np.float32)


def _parsed(rows: Sequence[tuple[int, int, bytes]], width: int) -> _Held:
    """Rows of the database. What is not of the store's size was lost to an error of ours, and is left out."""
    good = [row for row in rows if len(row[2]) == 4 * width]
    data = b"".join(bytes(row[2]) for row in good)
    return _Held(
        np.fromiter((row[0] for row in good), np.int64, len(good)),
        np.fromiter((row[1] for row in good), np.int64, len(good)),
        np.frombuffer(data, "<f4").reshape(len(good), width).astype(np.float32, copy=False),
    )


def _joined(parts: Sequence[_Held], live: frozenset[int] | None, revision: int) -> _Held:
    """All parts as one, without files that are not `live` (None for all)."""
    chunks = np.concatenate([part.chunks for part in parts])
    files = np.concatenate([part.files for part in parts])
    matrix = np.concatenate([part.matrix for part in parts])
    if live is None:
        return _Held(chunks, files, matrix)
    kept = np.isin(files, np.fromiter(live, np.int64, len(live)))
    if not kept.all():
        chunks, files, matrix = chunks[kept], files[kept], matrix[kept]
    # A file without vectors may get some later.
    return _Held(chunks, files, matrix, frozenset(np.unique(files).tolist()), revision)


_PRODUCTS: Final = threading.BoundedSemaphore(2)
"""Products at once: each uses as many cores as there are."""


def _nearest(held: _Held, asked: Floats, files: Integers | None, limit: int) -> list[tuple[int, float]]:
    if asked.shape[0] != held.matrix.shape[1]:
        raise ValueError(f"a vector of {asked.shape[0]} numbers among vectors of {held.matrix.shape[1]}")
    with _PRODUCTS:
        scores = held.matrix @ asked
    if files is not None:
        scores = np.where(np.isin(held.files, files), scores, -np.inf)
    most = min(limit, scores.shape[0])
    if most == 0:
        return []
    best = np.argpartition(-scores, most - 1)[:most]
    best = best[np.lexsort((held.chunks[best], -scores[best]))]
    return [(int(held.chunks[at]), float(scores[at])) for at in best if np.isfinite(scores[at])]
