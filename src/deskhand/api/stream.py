"""A run's log as a live HTTP answer. When the client goes away, the run is cancelled."""

import asyncio
import time

from starlette.types import Receive, Scope, Send

from ..engine.supervisor import Handle
from .sse import frames
from .view import View

KEEPALIVE_SECONDS = 15.0
"""Silence after which a comment is sent, so that proxies do not cut a stream whose command is quiet."""


class EventStream:
    """The SSE answer of a foreground run: an ASGI application of its own."""

    def __init__(self, handle: Handle, view: View, *, obfuscate: bool) -> None:
        self._handle = handle
        self._view = view
        self._obfuscate = obfuscate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wire = Wire(send)
        try:
            async with asyncio.TaskGroup() as group:
                gone = group.create_task(cancel_when_gone(receive, self._handle))
                keeping_alive = group.create_task(wire.keep_alive())
                await wire.start()
                async for chunk in frames(self._handle.log, self._view, obfuscate=self._obfuscate):
                    if gone.done():
                        break
                    await wire.write(chunk)
                gone.cancel()
                keeping_alive.cancel()
                await wire.end()
        finally:
            self._handle.cancel()


async def cancel_when_gone(receive: Receive, handle: Handle) -> None:
    """Cancel the run when the client has disconnected."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            handle.cancel()
            return


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
