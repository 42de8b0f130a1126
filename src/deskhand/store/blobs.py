"""Bytes on disk by content address: a file is named for the SHA-256 of what is in it.

A file appears under its name only when all of it is on disk, so a name that exists is whole. Puts of the same bytes may
run at the same time: the last one to rename wins, with the same content.
"""

import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from ..ports.store import Blob
from .uploads import CHUNK_BYTES, Received, Uploads, disk_unavailable, on_disk

_KEY = re.compile(r"[0-9a-f]{64}")


class DiskBlobs:
    """The `BlobStore` of a directory that belongs to it alone.

    Making one removes what an earlier process left half-written. Anything that is not a key, such as `../x`, names no
    bytes.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._uploads = Uploads(root / "incoming")

    async def put(self, chunks: AsyncIterator[bytes], *, max_bytes: int) -> Blob:
        """Store bytes durably. Raises `BlobTooLarge`, `StoreUnavailable`, and what `chunks` raises; then none stay."""
        async with self._uploads.received(chunks, max_bytes=max_bytes) as received:
            await on_disk(self._keep, received)
            return Blob(received.digest, received.size)

    async def open(self, key: str) -> AsyncIterator[bytes]:
        """The bytes in chunks. Raises `FileNotFoundError` before the first, and `StoreUnavailable`."""
        if not _KEY.fullmatch(key):
            raise FileNotFoundError(f"no blob {key!r}")
        # Not on a thread: a file that is opened for a waiter that was cancelled would stay open.
        with _opened(self._root / key[:2] / key) as file:
            while chunk := await on_disk(file.read, CHUNK_BYTES):
                yield chunk

    async def delete(self, key: str) -> None:
        """Forget the bytes. Idempotent. Raises `StoreUnavailable`."""
        if _KEY.fullmatch(key):
            await on_disk(_unlink, self._root / key[:2] / key)

    def _keep(self, received: Received) -> None:
        place = self._root / received.digest[:2]
        place.mkdir(exist_ok=True)
        os.replace(received.path, place / received.digest)
        _sync_directory(place)
        _sync_directory(self._root)


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise disk_unavailable(error) from error


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
