"""The supervisor owns every run: it starts them, bounds them per project, cancels them, and waits for their endings."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import structlog

from ..core.errors import ApiError, StoreUnavailable
from ..core.writer import ResponseWriter
from ..ports.log import EventLog
from ..ports.runs import Claim, ClaimLost, Plan, Written
from ..ports.store import ResponseStore
from ..wire.items import Item
from ..wire.response import Response, ResponseError
from .admission import Admitted
from .ledger import ShowFirst
from .recorder import Recorder
from .run import Run, Stop, run_response

log = structlog.get_logger()

STORE_AGAIN_SECONDS = 2.0
"""Pause before an ending that could not be stored is stored again."""


@dataclass(slots=True, eq=False)
class Handle:
    """A run: its log to read, and a way to stop it. It has its task once it is started."""

    owner: str
    response: Response
    log: EventLog
    claim: Claim
    stop: Stop = "cancelled"
    task: "asyncio.Task[None]" = field(init=False)

    @property
    def stored(self) -> bool:
        """Whether the response is in the store while it runs."""
        return self.response.store or self.response.conversation is not None

    def cancel(self, stop: Stop = "cancelled") -> None:
        """Stop the run; it records its own ending, if it shall have one. Idempotent.

        A run that has told its ending is left alone: it may still have to cope with a store that did not take it.
        """
        if not self.log.ended and not self.task.done() and not self.task.cancelling():
            self.stop = stop
            self.task.cancel()


class Supervisor:
    """Runs, by project. Use as `async with supervisor.serving()`; leaving it ends what still runs.

    `ended` is called with the owner, the id and the output of each stored response that has ended; it returns at once.
    `process` is the name under which this process claims responses.
    """

    def __init__(
        self,
        process: str,
        stored: ResponseStore,
        unstored: ResponseStore,
        max_runs: int,
        ended: Callable[[str, str, Sequence[Item]], None] | None = None,
    ) -> None:
        self._process = process
        self._ended = ended
        self._stored = stored
        self._unstored = unstored
        self._max_runs = max_runs
        self._running: Counter[str] = Counter()
        self._tasks: asyncio.TaskGroup | None = None
        self._handles: dict[str, Handle] = {}
        self._late: dict[asyncio.Task[None], Claim] = {}
        self._draining = False

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Supervisor"]:
        """Take runs until the block ends."""
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
        """Take no more runs, give those under way `grace_s` seconds to end, then end them as failed. Idempotent.

        Those in the background are not ended but left for whoever serves next.
        """
        self._draining = True
        if tasks := [handle.task for handle in self._handles.values()]:
            await asyncio.wait(tasks, timeout=grace_s)
        self.end_runs()

    def end_runs(self) -> None:
        """Take no more runs and end those under way, now. Idempotent."""
        self._draining = True
        for handle in list(self._handles.values()):
            handle.cancel("left" if handle.response.background else "shutdown")

    @property
    def running(self) -> int:
        """How many runs are under way."""
        return len(self._handles)

    @property
    def draining(self) -> bool:
        """Whether no more runs are taken."""
        return self._tasks is None or self._draining

    @property
    def handles(self) -> Mapping[str, Handle]:
        """The runs under way, by the ids of their responses."""
        return self._handles

    @property
    def claims(self) -> Collection[Claim]:
        """Which stored responses this process has: those that run, and those whose endings it could not store yet."""
        return {handle.claim for handle in self._handles.values() if handle.stored} | set(self._late.values())

    def check_open(self) -> None:
        """Raise `ApiError` (503) if no more runs are taken."""
        if self.draining:
            raise ApiError("The server is shutting down.", status=503, kind="server_error", retry_after=5)

    def check_ceiling(self, owner: str) -> None:
        """Raise `ApiError` (429) if the project may not start another run now."""
        self.check_open()
        if self._running[owner] >= self._max_runs:
            raise ApiError(
                f"This project already has {self._max_runs} runs under way, the most that it may have.",
                status=429,
                code="rate_limit_exceeded",
                kind="requests",
                retry_after=2,
            )

    @contextmanager
    def counting(self, owner: str) -> Iterator[None]:
        """Count the block as one of the project's runs, though it has no response. Raises `ApiError` (429, 503)."""
        self.check_ceiling(owner)
        self._running[owner] += 1
        try:
            yield
        finally:
            self._release(owner)

    async def start(self, owner: str, admitted: Admitted, events: EventLog) -> Handle:
        """Store the response and start its run, which appends to `events`, while somebody waits for it.

        One that is not to be stored, but goes on with a conversation, is kept as long as it holds that.
        Raises `ApiError` (429) at the project's ceiling.
        """
        self.check_ceiling(owner)
        handle = Handle(owner, admitted.run.response, events, Claim(admitted.run.response.id))
        store = self._stored if handle.stored else self._unstored
        self._running[owner] += 1
        try:
            plan = Plan(self._process, revision=admitted.revision)
            await store.create(owner, handle.response, admitted.given, plan)
            self.spawn(handle, self._foreground(handle, admitted.run, store))
        except BaseException:
            self._release(owner)
            raise
        handle.task.add_done_callback(lambda _: self._release(owner))
        return handle

    def spawn(self, handle: Handle, work: Coroutine[Any, Any, None]) -> None:
        """Start `work`, which runs a claimed response to its end."""
        assert self._tasks is not None
        handle.task = self._tasks.create_task(work)
        self._handles[handle.response.id] = handle
        handle.task.add_done_callback(lambda _: self._handles.pop(handle.response.id, None))

    async def conduct(self, handle: Handle, run: Run, recorder: Recorder) -> None:
        """Run a response to its end, and say so to whoever wants to know of the endings of stored ones."""
        try:
            await run_response(run, recorder, lambda: handle.stop)
        finally:
            if self._ended is not None and run.response.store and handle.stop != "left":
                self._ended(handle.owner, run.response.id, recorder.produced)

    async def _foreground(self, handle: Handle, run: Run, store: ResponseStore) -> None:
        recorder = Recorder(ResponseWriter(run.response), ShowFirst(handle.log, store, handle.claim))
        try:
            await self.conduct(handle, run, recorder)
        except ClaimLost as exc:
            log.warning("run.claim_lost", response_id=run.response.id)
            with suppress(ClaimLost):
                # Whoever has the claim stores the ending, and a reader is here.
                await recorder.finish("failed", usage=None, error=ResponseError("server_error", str(exc)))
        except Exception:
            # The store failed; the reader has been told. One run must not end its neighbours.
            log.exception("run.not_stored", response_id=run.response.id)
            self._store_late(handle, store)

    def _store_late(self, handle: Handle, store: ResponseStore) -> None:
        """Store the ending that the reader was told as soon as the store takes it, or at the next start."""

        async def keep_trying() -> None:
            ending = (await handle.log.last()).fields["response"]
            written = Written(dict(enumerate(ending.output)))
            while True:
                await asyncio.sleep(STORE_AGAIN_SECONDS)
                with suppress(StoreUnavailable):
                    return await store.finish(handle.claim, ending, written)

        if self._tasks is not None:
            task = self._tasks.create_task(keep_trying())
            self._late[task] = handle.claim
            task.add_done_callback(lambda done: self._late.pop(done, None))

    def _release(self, owner: str) -> None:
        self._running[owner] -= 1
        if not self._running[owner]:
            del self._running[owner]
