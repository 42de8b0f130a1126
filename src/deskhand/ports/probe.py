"""Whether what must be kept can be kept now."""

from typing import Protocol


class StorageProbe(Protocol):
    """The database, tried."""

    async def probe(self, now: int) -> None:
        """Write something and have it on disk. Raises `StoreUnavailable`."""
        ...
