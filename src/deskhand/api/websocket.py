"""`/v1/responses` over a WebSocket (API reference, "WebSocket mode"): many responses on one connection.

Each message is JSON text. The client sends `response.create` with the fields of `POST /v1/responses`, and gets the
events of a stream, one a message. What cannot be served is answered by an `error` event, with the HTTP status that it
would have had, and the connection goes on.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import structlog
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from ..core.errors import ApiError, missing
from ..engine.admission import Admission, Admitted
from ..engine.hosts import Elsewhere
from ..engine.lane_cache import LaneCache
from ..engine.lanes import Asked, Lanes, read_lane
from ..engine.supervisor import Handle, Supervisor
from ..ports.log import EventLog
from ..wire.codec import decode_item, encode, plain
from ..wire.events import TERMINAL
from ..wire.items import Item
from ..wire.request import CreateResponse
from ..wire.response import Response
from .bodies import checked, read_object
from .errors import as_api_error, error_fields
from .forward import Forwarding, Told
from .sse import event_fields, padding_of
from .view import View

MAX_REFUSED = 100
"""Messages in a row that are refused at once, after which the connection is closed."""

CACHE_BYTES = 32 << 20
"""What one connection remembers of responses that are not stored."""

NORMAL, POLICY_VIOLATION, SERVICE_RESTART = 1000, 1008, 1012
"""Closing codes (RFC 6455, section 7.4, and its IANA registry). Clients come back by themselves after 1012."""


class Gone(Exception):
    """The client is not there any more."""


@dataclass(frozen=True, slots=True)
class SocketLimits:
    """What one connection may take: how long it lives in seconds, and its messages in bytes."""

    seconds: float
    message_bytes: int


class Connections:
    """The open connections of each project. They can be told to go."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[str] = Counter()
        self._none = asyncio.Event()
        self._none.set()
        self.leaving = asyncio.Event()

    @contextmanager
    def counted(self, owner: str) -> Iterator[None]:
        """One more connection, while the block runs. Raises `ApiError` if there may be no more."""
        if self.leaving.is_set():
            raise ApiError("The server is shutting down.", status=503, kind="server_error", retry_after=5)
        if self._open[owner] >= self._most:
            raise ApiError(
                f"This project has {self._most} open WebSocket connections, the most that it may have.",
                status=429,
                code="websocket_connection_limit_reached",
                kind="requests",
                retry_after=5,
            )
        self._open[owner] += 1
        self._none.clear()
        try:
            yield
        finally:
            self._open[owner] -= 1
            if not self._open[owner]:
                del self._open[owner]
            if not self._open:
                self._none.set()

    async def farewell(self) -> None:
        """Have every connection closed once all was sent that it waits for, and wait until they are."""
        self.leaving.set()
        await self._none.wait()


@dataclass(frozen=True, slots=True)
class WebSocketApi:
    """Serves connections. When a client goes away, its runs are cancelled."""

    admission: Admission
    supervisor: Supervisor
    streamed_log: Callable[[], EventLog]
    forwarding: Forwarding
    limits: SocketLimits
    connections: Connections

    def routes(self) -> list[WebSocketRoute]:
        """The route of this resource."""
        return [WebSocketRoute("/v1/responses", self.connect)]

    async def connect(self, socket: WebSocket) -> None:
        request_id = f"req_{secrets.token_hex(16)}"
        with (
            self.connections.counted(socket.state.owner),
            structlog.contextvars.bound_contextvars(request_id=request_id),
        ):
            await socket.accept(headers=[(b"x-request-id", request_id.encode())])
            await _Connection(socket, self).run()


