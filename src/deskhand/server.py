"""The socket and the process around the application: listen, announce, stop gracefully."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from types import FrameType

import uvicorn

from .compose import Served, application
from .core.errors import DeskhandError
from .keys import Keyring
from .settings import Settings

GRACE_SECONDS = 5.0
"""How long runs may go on after the server was asked to stop."""

FAREWELL_SECONDS = 3.0
"""How long clients may then take to read their endings. With the grace, less than the 10 s that Docker waits."""

HURRIED_FAREWELL_SECONDS = 0.5
"""The same, when a second signal has come."""

GONE_SECONDS = 180
"""How long a client's machine may be silent, or take nothing of what is sent to it, before the client is gone."""


class AddressUnavailable(DeskhandError):
    """The address cannot be listened on."""


@dataclass(frozen=True, slots=True)
class Listening:
    """A server that answers at `url`."""

    url: str
    served: Served


async def serve(settings: Settings, keyring: Keyring, announce: Callable[[Listening], None]) -> None:
    """Serve until SIGINT or SIGTERM. `announce` is called once requests are answered.

    The first signal lets runs end for a while, the second does not; one that comes during start-up cancels it. Raises
    `AddressUnavailable`, and what `application` does.
    """
    with _listen(settings.host, settings.port) as sock:
        starting = asyncio.current_task()
        assert starting is not None
        _on_signal(lambda _: starting.cancel())
        async with application(settings, keyring) as served:
            server = _Server(served)
            _on_signal(lambda sign: server.handle_exit(sign, None))
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
    """uvicorn, which ends the runs before it waits for their connections, and does not wait for stuck ones."""

    def __init__(self, served: Served) -> None:
        super().__init__(
            uvicorn.Config(
                served.app,
                ws="websockets-sansio",
                ws_max_size=served.max_message_bytes,
                # A few bytes could stand for a whole message of that size, and what compresses well tells its content
                # by its length to whoever sees packets.
                ws_per_message_deflate=False,
                # A client that works through what it got answers no pings meanwhile.
                ws_ping_timeout=GONE_SECONDS,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
            )
        )
        self._supervisor = served.supervisor
        self._farewell = served.farewell
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

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; when asked again, at once."""
        if self.should_exit:
            self._supervisor.end_runs()
            asyncio.get_running_loop().call_later(HURRIED_FAREWELL_SECONDS, self._hang_up)
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._supervisor.drain(GRACE_SECONDS)
        timer = asyncio.get_running_loop().call_later(FAREWELL_SECONDS, self._hang_up)
        try:
            # uvicorn cuts WebSockets off, whatever is still to be sent to them.
            await self._farewell()
            await super().shutdown(sockets)
        finally:
            timer.cancel()

    def _hang_up(self) -> None:
        """Cut every connection: its request sees that its client is gone, and ends as such requests do."""
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()


def _on_signal(act: Callable[[int], object]) -> None:
    for sign in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sign, act, sign)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio sets TCP_NODELAY only where it is.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _notice_dead_clients(sock)
        sock.bind((host, port))
        sock.listen(2048)
    except OSError as exc:
        sock.close()
        raise AddressUnavailable(
            f"cannot listen on {host}:{port}: {exc.strerror}. Choose another address with --host and --port."
        ) from exc
    return sock


def _notice_dead_clients(sock: socket.socket) -> None:
    """Have the kernel end connections whose client vanished without a word; accepted sockets inherit it (tcp(7)).

    Else a run would go on, or an upload stay half-done, for a client that lost its network.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, GONE_SECONDS // 3)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, GONE_SECONDS // 12)
    # Also overrides how many keep-alive probes may be lost.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, GONE_SECONDS * 1000)


def _url(host: str, sock: socket.socket) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{sock.getsockname()[1]}"
