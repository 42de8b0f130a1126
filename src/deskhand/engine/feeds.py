"""The events of resumable responses, for every reader: those that are stored, then those that come."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from ..core.errors import StoreUnavailable
from ..ports.runs import RunStore, Stretch
from ..ports.wakeups import Wakeups
from ..wire.events import Event

BATCH = 512
"""Most events that are read at once."""

LOOK_SECONDS = 1.0
"""How long a reader waits for news before it looks for itself: the run may be in another process."""

MOST_WAITING = 256
"""Events kept for a reader that is slow, each as long as a command has made it; it reads the rest from the store."""


class _Inbox:
    """What came for one reader since it last looked."""

    def __init__(self, taps: AsyncIterator[None]) -> None:
        self._events: list[Event] = []
        self._taps = taps

    def put(self, events: Sequence[Event]) -> None:
        if len(self._events) + len(events) > MOST_WAITING:
            # The reader sees a gap, and fills it from the store.
            self._events = []
        self._events += events

    async def take(self) -> Sequence[Event]:
        """What came; nothing if only time has passed, or the news is in the store."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await anext(self._taps)
        taken, self._events = self._events, []
        return taken


class Feeds:
    """Brings stored events to their readers. `publish` whatever was stored; it does not matter if some is left out."""

    def __init__(self, runs: RunStore, wakeups: Wakeups) -> None:
        self._runs = runs
        self._wakeups = wakeups
        self._inboxes: defaultdict[str, set[_Inbox]] = defaultdict(set)

    def publish(self, response_id: str, events: Sequence[Event]) -> None:
        """Give readers in this process events that are stored, and wake those in others."""
        for inbox in self._inboxes.get(response_id, ()):
            inbox.put(events)
        self._wakeups.wake(response_id)

    async def tail(self, response_id: str, *, after: int = -1) -> AsyncIterator[Sequence[Event]]:
        """Batches of events with numbers above `after`; ends after the terminal event, or if the response is deleted.

        A reader that waits also lives through a database that is away for a while.
        """
        async with self._inbox(response_id) as inbox:
            came: Sequence[Event] = ()
            while True:
                found = _next(came, after) or await self._stored(response_id, after)
                if _is_empty(found) and await self._is_over(response_id):
                    # What was stored between the two looks is the last.
                    found = await self._stored(response_id, after)
                    if _is_empty(found):
                        return
                if found is not None and found.events:
                    yield found.events
                    after = found.events[-1].sequence_number
                    if found.events[-1].terminal:
                        return
                came = () if found is not None and found.more else await inbox.take()

    async def _stored(self, response_id: str, after: int) -> Stretch | None:
        """What is stored after a number; None if nobody can say now."""
        with suppress(StoreUnavailable):
            return await self._runs.events(response_id, after=after, limit=BATCH)
        return None

    async def _is_over(self, response_id: str) -> bool:
        with suppress(StoreUnavailable):
            return await self._runs.is_over(response_id)
        return False

    @asynccontextmanager
    async def _inbox(self, response_id: str) -> AsyncIterator[_Inbox]:
        async with self._wakeups.listening(response_id) as taps:
            inbox = _Inbox(taps)
            self._inboxes[response_id].add(inbox)
            try:
                yield inbox
            finally:
                self._inboxes[response_id].discard(inbox)
                if not self._inboxes[response_id]:
                    del self._inboxes[response_id]


def _next(came: Sequence[Event], after: int) -> Stretch | None:
    """The events that came, if they are the next ones."""
    found = [event for event in came if event.sequence_number > after]
    return Stretch(found) if found and found[0].sequence_number == after + 1 else None


def _is_empty(found: Stretch | None) -> bool:
    """Whether there is nothing, as far as is known."""
    return found is not None and not found.events


class FeedLog:
    """The `EventLog` of a resumable run: what is appended is stored already."""

    def __init__(self, feeds: Feeds, response_id: str) -> None:
        self._feeds = feeds
        self._response_id = response_id
        self._ending: asyncio.Future[Event] = asyncio.get_running_loop().create_future()

    async def append(self, events: Sequence[Event]) -> None:
        """Tell readers."""
        self._feeds.publish(self._response_id, events)
        if events and events[-1].terminal and not self._ending.done():
            self._ending.set_result(events[-1])

    def tail(self, *, after: int = -1) -> AsyncIterator[Sequence[Event]]:
        """The events from the store, then those that come."""
        return self._feeds.tail(self._response_id, after=after)

    @property
    def ended(self) -> bool:
        """Whether this run has ended."""
        return self._ending.done()

    async def last(self) -> Event:
        """The terminal event of this run."""
        return await asyncio.shield(self._ending)
