"""`/v1/skills` and their versions."""

import re
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..core.errors import ApiError, missing
from ..engine.skill_bundle import MAX_FILES, MAX_UPLOAD_BYTES, SkillBundle, read_archive, read_files
from ..engine.skills import Skills
from ..ports.store import SkillRecord, SkillVersionRecord
from ..wire.skills import Skill, SkillVersion, UpdateSkill
from .bodies import listing, read_json, read_page
from .downloads import download
from .json import json

MAX_FORM_BYTES = MAX_UPLOAD_BYTES + (1 << 20)
"""An upload and the headers of its parts."""
MAX_FIELDS = 8
MAX_JSON_BYTES = 1 << 16

_FILES = re.compile(r"files(\[\d*\])?")
_ZIP_MARKS = (b"PK\x03\x04", b"PK\x05\x06")


@dataclass(frozen=True, slots=True)
class SkillsApi:
    """Upload, list, read, version and delete skills."""

    skills: Skills

    def routes(self) -> list[Route]:
        """The routes of this resource."""
        one, versions = "/v1/skills/{id}", "/v1/skills/{id}/versions"
        return [
            Route("/v1/skills", self.create, methods=["POST"]),
            Route("/v1/skills", self.list, methods=["GET"]),
            Route(one, self.retrieve, methods=["GET"]),
            Route(one, self.update, methods=["POST"]),
            Route(one, self.delete, methods=["DELETE"]),
            Route(one + "/content", self.content, methods=["GET"]),
            Route(versions, self.create_version, methods=["POST"]),
            Route(versions, self.list_versions, methods=["GET"]),
            Route(versions + "/{version}", self.retrieve_version, methods=["GET"]),
            Route(versions + "/{version}", self.delete_version, methods=["DELETE"]),
            Route(versions + "/{version}/content", self.version_content, methods=["GET"]),
        ]

    async def create(self, request: Request) -> Response:
        form = await read_form(request)
        bundle = await self.skills.check(form.read, param="files")
        return json(_view(await self.skills.create(request.state.owner, bundle)))

    async def list(self, request: Request) -> Response:
        found = await self.skills.list(request.state.owner, read_page(request, least=0))
        return json(listing([_view(record) for record in found.data], has_more=found.has_more))

    async def retrieve(self, request: Request) -> Response:
        return json(_view(await self.skills.get(request.state.owner, request.path_params["id"])))

    async def update(self, request: Request) -> Response:
        body = await read_json(request, UpdateSkill, MAX_JSON_BYTES)
        skill_id = request.path_params["id"]
        return json(_view(await self.skills.set_default(request.state.owner, skill_id, body.default_version)))

    async def delete(self, request: Request) -> Response:
        skill_id = request.path_params["id"]
        await self.skills.delete(request.state.owner, skill_id)
        return json({"id": skill_id, "object": "skill.deleted", "deleted": True})

    async def content(self, request: Request) -> Response:
        return await self._content(request, None)

    async def create_version(self, request: Request) -> Response:
        owner, skill_id = request.state.owner, request.path_params["id"]
        await self.skills.get(owner, skill_id)
        form = await read_form(request)
        bundle = await self.skills.check(form.read, param="files")
        return json(_version_view(await self.skills.add_version(owner, skill_id, bundle, default=form.default)))

    async def list_versions(self, request: Request) -> Response:
        skill_id = request.path_params["id"]
        found = await self.skills.versions(request.state.owner, skill_id, read_page(request, least=0))
        return json(listing([_version_view(record) for record in found.data], has_more=found.has_more))

    async def retrieve_version(self, request: Request) -> Response:
        path = request.path_params
        return json(_version_view(await self.skills.version(request.state.owner, path["id"], path["version"])))

    async def delete_version(self, request: Request) -> Response:
        path = request.path_params
        gone = await self.skills.delete_version(request.state.owner, path["id"], path["version"])
        return json({"id": gone.id, "object": "skill.version.deleted", "version": str(gone.version), "deleted": True})

    async def version_content(self, request: Request) -> Response:
        return await self._content(request, request.path_params["version"])

    async def _content(self, request: Request, version: str | None) -> Response:
        found, chunks = await self.skills.content(request.state.owner, request.path_params["id"], version)
        return await download(f"{found.name}-{found.version}.zip", chunks)


@dataclass(frozen=True, slots=True)
class SkillForm:
    """An uploaded skill: how to read its bundle, and whether it shall be the default version."""

    read: Callable[[], SkillBundle]
    default: bool


async def read_form(request: Request) -> SkillForm:
    """The upload, which is many parts named for their paths, or one zip. Raises `ApiError`."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise ApiError("Expected a multipart/form-data body with a boundary.", code="invalid_content_type")
    parser = MultiPartParser(request.headers, _bounded(request), max_files=MAX_FILES, max_fields=MAX_FIELDS)
    try:
        form = await parser.parse()
    except MultiPartException as exc:
        raise ApiError(f"The multipart body cannot be read: {exc.message}", code="invalid_multipart") from None
    try:
        default = form.get("default", "false")
        if default not in {"true", "false"}:
            raise ApiError("Invalid value for 'default': true or false.", code="invalid_value", param="default")
        files = [
            (value.filename or "", await value.read())
            for name, value in form.multi_items()
            if isinstance(value, UploadFile) and _FILES.fullmatch(name)
        ]
    finally:
        await form.close()
    if not files:
        raise missing("files")
    return SkillForm(_reader(files), default == "true")


def _reader(files: list[tuple[str, bytes]]) -> Callable[[], SkillBundle]:
    (name, content), *more = files
    if not more and (content.startswith(_ZIP_MARKS) or name.lower().endswith(".zip")):
        return lambda: read_archive(content)
    return lambda: read_files(files)


async def _bounded(request: Request) -> AsyncGenerator[bytes, None]:
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_FORM_BYTES:
            raise ApiError(f"The upload is larger than a skill may be ({MAX_UPLOAD_BYTES} bytes).", status=413)
        yield chunk


def _view(record: SkillRecord) -> Skill:
    return Skill(
        id=record.id,
        created_at=record.created_at,
        default_version=str(record.default_version),
        description=record.description,
        latest_version=str(record.latest_version),
        name=record.name,
    )


def _version_view(record: SkillVersionRecord) -> SkillVersion:
    return SkillVersion(
        id=record.id,
        created_at=record.created_at,
        description=record.description,
        name=record.name,
        skill_id=record.skill_id,
        version=str(record.version),
    )
