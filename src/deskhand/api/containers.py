"""`/v1/containers` and the files in them."""

import posixpath
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..core.errors import ApiError
from ..engine.container_files import ContainerFiles
from ..engine.container_order import Order
from ..engine.container_skills import dumped
from ..engine.containers import Containers
from ..engine.egress import Egress
from ..engine.files import Files
from ..engine.forks import Forks
from ..engine.network_policy import stored_policy
from ..engine.skills import Skills
from ..ports.store import ContainerRecord
from ..wire.containers import AddContainerFile, Container, CreateContainer, ExpiresAfter, NetworkPolicyView
from .bodies import listing, read_json, read_page
from .downloads import download
from .json import json
from .multipart import read_upload


@dataclass(frozen=True, slots=True)
class ContainersApi:
    """Make, look at and end containers; add, list, read and delete their files."""

    containers: Containers
    container_files: ContainerFiles
    files: Files
    skills: Skills
    egress: Egress
    forks: Forks
    max_body_bytes: int

    def routes(self) -> list[Route]:
        """The routes of this resource."""
        one, files = "/v1/containers/{id}", "/v1/containers/{id}/files"
        return [
            Route("/v1/containers", self.create, methods=["POST"]),
            Route("/v1/containers", self.list, methods=["GET"]),
            Route(one, self.retrieve, methods=["GET"]),
            Route(one, self.delete, methods=["DELETE"]),
            Route(files, self.add_file, methods=["POST"]),
            Route(files, self.list_files, methods=["GET"]),
            Route(files + "/{file_id}", self.retrieve_file, methods=["GET"]),
            Route(files + "/{file_id}", self.delete_file, methods=["DELETE"]),
            Route(files + "/{file_id}/content", self.file_content, methods=["GET"]),
        ]

    async def create(self, request: Request) -> Response:
        owner = request.state.owner
        body = await read_json(request, CreateContainer, self.max_body_bytes)
        network = self.egress.plan(body.network_policy, "network_policy")
        uploads = [
            await self.files.get(owner, file_id, param=f"file_ids[{index}]")
            for index, file_id in enumerate(body.file_ids or [])
        ]
        minutes = body.expires_after.minutes if body.expires_after else None
        skills = dumped(await self.skills.resolve(owner, body.skills or [], "skills"))
        order = Order(
            name=body.name,
            memory_limit=body.memory_limit,
            idle_minutes=minutes,
            on_expired=body.on_expired,
            network=network.stored,
            skills=skills,
            isolation=body.isolation,
            secrets=network.secrets,
        )
        if body.snapshot_id is not None or body.response_id is not None:
            snapshot = await self.forks.choose(owner, body.snapshot_id, body.response_id)
            record = await self.forks.create(owner, order, snapshot)
        else:
            record = await self.containers.create(owner, order)
        for upload in uploads:
            await self.container_files.add_upload(owner, record.id, upload)
        return json(view(record))

    async def list(self, request: Request) -> Response:
        page = read_page(request)
        found = await self.containers.list(request.state.owner, page, request.query_params.get("name") or None)
        return json(listing([view(record) for record in found.data], has_more=found.has_more))

    async def retrieve(self, request: Request) -> Response:
        record = await self.containers.get(request.state.owner, request.path_params["id"])
        if record.state != "expired":
            record = await self.containers.alive(record.owner, record.id)
        return json(view(record))

    async def delete(self, request: Request) -> Response:
        container_id = request.path_params["id"]
        await self.containers.get(request.state.owner, container_id)
        await self.containers.delete(request.state.owner, container_id)
        return json({"id": container_id, "object": "container.deleted", "deleted": True})

    async def add_file(self, request: Request) -> Response:
        owner, container_id = request.state.owner, request.path_params["id"]
        await self.containers.get(owner, container_id)
        if request.headers.get("content-type", "").startswith("multipart/"):
            form, upload = await read_upload(request, "file")
            path = form.fields.get("path")
            file = await self.container_files.add(owner, container_id, upload.filename, upload.chunks, path)
            if form.fields.get("path") != path:
                # The file was written as it came, so a place that is named after it comes too late.
                await self.container_files.delete(owner, container_id, file.id)
                raise ApiError("The field 'path' must come before the file.", code="invalid_value", param="path")
        else:
            body = await read_json(request, AddContainerFile, self.max_body_bytes)
            record = await self.files.get(owner, body.file_id, param="file_id")
            file = await self.container_files.add_upload(owner, container_id, record)
        return json(file)

    async def list_files(self, request: Request) -> Response:
        found = await self.container_files.list(request.state.owner, request.path_params["id"], read_page(request))
        return json(listing([*found.data], has_more=found.has_more))

    async def retrieve_file(self, request: Request) -> Response:
        path = request.path_params
        return json(await self.container_files.get(request.state.owner, path["id"], path["file_id"]))

    async def delete_file(self, request: Request) -> Response:
        path = request.path_params
        await self.container_files.delete(request.state.owner, path["id"], path["file_id"])
        return json({"id": path["file_id"], "object": "container.file.deleted", "deleted": True})

    async def file_content(self, request: Request) -> Response:
        path = request.path_params
        file, chunks = await self.container_files.content(request.state.owner, path["id"], path["file_id"])
        return await download(posixpath.basename(file.path), chunks)


def view(record: ContainerRecord) -> Container:
    """The resource that a record is shown as."""
    return Container(
        id=record.id,
        created_at=record.created_at,
        name=record.name,
        status="expired" if record.state == "expired" else "running",
        last_active_at=record.last_active_at,
        expires_after=ExpiresAfter(anchor="last_active_at", minutes=record.expires_after_minutes),
        memory_limit=record.memory_limit,
        network_policy=_network(record.network),
    )


def _network(stored: str) -> NetworkPolicyView:
    policy = stored_policy(stored)
    if policy is None:
        return NetworkPolicyView(type="disabled")
    return NetworkPolicyView(type="allowlist", allowed_domains=policy.allowed_domains)
