"""The record of every attempt to leave a container: queued, bounded, written in batches, never with a secret.

When the store does not keep up the queue fills, and the proxies wait: what cannot be recorded does not happen.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, Protocol

import structlog

from ..ports.store import EgressRecord

log = structlog.get_logger()

QUEUED: Final = 2048
BATCH: Final = 256
RETRY_SECONDS: Final = 1.0


class RecordSink(Protocol):
    """Where records are kept."""

    async def add(self, records: Sequence[EgressRecord]) -> None:
        """Store records. Durable on return."""
        ...


class Journal:
    """Takes records from many proxies and writes them in the order in which they came."""

    def __init__(self, sink: RecordSink) -> None:
        self._sink = sink
        self._queue: asyncio.Queue[EgressRecord | asyncio.Event] = asyncio.Queue(QUEUED)
        self._next = asyncio.Lock()
        """Of those that wait for room the first gets it: a queue alone gives it to whoever comes by."""

    async def add(self, record: EgressRecord) -> None:
        """Queue a record; waits while the queue is full."""
        await self._put(record)

    async def settled(self) -> None:
        """Return when everything that is queued now has been written, whatever comes meanwhile."""
        mark = asyncio.Event()
        await self._put(mark)
        await mark.wait()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Write while the block runs; what is queued when it ends is still written, if the store takes it."""
        writer = asyncio.create_task(self._write_forever())
        try:
            yield
        finally:
            try:
                async with asyncio.timeout(5 * RETRY_SECONDS):
                    await self.settled()
            except TimeoutError:
                log.error("egress.records_lost", count=self._queue.qsize())
            writer.cancel()
            await asyncio.wait([writer])

    async def _put(self, entry: EgressRecord | asyncio.Event) -> None:
        async with self._next:
            await self._queue.put(entry)

    async def _write_forever(self) -> None:
        while True:
            batch = [await self._queue.get()]
            while len(batch) < BATCH and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            await self._write([entry for entry in batch if not isinstance(entry, asyncio.Event)])
            for entry in batch:
                if isinstance(entry, asyncio.Event):
                    entry.set()

    async def _write(self, batch: Sequence[EgressRecord]) -> None:
        while batch:
            try:
                await self._sink.add(batch)
                return
            except Exception:
                # Whatever it is, it holds the containers' network until it is mended.
                log.exception("egress.records_not_stored", count=len(batch))
                await asyncio.sleep(RETRY_SECONDS)
