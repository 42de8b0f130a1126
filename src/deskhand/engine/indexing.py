"""The indexing of files in vector stores: read, cut into chunks, made into vectors, kept.

Jobs are in the database. Whoever begins one holds it for a while, and holds it for longer as it goes on; what a dead
process had begun is begun again by another. A file that ends its process again and again is given up.
"""

import asyncio
import random
import time
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import islice
from typing import Final

import structlog

from ..core.chunking import Chunk, chunks, estimated_tokens
from ..core.errors import ApiError, NotServed, StoreUnavailable, UpstreamError
from ..ports.documents import Documents, UnreadableDocument
from ..ports.vector_stores import IndexingJob, IndexingJobs
from .background import beside, repeatedly
from .files import Files
from .text_vectors import TextVectors

log = structlog.get_logger()

MOST_AT_ONCE: Final = 2
"""Files that one process indexes at once: each is in memory, and reading them is work for a processor."""
POLL_S: Final = 1.0
LEASE_S: Final = 60
RENEW_EVERY_S: Final = 15.0
MAX_ATTEMPTS: Final = 5
FIRST_PAUSE_S: Final = 2
MAX_BYTES: Final = 256 << 20
MAX_TOKENS: Final = 5_000_000
"""Of one file (API reference, "Vector stores")."""
BATCH: Final = 64
"""Chunks that are made into vectors, and kept, together."""
SWEEP: Final = 500
"""Chunks that are forgotten in one transaction."""
SWEEP_EVERY_S: Final = 30.0
PAUSE_S: Final = 0.02
"""Between two such transactions, for everybody else's writes."""
MAX_DIMENSIONS: Final = 16_000
OF_THE_TEXT: Final = frozenset({"invalid_prompt", "context_length_exceeded"})
"""Codes of failures of a model that another attempt with the same text has as well."""

RETRIED: Final = "The file could not be indexed in {} attempts: the server ended, or failed, each time."


