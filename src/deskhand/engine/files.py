"""Uploaded files: bytes in the blob store, records in the database, both or neither."""

import asyncio
import base64
import mimetypes
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog

from ..core.errors import ApiError, StoreUnavailable
from ..ports.store import Blob, BlobStore, BlobTooLarge, FileRecord, FileStore, Listing, Page
from .background import repeatedly
from .ids import new_id

log = structlog.get_logger()

MAX_INLINE_BYTES = 50 << 20
"""Largest file that goes into a prompt (API reference, "Content parts")."""
EXPIRY_SECONDS = 60.0
_LIVES = {"batch": 30 * 86_400}
"""Seconds for which files of a purpose live if nothing else is said (API reference, "Create file")."""


class Files:
    """The files of every owner.

    Equal bytes are one blob, so a blob is dropped only while no upload is between its last byte and its record. An
    upload that is still being received does not count: one that stalls would keep everybody's deleted bytes.
    """

    def __init__(
        self, records: FileStore, blobs: BlobStore, max_bytes: int, now: Callable[[], float] = time.time
    ) -> None:
        self._records = records
        self._blobs = blobs
        self._max_bytes = max_bytes
        self._now = now
        self._arriving = 0
        self._dropped: set[str] = set()
        self._dropping = asyncio.Lock()

    @asynccontextmanager
    async def receive(
        self, chunks: AsyncIterator[bytes], most: int | None = None, *, param: str = "file"
    ) -> AsyncIterator[Blob]:
        """Keep uploaded bytes while the block runs, and after it if a record names them by then.

        Raises `ApiError` (413) if they are more than `most`, or than files may have.
        """
        arrived = False
        most = self._max_bytes if most is None else most

        async def all_of_it() -> AsyncIterator[bytes]:
            nonlocal arrived
            async for chunk in chunks:
                yield chunk
            async with self._dropping:
                self._arriving += 1
                arrived = True

        try:
            blob = await self._blobs.put(all_of_it(), max_bytes=most)
            self._dropped.add(blob.key)
            yield blob
        except BlobTooLarge:
            message = f"The file is larger than this server takes ({most} bytes)."
            raise ApiError(message, status=413, param=param) from None
        finally:
            self._arriving -= arrived
            await self._drop_unused()

    async def add(self, owner: str, filename: str, purpose: str, blob: Blob, expires_after_s: int | None) -> FileRecord:
        """Make received bytes a file."""
        record = self.new_record(owner, filename, purpose, blob, expires_after_s)
        await self._records.add(record)
        return record

    def new_record(
        self, owner: str, filename: str, purpose: str, blob: Blob, expires_after_s: int | None
    ) -> FileRecord:
        """The record of a file that is made now, and is not stored yet."""
        now, life = int(self._now()), expires_after_s or _LIVES.get(purpose)
        expires_at = None if life is None else now + life
        return FileRecord(new_id("file"), owner, filename, blob.bytes, purpose, now, expires_at, blob.key)

    async def get(self, owner: str, file_id: str, *, param: str | None = None) -> FileRecord:
        """The record. Raises `ApiError` (404)."""
        record = await self._records.get(owner, file_id)
        if record is None or (record.expires_at is not None and record.expires_at <= self._now()):
            raise _no_such(file_id, param)
        return record

    async def list(self, owner: str, page: Page, purpose: str | None) -> Listing[FileRecord]:
        """A page of the owner's files."""
        return await self._records.list(owner, page, purpose)

    async def delete(self, owner: str, file_id: str) -> None:
        """Forget a file, its bytes included. Raises `ApiError` (404)."""
        record = await self._records.delete(owner, file_id)
        if record is None:
            raise _no_such(file_id, None)
        await self.drop(record.blob)

    def content(self, record: FileRecord) -> AsyncIterator[bytes]:
        """The bytes of a file, in chunks."""
        return self.bytes_of(record.blob)

    def bytes_of(self, blob: str) -> AsyncIterator[bytes]:
        """The bytes under a key, in chunks. Raises `FileNotFoundError` before the first."""
        return self._blobs.open(blob)

    async def data_url(self, record: FileRecord, *, param: str) -> str:
        """The file as a data URL. Raises `ApiError` if it is too large for a prompt."""
        if record.bytes > MAX_INLINE_BYTES:
            raise ApiError(
                f"File '{record.filename}' has {record.bytes} bytes; a prompt takes at most {MAX_INLINE_BYTES}.",
                param=param,
            )
        content = b"".join([chunk async for chunk in self.content(record)])
        return data_url(record.filename, content)

    async def expire_forever(self) -> None:
        """Delete files whose time has passed, until cancelled."""
        await repeatedly("files.expiry", self._expire, EXPIRY_SECONDS)

    async def _expire(self) -> None:
        for record in await self._records.expired(int(self._now())):
            if await self._records.delete(record.owner, record.id) is not None:
                await self.drop(record.blob)

    async def drop(self, blob: str) -> None:
        """Forget bytes, unless a record names them."""
        self._dropped.add(blob)
        await self._drop_unused()

    async def _drop_unused(self) -> None:
        async with self._dropping:
            while self._dropped and not self._arriving:
                blob = self._dropped.pop()
                try:
                    if not await self._records.blob_in_use(blob):
                        await self._blobs.delete(blob)
                except StoreUnavailable:
                    self._dropped.add(blob)
                    raise


def _no_such(file_id: str, param: str | None) -> ApiError:
    return ApiError(f"No such File object: {file_id}", status=404, param=param or "id")


def media_type(filename: str) -> str:
    """A media type guessed from a name."""
    return mimetypes.guess_type(filename)[0] or "application/octet-stream"


def data_url(filename: str, content: bytes) -> str:
    """`content` as a data URL (RFC 2397)."""
    return f"data:{media_type(filename)};base64,{base64.b64encode(content).decode()}"


def decode_data_url(data: str, *, param: str) -> bytes:
    """The bytes of a data URL, or of bare base64. Raises `ApiError`."""
    head, comma, body = data.partition(",")
    if data.startswith("data:") and (not comma or ";base64" not in head):
        raise ApiError("Invalid file_data: expected a base64 data URL.", code="invalid_value", param=param)
    try:
        return base64.b64decode(body if data.startswith("data:") else data, validate=True)
    except ValueError:
        raise ApiError("Invalid file_data: not base64.", code="invalid_value", param=param) from None
