"""`/v1/containers/{id}/egress` and `/secrets`: what left a container, and other values for its secrets. Ours."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ..core.errors import ApiError
from ..engine.containers import Containers
from ..engine.egress import Egress
from ..ports.store import EgressRecord, Listing, Page
from ..wire.codec import encode
from ..wire.network import EgressEntry, SetSecret
from .bodies import listing, read_json, read_page
from .json import json

LINES = "application/jsonl"
BATCH = 1000


@dataclass(frozen=True, slots=True)
class EgressApi:
    """Look at what containers tried, page by page or all of it as JSON lines; exchange secrets."""

    containers: Containers
    egress: Egress
    max_body_bytes: int

    def routes(self) -> list[Route]:
        """The routes of these resources."""
        return [
            Route("/v1/containers/{id}/egress", self.list, methods=["GET"]),
            Route("/v1/containers/{id}/secrets", self.set_secret, methods=["POST"]),
        ]

    async def list(self, request: Request) -> Response:
        owner, container_id = request.state.owner, request.path_params["id"]
        wanted = request.query_params.get("format", "jsonl" if LINES in request.headers.get("accept", "") else "json")
        match wanted:
            case "json":
                found = await self._page(owner, container_id, read_page(request))
                return json(listing([_entry(record) for record in found.data], has_more=found.has_more))
            case "jsonl":
                first = await self._page(owner, container_id, Page(BATCH, "asc"))
                return StreamingResponse(self._lines(owner, container_id, first), media_type=LINES)
            case _:
                raise ApiError("'format' must be json or jsonl.", code="invalid_value", param="format")

    async def set_secret(self, request: Request) -> Response:
        record = await self.containers.alive(request.state.owner, request.path_params["id"])
        body = await read_json(request, SetSecret, self.max_body_bytes)
        return json(await self.egress.replace(record, body))

    async def _page(self, owner: str, container_id: str, page: Page) -> Listing[EgressRecord]:
        """A page of records; 404 only if there is neither a container nor a record of one."""
        found = await self.egress.records(owner, container_id, page)
        if not found.data:
            await self.containers.get(owner, container_id)
        return found

    async def _lines(self, owner: str, container_id: str, page: Listing[EgressRecord]) -> AsyncIterator[bytes]:
        """Every record, oldest first."""
        while True:
            yield b"".join(encode(_entry(record)) + b"\n" for record in page.data)
            if not page.has_more:
                return
            page = await self.egress.records(owner, container_id, Page(BATCH, "asc", page.data[-1].id))


def _entry(record: EgressRecord) -> EgressEntry:
    return EgressEntry(
        id=record.id,
        created_at=record.created_ms / 1000,
        container_id=record.container_id,
        response_id=record.response_id or None,
        call_id=record.call_id or None,
        host=record.host,
        port=record.port,
        method=record.method,
        path=record.path,
        decision=record.decision,
        reason=record.reason or None,
        rule=record.rule or None,
        verified=record.verified,
        status=record.status or None,
        bytes_out=record.bytes_out,
        bytes_in=record.bytes_in,
        secrets=list(record.secrets),
    )
