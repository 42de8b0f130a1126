"""The connections of one response: each is opened and closed by a task of its own, as the library wants it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

import httpx2

from .. import __version__
from ..ports.mcp import RemoteFailure, RemoteResult, RemoteServer, RemoteTool
from .bounds import McpBounds

if TYPE_CHECKING:
    from .session import Session

T = TypeVar("T")
Connect = Callable[[RemoteServer], AbstractAsyncContextManager["Session"]]

_BAD_GATEWAY: Final = 502
_GATEWAY_TIMEOUT: Final = 504


class ConnectionLost(RemoteFailure):
    """A connection has ended while something was asked on it. Why, the task knows that had it."""

    def __init__(self) -> None:
        super().__init__("http_error", _BAD_GATEWAY, "the connection was lost")


@dataclass(frozen=True, slots=True)
class McpServers:
    """Connects through `transport`, which makes one whose answers have at most so many bytes."""

    transport: Callable[[int], httpx2.AsyncBaseTransport]
    bounds: McpBounds = field(default_factory=McpBounds)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator["Connections"]:
        """Connections for one response; they are closed when the block ends, within moments."""
        # The library takes a second to import: servers start without it, and others go on while it is read.
        connect = await asyncio.to_thread(_connect)
        connections = Connections(lambda server: connect(server, self.transport, self.bounds, __version__), self.bounds)
        try:
            yield connections
        finally:
            await connections.close()


@dataclass(slots=True, eq=False)
class _Connection:
    """A connection. `ready` is its session, `task` has it, and `lost` is why it is gone."""

    ready: "asyncio.Future[Session]"
    calls: asyncio.Semaphore
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    lost: RemoteFailure = field(default_factory=ConnectionLost)
    task: "asyncio.Task[None]" = field(init=False)


class Connections:
    """One connection per server, made when it is first needed, and again if it was lost."""

    def __init__(self, connect: Connect, bounds: McpBounds) -> None:
        self._connect = connect
        self._bounds = bounds
        self._open: dict[str, _Connection] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def tools(self, server: RemoteServer) -> Sequence[RemoteTool]:
        """The tools that a server offers. Raises `RemoteFailure`."""
        return await self._asked(server, self._bounds.listing_s, lambda session: session.tools())

    async def call(self, server: RemoteServer, name: str, arguments: Mapping[str, Any]) -> RemoteResult:
        """Call a tool. Raises `RemoteFailure`."""
        async with self._connection(server).calls:
            return await self._asked(server, self._bounds.call_s, lambda session: session.call(name, arguments))

    async def close(self) -> None:
        """Close every connection; those that take too long are let go."""
        for connection in self._open.values():
            connection.closing.set()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=self._bounds.closing_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _asked(self, server: RemoteServer, seconds: float, ask: "Callable[[Session], Awaitable[T]]") -> T:
        """What a server answers within so many seconds, connecting included."""
        connection = self._connection(server)
        try:
            async with asyncio.timeout(seconds):
                return await ask(await asyncio.shield(connection.ready))
        except ConnectionLost:
            await asyncio.wait({connection.task}, timeout=self._bounds.closing_s)
            raise connection.lost from None
        except TimeoutError:
            if not connection.ready.done():  # the next one may be made
                connection.task.cancel()
            raise RemoteFailure("http_error", _GATEWAY_TIMEOUT, f"there was no answer within {seconds:g} s") from None

    def _connection(self, server: RemoteServer) -> _Connection:
        found = self._open.get(server.label)
        if found is not None and not found.task.done():
            return found
        made = _Connection(asyncio.get_running_loop().create_future(), asyncio.Semaphore(self._bounds.calls_at_once))
        made.task = asyncio.create_task(self._hold(server, made))
        made.task.add_done_callback(self._tasks.discard)
        self._tasks.add(made.task)
        self._open[server.label] = made
        return made

    async def _hold(self, server: RemoteServer, connection: _Connection) -> None:
        """Open a connection, keep it, and close it: the library wants all of that in one task."""
        try:
            async with self._connect(server) as session:
                connection.ready.set_result(session)
                await connection.closing.wait()
        except RemoteFailure as exc:
            connection.lost = exc
        finally:
            if not connection.ready.done():
                connection.ready.set_exception(connection.lost)
                connection.ready.exception()  # nobody may be waiting for it any more


def _connect() -> Callable[..., AbstractAsyncContextManager["Session"]]:
    from .session import connected

    return connected
