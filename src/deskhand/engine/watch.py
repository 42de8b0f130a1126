"""The watch of a process: says that it lives, notices who does not, and takes up what nobody runs."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import structlog

from ..core.errors import DeskhandError, StoreUnavailable
from ..ports.runs import Claim, Orphan, RunStore, Seat
from ..ports.wakeups import Wakeups
from .background_runs import WORK, BackgroundRuns
from .supervisor import Supervisor

log = structlog.get_logger()

BEAT_SECONDS = 1.0
"""How often a process says that it lives, and looks for work."""

DEAD_SECONDS = 6.0
"""Silence after which a process counts as dead. It may only be slow: what it writes then is refused."""

MOST_AT_ONCE = 200
"""Orphans that are taken up before the next beat."""


@dataclass(slots=True)
class _Seen:
    """A process's counter, and when it was new by this process's clock."""

    beats: int
    since: float


class Watch:
    """Use as `async with watch.keeping()`, within the supervisor's. `given_up` is called when others had taken this
    process for dead, and may have taken over what it had.
    """

    def __init__(
        self,
        seat: Seat,
        runs: RunStore,
        background: BackgroundRuns,
        supervisor: Supervisor,
        wakeups: Wakeups,
        given_up: Callable[[], Awaitable[None]],
    ) -> None:
        self._seat = seat
        self._given_up = given_up
        self._runs = runs
        self._background = background
        self._supervisor = supervisor
        self._wakeups = wakeups
        self._seen: dict[str, _Seen] = {}
        self._looked = 0.0
        self._astray: set[Claim] = set()
        self._unreadable: set[str] = set()

    @asynccontextmanager
    async def keeping(self) -> AsyncIterator[None]:
        """Take up what an earlier process of this host left, then watch until the block ends."""
        await self._runs.add_process(self._seat)
        await self._take_orphans()
        async with asyncio.TaskGroup() as group, self._wakeups.listening(WORK) as taps:
            task = group.create_task(self._watch_forever(taps))
            try:
                yield
            finally:
                task.cancel()
        with suppress(StoreUnavailable):
            await self._runs.remove_process(self._seat.process)
            self._wakeups.wake(WORK)

    async def _watch_forever(self, taps: AsyncIterator[None]) -> None:
        while True:
            try:
                await self._look()
            except DeskhandError as exc:
                log.info("watch.later", error=str(exc))
            except Exception:
                # Whatever it is: without its watch a process would be taken for dead while it works.
                log.exception("watch.failed")
            with suppress(TimeoutError):
                async with asyncio.timeout(BEAT_SECONDS):
                    await anext(taps)

    async def _look(self) -> None:
        if not await self._runs.beat(self._seat):
            log.warning("process.given_up", process=self._seat.process)
            await self._given_up()
        await self._notice_dead()
        await self._settle_claims()
        await self._take_orphans()

    async def _notice_dead(self) -> None:
        beats = await self._runs.beats()
        now = time.monotonic()
        if now - self._looked > DEAD_SECONDS / 2:
            # Nobody can have been seen meanwhile: this process was paused, or the database was away for all.
            self._seen.clear()
        self._looked = now
        self._seen = {
            process: seen if (seen := self._seen.get(process)) and seen.beats == count else _Seen(count, now)
            for process, count in beats.items()
            if process != self._seat.process
        }
        for process, seen in self._seen.items():
            if now - seen.since > DEAD_SECONDS:
                log.warning("process.dead", process=process)
                await self._runs.remove_process(process)

    async def _settle_claims(self) -> None:
        """Cancel what clients want cancelled, leave what is not ours any more, take up what was left to us."""
        running, ours = {it.claim: it for it in self._supervisor.handles.values()}, set(self._supervisor.claims)
        found = await self._runs.held(self._seat.process)
        held = {Claim(response_id, entry.epoch): entry for response_id, entry in found.items()}
        for claim in held.keys() & running.keys():
            if held[claim].cancelling and running[claim].response.background:
                running[claim].cancel()
        # Twice in a row: what has just begun or ended may look the same once.
        astray = held.keys() ^ ours
        for claim in astray & self._astray:
            if claim in running:
                # Who waits for one that is not in the background is told that it is over.
                running[claim].cancel("left" if running[claim].response.background else "cancelled")
            elif claim in held:
                await self._take(Orphan(held[claim].owner, claim.response_id, claim.epoch, waits=False))
        self._astray = astray

    async def _take_orphans(self) -> None:
        for orphan in await self._runs.orphans(MOST_AT_ONCE):
            if self._supervisor.draining:
                return
            if self._background.room > 0 or not orphan.waits:
                await self._take(orphan)

    async def _take(self, orphan: Orphan) -> None:
        if orphan.response_id in self._unreadable:
            return
        try:
            await self._background.take(orphan)
        except DeskhandError:
            raise
        except Exception:
            # A row that cannot be read must stop neither this server nor the runs behind it.
            log.exception("run.unreadable", response_id=orphan.response_id)
            self._unreadable.add(orphan.response_id)
