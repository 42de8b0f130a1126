"""Bytes on their way into a blob store: in a file until all of them are there, and nowhere if not all come."""

import asyncio
import hashlib
import os
import tempfile
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ParamSpec, TypeVar

from ..core.errors import StoreUnavailable
from ..ports.store import BlobTooLarge

P = ParamSpec("P")
T = TypeVar("T")

CHUNK_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Received:
    """Bytes that are all there, in a file."""

    path: Path
    digest: str
    """Their SHA-256 in hexadecimal."""
    size: int


class Uploads:
    """A directory for files that are being received. Making one removes what an earlier process left."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        for leftover in directory.glob("*"):
            leftover.unlink(missing_ok=True)

    @asynccontextmanager
    async def received(self, chunks: AsyncIterator[bytes], *, max_bytes: int) -> AsyncIterator[Received]:
        """All of `chunks` in a file, which is gone when the block ends unless it was moved.

        Raises `BlobTooLarge`, `StoreUnavailable`, and what `chunks` raises.
        """
        upload, waiting, size = _Upload(self._directory), bytearray(), 0
        try:
            async for chunk in chunks:
                size += len(chunk)
                if size > max_bytes:
                    raise BlobTooLarge(f"more than {max_bytes} bytes")
                waiting += chunk
                if len(waiting) >= CHUNK_BYTES:
                    await on_disk(upload.write, bytes(waiting))
                    waiting.clear()
            path, digest = await on_disk(upload.close, bytes(waiting))
            yield Received(path, digest, size)
        finally:
            await asyncio.to_thread(upload.discard)


class _Upload:
    """A file that is being written, on threads.

    The lock is for one that is cancelled: its last write may still run when the file is discarded.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._digest = hashlib.sha256()
        self._lock = threading.Lock()
        self._path: Path | None = None
        self._file: BinaryIO | None = None
        self._ended = False

    def write(self, data: bytes) -> None:
        """Add bytes."""
        with self._lock:
            self._add(data)

    def close(self, data: bytes) -> tuple[Path, str]:
        """Add the last bytes and make everything durable. The path, and the digest."""
        with self._lock:
            path, file = self._add(data)
            file.flush()
            os.fsync(file.fileno())
            file.close()
            return path, self._digest.hexdigest()

    def discard(self) -> None:
        """Close and remove the file, unless it was moved."""
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
            self._directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._directory.mkdir(mode=0o700, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self._directory)
            self._path, self._file = Path(name), os.fdopen(descriptor, "wb")
        self._digest.update(data)
        self._file.write(data)
        return self._path, self._file


async def on_disk(act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `act` on a thread; a disk's error becomes `StoreUnavailable`."""
    try:
        return await asyncio.to_thread(act, *args, **kwargs)
    except OSError as error:
        raise disk_unavailable(error) from error


def disk_unavailable(error: OSError) -> StoreUnavailable:
    """A disk's error, with advice."""
    return StoreUnavailable(
        f"The disk does not take or give the bytes of files: {error}. Check the free space, the permissions of the "
        "data directory and the health of the disk."
    )
