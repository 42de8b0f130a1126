"""The supervisor owns every run: it starts them, bounds them per project, cancels them, and waits for their endings."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import structlog

from ..core.errors import ApiError, StoreUnavailable
from ..ports.log import EventLog
from ..ports.store import ResponseStore
from ..wire.items import Item
from ..wire.response import Response
from .admission import Admitted
from .interrupted import end_interrupted
from .recorder import Recorder
from .run import run_response

log = structlog.get_logger()

STORE_AGAIN_SECONDS = 2.0
"""Pause before an ending that could not be stored is stored again."""


@dataclass(frozen=True, slots=True, eq=False)
class Handle:
    """A started run: its log to read, and a way to stop it."""

    response: Response
    log: EventLog
    task: "asyncio.Task[None]"

    def cancel(self) -> None:
        """Stop the run; it records its own ending. Idempotent.

        A run that has told its ending is left alone: it may still have to cope with a store that did not take it.
        """
        if not self.log.ended and not self.task.done() and not self.task.cancelling():
            self.task.cancel()


class Supervisor:
    """Runs, by project. Use as `async with supervisor.serving()`; leaving it ends what still runs.

    `ended` is called with the owner, the id and the output of each stored response that has ended; it returns at once.
    """

    def __init__(
        self,
        stored: ResponseStore,
        unstored: ResponseStore,
        max_runs: int,
        ended: Callable[[str, str, Sequence[Item]], None] | None = None,
    ) -> None:
        self._ended = ended
        self._stored = stored
        self._unstored = unstored
        self._max_runs = max_runs
        self._running: Counter[str] = Counter()
        self._tasks: asyncio.TaskGroup | None = None
        self._handles: set[Handle] = set()
        self._late: set[asyncio.Task[None]] = set()
        self._draining = False

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Supervisor"]:
        """End what an earlier process left in progress, then take runs until the block ends."""
        for owned in await self._stored.unfinished():
            await end_interrupted(owned.value, self._stored)
            log.warning("response.interrupted", response_id=owned.value.id)
        async with asyncio.TaskGroup() as group:
            self._tasks = group
            try:
                yield self
            finally:
                await self.drain(0)
                self._tasks = None
                for late in self._late:
                    late.cancel()

    async def drain(self, grace_s: float) -> None:
        """Take no more runs, give those under way `grace_s` seconds to end, then end them as failed. Idempotent."""
        self._draining = True
        if tasks := [handle.task for handle in self._handles]:
            await asyncio.wait(tasks, timeout=grace_s)
        self.end_runs()

    def end_runs(self) -> None:
        """Take no more runs and end those under way as failed, now. Idempotent."""
        self._draining = True
        for handle in list(self._handles):
            handle.cancel()

    @property
    def running(self) -> int:
        """How many runs are under way."""
        return sum(self._running.values())

    def check_ceiling(self, owner: str) -> None:
        """Raise `ApiError` (429) if the project may not start another run now."""
        if self._tasks is None or self._draining:
            raise ApiError("The server is shutting down.", status=503, kind="server_error", retry_after=5)
        if self._running[owner] >= self._max_runs:
            raise ApiError(
                f"This project already has {self._max_runs} runs under way, the most that it may have.",
                status=429,
                code="rate_limit_exceeded",
                kind="requests",
                retry_after=2,
            )

    async def start(self, owner: str, admitted: Admitted, events: EventLog) -> Handle:
        """Store the response and start its run, which appends to `events`.

        Raises `ApiError` (429) at the project's ceiling.
        """
        self.check_ceiling(owner)
        response = admitted.run.response
        store = self._stored if response.store else self._unstored
        self._running[owner] += 1
        try:
            await store.create(owner, response, admitted.given)
            assert self._tasks is not None
            task = self._tasks.create_task(self._run(owner, admitted, events, store))
        except BaseException:
            self._release(owner)
            raise
        handle = Handle(response, events, task)
        self._handles.add(handle)
        task.add_done_callback(lambda _: self._handles.discard(handle))
        return handle

    async def _run(self, owner: str, admitted: Admitted, events: EventLog, store: ResponseStore) -> None:
        response = admitted.run.response
        recorder = Recorder(response, events, store)
        try:
            await run_response(admitted.run, recorder, lambda: self._draining)
        except Exception:
            # The store failed; the reader has been told. One run must not end its neighbours.
            log.exception("run.not_stored", response_id=response.id)
            self._store_late(events, store)
        finally:
            self._release(owner)
            if self._ended is not None and response.store:
                self._ended(owner, response.id, recorder.produced)

    def _store_late(self, events: EventLog, store: ResponseStore) -> None:
        """Store the ending that the reader was told as soon as the store takes it, or at the next start."""

        async def keep_trying() -> None:
            ending = (await events.last()).fields["response"]
            while True:
                await asyncio.sleep(STORE_AGAIN_SECONDS)
                with suppress(StoreUnavailable):
                    return await store.finish(ending, dict(enumerate(ending.output)))

        if self._tasks is not None:
            task = self._tasks.create_task(keep_trying())
            self._late.add(task)
            task.add_done_callback(self._late.discard)

    def _release(self, owner: str) -> None:
        self._running[owner] -= 1
        if not self._running[owner]:
            del self._running[owner]
