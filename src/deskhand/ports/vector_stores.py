"""Vector stores: what of files can be found by their words and by what they mean."""

from array import array
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from ..core.chunking import Chunk, ChunkSizes
from ..core.ranking import EMBEDDING_WEIGHT, TEXT_WEIGHT
from .store import Listing, Page

FileState = Literal["in_progress", "completed", "cancelled", "failed"]
Attributes = Mapping[str, str | int | float | bool]


@dataclass(frozen=True, slots=True)
class VectorStoreRecord:
    """A store. Times are unix seconds; `expires_days` is 0 if it does not expire.

    `embedding_model` makes its vectors ("" for none), of `dimensions` numbers (0 while there are none). `revision`
    grows when what a search may find changes. With `bare`, some chunks are still to get their vectors.
    """

    seq: int
    id: str
    owner: str
    name: str
    description: str
    metadata: Mapping[str, str]
    created_at: int
    last_active_at: int
    expires_days: int
    expires_at: int | None
    embedding_model: str
    dimensions: int = 0
    revision: int = 0
    bare: bool = False

    def expired(self, now: float) -> bool:
        """Whether its time has passed."""
        return self.expires_at is not None and self.expires_at <= now


@dataclass(frozen=True, slots=True)
class Changes:
    """What becomes different of a store; None stays. It does not expire any more with 0 `expires_days`."""

    name: str | None = None
    metadata: Mapping[str, str] | None = None
    expires_days: int | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """Files by state, and what the indexed ones take together."""

    in_progress: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    usage_bytes: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.in_progress + self.completed + self.failed + self.cancelled


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file that is to be indexed."""

    file_id: str
    filename: str
    attributes: Attributes
    sizes: ChunkSizes


@dataclass(frozen=True, slots=True)
class StoreFileRecord:
    """A file in a store. `error_code` is "" unless it has failed."""

    seq: int
    file_id: str
    filename: str
    created_at: int
    status: FileState
    error_code: str
    error_message: str
    attributes: Attributes
    sizes: ChunkSizes
    usage_bytes: int


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """Files that were put into a store together, and what has become of them."""

    id: str
    created_at: int
    cancelled: bool
    counts: Counts


class VectorStoreRecords(Protocol):
    """Stores, their files and batches. Another owner's stores do not exist for you."""

    async def add(self, record: VectorStoreRecord, files: Sequence[NewFile]) -> None:
        """Keep a new store, with files to index. Its `seq` is not looked at. Durable on return."""
        ...

    async def get(self, owner: str, store_id: str) -> VectorStoreRecord | None:
        """The store, expired or not."""
        ...

    async def counts(self, stores: Sequence[VectorStoreRecord]) -> Sequence[Counts]:
        """What has become of the files of each."""
        ...

    async def list(self, owner: str, page: Page) -> Listing[VectorStoreRecord]:
        """A page. Raises `ApiError` (404) on an unknown place."""
        ...

    async def update(self, record: VectorStoreRecord, changes: Changes, now: int) -> None:
        """Change a store, which is a use of it."""
        ...

    async def touch(self, record: VectorStoreRecord, now: int) -> None:
        """A store is used now."""
        ...

    async def delete(self, owner: str, store_id: str) -> bool:
        """Forget a store with all that is in it; False if there is none."""
        ...

    async def add_files(
        self, record: VectorStoreRecord, files: Sequence[NewFile], now: int, batch_id: str | None, most: int
    ) -> bool:
        """Put files into a store, to be indexed, which is a use of it; one that is there already is indexed anew.

        False if the store would have more than `most`: then nothing is done. Raises `ApiError` (404) if it has gone.
        """
        ...

    async def file(self, record: VectorStoreRecord, file_id: str) -> StoreFileRecord | None:
        """A file of a store."""
        ...

    async def files(
        self, record: VectorStoreRecord, page: Page, state: FileState | None, batch_id: str | None
    ) -> Listing[StoreFileRecord]:
        """A page of its files, those of a batch or all. Raises `ApiError` (404) on an unknown place."""
        ...

    async def set_attributes(self, record: VectorStoreRecord, file_id: str, attributes: Attributes) -> bool:
        """Replace the attributes of a file; False if there is no such file."""
        ...

    async def remove_file(self, record: VectorStoreRecord, file_id: str) -> bool:
        """Take a file out of a store; False if there is no such file."""
        ...

    async def content(self, file: StoreFileRecord, after: int, limit: int) -> Sequence[tuple[int, Chunk]]:
        """Chunks of an indexed file in order, each with its place; those after a place (0 for the first)."""
        ...

    async def batch(self, record: VectorStoreRecord, batch_id: str) -> BatchRecord | None:
        """A batch of a store."""
        ...

    async def cancel_batch(self, record: VectorStoreRecord, batch_id: str) -> None:
        """Index no more of a batch's files."""
        ...


@dataclass(frozen=True, slots=True)
class IndexingJob:
    """A file that waits to be indexed. `attempts` is how often that was begun."""

    file_seq: int
    store_seq: int
    owner: str
    file_id: str
    filename: str
    sizes: ChunkSizes
    attempts: int
    embedding_model: str
    dimensions: int


