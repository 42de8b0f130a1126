"""A scripted model server on a real port: plays `@@` scripts over chat completions and Responses, and makes vectors.

    python -m deskhand.testing.upstream --port 9999 [--delay SECONDS]
    python -m deskhand.testing.upstream --port 9999 --fast 20        (the mock upstream of benchmarks)

Without a script in the conversation it makes a forced call, fills a JSON schema with its smallest value, or says what
it heard.
"""

import argparse
import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ..ports.model import Declaration, FreeTextDeclaration
from . import upstream_chat, upstream_embeddings, upstream_responses
from .schema import smallest
from .script import Action, Call, Entry, Say, hand_over, play
from .upstream_faults import CallStyle, Faults, ReasoningStyle, Status
from .upstream_speed import SpeedApp

__all__ = ["CallStyle", "Faults", "ReasoningStyle", "ScriptedUpstream", "Seen", "Status", "serve_upstream"]

MODELS = ("scripted", "gpt-5.6", "gpt-4o-mini")


class _Cut(Exception):
    """Ends the connection without ending the answer."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that the upstream was sent."""

    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]


@dataclass(slots=True)
class ScriptedUpstream:
    """The server's state. `faults` may be replaced at any time."""

    url: str = ""
    faults: Faults = field(default_factory=Faults)
    requests: list[Seen] = field(default_factory=list)
    connections: set[tuple[str, int]] = field(default_factory=set)
    """The client addresses seen: as many as connections were opened."""
    disconnected: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a client went away before its answer was over."""

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/v1/models", self._models, methods=["GET"]),
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/v1/responses", self._responses, methods=["POST"]),
                Route("/v1/embeddings", self._embeddings, methods=["POST"]),
            ]
        )

    async def _models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": name, "object": "model"} for name in MODELS]})

    async def _chat(self, request: Request) -> Response:
        return await self._answer(request, upstream_chat)

    async def _responses(self, request: Request) -> Response:
        return await self._answer(request, upstream_responses)

    async def _embeddings(self, request: Request) -> Response:
        faults, number = self.faults, len(self.requests)
        body = await request.json()
        self.requests.append(Seen(request.url.path, dict(request.headers), body))
        if number < len(faults.statuses):
            return _failure(faults.statuses[number])
        if faults.raw is not None:
            return Response(faults.raw, media_type=faults.raw_type)
        if (refusal := upstream_embeddings.refusal(body)) is not None:
            return JSONResponse(refusal, 400)
        return JSONResponse(upstream_embeddings.answer(body))

    async def _answer(self, request: Request, dialect: ModuleType) -> Response:
        faults, number = self.faults, len(self.requests)
        body = await request.json()
        self.requests.append(Seen(request.url.path, dict(request.headers), body))
        if request.client:
            self.connections.add((request.client.host, request.client.port))
        if number < len(faults.statuses):
            return _failure(faults.statuses[number])
        if rejected := next((name for name in faults.rejects if _carries(body, name)), None):
            message = f"Unsupported parameter: '{rejected}' is not supported with this model."
            error = {"message": message, "type": "invalid_request_error", "param": rejected, "code": None}
            return JSONResponse({"error": error}, status_code=400)
        if faults.window is not None and (size := dialect.size(body)) > faults.window:
            message = f"This model's maximum context length is {faults.window} tokens; your prompt has {size}."
            return _failure(Status(400, message=message, error_code="context_length_exceeded"))
        if faults.raw is not None:
            return StreamingResponse(
                self._watched(_cut(faults.raw, faults), faults, number), media_type=faults.raw_type
            )
        actions = act(
            dialect.entries(body), dialect.declarations(body), dialect.schema(body), forced=dialect.forced(body)
        )
        if faults.malformed_arguments:
            actions = [replace(a, arguments=a.arguments[:-1]) if isinstance(a, Call) else a for a in actions]
        if not body.get("stream") or faults.whole:
            return JSONResponse(dialect.whole(actions, body, faults))
        frames = _frames(dialect.stream(actions, body, faults), faults)
        if faults.cuts:
            frames = _cut(b"".join(frames), faults)
        return StreamingResponse(self._watched(frames, faults, number), media_type="text/event-stream")

    async def _watched(self, frames: Iterator[bytes], faults: Faults, number: int) -> AsyncIterator[bytes]:
        dies = faults.die_after if number < faults.die_times else None
        try:
            for sent, frame in enumerate(frames):
                if sent == dies:
                    # The bytes before must have left the socket's buffer to be sure that they are read first.
                    await asyncio.sleep(0.02)
                    raise _Cut
                if sent == faults.silent_after:
                    await asyncio.sleep(3600)
                if faults.delay_s:
                    await asyncio.sleep(faults.delay_s)
                yield frame
        except (asyncio.CancelledError, GeneratorExit):
            self.disconnected.set()
            raise


def act(
    entries: list[Entry], tools: list[Declaration], schema: Mapping[str, Any] | None, *, forced: str | None
) -> list[Action]:
    """What the model does next: by the script if there is one, else the least that satisfies the request."""
    if (summary := hand_over(entries)) is not None:
        return [Say(summary)]
    played = play(entries, tools, schema)
    if played is not None:
        return played
    if entries and entries[-1].kind == "output":
        return [Say("RESULT: " + entries[-1].text.strip())]
    tool = next((tool for tool in tools if forced in ("", tool.name)), None) if forced is not None else None
    match tool:
        case None:
            pass
        case FreeTextDeclaration():
            return [Call(tool.name, "text", free_text=True)]
        case _:
            return [Call(tool.name, json.dumps(smallest(tool.parameters) or {}))]
    if schema is not None:
        return [Say(json.dumps(smallest(schema)))]
    last = next((entry.text for entry in reversed(entries) if entry.kind == "user"), "")
    return [Say(f"You said: {last[-200:]}")]


@asynccontextmanager
async def serve_upstream(faults: Faults | None = None) -> AsyncIterator[ScriptedUpstream]:
    """A scripted upstream on a free port of 127.0.0.1, until the block ends."""
    upstream = ScriptedUpstream(faults=faults or Faults())
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        upstream.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        config = uvicorn.Config(upstream.app(), log_config=None, log_level="critical", lifespan="off", ws="none")
        server = _QuietServer(config)
        async with asyncio.TaskGroup() as group:
            group.create_task(server.serve([listener]))
            await server.up.wait()
            failure = None
            try:
                yield upstream
            # Raised past the group, as the group would wrap it in an exception group of its own.
            except Exception as exc:
                failure = exc
            finally:
                server.should_exit = server.force_exit = True
        if failure is not None:
            raise failure


class _QuietServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals of the process that embeds the server alone."""
        yield


