"""What a connection remembers: the latest response of each lane, if nothing else knows it (`store: false`). Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..wire.codec import encode
from ..wire.items import Item
from .continuation import Recent


@dataclass(frozen=True, slots=True)
class _Latest:
    response_id: str
    items: Sequence[Item]
    size: int


class LaneCache:
    """At most `max_bytes` of JSON: what was kept longest ago goes first, and what alone is more is not kept."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._latest: dict[str | None, _Latest] = {}

    @property
    def recent(self) -> Recent:
        """The responses that can be continued from, by id."""
        return {latest.response_id: latest.items for latest in self._latest.values()}

    def keep(self, lane: str | None, response_id: str, items: Sequence[Item]) -> None:
        """Remember the latest response of a lane instead of the one before; `items` are its context and its output."""
        self.forget(lane)
        size = len(encode(items))
        if size > self._max_bytes:
            return
        self._latest[lane] = _Latest(response_id, items, size)
        while sum(latest.size for latest in self._latest.values()) > self._max_bytes:
            del self._latest[next(iter(self._latest))]

    def forget(self, lane: str | None) -> None:
        """The latest response of a lane is stored: it is found there."""
        self._latest.pop(lane, None)

    def evict(self, lane: str | None, response_id: str | None) -> None:
        """A request of a lane that continued from `response_id` has failed: what it left behind is not to be built on.

        Source: API reference, "WebSocket mode". The response of another lane stays.
        """
        latest = self._latest.get(lane)
        if latest is not None and latest.response_id == response_id:
            del self._latest[lane]
