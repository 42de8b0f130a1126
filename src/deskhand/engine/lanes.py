"""The lanes of one connection: which of its requests runs next. Pure.

Requests of one lane run one after another, in the order in which they came; lanes run at the same time. A request that
may not run yet waits. Source of names and limits: API reference, "WebSocket mode".
"""

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..core.errors import ApiError

MAX_LANES = 32
"""Named lanes in a connection's life. The default lane is not counted."""

MAX_IN_FLIGHT = 16
"""Requests of one connection that run at the same time."""

MAX_WAITING = 64
"""Requests of one connection that wait for one that runs."""

_STREAM_ID = re.compile(r"[A-Za-z0-9_.-]{1,256}")


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A request of `lane` (None is the default one): its fields, which came as `size` characters of JSON."""

    lane: str | None
    fields: Mapping[str, Any]
    size: int


class Lanes:
    """Orders what a connection asks for. Of what waits, at most `max_waiting_size` characters are kept."""

    def __init__(self, max_waiting_size: int) -> None:
        self._max_waiting_size = max_waiting_size
        self._named: set[str] = set()
        self._busy: set[str | None] = set()
        self._waiting: deque[Asked] = deque()

    @property
    def idle(self) -> bool:
        """Whether nothing runs and nothing waits."""
        return not self._busy and not self._waiting

    def put(self, asked: Asked) -> None:
        """Take a request. Raises `ApiError` if its lane would be one too many, or if too much waits."""
        if asked.lane is not None and asked.lane not in self._named and len(self._named) >= MAX_LANES:
            raise ApiError(
                f"This WebSocket connection has reached its maximum number of distinct stream IDs ({MAX_LANES}). Use "
                "one of them again, or open another connection.",
                code="websocket_stream_limit_reached",
                param="stream_id",
            )
        if not self._may_run(asked.lane) and not self._has_room(asked.size):
            raise ApiError(
                f"Too much waits on this WebSocket connection: {MAX_WAITING} requests, or {self._max_waiting_size} "
                "characters of them, are the most. Send more when a response has ended.",
                status=429,
                code="rate_limit_exceeded",
                kind="requests",
            )
        if asked.lane is not None:
            self._named.add(asked.lane)
        self._waiting.append(asked)

    def take(self) -> Asked | None:
        """The oldest request that may run now, whose lane is then busy; None if there is none."""
        found = next((asked for asked in self._waiting if self._may_run(asked.lane)), None)
        if found is not None:
            self._waiting.remove(found)
            self._busy.add(found.lane)
        return found

    def release(self, lane: str | None) -> None:
        """The request that made `lane` busy has ended."""
        self._busy.remove(lane)

    def _may_run(self, lane: str | None) -> bool:
        return lane not in self._busy and len(self._busy) < MAX_IN_FLIGHT

    def _has_room(self, size: int) -> bool:
        waiting = sum(asked.size for asked in self._waiting)
        return len(self._waiting) < MAX_WAITING and waiting + size <= self._max_waiting_size


def read_lane(fields: Mapping[str, Any]) -> str | None:
    """The lane that a request names. Raises `ApiError`."""
    stream_id = fields.get("stream_id")
    if stream_id is None:
        return None
    if not isinstance(stream_id, str) or not _STREAM_ID.fullmatch(stream_id):
        raise ApiError(
            "The 'stream_id' field must be a string of 1 to 256 letters, digits, underscores, hyphens and periods.",
            code="invalid_stream_id",
            param="stream_id",
        )
    return stream_id
