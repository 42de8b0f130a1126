"""A container's private socket, and the connections on it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from ..unix_address import address_of
from .door import Door
from .proxy import Proxy

BACKLOG = 128


class Gate:
    """Listens for one container until it is closed; then every connection is cut."""

    def __init__(self, proxy: Proxy, door: Door) -> None:
        self.door = door
        self._proxy = proxy
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._path: Path | None = None

    async def open(self, path: Path) -> None:
        """Listen on a Unix socket at `path`, instead of whatever is there."""
        listener = _listen(path)
        self._path = path
        self._server = await asyncio.start_unix_server(self._accepted, sock=listener, limit=1 << 17)

    async def close(self) -> None:
        """Stop to listen and cut every connection. Idempotent."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
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