class _Failed(Exception):
    """A file cannot be indexed. `code` is the API's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class _Lost(Exception):
    """The job is somebody else's now, or nobody's: its file was taken out of the store."""


class Indexing:
    """Indexes what waits. Use as `async with indexing.serving()`."""

    def __init__(
        self,
        jobs: IndexingJobs,
        files: Files,
        documents: Documents,
        vectors: TextVectors,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._jobs = jobs
        self._files = files
        self._documents = documents
        self._vectors = vectors
        self._now = now
        self._busy: set[int] = set()
        self._woken = asyncio.Event()
        self._untidy = asyncio.Event()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Indexing"]:
        """Index until the block ends. What is under way then is begun again later."""
        sweeping = repeatedly("indexing.sweep", self._sweep, SWEEP_EVERY_S, self._untidy)
        async with beside(self._index_forever()), beside(sweeping):
            yield self

    def wake(self) -> None:
        """There may be something to do."""
        self._woken.set()
        self._untidy.set()

    async def _index_forever(self) -> None:
        async with asyncio.TaskGroup() as group:
            await repeatedly("indexing.jobs", lambda: self._begin_due(group), POLL_S, self._woken)

    async def _begin_due(self, group: asyncio.TaskGroup) -> None:
        room = MOST_AT_ONCE - len(self._busy)
        if room <= 0:
            return
        # Other processes take the first ones at the same moment.
        for job in await self._jobs.due(int(self._now()), MOST_AT_ONCE + 2):
            if len(self._busy) >= MOST_AT_ONCE:
                return
            if job.file_seq not in self._busy:
                self._busy.add(job.file_seq)
                group.create_task(self._attempt(job))

    async def _attempt(self, job: IndexingJob) -> None:
        try:
            now = int(self._now())
            begun = await self._jobs.claim(job, now, now + LEASE_S)
            if begun is not None:
                await self._held(begun)
        except* StoreUnavailable as lost:
            log.warning("indexing.not_settled", file_id=job.file_id, error=str(lost.exceptions[0]))
        except* Exception:
            # One file must not end the others; when its lease ends it is begun again.
            log.exception("indexing.failed", file_id=job.file_id)
        finally:
            self._busy.discard(job.file_seq)
            self._woken.set()

    async def _held(self, job: IndexingJob) -> None:
        """Index a file while the job is held, and let it go if the server stops: others need not wait for the lease."""
        try:
            async with beside(self._hold(job)):
                await self._settle(job)
        except asyncio.CancelledError:
            await self._jobs.postpone(job, 0)
            raise

    async def _hold(self, job: IndexingJob) -> None:
        """Hold the job until cancelled. One that is lost is found out by its next write."""
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            try:
                await self._jobs.renew(job, int(self._now()) + LEASE_S)
            except StoreUnavailable as exc:
                log.warning("indexing.not_renewed", file_id=job.file_id, error=str(exc))

    async def _settle(self, job: IndexingJob) -> None:
        """Index a file, or say why it cannot be."""
        try:
            if job.attempts > MAX_ATTEMPTS:
                raise _Failed("server_error", RETRIED.format(MAX_ATTEMPTS))
            usage = await self._index(job)
            if await self._jobs.finish(job, usage):
                log.info("indexing.done", file_id=job.file_id, bytes=usage)
        except _Lost:
            log.info("indexing.given_up", file_id=job.file_id)
        except _Failed as exc:
            log.info("indexing.refused", file_id=job.file_id, code=exc.code, reason=exc.message)
            await self._jobs.fail(job, exc.code, exc.message)
        except UpstreamError as exc:
            await self._try_again(job, exc)
        self._untidy.set()

    async def _try_again(self, job: IndexingJob, failure: UpstreamError) -> None:
        log.warning("indexing.no_vectors", file_id=job.file_id, attempt=job.attempts, error=failure.message)
        lasting = isinstance(failure, NotServed) or failure.code in OF_THE_TEXT
        if lasting or job.attempts >= MAX_ATTEMPTS:
            message = f"The embedding model failed: {failure.message}"
            await self._jobs.fail(job, "server_error", message)
            return
        wait = FIRST_PAUSE_S * 2 ** (job.attempts - 1) * random.uniform(0.8, 1.2)
        await self._jobs.postpone(job, int(self._now() + max(wait, min(failure.retry_after or 0, 600))))

    async def _index(self, job: IndexingJob) -> int:
        """Read a file and keep its chunks. What it takes in bytes. Raises `_Failed`, `_Lost`, `UpstreamError`."""
        if job.attempts > 1:
            await _repeated(lambda: self._jobs.clear(job, SWEEP))
        text = await self._text(job)
        pieces, usage = chunks(text, job.sizes), 0
        while found := await asyncio.to_thread(_take, pieces):
            vectors = await self._vectors_of(job, found)
            if not await self._jobs.add_chunks(job, found, vectors):
                raise _Lost
            usage += sum(len(chunk.text.encode("utf-8", "replace")) for chunk in found)
            usage += sum(4 * len(vector) for vector in vectors or ())
        return usage

    async def _text(self, job: IndexingJob) -> str:
        try:
            record = await self._files.get(job.owner, job.file_id)
        except ApiError:
            raise _Failed("invalid_file", "The file has expired or was deleted.") from None
        if record.bytes > MAX_BYTES:
            message = f"The file has {record.bytes} bytes; at most {MAX_BYTES} can be indexed. Split it."
            raise _Failed("invalid_file", message)
        try:
            data = b"".join([chunk async for chunk in self._files.content(record)])
        except FileNotFoundError:
            raise _Failed("server_error", "The bytes of the file are lost. Upload it again.") from None
        try:
            text = (await self._documents.read(job.filename, data)).text
        except UnreadableDocument as exc:
            raise _Failed(exc.code, exc.message) from exc
        if not text.strip():
            raise _Failed("invalid_file", "There is no text in the file.")
        tokens = await asyncio.to_thread(estimated_tokens, text)
        if tokens > MAX_TOKENS:
            message = f"The file has about {tokens} tokens of text; at most {MAX_TOKENS} can be indexed. Split it."
            raise _Failed("invalid_file", message)
        return text

    async def _vectors_of(self, job: IndexingJob, found: list[Chunk]) -> "list[array[float]] | None":
        if self._vectors.unusable(job.embedding_model):
            return None
        vectors = list(await self._vectors.of([chunk.text for chunk in found]))
        size = len(vectors[0])
        if size > MAX_DIMENSIONS:
            raise _Failed("server_error", f"Vectors of {size} numbers are too long: at most {MAX_DIMENSIONS}.")
        known = await self._jobs.set_dimensions(job, size)
        if known != size:
            raise _Failed(
                "server_error",
                f"The embedding model '{self._vectors.model}' gave vectors of {size} numbers, and this store has "
                f"vectors of {known}. Make a new store for what the model gives now.",
            )
        return vectors

    async def _sweep(self) -> None:
        await _repeated(lambda: self._jobs.sweep(int(self._now()), SWEEP))


async def _repeated(step: Callable[[], Awaitable[bool]]) -> None:
    """Do something in small steps until nothing of it is left, with room for others between them."""
    left = True
    while left:
        left = await step()
        await asyncio.sleep(PAUSE_S)


def _take(pieces: Iterator[Chunk]) -> list[Chunk]:
    return list(islice(pieces, BATCH))
