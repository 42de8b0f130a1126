"""`/v1/vector_stores`, their files and batches."""

from dataclasses import dataclass, replace
from typing import get_args

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..core.errors import ApiError, missing
from ..core.queries import rewritten
from ..engine.searches import MAX_QUERIES, MAX_QUERY_CHARACTERS, Searches
from ..engine.text_vectors import TextVectors
from ..engine.vector_stores import VectorStores
from ..ports.store import Page
from ..ports.vector_stores import (
    BatchRecord,
    Changes,
    Counts,
    FileState,
    Hit,
    Search,
    StoreFileRecord,
    VectorStoreRecord,
)
from ..wire.vector_stores import (
    CreateFileBatch,
    CreateVectorStore,
    CreateVectorStoreFile,
    ExpiresAfter,
    FileContentPage,
    FileCounts,
    LastError,
    RankingOptions,
    SearchMode,
    SearchResult,
    SearchResultsPage,
    SearchVectorStore,
    StaticChunking,
    StaticStrategy,
    TextContent,
    UpdateVectorStore,
    UpdateVectorStoreFile,
    VectorStore,
    VectorStoreFile,
    VectorStoreFileBatch,
)
from .bodies import checked, listing, read_body, read_json, read_object, read_page
from .json import json

POLL_AFTER_MS = 250
"""When to ask again for what is being indexed: what the SDK's helpers wait for."""
DEFAULT_RESULTS = 10

_ONE = "/v1/vector_stores/{id}"
_FILE = _ONE + "/files/{file_id}"
_BATCH = _ONE + "/file_batches/{batch_id}"


