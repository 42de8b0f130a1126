"""Bytes on disk by content address: a file is named for the SHA-256 of what is in it.

A file appears under its name only when all of it is on disk, so a name that exists is whole. Puts of the same bytes may
run at the same time: the last one to rename wins, with the same content.
"""

import asyncio
import hashlib
import os
import re
import tempfile
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, ParamSpec, TypeVar

from ..core.errors import StoreUnavailable
from ..ports.store import Blob, BlobTooLarge

P = ParamSpec("P")
T = TypeVar("T")

CHUNK_BYTES = 256 * 1024

_KEY = re.compile(r"[0-9a-f]{64}")


class DiskBlobs:
    """The `BlobStore` of a directory that belongs to it alone.

    Making one removes what an earlier process left half-written. Anything that is not a key, such as `../x`, names no
    bytes.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming = root / "incoming"
        for leftover in self._incoming.glob("*"):
            leftover.unlink(missing_ok=True)

    async def put(self, chunks: AsyncIterator[bytes], *, max_bytes: int) -> Blob:
        """Store bytes durably. Raises `BlobTooLarge`, `StoreUnavailable`, and what `chunks` raises; then none stay."""
        upload, waiting, size = _Upload(self._root, self._incoming), bytearray(), 0
        try:
            async for chunk in chunks:
                size += len(chunk)
                if size > max_bytes:
                    raise BlobTooLarge(f"more than {max_bytes} bytes")
                waiting += chunk
                if len(waiting) >= CHUNK_BYTES:
                    await _on_disk(upload.write, bytes(waiting))
                    waiting.clear()
            return Blob(await _on_disk(upload.keep, bytes(waiting)), size)
        except BaseException:
            await asyncio.to_thread(upload.discard)
            raise

    async def open(self, key: str) -> AsyncIterator[bytes]:
        """The bytes in chunks. Raises `FileNotFoundError` before the first, and `StoreUnavailable`."""
        if not _KEY.fullmatch(key):
            raise FileNotFoundError(f"no blob {key!r}")
        # Not on a thread: a file that is opened for a waiter that was cancelled would stay open.
        with _opened(self._root / key[:2] / key) as file:
            while chunk := await _on_disk(file.read, CHUNK_BYTES):
                yield chunk

    async def delete(self, key: str) -> None:
        """Forget the bytes. Idempotent. Raises `StoreUnavailable`."""
        if _KEY.fullmatch(key):
            await _on_disk(_unlink, self._root / key[:2] / key)


class _Upload:
    """A file that is being written, on threads.

    The lock is for a `put` that is cancelled: its last write may still run when the file is discarded.
    """

    def __init__(self, root: Path, incoming: Path) -> None:
        self._root = root
        self._incoming = incoming
        self._digest = hashlib.sha256()
        self._lock = threading.Lock()
        self._path: Path | None = None
        self._file: BinaryIO | None = None
        self._ended = False

    def write(self, data: bytes) -> None:
        """Add bytes."""
        with self._lock:
            self._add(data)

    def keep(self, data: bytes) -> str:
        """Add the last bytes, make everything durable, and return the key."""
        with self._lock:
            path, file = self._add(data)
            file.flush()
            os.fsync(file.fileno())
            file.close()
            key = self._digest.hexdigest()
            place = self._root / key[:2]
            place.mkdir(exist_ok=True)
            os.replace(path, place / key)
            _sync_directory(place)
            _sync_directory(self._root)
            return key

    def discard(self) -> None:
        """Close and remove the file, unless it was kept."""
        with self._lock:
            self._ended = True
            if self._file is not None:
                # What does not fit the disk any more is not wanted either.
                with suppress(OSError):
                    self._file.close()
            if self._path is not None:
                self._path.unlink(missing_ok=True)

    def _add(self, data: bytes) -> tuple[Path, BinaryIO]:
        if self._ended:
            raise ValueError("the upload was discarded")
        if self._path is None or self._file is None:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._incoming.mkdir(exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self._incoming)
            self._path, self._file = Path(name), os.fdopen(descriptor, "wb")
        self._digest.update(data)
        self._file.write(data)
        return self._path, self._file


async def _on_disk(act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `act` on a thread; a disk's error becomes `StoreUnavailable`."""
    try:
        return await asyncio.to_thread(act, *args, **kwargs)
    except OSError as error:
        raise _unavailable(error) from error


def _unavailable(error: OSError) -> StoreUnavailable:
    return StoreUnavailable(
        f"The disk does not take or give the bytes of files: {error}. Check the free space, the permissions of the "
        "data directory and the health of the disk."
    )


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unavailable(error) from error


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
