"""A tap on the shoulder between tasks and processes. Whoever relies on one also looks by itself now and then."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol


class Wakeups(Protocol):
    """Wakes who listens for a name. Taps may be joined or lost; nothing but time depends on them."""

    def wake(self, name: str) -> None:
        """Wake everyone who listens for `name`, in every process. Returns at once."""
        ...

    def listening(self, name: str) -> AbstractAsyncContextManager[AsyncIterator[None]]:
        """Listen for `name` while the block runs; yields after each tap."""
        ...
