"""The event log of a response: a run appends, every HTTP mode only reads."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from ..wire.events import Event


class EventLog(Protocol):
    """Append-only events of one response."""

    async def append(self, events: Sequence[Event]) -> None:
        """Add events in order. The caller numbers and appends under one lock."""
        ...

    def tail(self, *, after: int = -1) -> AsyncIterator[Sequence[Event]]:
        """Batches of past events after number `after`, then live ones; ends after the terminal event."""
        ...

    @property
    def ended(self) -> bool:
        """Whether there is a terminal event."""
        ...

    async def last(self) -> Event:
        """The terminal event, once there is one."""
        ...
