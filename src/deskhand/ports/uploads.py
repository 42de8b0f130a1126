"""Files that are uploaded in parts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from .store import FileRecord

UploadState = Literal["pending", "completed", "cancelled", "expired"]


@dataclass(frozen=True, slots=True)
class UploadRecord:
    """An upload. Times are unix seconds; `file_expires_after` counts from the file's creation, None is for ever."""

    id: str
    owner: str
    filename: str
    bytes: int
    purpose: str
    created_at: int
    expires_at: int
    file_expires_after: int | None
    state: UploadState = "pending"
    file_id: str | None = None


@dataclass(frozen=True, slots=True)
class PartRecord:
    """A part of an upload. `blob` is the key of its bytes."""

    id: str
    upload_id: str
    bytes: int
    created_at: int
    blob: str


@dataclass(frozen=True, slots=True)
class Room:
    """How many parts an upload may have, and how many bytes they may have together."""

    parts: int
    bytes: int


class UploadStore(Protocol):
    """Uploads' records. Another owner's do not exist for you."""

    async def add(self, record: UploadRecord, most_pending: int) -> bool:
        """Store a new upload. Durable on return. False if its owner has so many under way already."""
        ...

    async def get(self, owner: str, upload_id: str) -> UploadRecord | None:
        """The upload, whether it is over or not."""
        ...

    async def add_part(self, owner: str, part: PartRecord, room: Room) -> Literal["added", "over", "full"]:
        """Store a part of an upload that is under way at the part's creation."""
        ...

    async def parts(self, upload_id: str) -> Sequence[PartRecord]:
        """The parts of an upload, in the order of their arrival."""
        ...

    async def complete(self, owner: str, upload_id: str, file: FileRecord) -> bool:
        """Make an upload the file, in one transaction. False if the upload is over: then there is no file."""
        ...

    async def cancel(self, owner: str, upload_id: str, now: int) -> bool:
        """End an upload without a file. False if it is over."""
        ...

    async def expire(self, now: int) -> None:
        """End those of every owner whose time has passed."""
        ...

    async def ended_with_parts(self, most: int) -> Sequence[str]:
        """Ids of uploads of any owner that are over and still have parts."""
        ...

    async def delete_parts(self, upload_id: str) -> Sequence[PartRecord]:
        """Forget the parts of an upload, and return them."""
        ...

    async def forget(self, before: int) -> None:
        """Forget uploads of any owner that are over, have no parts, and expired before a time (unix seconds)."""
        ...
