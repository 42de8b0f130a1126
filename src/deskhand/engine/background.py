"""Work that goes on beside a block."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
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


async def repeatedly(
    job: str, work: Callable[[], Awaitable[None]], every_s: float, woken: asyncio.Event | None = None
) -> None:
    """Do `work` now and then about every so many seconds, for ever; sooner if it is `woken`.

    What cannot be done now can be done later: a failure is logged under the name of the `job`. Processes that share a
    database drift apart, so that not all of them look at once.
    """
    woken = woken or asyncio.Event()
    while True:
        woken.clear()
        try:
            await work()
        except StoreUnavailable as exc:
            log.warning("job.later", job=job, error=str(exc))
        except Exception:
            log.exception("job.failed", job=job)
        with suppress(TimeoutError):
            async with asyncio.timeout(every_s * random.uniform(0.8, 1.2)):
                await woken.wait()
