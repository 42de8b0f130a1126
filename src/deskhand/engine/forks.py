"""Earlier computers: a snapshot now, a new container from one, a copy of a container, a container put back."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..core.errors import ApiError
from ..ports.sandbox import SandboxGone
from ..ports.store import ContainerRecord, ContainerStore, ResponseStore, SnapshotRecord
from .auto_snapshots import AutoSnapshots
from .container_files import MAX_LISTED
from .container_order import Order
from .containers import Containers
from .ids import new_id
from .network_policy import without_secrets
from .news import rolled_back
from .snapshots import Snapshots

MAX_STEPS = 1000
"""How many responses of a chain are looked through for the newest one that ran something."""


@dataclass(frozen=True, slots=True)
class Forks:
    """What can be done with the past of containers."""

    containers: Containers
    snapshots: Snapshots
    auto: AutoSnapshots
    files: ContainerStore
    responses: ResponseStore

    async def snapshot(self, owner: str, container_id: str, name: str) -> SnapshotRecord:
        """Take a snapshot now; commands go on. Raises `ApiError`, `SandboxError`."""
        await self.containers.workspace(owner, container_id)
        async with self.containers.held(owner, container_id) as record:
            return await self.snapshots.take(record, name)

    async def create(self, owner: str, order: Order, snapshot: SnapshotRecord) -> ContainerRecord:
        """Make a container with the files of a snapshot, isolated as it was unless the order says how.

        Raises `ApiError`, `SandboxError`.
        """
        order = replace(order, isolation=order.isolation or snapshot.isolation or None)
        made = await self.containers.create(owner, order, origin=snapshot.id)
        await self._carry_ids(snapshot.container_id, made.id)
        return made

    async def fork(self, owner: str, container_id: str, name: str | None) -> ContainerRecord:
        """Make a copy of a container: its files, skills and network policy, and no secret.

        Raises `ApiError`, `SandboxError`.
        """
        await self.containers.workspace(owner, container_id)
        async with self.containers.held(owner, container_id) as record, self.snapshots.passing(record) as origin:
            order = Order(
                name=name or record.name,
                memory_limit=record.memory_limit,
                idle_minutes=record.expires_after_minutes,
                on_expired=record.on_expired,
                network=without_secrets(record.network),
                skills=record.skills,
                isolation=record.isolation or None,
            )
            made = await self.containers.create(owner, order, origin=origin)
        await self._carry_ids(container_id, made.id)
        return made

    async def restore(self, owner: str, container_id: str, snapshot: SnapshotRecord) -> ContainerRecord:
        """Put a container back to a snapshot; one that has expired lives again.

        The snapshot may be another container's, unless that was better isolated. Raises `ApiError`, `SandboxError`.
        """
        record = await self.containers.get(owner, container_id)
        if not self.containers.isolates(record, snapshot.isolation or None):
            raise ApiError(
                f"The snapshot is of a container that is isolated as '{snapshot.isolation}', which this one is not. "
                "Create a container from it.",
                code="invalid_value",
                param="snapshot_id",
            )
        record = await self.containers.put_back(owner, container_id, snapshot.id)
        await self.snapshots.tell(container_id, rolled_back(snapshot.created_at))
        return record

    async def choose(
        self, owner: str, snapshot_id: str | None, response_id: str | None, container_id: str | None = None
    ) -> SnapshotRecord:
        """The snapshot that a request names, by its id or by the response after which it was taken.

        `container_id` decides if a response has used several. Raises `ApiError`.
        """
        if (snapshot_id is None) == (response_id is None):
            raise ApiError(
                "Give either 'snapshot_id' or 'response_id'.",
                code="mutually_exclusive_parameters" if snapshot_id else "missing_required_parameter",
                param="snapshot_id",
            )
        if snapshot_id is not None:
            return await self.snapshots.get(owner, snapshot_id, param="snapshot_id")
        assert response_id is not None
        found = await self._after(owner, response_id)
        here = [snapshot for snapshot in found if snapshot.container_id == container_id] or found
        if len(here) > 1:
            ids = ", ".join(snapshot.id for snapshot in here)
            raise ApiError(f"Response '{response_id}' used several containers; choose a snapshot: {ids}.")
        return here[0]

    async def _after(self, owner: str, response_id: str) -> Sequence[SnapshotRecord]:
        """The snapshots of the newest response up to `response_id` in its chain that has any."""
        at: str | None = response_id
        for _ in range(MAX_STEPS):
            if at is None:
                break
            await self.auto.settled(at)
            if found := await self.snapshots.after(owner, at):
                return found
            response = await self.responses.get(owner, at)
            at = response.previous_response_id if response is not None else None
        raise ApiError(
            f"There is no snapshot of the computer as it was after response '{response_id}': nothing ran in a "
            "container up to then, the response was not stored, or its snapshot was deleted for its age.",
            status=404,
            code="snapshot_not_found",
            param="response_id",
        )

    async def _carry_ids(self, source: str, target: str) -> None:
        """Give the files of a copy ids of their own, with what is known of their originals."""
        try:
            copies = [
                replace(record, id=new_id("cfile"), container_id=target)
                for record in (await self.files.files(source))[:MAX_LISTED]
            ]
            await asyncio.gather(*map(self.files.add_file, copies))
        except (ApiError, SandboxGone):
            return  # deleted meanwhile
