"""Uploads in parts (API reference, "Files and uploads")."""

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from .files import File, Purpose

MOST_PARTS: Final = 10_000


class FileExpiry(Struct, frozen=True, kw_only=True):
    """When a file goes: seconds after it was made, from an hour to 30 days."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Meta(ge=3600, le=2_592_000)]


class CreateUpload(Struct, frozen=True, kw_only=True):
    """The body of `POST /v1/uploads`."""

    filename: Annotated[str, Meta(min_length=1)]
    purpose: Purpose
    bytes: Annotated[int, Meta(ge=0)]
    mime_type: str
    expires_after: FileExpiry | None = None


class CompleteUpload(Struct, frozen=True, kw_only=True):
    """The body of `POST /v1/uploads/{id}/complete`."""

    part_ids: Annotated[list[str], Meta(max_length=MOST_PARTS)]
    md5: str | None = None


class Upload(Struct, frozen=True, kw_only=True):
    """An upload, with its file once it is completed."""

    id: str
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: Literal["pending", "completed", "cancelled", "expired"]
    object: Literal["upload"] = "upload"
    file: File | None = None


class UploadPart(Struct, frozen=True, kw_only=True):
    """A part of an upload."""

    id: str
    created_at: int
    upload_id: str
    object: Literal["upload.part"] = "upload.part"
