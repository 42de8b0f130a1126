"""`/v1/files`."""

import re
from dataclasses import dataclass
from typing import get_args

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..core.errors import ApiError, missing
from ..engine.container_files import clean_name
from ..engine.files import Files
from ..ports.store import FileRecord
from ..wire.files import File, Purpose
from .bodies import listing, read_page
from .downloads import download
from .json import json
from .multipart import Form, read_upload

MIN_EXPIRY_SECONDS, MAX_EXPIRY_SECONDS = 3600, 2_592_000
"""Bounds of `expires_after[seconds]` (OpenAPI snapshot, FileExpirationAfter)."""


@dataclass(frozen=True, slots=True)
class FilesApi:
    """Upload, list, read and delete files."""

    files: Files

    def routes(self) -> list[Route]:
        """The routes of this resource."""
        return [
            Route("/v1/files", self.create, methods=["POST"]),
            Route("/v1/files", self.list, methods=["GET"]),
            Route("/v1/files/{id}", self.retrieve, methods=["GET"]),
            Route("/v1/files/{id}", self.delete, methods=["DELETE"]),
            Route("/v1/files/{id}/content", self.content, methods=["GET"]),
        ]

    async def create(self, request: Request) -> Response:
        form, upload = await read_upload(request, "file")
        filename = clean_name(upload.filename)
        async with self.files.receive(upload.chunks) as blob:
            purpose, expires_after_s = _purpose(form), _expiry(form)
            record = await self.files.add(request.state.owner, filename, purpose, blob, expires_after_s)
        return json(view(record))

    async def list(self, request: Request) -> Response:
        page = read_page(request, default=10_000, most=10_000)
        found = await self.files.list(request.state.owner, page, request.query_params.get("purpose") or None)
        return json(listing([view(record) for record in found.data], has_more=found.has_more))

    async def retrieve(self, request: Request) -> Response:
        return json(view(await self.files.get(request.state.owner, request.path_params["id"])))

    async def delete(self, request: Request) -> Response:
        file_id = request.path_params["id"]
        await self.files.delete(request.state.owner, file_id)
        return json({"id": file_id, "object": "file", "deleted": True})

    async def content(self, request: Request) -> Response:
        record = await self.files.get(request.state.owner, request.path_params["id"])
        return await download(record.filename, self.files.content(record))


def _purpose(form: Form) -> str:
    purpose = form.fields.get("purpose")
    if not purpose:
        raise missing("purpose")
    if purpose not in get_args(Purpose):
        choices = ", ".join(get_args(Purpose))
        raise ApiError(
            f"Invalid value for 'purpose': {purpose!r}. One of: {choices}.", code="invalid_value", param="purpose"
        )
    return purpose


def _expiry(form: Form) -> int | None:
    text = form.fields.get("expires_after[seconds]")
    if text is None and "expires_after[anchor]" not in form.fields:
        return None
    if text is None:
        raise missing("expires_after[seconds]")
    if form.fields.get("expires_after[anchor]") != "created_at":
        raise ApiError(
            "Invalid value for 'expires_after[anchor]': must be 'created_at'.",
            code="invalid_value",
            param="expires_after[anchor]",
        )
    # Digits of other scripts, and thousands of them, are no numbers to Python either.
    if not re.fullmatch("[0-9]{1,9}", text) or not MIN_EXPIRY_SECONDS <= int(text) <= MAX_EXPIRY_SECONDS:
        raise ApiError(
            f"Invalid 'expires_after[seconds]': between {MIN_EXPIRY_SECONDS} and {MAX_EXPIRY_SECONDS}, got {text!r}.",
            code="invalid_value",
            param="expires_after[seconds]",
        )
    return int(text)


def view(record: FileRecord) -> File:
    """A file as it is shown."""
    return File(
        id=record.id,
        bytes=record.bytes,
        created_at=record.created_at,
        filename=record.filename,
        purpose=record.purpose,
        expires_at=record.expires_at,
    )
