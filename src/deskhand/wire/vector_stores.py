"""Vector stores, their files and batches (API reference, "Vector stores")."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from .conversations import Metadata

MAX_CHUNK_TOKENS = 4096

Attributes = Annotated[
    dict[
        Annotated[str, Meta(max_length=64)],
        Annotated[str, Meta(max_length=512)] | int | float | bool,
    ],
    Meta(max_length=16),
]
Name = Annotated[str, Meta(max_length=256)]
Description = Annotated[str, Meta(max_length=4096)]
FileId = Annotated[str, Meta(min_length=1, max_length=256)]
FileState = Literal["in_progress", "completed", "cancelled", "failed"]
ErrorCode = Literal["server_error", "unsupported_file", "invalid_file"]


class ExpiresAfter(Struct, frozen=True, kw_only=True):
    """When a store that nobody uses goes."""

    anchor: Literal["last_active_at"]
    days: Annotated[int, Meta(ge=1, le=365)]


class StaticChunking(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sizes of chunks in tokens. The overlap is at most half of a chunk."""

    max_chunk_size_tokens: Annotated[int, Meta(ge=100, le=MAX_CHUNK_TOKENS)]
    chunk_overlap_tokens: Annotated[int, Meta(ge=0)]


class AutoStrategy(Struct, frozen=True, kw_only=True, tag_field="type", tag="auto"):
    """Chunks of 800 tokens that overlap by 400."""


class StaticStrategy(Struct, frozen=True, kw_only=True, tag_field="type", tag="static"):
    """Chunks of a size of the caller's own."""

    static: StaticChunking


Strategy = AutoStrategy | StaticStrategy


class CreateVectorStore(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/vector_stores`."""

    name: Name | None = None
    description: Description | None = None
    file_ids: Annotated[list[FileId], Meta(max_length=500)] | None = None
    metadata: Metadata | None = None
    expires_after: ExpiresAfter | None = None
    chunking_strategy: Strategy | None = None


class UpdateVectorStore(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/vector_stores/{id}`. What is left out stays; null takes it away."""

    name: Name | None = None
    metadata: Metadata | None = None
    expires_after: ExpiresAfter | None = None


class CreateVectorStoreFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/vector_stores/{id}/files`, and one file of a batch."""

    file_id: FileId
    attributes: Attributes | None = None
    chunking_strategy: Strategy | None = None


class UpdateVectorStoreFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/vector_stores/{id}/files/{file_id}`. Null is no attributes."""

    attributes: Attributes | None


class CreateFileBatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/vector_stores/{id}/file_batches`: `file_ids` or `files`."""

    file_ids: Annotated[list[FileId], Meta(min_length=1, max_length=2000)] | None = None
    files: Annotated[list[CreateVectorStoreFile], Meta(min_length=1, max_length=2000)] | None = None
    attributes: Attributes | None = None
    chunking_strategy: Strategy | None = None


class HybridSearch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What vectors and words count for in a search, relative to each other."""

    embedding_weight: Annotated[float, Meta(ge=0, le=1_000_000)]
    text_weight: Annotated[float, Meta(ge=0, le=1_000_000)]


class RankingOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How results are ranked. There is one ranker, whatever it is called."""

    ranker: Literal["none", "auto", "default-2024-11-15"] = "auto"
    score_threshold: Annotated[float, Meta(ge=0, le=1)] = 0.0
    hybrid_search: HybridSearch | None = None


MaxResults = Annotated[int, Meta(ge=1, le=50)]


class SearchVectorStore(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/vector_stores/{id}/search`."""

    query: str | list[str]
    filters: dict[str, Any] | None = None
    max_num_results: MaxResults | None = None
    ranking_options: RankingOptions | None = None
    rewrite_query: bool | None = None


class FileCounts(Struct, frozen=True, kw_only=True):
    """Files by what has become of them."""

    in_progress: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    total: int = 0


class SearchMode(Struct, frozen=True, kw_only=True):
    """How a store is searched, which is Deskhand's own field; `reason` says why not with vectors."""

    mode: Literal["hybrid", "keyword"]
    embedding_model: str | None = None
    dimensions: int | None = None
    reason: str | None = None


class VectorStore(Struct, frozen=True, kw_only=True):
    """A vector store resource."""

    id: str
    created_at: int
    name: str
    description: str | None
    usage_bytes: int
    file_counts: FileCounts
    status: Literal["expired", "in_progress", "completed"]
    expires_after: ExpiresAfter | None
    expires_at: int | None
    last_active_at: int | None
    metadata: dict[str, str]
    search: SearchMode
    object: Literal["vector_store"] = "vector_store"


class LastError(Struct, frozen=True, kw_only=True):
    """Why a file could not be indexed."""

    code: str
    message: str


class VectorStoreFile(Struct, frozen=True, kw_only=True):
    """A file in a store. Its id is the file's."""

    id: str
    usage_bytes: int
    created_at: int
    vector_store_id: str
    status: FileState
    last_error: LastError | None
    attributes: dict[str, Any]
    chunking_strategy: StaticStrategy
    object: Literal["vector_store.file"] = "vector_store.file"


class VectorStoreFileBatch(Struct, frozen=True, kw_only=True):
    """Files that were put into a store together."""

    id: str
    created_at: int
    vector_store_id: str
    status: FileState
    file_counts: FileCounts
    object: Literal["vector_store.files_batch"] = "vector_store.files_batch"


class TextContent(Struct, frozen=True, kw_only=True):
    """A piece of text."""

    text: str
    type: Literal["text"] = "text"


class SearchResult(Struct, frozen=True, kw_only=True):
    """A chunk that a search found. `score` is from 0 to 1."""

    file_id: str
    filename: str
    score: float
    attributes: dict[str, Any]
    content: list[TextContent]


class SearchResultsPage(Struct, frozen=True, kw_only=True):
    """What a search found, best first."""

    search_query: list[str]
    data: list[SearchResult]
    search: SearchMode
    has_more: bool = False
    next_page: str | None = None
    object: Literal["vector_store.search_results.page"] = "vector_store.search_results.page"


class FileContentPage(Struct, frozen=True, kw_only=True):
    """What a file says, in order."""

    file_id: str
    filename: str
    attributes: dict[str, Any]
    data: list[TextContent]
    has_more: bool = False
    next_page: str | None = None
    object: Literal["vector_store.file_content.page"] = "vector_store.file_content.page"
