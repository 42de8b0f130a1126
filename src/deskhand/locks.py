"""Locks of many things, by name."""

import asyncio
from weakref import WeakValueDictionary


class Locks:
    """One lock for each name that somebody is busy with; it is forgotten with the last of them."""

    def __init__(self) -> None:
        self._held: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, name: str) -> asyncio.Lock:
        """The lock of this name, the same for all who want it meanwhile."""
        return self._held.setdefault(name, asyncio.Lock())
