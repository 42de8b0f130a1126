"""`/v1/responses`."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from ..core.errors import ApiError, not_found
from ..engine.admission import Admission
from ..engine.pages import cut
from ..engine.supervisor import Handle, Supervisor
from ..ports.log import EventLog
from ..ports.store import ResponseStore
from ..wire.codec import encode
from ..wire.request import CreateResponse
from .bodies import listing, read_flag, read_json, read_page
from .json import json
from .stream import EventStream, cancel_when_gone
from .view import View, read_view


@dataclass(frozen=True, slots=True)
class ResponsesApi:
    """Create, retrieve, delete and look into responses."""

    admission: Admission
    supervisor: Supervisor
    store: ResponseStore
    streamed_log: Callable[[], EventLog]
    plain_log: Callable[[], EventLog]
    max_body_bytes: int

    def routes(self) -> list[Route]:
        """The routes of this resource."""
        return [
            Route("/v1/responses", self.create, methods=["POST"]),
            Route("/v1/responses", self.connect, methods=["GET"]),
            Route("/v1/responses/{id}", self.retrieve, methods=["GET"]),
            Route("/v1/responses/{id}", self.delete, methods=["DELETE"]),
            Route("/v1/responses/{id}/cancel", self.cancel, methods=["POST"]),
            Route("/v1/responses/{id}/input_items", self.input_items, methods=["GET"]),
        ]

    async def create(self, request: Request) -> ASGIApp:
        owner = request.state.owner
        self.supervisor.check_ceiling(owner)
        body = await read_json(request, CreateResponse, self.max_body_bytes)
        try:
            admitted = await self.admission.admit(owner, body)
        except RecursionError:
            raise ApiError("The JSON body of your request is nested too deeply.", code="invalid_json") from None
        view = View(frozenset(body.include or ()))
        handle = await self.supervisor.start(owner, admitted, self.streamed_log() if body.stream else self.plain_log())
        if body.stream:
            options = body.stream_options
            obfuscate = not (options is not None and options.include_obfuscation is False)
            return EventStream(handle, view, obfuscate=obfuscate)
        return await _wait(request, handle, view)

    async def connect(self, request: Request) -> Response:
        """Responses over WebSocket are not served yet: 426 makes clients fall back to HTTP at once."""
        if request.headers.get("upgrade", "").lower() == "websocket":
            raise ApiError(
                "Responses over WebSocket are not available on this server; use POST /v1/responses.",
                status=426,
                code="websocket_not_available",
            )
        raise ApiError("Not allowed to GET /v1/responses.", status=405)

    async def retrieve(self, request: Request) -> Response:
        if read_flag(request, "stream"):
            raise ApiError(
                "Only a response that was created with background and stream can be streamed again.",
                code="invalid_value",
                param="stream",
            )
        response = await self.store.get(request.state.owner, request.path_params["id"])
        if response is None:
            raise not_found("Response", request.path_params["id"])
        return json(read_view(request).response(response))

    async def delete(self, request: Request) -> Response:
        response_id = request.path_params["id"]
        if not await self.store.delete(request.state.owner, response_id):
            raise not_found("Response", response_id)
        return json({"id": response_id, "object": "response", "deleted": True})

    async def cancel(self, request: Request) -> Response:
        response_id = request.path_params["id"]
        if await self.store.get(request.state.owner, response_id) is None:
            raise not_found("Response", response_id)
        raise ApiError("Cannot cancel a synchronous response.")

    async def input_items(self, request: Request) -> Response:
        page = read_page(request)
        response_id = request.path_params["id"]
        given = await self.store.given(request.state.owner, response_id)
        if given is None:
            raise not_found("Response", response_id)
        view = read_view(request)
        found = cut(given if page.order == "asc" else given[::-1], page, "Item")
        return json(listing([view.item(item) for item in found.data], has_more=found.has_more))


async def _wait(request: Request, handle: Handle, view: View) -> Response:
    """The ended response as one JSON answer; the run ends if the client goes away before."""
    try:
        async with asyncio.TaskGroup() as group:
            watcher = group.create_task(cancel_when_gone(request.receive, handle))
            event = await handle.log.last()
            watcher.cancel()
    finally:
        handle.cancel()
    return Response(encode(view.response(event.fields["response"])), media_type="application/json")
