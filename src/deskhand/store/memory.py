"""What lives as long as the process: the event log of a running response, and the store that keeps nothing."""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Sequence

from ..ports.runs import UNPLANNED, Claim, Plan, Written
from ..wire.events import Event
from ..wire.items import Item
from ..wire.response import Response

BATCH = 256
"""Most events given to a reader at once: one that is far behind must not have all it lacks in memory a second time."""


class MemoryLog:
    """An `EventLog` in memory, for one event loop.

    A reader that is behind gets what it lacks in large batches. Appending is cheap: however much is appended in one
    turn of the loop, each reader wakes once, and those who wait for the end wake at the end only.
    """

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._grown = asyncio.Event()
        self._ended = asyncio.Event()

    async def append(self, events: Sequence[Event]) -> None:
        """Add events in order."""
        if not events:
            return
        self._events.extend(events)
        # Set and cleared at once: it wakes who waits now, and holds up who waits next.
        self._grown.set()
        self._grown.clear()
        if events[-1].terminal:
            self._ended.set()

    async def tail(self, *, after: int = -1) -> AsyncIterator[Sequence[Event]]:
        """Batches of the events numbered above `after`, up to the terminal one; nothing if that was the last seen."""
        seen = after
        while True:
            start = bisect_right(self._events, seen, key=lambda event: event.sequence_number)
            if batch := self._events[start : start + BATCH]:
                seen = batch[-1].sequence_number
                yield batch
                if len(batch) == BATCH:
                    # A reader far behind may never have to wait: everybody else still gets a turn.
                    await asyncio.sleep(0)
            elif self._ended.is_set():
                return
            else:
                await self._grown.wait()

    @property
    def ended(self) -> bool:
        """Whether there is a terminal event."""
        return self._ended.is_set()

    async def last(self) -> Event:
        """The terminal event, once there is one."""
        await self._ended.wait()
        return self._events[-1]


class EndingLog:
    """An `EventLog` for a run that nobody follows: it keeps the terminal event and forgets all others.

    Whoever asks for a plain answer only waits for the end, and a long run says a lot.
    """

    def __init__(self) -> None:
        self._ending: Event | None = None
        self._ended = asyncio.Event()

    async def append(self, events: Sequence[Event]) -> None:
        """Keep the last of `events` if it is the terminal one."""
        if events and events[-1].terminal:
            self._ending = events[-1]
            self._ended.set()

    async def tail(self, *, after: int = -1) -> AsyncIterator[Sequence[Event]]:
        """The terminal event, once there is one."""
        ending = await self.last()
        if ending.sequence_number > after:
            yield [ending]

    @property
    def ended(self) -> bool:
        """Whether there is a terminal event."""
        return self._ended.is_set()

    async def last(self) -> Event:
        """The terminal event, once there is one."""
        await self._ended.wait()
        assert self._ending is not None
        return self._ending


class Discard:
    """A `ResponseStore` that keeps nothing: what `store: false` means."""

    async def create(self, owner: str, response: Response, given: Sequence[Item], plan: Plan = UNPLANNED) -> None:
        """Keep nothing."""

    async def save(self, claim: Claim, written: Written) -> None:
        """Keep nothing."""

    async def finish(self, claim: Claim, response: Response, written: Written) -> None:
        """Keep nothing."""

    async def get(self, owner: str, response_id: str) -> Response | None:
        """None."""
        return None

    async def delete(self, owner: str, response_id: str) -> bool:
        """False: there was none."""
        return False

    async def given(self, owner: str, response_id: str) -> Sequence[Item] | None:
        """None."""
        return None

    async def context(self, owner: str, response_id: str) -> Sequence[Item]:
        """No items."""
        return []

    async def item(self, owner: str, item_id: str) -> Item | None:
        """None."""
        return None