class _Connection:
    """One connection: a reader, a task for each request that runs, and one that ends it all in time."""

    def __init__(self, socket: WebSocket, api: WebSocketApi) -> None:
        self._socket = socket
        self._api = api
        self._owner: str = socket.state.owner
        self._lanes = Lanes(api.limits.message_bytes)
        self._cache = LaneCache(CACHE_BYTES)
        self._handles: set[Handle | Told] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._gone = False
        self._expired = False
        self._refused = 0

    async def run(self) -> None:
        """Serve until the client goes away or is sent away; its runs then end.

        What serves a request is not cancelled itself: a response that is being stored must become a run or nothing.
        """
        async with asyncio.TaskGroup() as group:
            closing = group.create_task(self._close_in_time())
            try:
                await self._read(group)
            except Gone:
                pass
            finally:
                self._gone = True
                closing.cancel()
                for handle in self._handles:
                    handle.cancel()

    async def _read(self, group: asyncio.TaskGroup) -> None:
        while self._refused < MAX_REFUSED:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            try:
                await self._take(message.get("text"))
            except (ApiError, RecursionError) as exc:
                await self._refuse(exc if isinstance(exc, ApiError) else _too_deep(), None)
            self._start(group)
        await self._close(POLICY_VIOLATION, f"{MAX_REFUSED} messages in a row were refused")

    async def _take(self, text: str | None) -> None:
        """Take one message. Raises `ApiError` if nothing can come of it."""
        if text is None:
            raise ApiError("A message must be JSON in a text frame; this was a binary one.", code="invalid_type")
        fields = read_object(text)
        match fields.get("type"):
            case "response.create":
                asked = Asked(read_lane(fields), fields, len(text))
                try:
                    self._lanes.put(asked)
                except ApiError as exc:
                    return await self._refuse(exc, asked.lane)
            case "response.steer":
                await self._send(_steered(fields))
            case None:
                raise missing("type")
            case _:
                raise ApiError("Invalid value for 'type': send 'response.create'.", code="invalid_value", param="type")
        self._refused = 0

    async def _refuse(self, exc: ApiError, lane: str | None) -> None:
        self._refused += 1
        await self._send(_error(exc, lane))

    def _start(self, group: asyncio.TaskGroup) -> None:
        """Start whatever may run now."""
        while not self._gone and (asked := self._lanes.take()) is not None:
            self._idle.clear()
            group.create_task(self._serve(group, asked))

    async def _serve(self, group: asyncio.TaskGroup, asked: Asked) -> None:
        try:
            await self._respond(asked)
        except Gone:
            return
        except Exception as exc:
            self._cache.evict(asked.lane, _continued(asked))
            error = as_api_error(exc, self._socket.url.path)
            with suppress(Gone):
                await self._send(_error(error, asked.lane))
        self._lanes.release(asked.lane)
        self._start(group)
        if self._lanes.idle:
            self._idle.set()

    async def _respond(self, asked: Asked) -> None:
        """One response, from its request to its last event."""
        if self._expired:
            raise _connection_limit(self._api.limits.seconds)
        self._api.supervisor.check_ceiling(self._owner)
        request = _read_request(asked.fields)
        try:
            admitted = await self._admit(request)
        except Elsewhere as exc:
            return await self._pass_on(asked, request, exc)
        handle = await self._api.supervisor.start(self._owner, admitted, self._api.streamed_log())
        view, padding = View(frozenset(request.include or ())), padding_of(request, handle.response.id)
        self._handles.add(handle)
        try:
            if self._gone:
                raise Gone
            async for batch in handle.log.tail():
                for event in batch:
                    if event.terminal:
                        # Before it is told: another lane may continue from it at once.
                        response: Response = event.fields["response"]
                        self._remember(asked, [*admitted.earlier, *admitted.given], response)
                    await self._send(_on(asked.lane, event_fields(view.event(event), padding)))
        finally:
            self._handles.discard(handle)
            handle.cancel()

    async def _pass_on(self, asked: Asked, request: CreateResponse, elsewhere: Elsewhere) -> None:
        """One response that another host makes, as its container is there."""
        known = await self._api.admission.read(self._owner, request, self._cache.recent)
        items = [*known.earlier, *known.given]
        body: Mapping[str, Any] = plain(request)
        only_here = request.previous_response_id in self._cache.recent
        if only_here:
            body = {**body, "input": plain(items), "previous_response_id": None}
        async with self._api.forwarding.told(elsewhere, self._socket.headers, body) as told:
            self._handles.add(told)
            try:
                if self._gone:
                    raise Gone
                async for fields in told:
                    if only_here and "response" in fields:
                        fields["response"]["previous_response_id"] = request.previous_response_id
                    if ended := fields.get("type") in TERMINAL:
                        self._remember(asked, items, _ended(fields["response"]))
                    await self._send(_on(asked.lane, fields))
                    if ended:
                        return
            finally:
                self._handles.discard(told)
        raise elsewhere

    async def _admit(self, request: CreateResponse) -> Admitted:
        try:
            return await self._api.admission.admit(self._owner, request, self._cache.recent)
        except RecursionError:
            raise _too_deep() from None

    def _remember(self, asked: Asked, items: Sequence[Item], response: "Response | _Ended") -> None:
        """Keep what only this connection knows of: a response to `items`, its context and its input."""
        if response.status not in {"completed", "incomplete"}:
            self._cache.evict(asked.lane, response.previous_response_id)
        elif response.store:
            self._cache.forget(asked.lane)
        else:
            self._cache.keep(asked.lane, response.id, [*items, *response.output])

    async def _close_in_time(self) -> None:
        """Close when the connection is too old or the server stops; what runs then is first heard to its end."""
        try:
            async with asyncio.timeout(self._api.limits.seconds):
                await self._api.connections.leaving.wait()
        except TimeoutError:
            self._expired = True
            await self._idle.wait()
            with suppress(Gone):
                await self._send(_error(_connection_limit(self._api.limits.seconds), None))
                await self._close(NORMAL, "connection limit reached")
        else:
            await self._idle.wait()
            with suppress(Gone):
                await self._close(SERVICE_RESTART, "the server is shutting down")

    async def _send(self, fields: dict[str, Any]) -> None:
        """Send an event; waits while the client does not read. Raises `Gone`."""
        try:
            await self._socket.send_text(encode(fields).decode())
        except (RuntimeError, WebSocketDisconnect):  # the first if it was closed already
            raise Gone from None

    async def _close(self, code: int, reason: str) -> None:
        try:
            await self._socket.close(code, reason)
        except (RuntimeError, WebSocketDisconnect):
            raise Gone from None


