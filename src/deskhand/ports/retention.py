"""What goes with time, and what must not stay when it is gone."""

from typing import Protocol


class RetentionStore(Protocol):
    """Old responses and traces, and what deleting them leaves behind."""

    async def expire_responses(self, before: int, most: int) -> int:
        """Delete at most `most` ended responses from before a time (unix seconds), as their owners would.

        Their items, events and links to snapshots go with them. What a younger response continues from is hidden, and
        goes with that one. Returns how many went or were hidden; fewer than `most` means that none is left.
        """
        ...

    async def expire_traces(self, before: int, most: int) -> int:
        """Delete at most `most` traces from before a time (unix seconds), their spans with them; how many went."""
        ...

    async def scrub(self) -> None:
        """Leave no trace of what was deleted, as far as the database lets it."""
        ...