@dataclass(frozen=True, slots=True)
class BareFile:
    """An indexed file with chunks that have no vectors and could have some."""

    seq: int
    store_seq: int
    file_id: str


@dataclass(frozen=True, slots=True)
class BareChunk:
    """A chunk without a vector."""

    seq: int
    text: str


class IndexingJobs(Protocol):
    """The files that wait to be indexed, for processes that share the work.

    Whoever claims a job holds it until its lease ends. What a process that lost it still does has no effect: its calls
    return False.
    """

    async def due(self, now: int, most: int) -> Sequence[IndexingJob]:
        """Jobs that nobody holds, the longest due first."""
        ...

    async def claim(self, job: IndexingJob, now: int, lease_until: int) -> IndexingJob | None:
        """Begin a job, if nobody else has; it is as it was begun."""
        ...

    async def renew(self, job: IndexingJob, lease_until: int) -> bool:
        """Hold a job for longer."""
        ...

    async def clear(self, job: IndexingJob, most: int) -> bool:
        """Forget chunks of earlier attempts, at most so many; False if none are left."""
        ...

    async def add_chunks(
        self, job: IndexingJob, found: Sequence[Chunk], vectors: Sequence["array[float]"] | None
    ) -> bool:
        """Keep the next chunks, with their vectors if there are any."""
        ...

    async def set_dimensions(self, job: IndexingJob, dimensions: int) -> int:
        """The size of the vectors of a job's store: `dimensions` if there were none so far."""
        ...

    async def finish(self, job: IndexingJob, usage_bytes: int) -> bool:
        """The file is indexed: searches find it from now on."""
        ...

    async def fail(self, job: IndexingJob, code: str, message: str) -> bool:
        """The file cannot be indexed."""
        ...

    async def postpone(self, job: IndexingJob, due_at: int) -> bool:
        """Let the job go, to be begun again at a time."""
        ...

    async def sweep(self, now: int, most: int) -> bool:
        """Forget what nothing refers to, and what is in expired stores, at most so much; False if nothing is left."""
        ...


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk that a search found, with the file that it is of."""

    seq: int
    file_id: str
    filename: str
    attributes: Attributes
    text: str


@dataclass(frozen=True, slots=True)
class IndexedFile:
    """A file that a search may find."""

    seq: int
    attributes: Attributes = field(default_factory=dict)


class LateVectorJobs(Protocol):
    """Indexed files without vectors, for processes that share the work of giving them some."""

    async def bare_files(self, model: str, now: int, most: int) -> Sequence[BareFile]:
        """Files that nobody holds, in stores of a model and in those that have none."""
        ...

    async def hold(self, file: BareFile, now: int, lease_until: int) -> bool:
        """Hold a file, if nobody else does."""
        ...

    async def bare_chunks(self, file: BareFile, most: int) -> Sequence[BareChunk]:
        """The next chunks without vectors, in order."""
        ...

    async def give_vectors(
        self,
        file: BareFile,
        model: str,
        found: Sequence[BareChunk],
        vectors: Sequence["array[float]"],
        lease_until: int,
    ) -> bool:
        """Keep vectors of chunks and hold the file for longer; its store has the model from now on.

        False if the file has gone, or if its store has vectors of another model or size: then nothing is done.
        """
        ...

    async def let_go(self, file: BareFile) -> None:
        """Hold the file no longer. Chunks that have no vectors by now are searched by their words for good."""
        ...


class SearchIndex(Protocol):
    """Finds chunks. Scores are better the higher they are; `files` are those to look in, None for all of a store."""

    async def files(self, record: VectorStoreRecord) -> Sequence[IndexedFile]:
        """The indexed files of a store."""
        ...

    async def by_words(
        self, record: VectorStoreRecord, terms: Sequence[str], files: Collection[int] | None, limit: int
    ) -> Sequence[tuple[int, float]]:
        """Chunks that have some of the words, best first."""
        ...

    async def by_vector(
        self, record: VectorStoreRecord, vector: "array[float]", files: Collection[int] | None, limit: int
    ) -> Sequence[tuple[int, float]]:
        """Chunks with vectors near this one, best first, with their cosines."""
        ...

    async def passages(self, seqs: Sequence[int]) -> Sequence[Passage]:
        """The chunks, in this order; those that have gone meanwhile are left out."""
        ...


class Searcher(Protocol):
    """Searches stores for tools."""

    async def __call__(self, search: "Search", /) -> "Found":
        """What there is. Raises `ApiError` for a store that is not there."""
        ...


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for, where, and how it is ranked. `filters` is plain JSON, `threshold` from 0 to 1."""

    store_ids: Sequence[str]
    queries: Sequence[str]
    filters: Mapping[str, object] | None = None
    limit: int = 10
    threshold: float = 0.0
    text_weight: float = TEXT_WEIGHT
    embedding_weight: float = EMBEDDING_WEIGHT


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that was found, with a score from 0 to 1."""

    passage: Passage
    score: float


@dataclass(frozen=True, slots=True)
class Found:
    """Hits, best first, the stores that were searched, and why vectors were not looked at ("" if they were)."""

    hits: Sequence[Hit]
    stores: Sequence[VectorStoreRecord]
    reason: str = ""
