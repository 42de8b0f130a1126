"""Wake-ups between the processes that share a PostgreSQL, by its LISTEN and NOTIFY.

A transaction that notifies takes a lock of the whole server while it commits (PostgreSQL's `PreCommit_Notify`), so the
stores' transactions do not: there is a connection for it, with one short transaction for all that has come meanwhile.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Final

import psycopg
import structlog

from .postgres import parsed
from .text import column
from .wakeups import LocalWakeups

log = structlog.get_logger()

CHANNEL: Final = "deskhand_wakeups"
GATHER_SECONDS: Final = 0.01
"""Between two notifications: what comes meanwhile goes together."""
MOST_NAMES: Final = 1000
"""Waiting to be told. More are dropped, as who relies on them also looks by itself."""
MOST_CHARACTERS: Final = 200
"""In a name. PostgreSQL takes no notification of 8000 bytes."""
RECONNECT_SECONDS: Final = 2.0
FAREWELL_SECONDS: Final = 1.0

_TELL: Final = f"SELECT pg_notify('{CHANNEL}', name) FROM unnest(%s::text[]) AS name"
_Talk = Callable[[psycopg.AsyncConnection], Awaitable[None]]


class PostgresWakeups:
    """The `Wakeups` of processes that share a database. Use as `async with wakeups.serving()`.

    While the server is gone, only those of this process are woken.
    """

    def __init__(self, url: str) -> None:
        self._parameters = parsed(url)
        self._local = LocalWakeups()
        self._waiting: dict[str, None] = {}
        self._ready = asyncio.Event()
        self._told = asyncio.Event()
        self._told.set()
        self._own = 0

    def wake(self, name: str) -> None:
        """Wake who listens for `name`: here at once, elsewhere a little later."""
        self._local.wake(name)
        if len(self._waiting) < MOST_NAMES and len(name) <= MOST_CHARACTERS:
            self._waiting[column(name)] = None
            self._ready.set()
            self._told.clear()

    def listening(self, name: str) -> AbstractAsyncContextManager[AsyncIterator[None]]:
        """Listen for `name`."""
        return self._local.listening(name)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["PostgresWakeups"]:
        """Tell and hear until the block ends. What is waiting then is still told, if that is quick."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._connected(talk)) for talk in (self._hear, self._tell)]
            try:
                yield self
            finally:
                with suppress(TimeoutError):
                    async with asyncio.timeout(FAREWELL_SECONDS):
                        await self._told.wait()
                for task in tasks:
                    task.cancel()

    async def _connected(self, talk: _Talk) -> None:
        """Keep a connection for `talk`, made again whenever it is lost."""
        down = False
        while True:
            try:
                connection = await psycopg.AsyncConnection.connect(autocommit=True, **self._parameters)
            except psycopg.Error:
                if not down:
                    # Without the text of the error, which may have parts of the URL.
                    log.warning("wakeups.gone")
                down = True
                self._waiting.clear()
                self._told.set()
                await asyncio.sleep(random.uniform(0.5, 1) * RECONNECT_SECONDS)
                continue
            if down:
                log.warning("wakeups.back")
            down = False
            # What was lost is noticed here: by the one who hears at once, by the one who tells with the next name.
            with suppress(psycopg.Error):
                async with connection:
                    await talk(connection)
            await asyncio.sleep(GATHER_SECONDS)

    async def _hear(self, connection: psycopg.AsyncConnection) -> None:
        await connection.execute(f"LISTEN {CHANNEL}")
        async for notice in connection.notifies():
            if notice.pid != self._own:
                self._local.wake(notice.payload)

    async def _tell(self, connection: psycopg.AsyncConnection) -> None:
        self._own = connection.info.backend_pid
        # A lost wake-up costs a moment, and an fsync for each would cost more.
        await connection.execute("SET synchronous_commit = off")
        if self._waiting:
            self._ready.set()
        while True:
            await self._ready.wait()
            self._ready.clear()
            names = [*self._waiting]
            if names:
                # A database of another encoding may not have all characters.
                with suppress(psycopg.DataError):
                    await connection.execute(_TELL, (names,))
            for name in names:
                self._waiting.pop(name, None)
            if not self._waiting:
                self._told.set()
            await asyncio.sleep(GATHER_SECONDS)