@dataclass(frozen=True, slots=True)
class VectorStoresApi:
    """Make vector stores, put files into them, and search them."""

    stores: VectorStores
    searches: Searches
    vectors: TextVectors
    max_body_bytes: int

    def routes(self) -> list[Route]:
        """The routes of this resource."""
        return [
            Route("/v1/vector_stores", self.create, methods=["POST"]),
            Route("/v1/vector_stores", self.list, methods=["GET"]),
            Route(_ONE, self.retrieve, methods=["GET"]),
            Route(_ONE, self.update, methods=["POST"]),
            Route(_ONE, self.delete, methods=["DELETE"]),
            Route(_ONE + "/search", self.search, methods=["POST"]),
            Route(_ONE + "/files", self.attach, methods=["POST"]),
            Route(_ONE + "/files", self.list_files, methods=["GET"]),
            Route(_FILE, self.retrieve_file, methods=["GET"]),
            Route(_FILE, self.update_file, methods=["POST"]),
            Route(_FILE, self.detach, methods=["DELETE"]),
            Route(_FILE + "/content", self.content, methods=["GET"]),
            Route(_ONE + "/file_batches", self.attach_all, methods=["POST"]),
            Route(_BATCH, self.retrieve_batch, methods=["GET"]),
            Route(_BATCH + "/cancel", self.cancel_batch, methods=["POST"]),
            Route(_BATCH + "/files", self.list_batch, methods=["GET"]),
        ]

    async def create(self, request: Request) -> Response:
        body = await read_json(request, CreateVectorStore, self.max_body_bytes)
        return json(self._store(*await self.stores.create(request.state.owner, body)))

    async def list(self, request: Request) -> Response:
        found = await self.stores.list(request.state.owner, _page(request))
        return json(listing([self._store(*one) for one in found.data], has_more=found.has_more))

    async def retrieve(self, request: Request) -> Response:
        record, counts = await self.stores.get(request.state.owner, request.path_params["id"])
        return _polled(self._store(record, counts), waiting=bool(counts.in_progress))

    async def update(self, request: Request) -> Response:
        given = read_object(await read_body(request, self.max_body_bytes))
        body = checked(given, UpdateVectorStore)
        expires = body.expires_after
        changes = Changes(
            (body.name or "") if "name" in given else None,
            (body.metadata or {}) if "metadata" in given else None,
            (expires.days if expires else 0) if "expires_after" in given else None,
        )
        record, counts = await self.stores.update(request.state.owner, request.path_params["id"], changes)
        return json(self._store(record, counts))

    async def delete(self, request: Request) -> Response:
        store_id = request.path_params["id"]
        await self.stores.delete(request.state.owner, store_id)
        return json({"id": store_id, "object": "vector_store.deleted", "deleted": True})

    async def search(self, request: Request) -> Response:
        body = await read_json(request, SearchVectorStore, self.max_body_bytes)
        owner, store_id = request.state.owner, request.path_params["id"]
        queries = _queries(body)
        ranking = body.ranking_options or RankingOptions()
        search = Search([store_id], queries, body.filters, body.max_num_results or DEFAULT_RESULTS)
        search = replace(search, threshold=ranking.score_threshold)
        if ranking.hybrid_search is not None:
            weights = ranking.hybrid_search
            search = replace(search, text_weight=weights.text_weight, embedding_weight=weights.embedding_weight)
        found = await self.searches.search(owner, search, "vector_store_id")
        mode = self._mode(found.stores[0], found.reason)
        return json(SearchResultsPage(search_query=queries, data=[_result(hit) for hit in found.hits], search=mode))

    async def attach(self, request: Request) -> Response:
        body = await read_json(request, CreateVectorStoreFile, self.max_body_bytes)
        store_id = request.path_params["id"]
        return _file_polled(store_id, await self.stores.attach(request.state.owner, store_id, body))

    async def list_files(self, request: Request) -> Response:
        store_id = request.path_params["id"]
        found = await self.stores.files(request.state.owner, store_id, _page(request), _state(request))
        return json(listing([_file(store_id, one) for one in found.data], has_more=found.has_more))

    async def retrieve_file(self, request: Request) -> Response:
        path = request.path_params
        return _file_polled(path["id"], await self.stores.file(request.state.owner, path["id"], path["file_id"]))

    async def update_file(self, request: Request) -> Response:
        body = await read_json(request, UpdateVectorStoreFile, self.max_body_bytes)
        owner, path = request.state.owner, request.path_params
        file = await self.stores.set_attributes(owner, path["id"], path["file_id"], body.attributes or {})
        return json(_file(path["id"], file))

    async def detach(self, request: Request) -> Response:
        path = request.path_params
        await self.stores.detach(request.state.owner, path["id"], path["file_id"])
        return json({"id": path["file_id"], "object": "vector_store.file.deleted", "deleted": True})

    async def content(self, request: Request) -> Response:
        path = request.path_params
        file, pieces = await self.stores.content(request.state.owner, path["id"], path["file_id"])
        data = [TextContent(text=piece) async for piece in pieces]
        return json(
            FileContentPage(file_id=file.file_id, filename=file.filename, attributes=dict(file.attributes), data=data)
        )

    async def attach_all(self, request: Request) -> Response:
        body = await read_json(request, CreateFileBatch, self.max_body_bytes)
        store_id = request.path_params["id"]
        return _batch_polled(store_id, await self.stores.attach_all(request.state.owner, store_id, body))

    async def retrieve_batch(self, request: Request) -> Response:
        path = request.path_params
        return _batch_polled(path["id"], await self.stores.batch(request.state.owner, path["id"], path["batch_id"]))

    async def cancel_batch(self, request: Request) -> Response:
        path = request.path_params
        return _batch_polled(path["id"], await self.stores.cancel(request.state.owner, path["id"], path["batch_id"]))

    async def list_batch(self, request: Request) -> Response:
        path = request.path_params
        found = await self.stores.files(
            request.state.owner, path["id"], _page(request), _state(request), path["batch_id"]
        )
        return json(listing([_file(path["id"], one) for one in found.data], has_more=found.has_more))

    def _store(self, record: VectorStoreRecord, counts: Counts) -> VectorStore:
        expired = record.expired(self.stores.now())
        return VectorStore(
            id=record.id,
            created_at=record.created_at,
            name=record.name,
            description=record.description or None,
            usage_bytes=counts.usage_bytes,
            file_counts=_file_counts(counts),
            status="expired" if expired else "in_progress" if counts.in_progress else "completed",
            expires_after=ExpiresAfter(anchor="last_active_at", days=record.expires_days)
            if record.expires_days
            else None,
            expires_at=record.expires_at,
            last_active_at=record.last_active_at,
            metadata=dict(record.metadata),
            search=self._mode(record, self.vectors.lacking(record)),
        )

    def _mode(self, record: VectorStoreRecord, reason: str) -> SearchMode:
        return SearchMode(
            mode="keyword" if reason else "hybrid",
            embedding_model=record.embedding_model or None,
            dimensions=record.dimensions or None,
            reason=reason or None,
        )


