"""Blocking steps that must not be left half done."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def own_thread() -> Iterator[Executor]:
    """A thread for steps that others can hold up: those of the event loop are few, and everybody's."""
    thread = ThreadPoolExecutor(1)
    try:
        yield thread
    finally:
        thread.shutdown(wait=False)


async def finish(step: Callable[[], T], undo: Callable[[T], object] | None = None, thread: Executor | None = None) -> T:
    """Run `step` in a worker thread to its end, even if the caller is cancelled; then `undo` what it returned.

    A thread cannot be interrupted: without this, a cancelled caller would release its lock while the step goes on.
    """
    loop = asyncio.get_running_loop()
    task = loop.run_in_executor(thread, copy_context().run, step)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with suppress(asyncio.CancelledError):  # anyio cancels again and again, until the caller is gone
                await asyncio.wait([task])
        if not task.cancelled() and task.exception() is None and undo is not None:
            await asyncio.shield(loop.run_in_executor(thread, undo, task.result()))
        raise
