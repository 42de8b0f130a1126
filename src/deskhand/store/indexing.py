"""The indexing of files in vector stores, as the database has it: who does what, and what has come of it."""

import asyncio
from array import array
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ..core.chunking import Chunk, ChunkSizes
from ..core.queries import spelled
from ..ports.vector_stores import BareChunk, BareFile, IndexingJob
from .database import Connection, Database
from .queries import load
from .text import column
from .vector_stores import empty_store
from .vectors import Vectors


class SqlIndexingJobs:
    """The `IndexingJobs` of a database."""

    def __init__(self, database: Database, vectors: Vectors) -> None:
        self._database = database
        self._sql = load("vector_stores", database.driver)
        self._vectors = vectors

    async def due(self, now: int, most: int) -> Sequence[IndexingJob]:
        """Jobs that nobody holds."""
        rows = await self._database.read(lambda connection: [*self._sql.due_jobs(connection, now=now, most=most)])
        return [_job(*row) for row in rows]

    async def claim(self, job: IndexingJob, now: int, lease_until: int) -> IndexingJob | None:
        """Begin a job."""
        row = {"file": job.file_seq, "attempts": job.attempts, "now": now, "lease_until": lease_until}
        claimed = await self._database.write(lambda connection: self._sql.claim_job(connection, **row))
        return replace(job, attempts=job.attempts + 1) if claimed else None

    async def renew(self, job: IndexingJob, lease_until: int) -> bool:
        """Hold a job for longer."""
        return await self._settle(
            job, lambda connection, key: self._sql.renew_job(connection, **key, lease_until=lease_until)
        )

    async def clear(self, job: IndexingJob, most: int) -> bool:
        """Forget chunks of earlier attempts."""

        def unit(connection: Connection) -> bool:
            return bool(self._sql.delete_chunks(connection, file=job.file_seq, most=most))

        return await self._database.write(unit)

    async def add_chunks(
        self, job: IndexingJob, found: Sequence[Chunk], vectors: Sequence["array[float]"] | None
    ) -> bool:
        """Keep the next chunks, if the job is still held."""
        keep = await self._vectors.keeper()
        spellings = await asyncio.to_thread(lambda: [_spelled(chunk.text) for chunk in found])
        rows = [
            {
                "store": job.store_seq,
                "file": job.file_seq,
                "repeated": chunk.repeated,
                "text": column(chunk.text),
                "spelled": spellings[place],
                "vector": None if vectors is None else keep.written(vectors[place]),
                "bare": int(vectors is None),
            }
            for place, chunk in enumerate(found)
        ]

        def unit(connection: Connection) -> bool:
            if self._sql.held(connection, file=job.file_seq, attempts=job.attempts) is None:
                return False
            keep.insert(connection, rows)
            return True

        return await self._database.write(unit)

    async def set_dimensions(self, job: IndexingJob, dimensions: int) -> int:
        """The size of the vectors of a job's store."""

        def unit(connection: Connection) -> int:
            self._sql.first_dimensions(connection, store=job.store_seq, dimensions=dimensions)
            row = self._sql.dimensions(connection, store=job.store_seq)
            return dimensions if row is None else int(row[0])

        return await self._database.write(unit)

    async def finish(self, job: IndexingJob, usage_bytes: int) -> bool:
        """The file is indexed."""

        def end(connection: Connection, key: dict[str, int]) -> int:
            done = int(self._sql.finish_job(connection, **key, usage_bytes=usage_bytes))
            if done:
                self._sql.revise_store(connection, store=job.store_seq)
            return done

        return await self._settle(job, end)

    async def fail(self, job: IndexingJob, code: str, message: str) -> bool:
        """The file cannot be indexed. What there is of it goes."""

        def end(connection: Connection, key: dict[str, int]) -> int:
            done = int(self._sql.fail_job(connection, **key, code=column(code), message=column(message)))
            if done:
                self._sql.trash_one(connection, file=job.file_seq)
            return done

        return await self._settle(job, end)

    async def postpone(self, job: IndexingJob, due_at: int) -> bool:
        """Let the job go."""
        return await self._settle(job, lambda connection, key: self._sql.postpone_job(connection, **key, due_at=due_at))

    async def sweep(self, now: int, most: int) -> bool:
        """Forget some of what nothing refers to."""

        def unit(connection: Connection) -> bool:
            if (expired := self._sql.expired_store(connection, now=now)) is not None:
                empty_store(self._sql, connection, expired[0])
                self._sql.revise_store(connection, store=expired[0])
                return True
            trashed = self._sql.trashed(connection)
            if trashed is None:
                return False
            if not self._sql.delete_chunks(connection, file=trashed[0], most=most):
                self._sql.delete_trashed(connection, file=trashed[0])
            return True

        return await self._database.write(unit)

    async def bare_files(self, model: str, now: int, most: int) -> Sequence[BareFile]:
        """Files with chunks that could have vectors."""
        row = {"model": column(model), "now": now, "most": most}
        rows = await self._database.read(lambda connection: [*self._sql.bare_files(connection, **row)])
        return [BareFile(*found) for found in rows]

    async def hold(self, file: BareFile, now: int, lease_until: int) -> bool:
        """Hold a file."""
        row = {"file": file.seq, "now": now, "lease_until": lease_until}
        return bool(await self._database.write(lambda connection: self._sql.hold_file(connection, **row)))

    async def bare_chunks(self, file: BareFile, most: int) -> Sequence[BareChunk]:
        """The next chunks without vectors."""
        row = {"file": file.seq, "most": most}
        rows = await self._database.read(lambda connection: [*self._sql.bare_chunks(connection, **row)])
        return [BareChunk(*found) for found in rows]

    async def give_vectors(
        self,
        file: BareFile,
        model: str,
        found: Sequence[BareChunk],
        vectors: Sequence["array[float]"],
        lease_until: int,
    ) -> bool:
        """Keep vectors of chunks, if the store can have them."""
        keep, size = await self._vectors.keeper(), len(vectors[0])
        rows = [{"seq": one.seq, "vector": keep.written(vector)} for one, vector in zip(found, vectors, strict=True)]
        grown = {"file": file.seq, "bytes": 4 * size * len(rows), "lease_until": lease_until}
        taken = {"store": file.store_seq, "model": column(model), "dimensions": size}

        def unit(connection: Connection) -> bool:
            if not self._sql.take_model(connection, **taken) or not self._sql.grow_file(connection, **grown):
                return False
            keep.give(connection, rows)
            return True

        return await self._database.write(unit)

    async def let_go(self, file: BareFile) -> None:
        """Nobody holds the file any more. What it has no vectors of by now is left so."""

        def unit(connection: Connection) -> None:
            self._sql.leave_bare(connection, file=file.seq)
            self._sql.let_go(connection, file=file.seq)
            self._sql.revise_store(connection, store=file.store_seq)

        await self._database.write(unit)

    async def _settle(self, job: IndexingJob, change: Callable[[Connection, dict[str, int]], Any]) -> bool:
        key = {"file": job.file_seq, "attempts": job.attempts}
        return bool(await self._database.write(lambda connection: change(connection, key)))


def _spelled(text: str) -> str | None:
    """The text as its words are looked for, if that is another one."""
    spelling = spelled(text)
    return None if spelling == text else column(spelling)


def _job(
    file_seq: int,
    store_seq: int,
    owner: str,
    file_id: str,
    filename: str,
    chunk_tokens: int,
    overlap_tokens: int,
    attempts: int,
    embedding_model: str,
    dimensions: int,
) -> IndexingJob:
    """The job of a row."""
    sizes = ChunkSizes(chunk_tokens, overlap_tokens)
    return IndexingJob(file_seq, store_seq, owner, file_id, filename, sizes, attempts, embedding_model, dimensions)
