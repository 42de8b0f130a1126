"""Files that are uploaded in parts: the parts are bytes of their own until all of them become one file."""

import hashlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ..core.errors import ApiError
from ..ports.store import FileRecord
from ..ports.uploads import PartRecord, Room, UploadRecord, UploadState, UploadStore
from ..wire.uploads import MOST_PARTS, CompleteUpload, CreateUpload
from .background import repeatedly
from .container_files import clean_name
from .files import Files
from .ids import new_id

MAX_PART_BYTES: Final = 64 << 20
"""Largest part (API reference, "Files and uploads")."""
LIFE_SECONDS: Final = 3600
"""Time from the creation of an upload in which it must be completed (the same)."""
MOST_PENDING: Final = 1000
"""Uploads of a project that are under way."""
TRIES: Final = 2
"""How often the bytes of an upload may be sent, one part and another time for those that were sent again."""
EXPIRY_SECONDS: Final = 60.0
KEPT_SECONDS: Final = 86_400
"""How long after its time an upload is still known."""
BATCH: Final = 100


@dataclass(frozen=True, slots=True)
class PartUploads:
    """The uploads of every owner. Another owner's do not exist for you."""

    store: UploadStore
    files: Files
    max_bytes: int
    now: Callable[[], float] = time.time

    async def create(self, owner: str, asked: CreateUpload) -> UploadRecord:
        """Begin an upload. Raises `ApiError`."""
        if asked.bytes > self.max_bytes:
            message = f"The upload is larger than this server takes ({self.max_bytes} bytes)."
            raise ApiError(message, code="integer_above_max_value", param="bytes")
        now = int(self.now())
        record = UploadRecord(
            new_id("upload"),
            owner,
            clean_name(asked.filename, param="filename"),
            asked.bytes,
            asked.purpose,
            now,
            now + LIFE_SECONDS,
            asked.expires_after.seconds if asked.expires_after is not None else None,
        )
        if not await self.store.add(record, MOST_PENDING):
            message = f"There are {MOST_PENDING} uploads under way. Complete or cancel some of them."
            raise ApiError(message, status=429, code="rate_limit_exceeded", kind="rate_limit_error")
        return record

    async def add_part(self, owner: str, upload_id: str, chunks: AsyncIterator[bytes]) -> PartRecord:
        """Add a part to an upload. Raises `ApiError`."""
        record = await self._pending(owner, upload_id)
        room = Room(MOST_PARTS, TRIES * record.bytes + MAX_PART_BYTES)
        async with self.files.receive(chunks, MAX_PART_BYTES, param="data") as blob:
            part = PartRecord(new_id("part"), record.id, blob.bytes, int(self.now()), blob.key)
            match await self.store.add_part(owner, part, room):
                case "over":
                    raise _over(await self.get(owner, upload_id))
                case "full":
                    message = (
                        f"The upload has no room for this part: it was created for {record.bytes} bytes, "
                        f"and takes at most {room.parts} parts and {room.bytes} bytes before it is completed."
                    )
                    raise ApiError(message, code="invalid_value", param="data")
                case "added":
                    return part

    async def complete(self, owner: str, upload_id: str, asked: CompleteUpload) -> tuple[UploadRecord, FileRecord]:
        """Make the parts a file, in the order that is asked for. Raises `ApiError`; the upload then stays as it was."""
        record = await self._pending(owner, upload_id)
        parts = _chosen(record, await self.store.parts(record.id), asked.part_ids)
        digest = hashlib.md5(usedforsecurity=False) if asked.md5 is not None else None

        async def content() -> AsyncIterator[bytes]:
            for part in parts:
                async for chunk in self.files.bytes_of(part.blob):
                    if digest is not None:
                        digest.update(chunk)
                    yield chunk

        try:
            async with self.files.receive(content(), self.max_bytes) as blob:
                if digest is not None and digest.hexdigest() != str(asked.md5).strip().lower():
                    raise ApiError("The MD5 checksum of the parts is another one.", code="invalid_value", param="md5")
                file = self.files.new_record(owner, record.filename, record.purpose, blob, record.file_expires_after)
                if not await self.store.complete(owner, record.id, file):
                    raise _over(await self.get(owner, upload_id))
        except FileNotFoundError:
            raise _over(await self.get(owner, upload_id)) from None
        await self._drop_parts(record.id)
        return await self.get(owner, upload_id), file

    async def cancel(self, owner: str, upload_id: str) -> UploadRecord:
        """End an upload without a file. Raises `ApiError`."""
        record = await self._pending(owner, upload_id)
        if not await self.store.cancel(owner, record.id, int(self.now())):
            raise _over(await self.get(owner, upload_id))
        await self._drop_parts(record.id)
        return await self.get(owner, upload_id)

    async def get(self, owner: str, upload_id: str) -> UploadRecord:
        """An upload, over or not. Raises `ApiError` (404)."""
        record = await self.store.get(owner, upload_id)
        if record is None:
            raise ApiError(f"No such Upload object: {upload_id}", status=404, param="upload_id")
        return record

    def state(self, record: UploadRecord) -> UploadState:
        """What an upload has come to by now."""
        return "expired" if record.state == "pending" and record.expires_at <= self.now() else record.state

    async def expire_forever(self) -> None:
        """End what nobody completed in time, and drop the bytes of parts that nobody needs, until cancelled."""
        await repeatedly("uploads.expiry", self._expire, EXPIRY_SECONDS)

    async def _expire(self) -> None:
        now = int(self.now())
        await self.store.expire(now)
        while ended := await self.store.ended_with_parts(BATCH):
            for upload_id in ended:
                await self._drop_parts(upload_id)
        await self.store.forget(now - KEPT_SECONDS)

    async def _drop_parts(self, upload_id: str) -> None:
        for part in await self.store.delete_parts(upload_id):
            await self.files.drop(part.blob)

    async def _pending(self, owner: str, upload_id: str) -> UploadRecord:
        record = await self.get(owner, upload_id)
        if self.state(record) != "pending":
            raise _over(record)
        return record


def _chosen(record: UploadRecord, parts: Sequence[PartRecord], part_ids: Sequence[str]) -> Sequence[PartRecord]:
    """The parts that are asked for, in that order. Raises `ApiError` if they are not the whole upload."""
    known = {part.id: part for part in parts}
    for index, part_id in enumerate(part_ids):
        if part_id not in known:
            message = f"The upload has no part '{part_id}'."
            raise ApiError(message, code="invalid_value", param=f"part_ids[{index}]")
    if len(set(part_ids)) != len(part_ids):
        raise ApiError("A part is named more than once.", code="invalid_value", param="part_ids")
    chosen = [known[part_id] for part_id in part_ids]
    if (size := sum(part.bytes for part in chosen)) != record.bytes:
        message = f"The parts have {size} bytes together; the upload was created for {record.bytes}."
        raise ApiError(message, code="invalid_value", param="part_ids")
    return chosen


def _over(record: UploadRecord) -> ApiError:
    state = "expired" if record.state == "pending" else record.state
    return ApiError(f"The upload '{record.id}' is {state}: it takes nothing more.", code="invalid_value")
