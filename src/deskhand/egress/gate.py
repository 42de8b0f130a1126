"""A container's private socket, and the connections on it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import structlog

from ..unix_address import address_of
from .door import Door
from .proxy import Proxy

log = structlog.get_logger()

BACKLOG = 256
"""As many as a container may have (`bounds.Bounds`): whoever finds no place is refused at once."""
ACCEPT_AGAIN_S = 1.0


class Gate:
    """Listens for one container until it is closed; then every connection is cut."""

    def __init__(self, proxy: Proxy, door: Door) -> None:
        self.door = door
        self._proxy = proxy
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None
        self._path: Path | None = None

    async def open(self, path: Path) -> None:
        """Listen on a Unix socket at `path`, instead of whatever is there."""
        listener = _listen(path)
        self._path = path
        self._accepting = asyncio.create_task(self._accept(listener))
        self._accepting.add_done_callback(lambda _: listener.close())

    async def close(self) -> None:
        """Stop to listen and cut every connection. Idempotent."""
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.wait([self._accepting])
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)

    async def _accept(self, listener: socket.socket) -> None:
        """Take one connection after the other, each in its turn: asyncio takes a hundred at once."""
        while True:
            await self.door.turn()
            try:
                reader, writer = await _next_connection(listener)
            except OSError as exc:  # out of descriptors, or the client has left
                log.warning("egress.not_accepted", container_id=self.door.container_id, error=str(exc))
                await asyncio.sleep(ACCEPT_AGAIN_S)
                continue
            task = asyncio.create_task(self._proxy.serve(self.door, reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


@asynccontextmanager
async def opened(proxy: Proxy, door: Door, path: Path) -> AsyncIterator[Gate]:
    """A gate for the time of a block."""
    gate = Gate(proxy, door)
    await gate.open(path)
    try:
        yield gate
    finally:
        await gate.close()


async def _next_connection(listener: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    connection, _ = await asyncio.get_running_loop().sock_accept(listener)
    try:
        return await asyncio.open_unix_connection(sock=connection, limit=1 << 17)
    except BaseException:
        connection.close()
        raise


def _listen(path: Path) -> socket.socket:
    """Bind and listen; the folder says who may connect."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with address_of(path) as address:
            listener.bind(address)
        path.chmod(0o666)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener
