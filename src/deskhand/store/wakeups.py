"""Wake-ups within one process."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class LocalWakeups:
    """The `Wakeups` of a server that is alone."""

    def __init__(self) -> None:
        self._listening: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def wake(self, name: str) -> None:
        """Wake who listens for `name`."""
        for tap in self._listening.get(name, ()):
            tap.set()

    @asynccontextmanager
    async def listening(self, name: str) -> AsyncIterator[AsyncIterator[None]]:
        """Listen for `name`."""
        tap = asyncio.Event()
        self._listening[name].add(tap)
        try:
            yield Taps(tap)
        finally:
            self._listening[name].discard(tap)
            if not self._listening[name]:
                del self._listening[name]


class Taps(AsyncIterator[None]):
    """The taps on a shoulder. Those that come while nobody waits count as one."""

    def __init__(self, tap: asyncio.Event) -> None:
        self._tap = tap

    async def __anext__(self) -> None:
        await self._tap.wait()
        self._tap.clear()
