"""Traces of clients: read from what they send, kept as long as responses, and shown."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ..core.errors import not_found
from ..core.validation import api_error
from ..ports.store import Listing, Page
from ..ports.traces import SpanRecord, TraceFilter, TraceRecord, TraceStore
from ..wire.codec import convert, encode
from ..wire.traces import IngestedEntry, IngestedSpan, IngestedTrace, IngestResult

MOST_SPANS: Final = 5_000
"""Of one trace. More are left out."""
MOST_BYTES: Final = 1 << 18
"""Of one trace or span as JSON. What a larger span worked on is left out, as a screenshot may be."""

_KEPT_OF_LARGE: Final = ("type", "name", "response_id", "model", "usage")
_SHORT: Final = 4_096

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Batch:
    """What a request brings. `ignored` counts entries of kinds that are not known here."""

    traces: Sequence[TraceRecord]
    spans: Sequence[SpanRecord]
    ignored: int


@dataclass(frozen=True, slots=True)
class Traces:
    """Another owner's traces do not exist for you."""

    store: TraceStore
    now: Callable[[], float] = time.time

    async def ingest(self, owner: str, entries: Sequence[Json]) -> IngestResult:
        """Keep what a client tells. Raises `ApiError` for an entry without an id; then none is kept."""
        batch = read_batch(entries, int(self.now()))
        left_out = await self.store.put(owner, batch.traces, batch.spans, MOST_SPANS)
        spans = len(batch.spans) - left_out
        return IngestResult(traces=len(batch.traces), spans=spans, ignored=batch.ignored + left_out)

    async def get(self, owner: str, trace_id: str) -> TraceRecord:
        """One trace. Raises `ApiError` (404)."""
        record = await self.store.get(owner, trace_id)
        if record is None:
            raise not_found("Trace", trace_id)
        return record

    async def list(self, owner: str, page: Page, wanted: TraceFilter) -> Listing[TraceRecord]:
        """A page. Raises `ApiError` (404) for an unknown `page.after`."""
        return await self.store.list(owner, page, wanted)

    async def spans(self, owner: str, trace_id: str, page: Page) -> Listing[SpanRecord]:
        """A page of a trace's spans. Raises `ApiError` (404)."""
        await self.get(owner, trace_id)
        return await self.store.spans(owner, trace_id, page)

    async def delete(self, owner: str, trace_id: str) -> None:
        """Forget a trace and its spans. Raises `ApiError` (404)."""
        if not await self.store.delete(owner, trace_id):
            raise not_found("Trace", trace_id)


def read_batch(entries: Sequence[Json], now: int) -> Batch:
    """The traces and spans of a request; `now` is in unix seconds. Raises `ApiError`."""
    traces, spans, ignored = [], [], 0
    for index, entry in enumerate(entries):
        try:
            match convert(entry, IngestedEntry).object:
                case "trace":
                    traces.append(_trace(entry, now))
                case "trace.span":
                    spans.append(_span(entry, now))
                case _:
                    ignored += 1
        except msgspec.ValidationError as exc:
            raise api_error(exc, f"data[{index}]") from None
    return Batch(traces, spans, ignored)


def _trace(entry: Json, now: int) -> TraceRecord:
    read = convert(entry, IngestedTrace)
    body = entry if _fits(entry) else {**_short(entry), "metadata": None}
    return TraceRecord(read.id, now, body, read.group_id)


def _span(entry: Json, now: int) -> SpanRecord:
    read = convert(entry, IngestedSpan)
    data = read.span_data or {}
    response_id = data.get("response_id")
    body = entry
    if not _fits(entry):
        about = {name: data[name] for name in _KEPT_OF_LARGE if name in data and len(encode(data[name])) <= _SHORT}
        body = {**_short(entry), "span_data": {**about, "truncated": True}}
    return SpanRecord(read.id, read.trace_id, now, body, response_id if isinstance(response_id, str) else None)


def _fits(entry: Json) -> bool:
    return len(encode(entry)) <= MOST_BYTES


def _short(entry: Json) -> dict[str, Any]:
    """The short ones of an entry's own fields."""
    return {name: value for name, value in entry.items() if len(name) <= 64 and len(encode(value)) <= _SHORT}
