"""Blocking steps that must not be left half done."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def finish(step: Callable[[], T], undo: Callable[[T], object] | None = None) -> T:
    """Run `step` in a worker thread to its end, even if the caller is cancelled; then `undo` what it returned.

    A thread cannot be interrupted: without this, a cancelled caller would release its lock while the step goes on.
    """
    task = asyncio.ensure_future(asyncio.to_thread(step))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if undo is not None and not task.cancelled() and task.exception() is None:
            await asyncio.shield(asyncio.to_thread(undo, task.result()))
        raise
