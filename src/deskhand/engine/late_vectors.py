"""Vectors for what was indexed without them, because no embedding model was set then.

A store that has no model gets the one that is set now with its first vectors. Until all of its chunks have theirs it is
searched by words, and says so.
"""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import structlog

from ..core.errors import UpstreamError
from ..ports.vector_stores import BareFile, LateVectorJobs
from .background import beside, repeatedly
from .indexing import MAX_DIMENSIONS, OF_THE_TEXT
from .text_vectors import TextVectors

log = structlog.get_logger()

LOOK_EVERY_S: Final = 10.0
LEASE_S: Final = 60
"""How long a file is held at a time, and left alone after its model server failed."""
FILES: Final = 50
"""Files that are looked up at once."""
BATCH: Final = 32
"""Chunks that are made into vectors together: few, so that what is asked meanwhile need not wait long."""


class LateVectors:
    """Makes the vectors, one file after the other. Use as `async with late.serving()`."""

    def __init__(self, jobs: LateVectorJobs, vectors: TextVectors, now: Callable[[], float] = time.time) -> None:
        self._jobs = jobs
        self._vectors = vectors
        self._now = now

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["LateVectors"]:
        """Make vectors until the block ends. What is left then is done after the next start."""
        if self._vectors.model is None:
            yield self
            return
        async with beside(repeatedly("late_vectors", lambda: self._all(self._vectors.model or ""), LOOK_EVERY_S)):
            yield self

    async def _all(self, model: str) -> None:
        while files := await self._jobs.bare_files(model, int(self._now()), FILES):
            for file in files:
                now = int(self._now())
                if not await self._jobs.hold(file, now, now + LEASE_S):
                    continue
                try:
                    await self._one(file, model)
                except UpstreamError as exc:
                    # The others would fail as well. The file is tried again when its lease ends.
                    log.warning("late_vectors.later", file_id=file.file_id, error=exc.message)
                    return

    async def _one(self, file: BareFile, model: str) -> None:
        made = 0
        while found := await self._jobs.bare_chunks(file, BATCH):
            try:
                vectors = await self._vectors.of([chunk.text for chunk in found])
            except UpstreamError as exc:
                if exc.code not in OF_THE_TEXT:
                    raise
                # Of this text, or of every one?
                await self._vectors.of([""])
                log.warning("late_vectors.refused", file_id=file.file_id, error=exc.message)
                break
            until = int(self._now()) + LEASE_S
            fit = len(vectors[0]) <= MAX_DIMENSIONS
            if not fit or not await self._jobs.give_vectors(file, model, found, vectors, until):
                log.warning("late_vectors.unfit", file_id=file.file_id, dimensions=len(vectors[0]))
                break
            made += len(found)
        await self._jobs.let_go(file)
        log.info("late_vectors.made", file_id=file.file_id, chunks=made)
