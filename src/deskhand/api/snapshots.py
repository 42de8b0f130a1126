"""`/v1/containers/{id}/snapshots`, `fork` and `restore`: Deskhand's extensions of the containers API."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..engine.forks import Forks
from ..engine.snapshots import Snapshots
from ..ports.store import SnapshotRecord
from ..wire.snapshots import ContainerSnapshot, CreateSnapshot, ForkContainer, RestoreContainer
from .bodies import listing, read_json, read_page
from .containers import view
from .json import json


@dataclass(frozen=True, slots=True)
class SnapshotsApi:
    """Take, list and delete snapshots; copy containers and put them back."""

    forks: Forks
    snapshots: Snapshots
    max_body_bytes: int

    def routes(self) -> list[Route]:
        """The routes of this resource."""
        one = "/v1/containers/{id}"
        return [
            Route(one + "/snapshots", self.create, methods=["POST"]),
            Route(one + "/snapshots", self.list, methods=["GET"]),
            Route(one + "/snapshots/{snapshot_id}", self.delete, methods=["DELETE"]),
            Route(one + "/fork", self.fork, methods=["POST"]),
            Route(one + "/restore", self.restore, methods=["POST"]),
        ]

    async def create(self, request: Request) -> Response:
        body = await read_json(request, CreateSnapshot, self.max_body_bytes)
        return json(_view(await self.forks.snapshot(request.state.owner, request.path_params["id"], body.name)))

    async def list(self, request: Request) -> Response:
        found = await self.snapshots.list(request.state.owner, request.path_params["id"], read_page(request))
        return json(listing([_view(record) for record in found.data], has_more=found.has_more))

    async def delete(self, request: Request) -> Response:
        path = request.path_params
        await self.snapshots.delete(request.state.owner, path["id"], path["snapshot_id"])
        return json({"id": path["snapshot_id"], "object": "container.snapshot.deleted", "deleted": True})

    async def fork(self, request: Request) -> Response:
        body = await read_json(request, ForkContainer, self.max_body_bytes)
        return json(view(await self.forks.fork(request.state.owner, request.path_params["id"], body.name)))

    async def restore(self, request: Request) -> Response:
        owner, container_id = request.state.owner, request.path_params["id"]
        body = await read_json(request, RestoreContainer, self.max_body_bytes)
        snapshot = await self.forks.choose(owner, body.snapshot_id, body.response_id, container_id)
        return json(view(await self.forks.restore(owner, container_id, snapshot)))


def _view(record: SnapshotRecord) -> ContainerSnapshot:
    return ContainerSnapshot(
        id=record.id,
        container_id=record.container_id,
        created_at=record.created_at,
        name=record.name,
        bytes=record.bytes,
        automatic=record.automatic,
    )
