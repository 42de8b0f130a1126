"""Computers that were started before anybody asked for them: each is given out once, and never taken back."""

import asyncio
from collections import deque
from collections.abc import Sequence

from deskhand.ports.sandbox import Limits

MAX_KINDS = 8
"""For which spares are kept: as many as there are memory tiers, on two engines."""

Kind = tuple[Limits, str]
"""What decides whether a spare fits: its limits and its engine."""


class Spares:
    """The ids of ready containers by their kind. Grows lazily: only for kinds that somebody has asked for."""

    def __init__(self) -> None:
        self._ready: dict[Kind, deque[str]] = {}
        self._taken = asyncio.Event()

    def take(self, kind: Kind) -> str | None:
        """A ready container, now the caller's; None if there is none yet. Either way one more will be wanted."""
        if kind not in self._ready and len(self._ready) < MAX_KINDS:
            self._ready[kind] = deque()
        self._taken.set()
        ready = self._ready.get(kind)
        return ready.popleft() if ready else None

    def add(self, kind: Kind, container_id: str) -> None:
        """Put a container on hold that was just started."""
        self._ready[kind].append(container_id)

    async def wanted(self, count: int) -> Kind:
        """Wait until there are fewer than `count` of some kind; return it."""
        while True:
            for kind, ready in self._ready.items():
                if len(ready) < count:
                    return kind
            self._taken.clear()
            await self._taken.wait()

    def clear(self) -> Sequence[str]:
        """Forget all; the ids of those that are left."""
        left = [container_id for ready in self._ready.values() for container_id in ready]
        self._ready.clear()
        return left
