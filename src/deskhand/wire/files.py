"""File resources (API reference, "Files and uploads")."""

from typing import Literal

from msgspec import Struct

Purpose = Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]


class File(Struct, frozen=True, kw_only=True):
    """An uploaded file."""

    id: str
    bytes: int
    created_at: int
    filename: str
    purpose: str
    object: Literal["file"] = "file"
    status: Literal["uploaded", "processed", "error"] = "processed"
    expires_at: int | None = None
    status_details: str | None = None