def _read_request(fields: Mapping[str, Any]) -> CreateResponse:
    """The request of a message. `stream` and `background` mean nothing here. Raises `ApiError`."""
    body = {name: value for name, value in fields.items() if name not in {"type", "background"}}
    return checked(body | {"stream": True}, CreateResponse)


@dataclass(frozen=True, slots=True)
class _Ended:
    """As much of a response that another host has made as there is to remember."""

    id: str
    status: str
    store: bool
    previous_response_id: str | None
    output: Sequence[Item]


def _ended(fields: Mapping[str, Any]) -> _Ended:
    output = [decode_item(item) for item in fields["output"]]
    return _Ended(fields["id"], fields["status"], fields["store"], fields["previous_response_id"], output)


def _continued(asked: Asked) -> str | None:
    """What a request that failed wanted to continue from."""
    found = asked.fields.get("previous_response_id")
    return found if isinstance(found, str) else None


def _on(lane: str | None, fields: dict[str, Any]) -> dict[str, Any]:
    """An event of a lane; those of the default lane do not name it."""
    return fields if lane is None else fields | {"stream_id": lane}


def _error(exc: ApiError, lane: str | None) -> dict[str, Any]:
    error: dict[str, Any] = dict(error_fields(exc))
    if exc.retry_after is not None:
        error["headers"] = {"retry-after": str(exc.retry_after)}
    return _on(lane, {"type": "error", "status": exc.status, "error": error})


def _connection_limit(seconds: float) -> ApiError:
    return ApiError(
        f"Responses websocket connection limit reached ({seconds / 60:g} minutes). Create a new websocket connection "
        "to continue.",
        code="websocket_connection_limit_reached",
    )


def _too_deep() -> ApiError:
    return ApiError("The JSON of your message is nested too deeply.", code="invalid_json")


def _steered(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to `response.steer`: no model that is served here takes input while it answers. Raises `ApiError`."""
    for name, kind in (("previous_response_id", str), ("input", str | list)):
        if fields.get(name) is None:
            raise missing(name)
        if not isinstance(fields[name], kind):
            raise ApiError(f"Invalid type for '{name}'.", code="invalid_type", param=name)
    return {
        "type": "response.steer.failed",
        "sequence_number": 0,
        "error": {
            "type": "invalid_request_error",
            "code": "steering_not_supported",
            "message": "This server does not support steering. Send the input with 'response.create' when the response "
            "has ended.",
        },
        "steer": {"input": fields["input"], "previous_response_id": fields["previous_response_id"]},
    }
