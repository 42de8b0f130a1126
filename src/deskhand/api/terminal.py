"""`/v1/containers/{id}/pty`: an interactive terminal over a WebSocket (RFC 6455), for operators.

Binary messages are what is typed and what is printed. Text messages are JSON: `{"type": "resize", "rows", "columns"}`
from the client; `{"type": "exit", "exit_code"}` or `{"type": "error", "message"}` from the server, before it closes.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from ..core.errors import ApiError, DeskhandError
from ..engine.containers import Containers
from ..ports.sandbox import Exited, Output, SandboxError, Session, Terminal, Window
from .errors import as_api_error

MAX_TERMINALS = 16
"""Open terminals of one container."""

MAX_MESSAGE_BYTES = 1 << 20
"""Of what is typed or pasted at once."""

Cells = Annotated[int, Meta(ge=1, le=4096)]


class Resize(Struct, frozen=True, tag_field="type", tag="resize"):
    """The client's window has another size."""

    rows: Cells
    columns: Cells


class Exit(Struct, frozen=True, tag_field="type", tag="exit"):
    """The program has ended."""

    exit_code: int


class Failure(Struct, frozen=True, tag_field="type", tag="error"):
    """The terminal cannot go on."""

    message: str


class Asked(Struct, frozen=True):
    """The query string: what to run, bash if nothing, and on what."""

    command: Annotated[str, Meta(min_length=1, max_length=1 << 16)] | None = None
    rows: Cells = 24
    columns: Cells = 80
    term: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._+-]{1,64}$")] = "xterm-256color"


Close = Literal[1000, 1008, 1009, 1011]
"""Normal closure, policy violation, message too big, internal error (RFC 6455, section 7.4.1)."""


@dataclass(frozen=True, slots=True)
class TerminalApi:
    """Opens terminals. An open one keeps its container alive."""

    containers: Containers
    open: Counter[str] = field(default_factory=Counter)

    def routes(self) -> list[WebSocketRoute]:
        """The route of this resource."""
        return [WebSocketRoute("/v1/containers/{id}/pty", self.connect)]

    async def connect(self, socket: WebSocket) -> None:
        owner, container_id = socket.state.owner, socket.path_params["id"]
        session = _session(socket)
        await self.containers.alive(owner, container_id)
        self.containers.require_engine()
        sandbox = await self.containers.sandbox(owner, container_id)
        with self._counted(container_id):
            async with sandbox.open_terminal(session) as terminal:
                await socket.accept()
                await _Exchange(socket, terminal).run()

    @contextmanager
    def _counted(self, container_id: str) -> Iterator[None]:
        if self.open[container_id] >= MAX_TERMINALS:
            raise ApiError(
                f"This container has {MAX_TERMINALS} open terminals, the most that it may have.",
                status=429,
                code="rate_limit_exceeded",
                kind="requests",
            )
        self.open[container_id] += 1
        try:
            yield
        finally:
            self.open[container_id] -= 1
            if not self.open[container_id]:
                del self.open[container_id]


@dataclass(frozen=True, slots=True)
class _Exchange:
    """Both directions at once, until one of them ends."""

    socket: WebSocket
    terminal: Terminal

    async def run(self) -> None:
        printing = asyncio.ensure_future(self._print())
        typing = asyncio.ensure_future(self._type())
        try:
            await asyncio.wait({printing, typing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (printing, typing):
                task.cancel()
            outcomes = await asyncio.gather(printing, typing, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, (DeskhandError, SandboxError)):
                await self._fail(as_api_error(outcome, self.socket.url.path).message)
            elif isinstance(outcome, Exception) and not isinstance(outcome, WebSocketDisconnect):
                raise outcome

    async def _print(self) -> None:
        async with aclosing(self.terminal.output()) as events:
            async for event in events:
                match event:
                    case Output(_, data):
                        await self.socket.send_bytes(data)
                    case Exited(code):
                        await self._end(Exit(code), 1000)

    async def _type(self) -> None:
        while True:
            message = await self.socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            data, text = message.get("bytes"), message.get("text")
            if len(data or text or "") > MAX_MESSAGE_BYTES:
                return await self._end(Failure(f"A message has at most {MAX_MESSAGE_BYTES} bytes."), 1009)
            if data:
                await self.terminal.type(data)
            elif text:
                try:
                    asked = msgspec.json.decode(text, type=Resize)
                except msgspec.DecodeError as exc:
                    return await self._end(Failure(f"This message is not understood: {exc}"), 1008)
                await self.terminal.resize(Window(asked.rows, asked.columns))

    async def _fail(self, words: str) -> None:
        try:
            await self._end(Failure(words), 1011)
        except (RuntimeError, WebSocketDisconnect):
            return  # it is closed

    async def _end(self, last: Exit | Failure, code: Close) -> None:
        await self.socket.send_text(msgspec.json.encode(last).decode())
        await self.socket.close(code)


def _session(socket: WebSocket) -> Session:
    try:
        asked = msgspec.convert(dict(socket.query_params), Asked, strict=False)
    except msgspec.ValidationError as exc:
        raise ApiError(f"A parameter cannot be used: {exc}", code="invalid_value") from None
    if "\0" in (asked.command or ""):
        raise ApiError("'command' contains a NUL byte.", code="invalid_value", param="command")
    argv = ("bash",) if asked.command is None else ("bash", "-c", asked.command)
    return Session(argv, Window(asked.rows, asked.columns), {"TERM": asked.term})
