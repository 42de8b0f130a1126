"""Responses that run without a connection: begun, taken up again after a crash, and cancelled from anywhere."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

import msgspec
import structlog

from ..core.errors import ApiError, StoreUnavailable, not_found
from ..core.writer import ResponseWriter
from ..ports.log import EventLog
from ..ports.runs import Claim, ClaimLost, Interrupted, Orphan, Plan, RunStore
from ..ports.store import ResponseStore
from ..ports.wakeups import Wakeups
from ..wire.response import Response, ResponseError
from .admission import Admission, Admitted
from .feeds import FeedLog, Feeds
from .hosts import Elsewhere
from .interrupted import closings
from .ledger import ShowFirst, StoreFirst, Unsettled
from .patient import PatientResponses
from .recorder import Recorder
from .run import STOPPED, used
from .supervisor import Handle, Supervisor

log = structlog.get_logger()

WORK = "work"
"""What is woken when there may be something for the watch to do."""

CANCEL_SECONDS = 15.0
"""How long a client waits for a response to be cancelled before it is told how the response is."""

LOOK_SECONDS = 0.05
"""How often it is looked whether a cancelled run has ended."""


@dataclass(frozen=True, slots=True)
class BackgroundRuns:
    """Runs of responses with `background`. `most` are under way in this process at once; more wait in the store, for
    which each project has so many `places`. `starting` are the ids of those that are being stored.

    `process` is the name under which this process claims responses; `quiet_log` makes the log of a run that nobody
    follows.
    """

    process: str
    supervisor: Supervisor
    admission: Admission
    responses: ResponseStore
    runs: RunStore
    feeds: Feeds
    wakeups: Wakeups
    quiet_log: Callable[[], EventLog]
    most: int
    places: int
    starting: set[str] = field(default_factory=set)

    @property
    def room(self) -> int:
        """How many more may be under way."""
        under_way = sum(handle.response.background for handle in self.supervisor.handles.values())
        return self.most - under_way - len(self.starting)

    async def start(self, owner: str, admitted: Admitted, *, streamed: bool) -> Response:
        """Store a new response, and start it if there is room and nobody waits for that; the response as it waits.

        Raises `QueueFull`.
        """
        self.supervisor.check_open()
        response = admitted.run.response
        handle = Handle(owner, response, self._log(response.id, streamed), Claim(response.id))

        async def begin(recorder: Recorder) -> None:
            await self.runs.begin(handle.claim)
            await self.supervisor.conduct(handle, admitted.run, recorder)

        self.starting.add(response.id)
        try:
            at_once = self.room >= 0 and not await self.runs.any_waits()
            plan = Plan("", admitted.request, streamed, admitted.revision, self.places)
            if at_once:
                plan = replace(plan, process=self.process, places=None)
            await self.responses.create(owner, response, admitted.given, plan)
            if at_once:
                self.supervisor.spawn(handle, self._recording(handle, ResponseWriter(response), begin, streamed))
            else:
                self.wakeups.wake(WORK)
        finally:
            self.starting.discard(response.id)
        return response

    async def take(self, orphan: Orphan) -> None:
        """Take up a response that nobody runs, unless somebody is faster: go on with it, or end it."""
        claim = await self.runs.take(orphan, self.process)
        interrupted = None if claim is None else await self.runs.interrupted(claim)
        if claim is None or interrupted is None:
            return
        if interrupted.response.output or interrupted.request is None:
            log.warning("response.interrupted", response_id=orphan.response_id)
        events = self._log(orphan.response_id, interrupted.streamed)
        handle = Handle(orphan.owner, interrupted.response, events, claim)
        response, drafts = interrupted.response, closings(interrupted)
        if not interrupted.next_sequence:
            response = msgspec.structs.replace(response, status="queued")
        writer = ResponseWriter(response, next_sequence=interrupted.next_sequence, still_open=drafts.keys())

        async def go_on(recorder: Recorder) -> None:
            await recorder.start()
            for closing in drafts.values():
                await recorder.record(closing)
            await self._go_on(handle, interrupted, recorder)

        self.supervisor.spawn(handle, self._recording(handle, writer, go_on, interrupted.streamed))

    async def cancel(self, owner: str, response_id: str) -> Response:
        """Cancel a response, whichever process runs it; the response once it has ended, or as it is after a while.

        Raises `ApiError` (404; 400 for one that does not run in the background).
        """
        response = await self._get(owner, response_id)
        if not response.background:
            raise ApiError("Cannot cancel a synchronous response.")
        await self.runs.cancel(owner, response_id)
        handle = self.supervisor.handles.get(response_id)
        if handle is not None:
            handle.cancel()
        else:
            self.wakeups.wake(WORK)
        with suppress(TimeoutError):
            async with asyncio.timeout(CANCEL_SECONDS):
                over = await self.runs.is_over(response_id)
                while not over:
                    await asyncio.sleep(LOOK_SECONDS)
                    over = await self.runs.is_over(response_id)
        return await self._get(owner, response_id)

    async def _get(self, owner: str, response_id: str) -> Response:
        response = await self.responses.get(owner, response_id)
        if response is None:
            raise not_found("Response", response_id)
        return response

    async def _go_on(self, handle: Handle, interrupted: Interrupted, recorder: Recorder) -> None:
        usage = used(interrupted.calls) if interrupted.calls else None
        if interrupted.cancelling:
            return await recorder.finish("cancelled", usage=usage)
        reason = STOPPED
        if interrupted.request is not None:
            try:
                run = await self.admission.readmit(handle.owner, interrupted.request, interrupted)
                return await self.supervisor.conduct(handle, run, recorder)
            except Elsewhere as exc:
                await self.runs.assign(handle.claim, exc.host)
                return self.wakeups.wake(WORK)
            except ApiError as exc:
                reason = f"{STOPPED} It cannot be taken up again: {exc.message}"
        await recorder.finish("failed", usage=usage, error=ResponseError("server_error", reason))

    async def _recording(
        self, handle: Handle, writer: ResponseWriter, work: Callable[[Recorder], Awaitable[None]], streamed: bool
    ) -> None:
        """Do `work` with the recorder of a run. What cannot be ended here is left to whoever takes it up next."""
        store = PatientResponses(self.responses)
        try:
            if streamed:
                ledger = StoreFirst(handle.log, store, handle.claim, lambda: handle.cancel("left"))
                async with ledger.storing():
                    await work(Recorder(writer, ledger))
            else:
                await work(Recorder(writer, ShowFirst(handle.log, store, handle.claim)))
        except ClaimLost:
            log.warning("run.claim_lost", response_id=handle.response.id)
        except Unsettled:
            await self._give_back(handle.claim)
        except Exception:
            # One run must not end its neighbours.
            log.exception("run.left", response_id=handle.response.id)
            await self._give_back(handle.claim)
        except asyncio.CancelledError:
            if handle.stop == "left":
                await self._give_back(handle.claim)
            raise
        finally:
            if self.room <= 0:
                self.wakeups.wake(WORK)

    async def _give_back(self, claim: Claim) -> None:
        with suppress(StoreUnavailable):
            await self.runs.give_back(claim)
            self.wakeups.wake(WORK)

    def _log(self, response_id: str, streamed: bool) -> EventLog:
        return FeedLog(self.feeds, response_id) if streamed else self.quiet_log()
