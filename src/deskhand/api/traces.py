"""`/v1/traces`: what clients record of their own work. The SDK only sends; looking at it is ours."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..engine.traces import Traces
from ..ports.traces import SpanRecord, TraceFilter, TraceRecord
from ..wire.traces import IngestTraces, Trace, TraceSpan
from .bodies import listing, read_json, read_page
from .json import json
from .spoken import too_deep

MAX_INGEST_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class TracesApi:
    """Take in, list, read and delete traces."""

    traces: Traces

    def routes(self) -> list[Route]:
        """The routes of this resource."""
        one = "/v1/traces/{id}"
        return [
            Route("/v1/traces/ingest", self.ingest, methods=["POST"]),
            Route("/v1/traces", self.list, methods=["GET"]),
            Route(one, self.retrieve, methods=["GET"]),
            Route(one, self.delete, methods=["DELETE"]),
            Route(one + "/spans", self.spans, methods=["GET"]),
        ]

    async def ingest(self, request: Request) -> Response:
        with too_deep():
            body = await read_json(request, IngestTraces, MAX_INGEST_BYTES)
            return json(await self.traces.ingest(request.state.owner, body.data))

    async def list(self, request: Request) -> Response:
        query = request.query_params
        wanted = TraceFilter(query.get("group_id") or None, query.get("response_id") or None)
        found = await self.traces.list(request.state.owner, read_page(request), wanted)
        return json(listing([_trace(record) for record in found.data], has_more=found.has_more))

    async def retrieve(self, request: Request) -> Response:
        return json(_trace(await self.traces.get(request.state.owner, request.path_params["id"])))

    async def delete(self, request: Request) -> Response:
        trace_id = request.path_params["id"]
        await self.traces.delete(request.state.owner, trace_id)
        return json({"id": trace_id, "object": "trace.deleted", "deleted": True})

    async def spans(self, request: Request) -> Response:
        page = read_page(request, default_order="asc")
        found = await self.traces.spans(request.state.owner, request.path_params["id"], page)
        return json(listing([_span(record) for record in found.data], has_more=found.has_more))


def _trace(record: TraceRecord) -> Trace:
    body = record.body
    return Trace(
        id=record.id,
        created_at=record.created_at,
        workflow_name=_text(body.get("workflow_name")),
        group_id=record.group_id,
        metadata=_object(body.get("metadata")),
    )


def _span(record: SpanRecord) -> TraceSpan:
    body = record.body
    return TraceSpan(
        id=record.id,
        trace_id=record.trace_id,
        response_id=record.response_id,
        parent_id=_text(body.get("parent_id")),
        started_at=_text(body.get("started_at")),
        ended_at=_text(body.get("ended_at")),
        span_data=_object(body.get("span_data")),
        error=body.get("error"),
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _object(value: object) -> dict[str, object] | None:
    return value if isinstance(value, dict) else None
