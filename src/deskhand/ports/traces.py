"""What clients record of their own work, beside the responses that it was made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .store import Listing, Page


@dataclass(frozen=True, slots=True)
class TraceRecord:
    """One piece of work. `created_at` (unix seconds) is when it was first heard of; `body` is what the client says."""

    id: str
    created_at: int
    body: Mapping[str, Any]
    group_id: str | None = None


@dataclass(frozen=True, slots=True)
class SpanRecord:
    """One step of a trace. `created_at` is in unix seconds; `response_id` is the response that the step was."""

    id: str
    trace_id: str
    created_at: int
    body: Mapping[str, Any]
    response_id: str | None = None


@dataclass(frozen=True, slots=True)
class TraceFilter:
    """Which traces a list is about: of a group, and with a span of a response; None for any."""

    group_id: str | None = None
    response_id: str | None = None


class TraceStore(Protocol):
    """Traces and their spans. Another owner's do not exist for you, and may have the same ids."""

    async def put(self, owner: str, traces: Sequence[TraceRecord], spans: Sequence[SpanRecord], most: int) -> int:
        """Keep what is new, and take what is known for told anew. Durable on return.

        A span may come before its trace. No trace gets more than `most` spans; returns how many were left out for that.
        """
        ...

    async def get(self, owner: str, trace_id: str) -> TraceRecord | None:
        """The trace, or None."""
        ...

    async def list(self, owner: str, page: Page, wanted: TraceFilter) -> Listing[TraceRecord]:
        """A page. Raises `ApiError` (404) if `page.after` is not the owner's."""
        ...

    async def spans(self, owner: str, trace_id: str, page: Page) -> Listing[SpanRecord]:
        """A page of a trace's spans. Raises `ApiError` (404) if `page.after` is not one of them."""
        ...

    async def delete(self, owner: str, trace_id: str) -> bool:
        """Forget a trace and its spans; False if there is none."""
        ...
