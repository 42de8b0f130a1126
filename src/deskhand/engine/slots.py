"""How much of one kind each project may have under way at once."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from ..core.errors import ApiError

RETRY_SECONDS = 2


class Slots:
    """Counts what is under way, by project. `what` names it in words: "webhook tests"."""

    def __init__(self, most: int, what: str) -> None:
        self._most = most
        self._what = what
        self._taken: Counter[str] = Counter()

    @contextmanager
    def taken(self, owner: str) -> Iterator[None]:
        """One more is under way while the block runs. Raises `ApiError` (429) if there may be no more."""
        if self._taken[owner] >= self._most:
            raise ApiError(
                f"This project already has {self._most} {self._what} under way, the most that it may have.",
                status=429,
                code="rate_limit_exceeded",
                kind="requests",
                retry_after=RETRY_SECONDS,
            )
        self._taken[owner] += 1
        try:
            yield
        finally:
            self._taken[owner] -= 1
            if not self._taken[owner]:
                del self._taken[owner]
