"""Vector stores: what callers make of them. Files are indexed in the background, by `Indexing`."""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from ..core.chunking import ChunkSizes
from ..core.errors import ApiError, not_found
from ..ports.store import Listing, Page
from ..ports.vector_stores import (
    Attributes,
    BatchRecord,
    Changes,
    Counts,
    FileState,
    NewFile,
    StoreFileRecord,
    VectorStoreRecord,
    VectorStoreRecords,
)
from ..wire.vector_stores import CreateFileBatch, CreateVectorStore, CreateVectorStoreFile, StaticStrategy, Strategy
from .files import Files
from .ids import new_id
from .searches import Searches
from .text_vectors import TextVectors

DAY_S: Final = 86_400
MAX_FILES: Final = 10_000
"""Files of one store (API guide, "Retrieval": limits)."""
CONTENT_PAGE: Final = 200

Made = tuple[VectorStoreRecord, Counts]


class VectorStores:
    """The stores of every owner. `wake` is called when there is something to index."""

    def __init__(
        self,
        records: VectorStoreRecords,
        files: Files,
        searches: Searches,
        vectors: TextVectors,
        wake: Callable[[], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._records = records
        self._files = files
        self._searches = searches
        self._vectors = vectors
        self._wake = wake
        self._now = now

    def now(self) -> float:
        """The time, in unix seconds."""
        return self._now()

    async def create(self, owner: str, asked: CreateVectorStore) -> Made:
        """A new store, with files that are going to be indexed. Raises `ApiError`."""
        now, days = int(self._now()), asked.expires_after.days if asked.expires_after else 0
        sizes = read_sizes(asked.chunking_strategy, "chunking_strategy")
        files = await self._new(owner, [(id_, {}, sizes) for id_ in asked.file_ids or ()], "file_ids")
        record = VectorStoreRecord(
            0,
            new_id("vs"),
            owner,
            asked.name or "",
            asked.description or "",
            asked.metadata or {},
            now,
            now,
            days,
            now + days * DAY_S if days else None,
            self._vectors.model or "",
        )
        await self._records.add(record, files)
        self._wake()
        return await self.get(owner, record.id)

    async def get(self, owner: str, store_id: str) -> Made:
        """A store, expired or not. Raises `ApiError` (404)."""
        record = await self._record(owner, store_id)
        return record, (await self._records.counts([record]))[0]

    async def list(self, owner: str, page: Page) -> Listing[Made]:
        """A page of the owner's stores."""
        found = await self._records.list(owner, page)
        return Listing(list(zip(found.data, await self._records.counts(found.data), strict=True)), found.has_more)

    async def update(self, owner: str, store_id: str, changes: Changes) -> Made:
        """Change a store, which is a use of it: else its days might be over already. One that has expired stays so."""
        record = await self._searches.usable(owner, store_id, "vector_store_id")
        await self._records.update(record, changes, int(self._now()))
        return await self.get(owner, store_id)

    async def delete(self, owner: str, store_id: str) -> None:
        """Forget a store. Raises `ApiError` (404)."""
        if not await self._records.delete(owner, store_id):
            raise not_found("Vector store", store_id, param="vector_store_id")
        self._wake()

    async def attach(self, owner: str, store_id: str, asked: CreateVectorStoreFile) -> StoreFileRecord:
        """Put a file into a store; it is going to be indexed. Raises `ApiError`."""
        record = await self._searches.usable(owner, store_id, "vector_store_id")
        sizes = read_sizes(asked.chunking_strategy, "chunking_strategy")
        files = await self._new(owner, [(asked.file_id, asked.attributes or {}, sizes)], "file_id")
        await self._add(record, files, None, "file_id")
        return await self.file(owner, store_id, asked.file_id)

    async def file(self, owner: str, store_id: str, file_id: str) -> StoreFileRecord:
        """A file of a store. Raises `ApiError` (404)."""
        return await self._file(await self._record(owner, store_id), file_id)

    async def files(
        self, owner: str, store_id: str, page: Page, state: FileState | None, batch_id: str | None = None
    ) -> Listing[StoreFileRecord]:
        """A page of a store's files, or of a batch's. Raises `ApiError` (404)."""
        record = await self._record(owner, store_id)
        if batch_id is not None:
            await self._batch(record, batch_id)
        return await self._records.files(record, page, state, batch_id)

    async def set_attributes(self, owner: str, store_id: str, file_id: str, attributes: Attributes) -> StoreFileRecord:
        """Replace the attributes of a file. Raises `ApiError` (404)."""
        record = await self._record(owner, store_id)
        if not await self._records.set_attributes(record, file_id, attributes):
            raise _no_file(file_id)
        return await self._file(record, file_id)

    async def detach(self, owner: str, store_id: str, file_id: str) -> None:
        """Take a file out of a store; the file itself stays. Raises `ApiError` (404)."""
        if not await self._records.remove_file(await self._record(owner, store_id), file_id):
            raise _no_file(file_id)
        self._wake()

    async def content(self, owner: str, store_id: str, file_id: str) -> tuple[StoreFileRecord, AsyncIterator[str]]:
        """A file of a store, and its text in pieces that make the whole. Raises `ApiError`."""
        file = await self.file(owner, store_id, file_id)
        if file.status != "completed":
            message = f"File '{file_id}' is not indexed (its status is '{file.status}'), so its text is not known."
            raise ApiError(message, code="file_not_indexed", param="file_id")
        return file, self._pieces(file)

    async def _pieces(self, file: StoreFileRecord) -> AsyncIterator[str]:
        after = 0
        while found := await self._records.content(file, after, CONTENT_PAGE):
            for _, chunk in found:
                yield chunk.text[chunk.repeated :]
            after = found[-1][0]

    async def attach_all(self, owner: str, store_id: str, asked: CreateFileBatch) -> BatchRecord:
        """Put files into a store together; they are going to be indexed. Raises `ApiError`."""
        record = await self._searches.usable(owner, store_id, "vector_store_id")
        if (asked.file_ids is None) == (asked.files is None):
            message = "Give either 'file_ids' or 'files'."
            raise ApiError(message, code="mutually_exclusive_parameters", param="file_ids")
        common = read_sizes(asked.chunking_strategy, "chunking_strategy")
        wanted = [(id_, asked.attributes or {}, common) for id_ in asked.file_ids or ()]
        for index, one in enumerate(asked.files or ()):
            sizes = read_sizes(one.chunking_strategy, f"files[{index}].chunking_strategy")
            wanted.append((one.file_id, one.attributes or {}, sizes))
        files = await self._new(owner, wanted, "file_ids" if asked.files is None else "files")
        batch_id = new_id("vsfb")
        await self._add(record, files, batch_id, "file_ids")
        return await self._batch(record, batch_id)

    async def batch(self, owner: str, store_id: str, batch_id: str) -> BatchRecord:
        """A batch of a store. Raises `ApiError` (404)."""
        return await self._batch(await self._record(owner, store_id), batch_id)

    async def cancel(self, owner: str, store_id: str, batch_id: str) -> BatchRecord:
        """Index no more of a batch's files; one that is over stays as it is. Raises `ApiError` (404)."""
        record = await self._record(owner, store_id)
        await self._batch(record, batch_id)
        await self._records.cancel_batch(record, batch_id)
        return await self._batch(record, batch_id)

    async def _record(self, owner: str, store_id: str) -> VectorStoreRecord:
        record = await self._records.get(owner, store_id)
        if record is None:
            raise not_found("Vector store", store_id, param="vector_store_id")
        return record

    async def _file(self, record: VectorStoreRecord, file_id: str) -> StoreFileRecord:
        file = await self._records.file(record, file_id)
        if file is None:
            raise _no_file(file_id)
        return file

    async def _batch(self, record: VectorStoreRecord, batch_id: str) -> BatchRecord:
        batch = await self._records.batch(record, batch_id)
        if batch is None:
            raise not_found("Vector store file batch", batch_id, param="batch_id")
        return batch

    async def _new(
        self, owner: str, wanted: Sequence[tuple[str, Attributes, ChunkSizes]], param: str
    ) -> Sequence[NewFile]:
        """Files that are there, each once. Raises `ApiError` (404)."""
        once = {file_id: (attributes, sizes) for file_id, attributes, sizes in wanted}
        return [
            NewFile(file_id, (await self._files.get(owner, file_id, param=param)).filename, attributes, sizes)
            for file_id, (attributes, sizes) in once.items()
        ]

    async def _add(self, record: VectorStoreRecord, files: Sequence[NewFile], batch_id: str | None, param: str) -> None:
        if not await self._records.add_files(record, files, int(self._now()), batch_id, MAX_FILES):
            message = f"A vector store has at most {MAX_FILES} files. Use another one for these."
            raise ApiError(message, code="vector_store_full", param=param)
        self._wake()


def read_sizes(strategy: Strategy | None, param: str) -> ChunkSizes:
    """The sizes of chunks that a caller wants. Raises `ApiError`."""
    if not isinstance(strategy, StaticStrategy):
        return ChunkSizes()
    static = strategy.static
    if static.chunk_overlap_tokens > static.max_chunk_size_tokens // 2:
        raise ApiError(
            f"Invalid '{param}.static.chunk_overlap_tokens': {static.chunk_overlap_tokens} is more than half of "
            f"'max_chunk_size_tokens' ({static.max_chunk_size_tokens}).",
            code="invalid_value",
            param=f"{param}.static.chunk_overlap_tokens",
        )
    return ChunkSizes(static.max_chunk_size_tokens, static.chunk_overlap_tokens)


def _no_file(file_id: str) -> ApiError:
    return not_found("Vector store file", file_id, param="file_id")
