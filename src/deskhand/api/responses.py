"""`/v1/responses`."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from ..core.errors import ApiError, not_found
from ..engine.admission import Admission, Admitted
from ..engine.background_runs import BackgroundRuns
from ..engine.feeds import Feeds
from ..engine.pages import cut
from ..engine.supervisor import Handle, Supervisor
from ..ports.log import EventLog
from ..ports.runs import RunStore
from ..ports.store import ResponseStore
from ..wire.codec import encode
from ..wire.request import CreateResponse
from .bodies import drop_body, listing, read_flag, read_integer, read_json, read_page
from .idempotency import announce, keep_off_disk
from .json import json
from .sse import padding_of
from .stream import EventReplay, EventStream, cancel_when_gone
from .view import View, read_view


@dataclass(frozen=True, slots=True)
class ResponsesApi:
    """Create, retrieve, delete and look into responses."""

    admission: Admission
    supervisor: Supervisor
    background: BackgroundRuns
    store: ResponseStore
    runs: RunStore
    feeds: Feeds
    streamed_log: Callable[[], EventLog]
    plain_log: Callable[[], EventLog]
    max_body_bytes: int

    def routes(self) -> list[Route]:
        """The routes of this resource."""
        return [
            Route("/v1/responses", self.create, methods=["POST"]),
            Route("/v1/responses/{id}", self.retrieve, methods=["GET"]),
            Route("/v1/responses/{id}", self.delete, methods=["DELETE"]),
            Route("/v1/responses/{id}/cancel", self.cancel, methods=["POST"]),
            Route("/v1/responses/{id}/input_items", self.input_items, methods=["GET"]),
        ]

    async def create(self, request: Request) -> ASGIApp:
        owner = request.state.owner
        self.supervisor.check_ceiling(owner)
        body = await read_json(request, CreateResponse, self.max_body_bytes)
        keep_off_disk(request, body)
        try:
            admitted = await self.admission.admit(owner, body)
        except RecursionError:
            raise ApiError("The JSON body of your request is nested too deeply.", code="invalid_json") from None
        drop_body(request)
        view = View(frozenset(body.include or ()))
        await announce(request, admitted.run.response, body)
        if body.background:
            return await self._begin(owner, admitted, body, view)
        handle = await self.supervisor.start(owner, admitted, self.streamed_log() if body.stream else self.plain_log())
        if body.stream:
            return EventStream(handle, view, padding_of(body, handle.response.id))
        return await _wait(request, handle, view)

    async def _begin(self, owner: str, admitted: Admitted, body: CreateResponse, view: View) -> ASGIApp:
        """A background response: what is answered does not end it, nor does the client's going away."""
        response = await self.background.start(owner, admitted, streamed=body.stream is True)
        if body.stream:
            return EventReplay(self.feeds.tail(response.id), view, padding_of(body, response.id))
        return json(view.response(response))

    async def retrieve(self, request: Request) -> ASGIApp:
        owner, response_id = request.state.owner, request.path_params["id"]
        response = await self.store.get(owner, response_id)
        if response is None:
            raise not_found("Response", response_id)
        if not read_flag(request, "stream"):
            return json(read_view(request).response(response))
        if not await self.runs.is_streamed(owner, response_id):
            raise ApiError(
                "Only a response that was created with background and stream can be streamed again.",
                code="invalid_value",
                param="stream",
            )
        after = read_integer(request, "starting_after", -1)
        padding = response_id if read_flag(request, "include_obfuscation", default=True) else ""
        return EventReplay(self.feeds.tail(response_id, after=after), read_view(request), padding)

    async def delete(self, request: Request) -> Response:
        response_id = request.path_params["id"]
        if not await self.store.delete(request.state.owner, response_id):
            raise not_found("Response", response_id)
        if (handle := self.supervisor.handles.get(response_id)) is not None:
            handle.cancel()
        return json({"id": response_id, "object": "response", "deleted": True})

    async def cancel(self, request: Request) -> Response:
        return json(
            read_view(request).response(await self.background.cancel(request.state.owner, request.path_params["id"]))
        )

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
