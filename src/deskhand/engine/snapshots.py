"""Snapshots of containers: taken, named, counted, forgotten. Nobody takes one without the lock of its container.

Automatic ones are bounded in number, age and room, the oldest going first; those that a user asked for stay until they
are deleted. The bytes come before the record, so that what is listed can be restored, and what is not is swept.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from ..core.errors import ApiError, not_found
from ..locks import Locks
from ..ports.sandbox import SandboxEngine, Snapshot
from ..ports.store import ContainerRecord, Listing, Page, SnapshotRecord, SnapshotStore
from .background import beside, repeatedly
from .ids import new_id

log = structlog.get_logger()

AGEING_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class SnapshotPolicy:
    """The operator's limits of snapshots: automatic ones of a container, their age in days, bytes of one project."""

    automatic_per_container: int = 20
    automatic_days: float = 7.0
    max_bytes: int = 20 << 30


class Snapshots:
    """The snapshots of every owner. Use as `async with snapshots.serving()`; inside, old ones go by themselves."""

    def __init__(
        self,
        store: SnapshotStore,
        engine: SandboxEngine,
        policy: SnapshotPolicy,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._engine = engine
        self._policy = policy
        self._now = now
        self._locks = Locks()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Snapshots"]:
        """Sweep what a killed process has left, then forget old snapshots until the block ends."""
        if swept := await self._engine.sweep_snapshots(await self._store.ids()):
            log.info("snapshots.swept", count=len(swept))
        async with beside(repeatedly("snapshots.ageing", self._age, AGEING_SECONDS)):
            yield self

    async def take(self, container: ContainerRecord, name: str) -> SnapshotRecord:
        """Take a snapshot that stays until it is deleted. Raises `SnapshotCeiling`, `SandboxError`."""
        snapshot_id = new_id("csnap")
        taken = await self._taken(container.id, snapshot_id)
        return await self._keep(self._record(container, snapshot_id, name, taken.bytes, automatic=False))

    async def take_after(self, container: ContainerRecord, response_id: str | None) -> SnapshotRecord:
        """Take an automatic snapshot, or find that nothing has changed since one, and link it to the response.

        Raises as `take` does.
        """
        snapshot_id = new_id("csnap")
        taken = await self._taken(container.id, snapshot_id)
        record = await self._store.get(container.owner, taken.same_as) if taken.same_as else None
        if record is not None:
            await self._engine.drop_snapshot(snapshot_id)
        else:
            record = await self._keep(self._record(container, snapshot_id, "", taken.bytes, automatic=True))
        if response_id is not None:
            await self._store.link(response_id, record.id)
        for old in await self._store.surplus(container.id, self._policy.automatic_per_container):
            await self._forget(old)
        return record

    @asynccontextmanager
    async def passing(self, container: ContainerRecord) -> AsyncIterator[str]:
        """The id of a snapshot that exists inside the block only, for a copy of the container."""
        snapshot_id = new_id("csnap")
        await self._taken(container.id, snapshot_id)
        try:
            yield snapshot_id
        finally:
            await self._engine.drop_snapshot(snapshot_id)

    async def get(self, owner: str, snapshot_id: str, *, param: str | None = None) -> SnapshotRecord:
        """The record. Raises `ApiError` (404) if the owner has no such snapshot."""
        record = await self._store.get(owner, snapshot_id)
        if record is None:
            raise not_found("Snapshot", snapshot_id, param=param)
        return record

    async def latest(self, owner: str, container_id: str) -> SnapshotRecord | None:
        """The container's newest snapshot."""
        return next(iter((await self._store.list(owner, container_id, Page(limit=1))).data), None)

    async def after(self, owner: str, response_id: str) -> Sequence[SnapshotRecord]:
        """What was taken after a response, one for each container that it ran something in."""
        return await self._store.of_response(owner, response_id)

    async def list(self, owner: str, container_id: str, page: Page) -> Listing[SnapshotRecord]:
        """A page of a container's snapshots, also when the container is gone."""
        return await self._store.list(owner, container_id, page)

    async def delete(self, owner: str, container_id: str, snapshot_id: str) -> None:
        """Forget a snapshot of a container. Raises `ApiError` (404)."""
        record = await self._store.get(owner, snapshot_id)
        if record is None or record.container_id != container_id:
            raise not_found("Snapshot", snapshot_id)
        await self._forget(record)

    async def tell(self, container_id: str, text: str) -> None:
        """Have the next run in the container told `text`."""
        await self._store.put_news(container_id, text)

    async def news(self, container_id: str) -> str:
        """What a run in the container must be told, given out once; "" if there is nothing."""
        return await self._store.take_news(container_id)

    async def _taken(self, container_id: str, snapshot_id: str) -> Snapshot:
        async with self._locks.of(container_id):
            return await self._engine.snapshot(container_id, snapshot_id)

    async def _keep(self, record: SnapshotRecord) -> SnapshotRecord:
        """Make room and store the record, or forget what was taken. Raises `SnapshotCeiling`."""
        try:
            await self._make_room(record)
            await self._store.add(record)
        except BaseException:
            await asyncio.shield(self._engine.drop_snapshot(record.id))
            raise
        return record

    async def _make_room(self, upcoming: SnapshotRecord) -> None:
        most = self._policy.max_bytes
        while await self._store.total_bytes(upcoming.owner) + upcoming.bytes > most:
            oldest = await self._store.oldest_automatic(upcoming.owner)
            if oldest is None or upcoming.bytes > most:
                raise SnapshotCeiling(most)
            await self._forget(oldest)

    async def _forget(self, record: SnapshotRecord) -> None:
        async with self._locks.of(record.container_id):  # the next one may be about to share its blocks
            if await self._store.delete(record.owner, record.id):
                await self._engine.drop_snapshot(record.id)

    async def _age(self) -> None:
        for record in await self._store.aged(int(self._now() - self._policy.automatic_days * 86_400)):
            await self._forget(record)

    def _record(
        self, container: ContainerRecord, snapshot_id: str, name: str, size: int, *, automatic: bool
    ) -> SnapshotRecord:
        return SnapshotRecord(
            snapshot_id,
            container.owner,
            container.id,
            name,
            automatic,
            created_at=int(self._now()),
            bytes=size,
            isolation=container.isolation,
        )


class SnapshotCeiling(ApiError):
    """The project's snapshots have as much room as they may have."""

    def __init__(self, ceiling: int) -> None:
        super().__init__(
            f"This project's snapshots may have {ceiling} bytes together (snapshot_max_bytes). Delete some.",
            status=429,
            code="rate_limit_exceeded",
            kind="requests",
        )
