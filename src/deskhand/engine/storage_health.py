"""Whether the database and the bytes of files can be written, found out by writing, before a client finds out."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import structlog

from ..core.errors import StoreUnavailable
from ..ports.probe import StorageProbe
from ..ports.store import BlobStore
from .background import beside

log = structlog.get_logger()

PERIOD_SECONDS: Final = 10.0
TROUBLED_PERIOD_SECONDS: Final = 2.0
_PROBE_BYTES: Final = 32


class StorageHealth:
    """The state of the storage as of a few seconds ago. Use as `async with health.serving()`."""

    def __init__(self, database: StorageProbe, blobs: BlobStore, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._blobs = blobs
        self._now = now
        self._trouble = ""

    @property
    def trouble(self) -> str:
        """What is wrong, in words that name nothing of anybody's; "" if nothing is."""
        return self._trouble

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["StorageHealth"]:
        """Try the storage now and then until the block ends."""
        async with beside(self._try_forever()):
            yield self

    async def _try_forever(self) -> None:
        while True:
            trouble = await self._found()
            if trouble != self._trouble:
                log.warning("storage.changed", trouble=trouble or "over")
            self._trouble = trouble
            await asyncio.sleep(TROUBLED_PERIOD_SECONDS if trouble else PERIOD_SECONDS)

    async def _found(self) -> str:
        try:
            await self._database.probe(int(self._now()))
        except Exception as exc:
            return f"The database cannot be written: {_cause(exc)}"
        try:
            await self._try_blobs()
        except Exception as exc:
            return f"The bytes of files cannot be written: {_cause(exc)}"
        return ""

    async def _try_blobs(self) -> None:
        # Random, as a blob is known by its content: nobody else's may be deleted.
        content = os.urandom(_PROBE_BYTES)

        async def chunks() -> AsyncIterator[bytes]:
            yield content

        blob = await self._blobs.put(chunks(), max_bytes=_PROBE_BYTES)
        await self._blobs.delete(blob.key)


def _cause(exc: Exception) -> str:
    """Why, without the path that an `OSError` names, and without anything that was not meant to be read."""
    match exc:
        case StoreUnavailable(__cause__=OSError(strerror=str() as reason)):
            return f"{reason}."
        case StoreUnavailable():
            return str(exc)
        case _:
            log.error("storage.probe_failed", exc_info=exc)
            return "an unexpected error; see the log."
