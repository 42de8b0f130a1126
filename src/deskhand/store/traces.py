"""Traces in the database."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ..ports.store import Listing, Page
from ..ports.traces import SpanRecord, TraceFilter, TraceRecord
from ..wire.codec import decode
from .database import Connection, Database
from .pages import ListQueries, list_page
from .queries import load
from .text import body, column


class SqlTraces:
    """The `TraceStore` of a database. Text that no database can hold is changed as `store.text` says."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = sql = load("traces", database.driver)
        self._traces = ListQueries(sql.trace_place, sql.newer_traces, sql.older_traces)

    async def put(self, owner: str, traces: Sequence[TraceRecord], spans: Sequence[SpanRecord], most: int) -> int:
        """Keep traces and spans; how many spans were left out."""
        by_trace: dict[str, list[SpanRecord]] = defaultdict(list)
        for span in spans:
            by_trace[column(span.trace_id)].append(span)

        def unit(connection: Connection) -> int:
            for trace in traces:
                self._put_trace(connection, column(owner), trace)
            return sum(self._put_spans(connection, column(owner), id_, by_trace[id_], most) for id_ in by_trace)

        return await self._database.write(unit)

    def _put_trace(self, connection: Connection, owner: str, trace: TraceRecord) -> None:
        self._sql.put_trace(
            connection,
            id=column(trace.id),
            owner=owner,
            created_at=trace.created_at,
            group_id=_text(trace.group_id),
            body=body(trace.body),
        )

    def _put_spans(
        self, connection: Connection, owner: str, trace_id: str, spans: Sequence[SpanRecord], most: int
    ) -> int:
        """Keep spans of one trace, each once; how many were left out."""
        first = spans[0].created_at
        self._sql.mention_trace(connection, id=trace_id, owner=owner, created_at=first, body=body({"id": trace_id}))
        seq, count = self._sql.trace_with_count(connection, id=trace_id, owner=owner)
        rows: dict[str, Mapping[str, Any]] = {}
        left_out = 0
        for span in spans:
            row = _row(seq, span)
            if row["id"] not in rows and not self._sql.has_span(connection, trace_seq=seq, id=row["id"]):
                if count >= most:
                    left_out += 1
                    continue
                count += 1
            rows[row["id"]] = row
        if rows:
            self._sql.put_spans(connection, list(rows.values()))
        return left_out

    async def get(self, owner: str, trace_id: str) -> TraceRecord | None:
        """The trace, or None."""
        key = {"id": column(trace_id), "owner": column(owner)}
        row = await self._database.read(lambda connection: self._sql.trace(connection, **key))
        return _trace(*row) if row else None

    async def list(self, owner: str, page: Page, wanted: TraceFilter) -> Listing[TraceRecord]:
        """A page. Raises `ApiError` (404) if `page.after` is not the owner's."""
        filters = {
            "owner": column(owner),
            "group_id": _text(wanted.group_id),
            "response_id": _text(wanted.response_id),
        }
        return await self._database.read(
            lambda connection: list_page(connection, self._traces, page, "Trace", filters, _trace)
        )

    async def spans(self, owner: str, trace_id: str, page: Page) -> Listing[SpanRecord]:
        """A page of a trace's spans. Raises `ApiError` (404) if `page.after` is not one of them."""
        filters = {"owner": column(owner), "trace_id": column(trace_id)}
        place = partial(self._sql.span_place, trace_id=column(trace_id))
        queries = ListQueries(place, self._sql.newer_spans, self._sql.older_spans)
        record = partial(_span, trace_id)
        return await self._database.read(
            lambda connection: list_page(connection, queries, page, "Span", filters, record)
        )

    async def delete(self, owner: str, trace_id: str) -> bool:
        """Forget a trace and its spans."""
        key = {"id": column(trace_id), "owner": column(owner)}
        return bool(await self._database.write(lambda connection: self._sql.delete_trace(connection, **key)))


def _text(value: str | None) -> str | None:
    return None if value is None else column(value)


def _row(seq: int, span: SpanRecord) -> Mapping[str, Any]:
    return {
        "trace_seq": seq,
        "id": column(span.id),
        "created_at": span.created_at,
        "response_id": _text(span.response_id),
        "body": body(span.body),
    }


def _trace(id_: str, created_at: int, text: str) -> TraceRecord:
    said = decode(text)
    return TraceRecord(id_, created_at, said, said.get("group_id"))


def _span(trace_id: str, id_: str, created_at: int, response_id: str | None, text: str) -> SpanRecord:
    return SpanRecord(id_, trace_id, created_at, decode(text), response_id)
