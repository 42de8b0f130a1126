"""Work that goes on beside a block."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import structlog

from ..core.errors import StoreUnavailable

log = structlog.get_logger()


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `work` while the block runs, and cancel it at the end. If it fails, so does the block."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work)
        try:
            yield
        finally:
            task.cancel()


async def repeatedly(job: str, work: Callable[[], Awaitable[None]], every_s: float) -> None:
    """Do `work` now and then about every so many seconds, for ever.

    What cannot be done now can be done later: a failure is logged under the name of the `job`. Processes that share a
    database drift apart, so that not all of them look at once.
    """
    while True:
        try:
            await work()
        except StoreUnavailable as exc:
            log.warning("job.later", job=job, error=str(exc))
        except Exception:
            log.exception("job.failed", job=job)
        await asyncio.sleep(every_s * random.uniform(0.8, 1.2))
