"""Old responses and traces go by themselves, in small batches, so that nobody waits long for the database."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import structlog

from ..ports.retention import RetentionStore
from .background import beside, repeatedly

log = structlog.get_logger()

PERIOD_SECONDS: Final = 60.0
BATCH: Final = 20
"""Responses deleted in one transaction: each may have thousands of items and events."""
PAUSE_SECONDS: Final = 0.05
"""Between two batches, for everybody else's writes."""
_DAY_SECONDS: Final = 86_400


class Retention:
    """Deletes responses and traces of every owner. Use as `async with retention.serving()`."""

    def __init__(self, store: RetentionStore, days: float, now: Callable[[], float] = time.time) -> None:
        """`days` is how long responses and traces live; 0 for ever."""
        self._store = store
        self._days = days
        self._now = now

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Retention"]:
        """Delete what is old, and the traces of what was deleted, until the block ends."""
        async with beside(repeatedly("retention", self._tidy, PERIOD_SECONDS)):
            yield self

    async def _tidy(self) -> None:
        if self._days:
            await self._expire(int(self._now() - self._days * _DAY_SECONDS))
        await self._store.scrub()

    async def _expire(self, before: int) -> None:
        responses = await _all(lambda: self._store.expire_responses(before, BATCH))
        traces = await _all(lambda: self._store.expire_traces(before, BATCH))
        if responses or traces:
            log.info("retention.expired", responses=responses, traces=traces)


async def _all(expire: Callable[[], Awaitable[int]]) -> int:
    """Batch after batch, until nothing is left; how many went."""
    count = 0
    while expired := await expire():
        count += expired
        await asyncio.sleep(PAUSE_SECONDS)
    return count
