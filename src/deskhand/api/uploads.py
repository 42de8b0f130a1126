"""`/v1/uploads`: files in parts."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..engine.part_uploads import PartUploads
from ..ports.store import FileRecord
from ..ports.uploads import UploadRecord
from ..wire.uploads import CompleteUpload, CreateUpload, Upload, UploadPart
from .bodies import read_json
from .files import view
from .json import json
from .multipart import read_upload

MAX_JSON_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class UploadsApi:
    """Begin an upload, add parts to it, complete or cancel it."""

    uploads: PartUploads

    def routes(self) -> list[Route]:
        """The routes of this resource."""
        return [
            Route("/v1/uploads", self.create, methods=["POST"]),
            Route("/v1/uploads/{id}/parts", self.add_part, methods=["POST"]),
            Route("/v1/uploads/{id}/complete", self.complete, methods=["POST"]),
            Route("/v1/uploads/{id}/cancel", self.cancel, methods=["POST"]),
        ]

    async def create(self, request: Request) -> Response:
        body = await read_json(request, CreateUpload, MAX_JSON_BYTES)
        return json(self._view(await self.uploads.create(request.state.owner, body)))

    async def add_part(self, request: Request) -> Response:
        _, upload = await read_upload(request, "data")
        part = await self.uploads.add_part(request.state.owner, request.path_params["id"], upload.chunks)
        return json(UploadPart(id=part.id, created_at=part.created_at, upload_id=part.upload_id))

    async def complete(self, request: Request) -> Response:
        body = await read_json(request, CompleteUpload, MAX_JSON_BYTES)
        record, file = await self.uploads.complete(request.state.owner, request.path_params["id"], body)
        return json(self._view(record, file))

    async def cancel(self, request: Request) -> Response:
        return json(self._view(await self.uploads.cancel(request.state.owner, request.path_params["id"])))

    def _view(self, record: UploadRecord, file: FileRecord | None = None) -> Upload:
        return Upload(
            id=record.id,
            bytes=record.bytes,
            created_at=record.created_at,
            expires_at=record.expires_at,
            filename=record.filename,
            purpose=record.purpose,
            status=self.uploads.state(record),
            file=view(file) if file is not None else None,
        )
