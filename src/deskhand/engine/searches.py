"""Searches in vector stores: by words and by vectors at once, fused."""

import asyncio
import time
from array import array
from collections.abc import Callable, Collection, Sequence
from typing import Final

import structlog

from ..core.attribute_filters import Filter, matches, read_filter
from ..core.errors import ApiError, UpstreamError, not_found
from ..core.queries import terms
from ..core.ranking import Ranking, fuse
from ..ports.vector_stores import (
    Found,
    Hit,
    Search,
    SearchIndex,
    VectorStoreRecord,
    VectorStoreRecords,
)
from ..wire.tools import FileSearchTool, Tool
from .text_vectors import TextVectors

log = structlog.get_logger()

CANDIDATES: Final = 100
"""Chunks that words and vectors each put forward, for each query: twice what a caller may ask for."""
MAX_QUERIES: Final = 16
MAX_QUERY_CHARACTERS: Final = 4096
"""API reference, "Vector stores": what a query may have."""
TOUCH_EVERY_S: Final = 60
"""A store that is searched all the time is said to be active so often."""


class Searches:
    """Searches the stores of every owner."""

    def __init__(
        self,
        records: VectorStoreRecords,
        index: SearchIndex,
        vectors: TextVectors,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._records = records
        self._index = index
        self._vectors = vectors
        self._now = now

    async def usable(self, owner: str, store_id: str, param: str) -> VectorStoreRecord:
        """A store that can be searched. Raises `ApiError`: 404 if there is none, 400 if it has expired."""
        record = await self._records.get(owner, store_id)
        if record is None:
            raise not_found("Vector store", store_id, param=param)
        if record.expired(self._now()):
            raise ApiError(
                f"Vector store '{store_id}' has expired: nobody used it for {record.expires_days} days. Make a new one "
                "of the same files.",
                code="vector_store_expired",
                param=param,
            )
        return record

    async def check(self, owner: str, tools: Sequence[Tool]) -> None:
        """Raise `ApiError` for the first store or filter of a search tool that is of no use."""
        for index, tool in enumerate(tools):
            if isinstance(tool, FileSearchTool):
                for store_id in tool.vector_store_ids:
                    await self.usable(owner, store_id, f"tools[{index}].vector_store_ids")
                if tool.filters is not None:
                    read_filter(tool.filters, f"tools[{index}].filters")

    async def search(self, owner: str, search: Search, param: str = "vector_store_ids") -> Found:
        """What the stores have, best first. Raises `ApiError`."""
        records = [await self.usable(owner, store_id, param) for store_id in dict.fromkeys(search.store_ids)]
        filter_ = None if search.filters is None else read_filter(dict(search.filters), "filters")
        queries = list(dict.fromkeys(search.queries))
        asked, reason = await self._asked(records, queries, search)
        scores: dict[int, float] = {}
        for record in records:
            await self._touch(record)
            files = await self._files(record, filter_)
            vectors, other = self._comparable(record, asked)
            reason = reason or other
            for place, query in enumerate(queries):
                vector = vectors[place] if vectors else None
                for seq, score in await self._ranked(record, query, vector, files, search):
                    scores[seq] = max(scores.get(seq, 0.0), score)
        best = sorted(scores.items(), key=lambda one: (-one[1], one[0]))
        best = [(seq, score) for seq, score in best if score >= search.threshold][: search.limit]
        passages = {passage.seq: passage for passage in await self._index.passages([seq for seq, _ in best])}
        return Found([Hit(passages[seq], score) for seq, score in best if seq in passages], records, reason)

    async def _asked(
        self, records: Sequence[VectorStoreRecord], queries: Sequence[str], search: Search
    ) -> tuple[Sequence["array[float]"], str]:
        """Vectors of the queries, or why there are none; then words have to do."""
        reasons = [self._vectors.lacking(record) for record in records]
        if all(reasons):
            return (), next(iter(reasons), "")
        reason = next((reason for reason in reasons if reason), "")
        if search.embedding_weight <= 0 < search.text_weight:
            return (), "embedding_weight is 0"
        try:
            return await self._vectors.of(queries), reason
        except UpstreamError as exc:
            log.warning("search.no_vectors", error=exc.message)
            return (), f"the embedding model failed: {exc.message}"

    def _comparable(
        self, record: VectorStoreRecord, asked: Sequence["array[float]"]
    ) -> tuple[Sequence["array[float]"], str]:
        """The vectors of the queries if those of the store can be compared with them, else why not, if that is news."""
        if not asked or self._vectors.lacking(record) or not record.dimensions:
            return (), ""
        found = len(asked[0])
        if found != record.dimensions:
            log.warning("search.other_dimensions", vector_store_id=record.id, dimensions=found)
            return (), f"the store's vectors have {record.dimensions} numbers, and the model's have {found} now"
        return asked, ""

    async def _ranked(
        self,
        record: VectorStoreRecord,
        query: str,
        vector: "array[float] | None",
        files: Collection[int] | None,
        search: Search,
    ) -> Ranking[int]:
        text_weight = search.text_weight if vector is not None else 1.0
        words = self._by_words(record, query, files) if text_weight > 0 else _nothing()
        if vector is None:
            return fuse(await words, (), 1.0, 0.0)
        near = self._index.by_vector(record, vector, files, CANDIDATES)
        found, close = await asyncio.gather(words, near)
        return fuse(found, close, search.text_weight, search.embedding_weight)

    async def _by_words(self, record: VectorStoreRecord, query: str, files: Collection[int] | None) -> Ranking[int]:
        return await self._index.by_words(record, terms(query), files, CANDIDATES)

    async def _files(self, record: VectorStoreRecord, filter_: Filter | None) -> Collection[int] | None:
        """The files that pass; None if there is nothing to pass."""
        if filter_ is None:
            return None
        files = await self._index.files(record)
        return await asyncio.to_thread(lambda: [file.seq for file in files if matches(filter_, file.attributes)])

    async def _touch(self, record: VectorStoreRecord) -> None:
        now = int(self._now())
        if now - record.last_active_at >= TOUCH_EVERY_S:
            await self._records.touch(record, now)


async def _nothing() -> Ranking[int]:
    return ()
