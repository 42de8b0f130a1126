"""Traces of the Agents SDK: what it sends to `/v1/traces/ingest`, and what we show of it. The reading side is ours."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

MOST_ENTRIES: Final = 2_000
"""Traces and spans of one request. The SDK sends 128."""
LONGEST_ID: Final = 256

TraceId = Annotated[str, Meta(min_length=1, max_length=LONGEST_ID)]


class IngestedEntry(Struct, frozen=True, kw_only=True):
    """What every entry must have. The rest is the client's; `object` is "trace" or "trace.span"."""

    object: str
    id: TraceId


class IngestedTrace(Struct, frozen=True, kw_only=True):
    """A trace, as much of it as is looked at."""

    id: TraceId
    group_id: Annotated[str, Meta(max_length=LONGEST_ID)] | None = None


class IngestedSpan(Struct, frozen=True, kw_only=True):
    """A span, as much of it as is looked at. A span of a response says so in `span_data`."""

    id: TraceId
    trace_id: TraceId
    span_data: dict[str, Any] | None = None


class IngestTraces(Struct, frozen=True, kw_only=True):
    """The body of `POST /v1/traces/ingest`."""

    data: Annotated[list[dict[str, Any]], Meta(max_length=MOST_ENTRIES)]


class IngestResult(Struct, frozen=True, kw_only=True):
    """What became of the entries. `ignored` were of no known kind, or one too many for their trace."""

    traces: int
    spans: int
    ignored: int
    object: Literal["trace.ingest"] = "trace.ingest"


class Trace(Struct, frozen=True, kw_only=True):
    """One piece of work of a client. `created_at` (unix seconds) is when the server first heard of it."""

    id: str
    created_at: int
    workflow_name: str | None = None
    group_id: str | None = None
    metadata: Mapping[str, Any] | None = None
    object: Literal["trace"] = "trace"


class TraceSpan(Struct, frozen=True, kw_only=True):
    """One step of a trace, in the client's words. `response_id` is the response that it was, if it was one."""

    id: str
    trace_id: str
    response_id: str | None = None
    parent_id: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    span_data: Mapping[str, Any] | None = None
    error: Any = None
    object: Literal["trace.span"] = "trace.span"
