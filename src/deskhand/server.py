"""The socket and the process around the application: listen, announce, stop gracefully."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import uvicorn

from .compose import Served, application
from .keys import Keyring
from .settings import Settings

GRACE_SECONDS = 5.0
"""How long runs may go on after the server was asked to stop."""


@dataclass(frozen=True, slots=True)
class Listening:
    """A server that answers at `url`."""

    url: str
    served: Served


async def serve(settings: Settings, keyring: Keyring, announce: Callable[[Listening], None]) -> None:
    """Serve until SIGINT or SIGTERM. `announce` is called once requests are answered.

    Raises `OSError` if the address cannot be had.
    """
    with _listen(settings.host, settings.port) as sock:
        async with application(settings, keyring) as served:
            server = _Server(served)
            loop = asyncio.get_running_loop()
            for sign in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(sign, server.handle_exit, sign, None)
            async with asyncio.TaskGroup() as group:
                group.create_task(server.serve(sockets=[sock]))
                await server.up.wait()
                if server.started:
                    announce(Listening(_url(settings.host, sock), served))


@asynccontextmanager
async def serving(settings: Settings, keyring: Keyring) -> AsyncIterator[Listening]:
    """Serve while the block runs, in this process and event loop (the demo; tests)."""
    with _listen(settings.host, settings.port) as sock:
        async with application(settings, keyring) as served:
            server = _Server(served)
            async with asyncio.TaskGroup() as group:
                group.create_task(server.serve(sockets=[sock]))
                await server.up.wait()
                try:
                    yield Listening(_url(settings.host, sock), served)
                finally:
                    server.should_exit = True


class _Server(uvicorn.Server):
    """uvicorn, which ends the runs before it waits for their connections."""

    def __init__(self, served: Served) -> None:
        super().__init__(
            uvicorn.Config(
                served.app,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=10,
            )
        )
        self._supervisor = served.supervisor
        self.up = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to whoever serves: uvicorn would raise them again, and a polite stop is no failure."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        finally:
            self.up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._supervisor.drain(0 if self.force_exit else GRACE_SECONDS)
        await super().shutdown(sockets)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio sets TCP_NODELAY only where it is.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(2048)
    except OSError:
        sock.close()
        raise
    return sock


def _url(host: str, sock: socket.socket) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{sock.getsockname()[1]}"
