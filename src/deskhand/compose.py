"""Where a server is put together: `composition` chooses the concrete classes, and nothing else builds them."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.types import ASGIApp

from .api.app import build_app
from .api.auth import Keys
from .api.forward import Forwarding
from .api.websocket import Connections
from .composition.backing import backing, isolation
from .composition.policies import largest_body
from .composition.rooms import rooms, serving
from .composition.routes import routes, sockets
from .engine.supervisor import Supervisor
from .keys import Keyring
from .ports.sandbox import EngineReport
from .settings import Settings


@dataclass(frozen=True, slots=True)
class Served:
    """A running server's parts that the command line talks about."""

    app: ASGIApp
    supervisor: Supervisor
    report: EngineReport
    models: Sequence[str]
    max_message_bytes: int
    farewell: Callable[[], Awaitable[None]]
    """Tells clients that stay connected to go, and waits until they have."""


@asynccontextmanager
async def application(settings: Settings, keyring: Keyring) -> AsyncIterator[Served]:
    """The whole server but its socket. Raises `DeskhandError` for what is missing or in the way."""
    async with backing(settings) as base:
        built = rooms(base)
        async with serving(base, built), Forwarding.open() as forwarding:
            connections = Connections(settings.max_websockets)
            app = build_app(
                routes(base, built),
                sockets(base, built, connections, forwarding),
                Keys(keyring.keys),
                built.keeping.idempotency,
                forwarding,
                largest_body(settings),
            )
            names = await base.upstreams.names()
            supervisor = built.runs.supervisor
            yield Served(app, supervisor, base.report, names, settings.max_body_bytes, connections.farewell)


async def end_containers(settings: Settings) -> None:
    """End every container of an installation that nobody serves any more. They outlive their server by design."""
    await isolation(settings).sweep(())
