"""Watch a disk whose size nothing enforces (a plain directory of a server that is not root), while a command runs."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from typing import Final, TypeVar

E = TypeVar("E")

INTERVAL_S: Final = 1.0
SHARE: Final = 10
"""At most one part in so many of the time is spent measuring."""


async def watched(
    events: AsyncGenerator[E, None], full: Callable[[], str], ending: Callable[[str], E]
) -> AsyncGenerator[E, None]:
    """Pass `events` on; end them with `ending` as soon as `full`, called in a thread, has something to say.

    What was written up to then stays. A command can overshoot by what it writes between two looks.
    """
    interval = INTERVAL_S
    upcoming = asyncio.ensure_future(anext(events, None))
    try:
        while True:
            done, _ = await asyncio.wait({upcoming}, timeout=interval)
            if done:
                event = upcoming.result()
                if event is None:
                    return
                yield event
                upcoming = asyncio.ensure_future(anext(events, None))
                continue
            began = time.monotonic()
            words = await asyncio.to_thread(full)
            if words:
                await _cancel(upcoming)
                await events.aclose()
                yield ending(words)
                return
            interval = max(INTERVAL_S, SHARE * (time.monotonic() - began))
    finally:
        await _cancel(upcoming)
        await events.aclose()


async def _cancel(task: "asyncio.Future[E | None]") -> None:
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