def _frames(events: Iterator[dict[str, Any]], faults: Faults) -> Iterator[bytes]:
    end = faults.line_end * 2
    for event in events:
        named = f"event: {event['type']}{faults.line_end}" if isinstance(event.get("type"), str) else ""
        yield f"{named}data: {json.dumps(event)}{end}".encode()
    if faults.done:
        yield f"data: [DONE]{end}".encode()


def _cut(body: bytes, faults: Faults) -> Iterator[bytes]:
    places = [0, *sorted({cut for cut in faults.cuts if 0 < cut < len(body)}), len(body)]
    for start, end in zip(places, places[1:], strict=False):
        yield body[start:end]


def _failure(status: Status) -> Response:
    headers = {"retry-after": status.retry_after} if status.retry_after is not None else {}
    if status.body is not None:
        return Response(status.body, status.code, headers, status.content_type)
    error = {"message": status.message, "type": "scripted", "param": None, "code": status.error_code}
    return JSONResponse({"error": error}, status_code=status.code, headers=headers)


def _carries(body: Mapping[str, Any], name: str) -> bool:
    functions = [tool.get("function") or {} for tool in body.get("tools") or ()]
    return name in body or any(name in one for one in [*(body.get("messages") or ()), *functions])


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m deskhand.testing.upstream", description="A scripted model server.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9999)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before every event")
    parser.add_argument("--fast", type=int, metavar="TOKENS", help="answer everything with so many words, at once")
    options = parser.parse_args()
    scripted = ScriptedUpstream(faults=Faults(delay_s=options.delay))
    app: Any = SpeedApp(options.fast) if options.fast else scripted.app()
    uvicorn.run(app, host=options.host, port=options.port, log_level="warning", lifespan="off", ws="none")


if __name__ == "__main__":
    main()