def _page(request: Request) -> Page:
    """`limit`, `order`, `after` and `before` of a list. Raises `ApiError`."""
    page, before = read_page(request), request.query_params.get("before") or None
    if before is not None and page.after is not None:
        raise ApiError("Give either 'after' or 'before'.", code="mutually_exclusive_parameters", param="before")
    return replace(page, before=before)


def _state(request: Request) -> FileState | None:
    value = request.query_params.get("filter") or None
    if value is not None and value not in get_args(FileState):
        choices = ", ".join(get_args(FileState))
        raise ApiError(f"Invalid value for 'filter': one of {choices}.", code="invalid_value", param="filter")
    return value  # type: ignore[return-value]  # just found among them


def _queries(body: SearchVectorStore) -> list[str]:
    """What is looked for, rewritten if that is wanted. Raises `ApiError`."""
    queries = [body.query] if isinstance(body.query, str) else body.query
    if not queries:
        raise missing("query")
    if len(queries) > MAX_QUERIES:
        raise ApiError(f"At most {MAX_QUERIES} queries.", code="array_above_max_length", param="query")
    for query in queries:
        if not query.strip():
            raise ApiError("Invalid 'query': cannot be empty.", code="invalid_value", param="query")
        if len(query) > MAX_QUERY_CHARACTERS:
            message = f"Invalid 'query': string too long, at most {MAX_QUERY_CHARACTERS} characters."
            raise ApiError(message, code="string_above_max_length", param="query")
    return [rewritten(query) for query in queries] if body.rewrite_query else list(queries)


def _polled(value: object, *, waiting: bool) -> Response:
    response = json(value)
    if waiting:
        response.headers["openai-poll-after-ms"] = str(POLL_AFTER_MS)
    return response


def _file_polled(store_id: str, record: StoreFileRecord) -> Response:
    return _polled(_file(store_id, record), waiting=record.status == "in_progress")


def _batch_polled(store_id: str, record: BatchRecord) -> Response:
    shown = _batch(store_id, record)
    return _polled(shown, waiting=shown.status == "in_progress")


def _file(store_id: str, record: StoreFileRecord) -> VectorStoreFile:
    sizes = StaticChunking(max_chunk_size_tokens=record.sizes.tokens, chunk_overlap_tokens=record.sizes.overlap)
    failed = record.status == "failed"
    return VectorStoreFile(
        id=record.file_id,
        usage_bytes=record.usage_bytes,
        created_at=record.created_at,
        vector_store_id=store_id,
        status=record.status,
        last_error=LastError(code=record.error_code, message=record.error_message) if failed else None,
        attributes=dict(record.attributes),
        chunking_strategy=StaticStrategy(static=sizes),
    )


def _batch(store_id: str, record: BatchRecord) -> VectorStoreFileBatch:
    return VectorStoreFileBatch(
        id=record.id,
        created_at=record.created_at,
        vector_store_id=store_id,
        status=_batch_state(record),
        file_counts=_file_counts(record.counts),
    )


def _batch_state(record: BatchRecord) -> FileState:
    """What has become of a batch: it has failed only if all of it has."""
    counts = record.counts
    if record.cancelled:
        return "cancelled"
    if counts.in_progress:
        return "in_progress"
    return "failed" if counts.failed and counts.failed == counts.total else "completed"


def _file_counts(counts: Counts) -> FileCounts:
    return FileCounts(
        in_progress=counts.in_progress,
        completed=counts.completed,
        failed=counts.failed,
        cancelled=counts.cancelled,
        total=counts.total,
    )


def _result(hit: Hit) -> SearchResult:
    found = hit.passage
    return SearchResult(
        file_id=found.file_id,
        filename=found.filename,
        score=hit.score,
        attributes=dict(found.attributes),
        content=[TextContent(text=found.text)],
    )
