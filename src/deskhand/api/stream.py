"""A run's log as an HTTP answer. When its client goes away, a foreground run is cancelled."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from ..engine.supervisor import Handle
from ..wire.events import Event
from .sse import frames
from .view import View

T = TypeVar("T")

KEEPALIVE_SECONDS = 15.0
"""Silence after which a comment is sent, so that proxies do not cut a stream whose command is quiet."""


class EventStream:
    """The SSE answer of a foreground run: an ASGI application of its own. `padding` is as for `sse.event_fields`."""

    def __init__(self, handle: Handle, view: View, padding: str) -> None:
        self._handle = handle
        self._view = view
        self._padding = padding

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            gone = cancel_when_gone(receive, self._handle)
            await _send_all(frames(self._handle.log.tail(), self._view, self._padding), send, gone)
        finally:
            self._handle.cancel()


class EventReplay:
    """The SSE answer of who reads the events of a resumable run, which goes on without its readers."""

    def __init__(self, events: AsyncIterator[Sequence[Event]], view: View, padding: str) -> None:
        self._events = events
        self._view = view
        self._padding = padding

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _send_all(frames(self._events, self._view, self._padding), send, until_gone(receive))


class FrameStream:
    """The SSE answer of what is made while it is read: with its client gone, nobody makes more of it."""

    def __init__(self, frames: AsyncGenerator[bytes, None]) -> None:
        self._frames = frames

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._frames):
            await _send_all(self._frames, send, until_gone(receive))


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled if the client disconnects. Raises `ClientDisconnect` then."""
    doing, gone = asyncio.create_task(work), asyncio.create_task(until_gone(receive))
    try:
        await asyncio.wait((doing, gone), return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ClientDisconnect
        return doing.result()
    finally:
        for task in (doing, gone):
            task.cancel()
        await asyncio.gather(doing, gone, return_exceptions=True)


async def _send_all(chunks: AsyncIterator[bytes], send: Send, until_gone: Coroutine[Any, Any, None]) -> None:
    """Send a stream, until its end or the end of its client."""
    wire = Wire(send)
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(_send(chunks, wire))
        keeping_alive = group.create_task(wire.keep_alive())
        gone = group.create_task(until_gone)
        await asyncio.wait((sending, gone), return_when=asyncio.FIRST_COMPLETED)
        for task in (sending, keeping_alive, gone):
            task.cancel()


async def _send(chunks: AsyncIterator[bytes], wire: "Wire") -> None:
    await wire.start()
    async for chunk in chunks:
        await wire.write(chunk)
    await wire.end()


async def until_gone(receive: Receive) -> None:
    """Return when the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def cancel_when_gone(receive: Receive, handle: Handle) -> None:
    """Cancel the run when the client has disconnected."""
    await until_gone(receive)
    handle.cancel()


class Wire:
    """Sends one chunk at a time and remembers when."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._lock = asyncio.Lock()
        self._sent_at = time.monotonic()

    async def start(self) -> None:
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
        ]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def write(self, chunk: bytes) -> None:
        if not chunk:
            return
        async with self._lock:
            self._sent_at = time.monotonic()
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def keep_alive(self) -> None:
        while True:
            quiet_s = time.monotonic() - self._sent_at
            if quiet_s < KEEPALIVE_SECONDS:
                await asyncio.sleep(KEEPALIVE_SECONDS - quiet_s)
            else:
                await self.write(b": keep-alive\n\n")
