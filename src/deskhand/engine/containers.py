"""Containers: made when first used, kept while active, expired when idle, found again after a restart.

Idle expiry counts from `last_active_at` (API reference, "Containers"); a running command keeps its container alive.
"""

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial

import structlog

from ..core.errors import ApiError, StoreUnavailable, ToolFailure, not_found
from ..egress.door import Use
from ..locks import Locks
from ..ports.sandbox import (
    STRENGTH,
    EngineReport,
    Level,
    Sandbox,
    SandboxEngine,
    SandboxError,
    SandboxGone,
    SnapshotGone,
    Workspace,
)
from ..ports.store import ContainerRecord, ContainerStore, Listing, Page
from .allocator import Allocator
from .background import beside, repeatedly
from .container_order import ContainerPolicy, Order, check, engine_of, promised
from .container_skills import ContainerSkill, dumped, joined, parsed
from .egress import Egress
from .hosts import Elsewhere, Hosts
from .ids import new_id
from .kept_alive import KeptAlive, aftermath
from .news import EMPTY, brought_back
from .running_sandboxes import RunningSandboxes
from .snapshots import Snapshots
from .ways_out import WaysOut

log = structlog.get_logger()

GONE = "The container has expired or was deleted; its files are gone."
MAX_SKILLS = 200
"""Skills of one environment (API reference, "Skills")."""
SWEEP_SECONDS = 5.0
RESERVED_SECONDS = 24 * 3600
"""How long the id of a container that nothing used can still be used."""


async def no_content(digest: str) -> AsyncIterator[bytes]:
    """The content of skills where there is none."""
    raise FileNotFoundError(digest)
    yield b""


class Containers:
    """The containers of every owner. Use as `async with`; inside, idle ones expire by themselves.

    `skills` gives the packed content of a skill by its digest; without `egress` nothing leaves any container.
    """

    def __init__(
        self,
        store: ContainerStore,
        engine: SandboxEngine,
        report: EngineReport,
        policy: ContainerPolicy,
        snapshots: Snapshots,
        now: Callable[[], float] = time.time,
        skills: Callable[[str], AsyncIterator[bytes]] = no_content,
        egress: Egress | None = None,
        hosts: Hosts | None = None,
    ) -> None:
        self._store = store
        self._engine = engine
        self._policy = policy
        self._snapshots = snapshots
        self._now = now
        self._hosts = hosts
        self._ways_out = WaysOut(egress)
        self._allocator = Allocator(store, engine, report, policy)
        self._sandboxes = RunningSandboxes(engine, report, policy, skills, self._ways_out)
        self._locks = Locks()
        self._busy: Counter[str] = Counter()
        self._unended: set[str] = set()
        self.report = report

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Containers"]:
        """Re-adopt what an earlier process left, then expire idle containers until the block ends."""
        for report in (self.report, *self.report.others):
            _log_found(report)
        live = await self._store.live()
        swept = await self._engine.sweep({record.id for record in live})
        if live or swept:
            log.info("containers.found", live=len(live), swept=len(swept))
        for record in live:
            await self._ways_out.reopen(record)
        async with beside(repeatedly("containers.expiry", self._expire_idle, SWEEP_SECONDS)):
            yield self

    async def let_go(self) -> None:
        """End the computers that other hosts have replaced, because they had taken this one for dead."""
        ours = {record.id for record in await self._store.live()}
        for container_id in self._sandboxes.ids - ours:
            async with self._locks.of(container_id):
                self._sandboxes.forget(container_id)
                await self._end(container_id)

    def expect_python(self) -> None:
        """Say that Python will be wanted soon."""
        self._engine.expect_python()

    def require_engine(self) -> None:
        """Raise `ApiError` if this host cannot isolate."""
        if not self.report.usable:
            missing = next(f for f in self.report.findings if f.required and not f.ok)
            raise ApiError(
                f"Hosted tools are off: this server cannot isolate them ({missing.detail}). {missing.mend}".strip(),
                status=503,
                code="hosted_tools_unavailable",
                kind="server_error",
            )

    def isolates(self, record: ContainerRecord, least: Level | None) -> bool:
        """Tell whether a container is isolated at least as well as is asked for now."""
        return least is None or engine_of(record, self.report).level in STRENGTH[STRENGTH.index(least) :]

    async def reserve(self, owner: str, order: Order, *, where: str) -> ContainerRecord:
        """Give out the id of a container that will be made when it is first used; `where` begins names in errors."""
        record = self._record(owner, order, where=where)
        await self._add(record, order)
        return record

    async def create(self, owner: str, order: Order, origin: str | None = None) -> ContainerRecord:
        """Make a container now, empty or as in the snapshot `origin`; its computer starts with the first command.

        Raises `ApiError`, `SandboxError`.
        """
        self.require_engine()
        record = self._record(owner, order, where="")
        running = replace(record, state="running")
        await self._allocator.make(record, lambda: self._add(running, order), origin)
        return running

    async def get(self, owner: str, container_id: str, *, param: str | None = None) -> ContainerRecord:
        """The record. Raises `ApiError` (404) if the owner has no such container, and `Elsewhere`."""
        record = await self._current(owner, container_id)
        if record is None:
            raise not_found("Container", container_id, param=param)
        return record

    async def alive(self, owner: str, container_id: str, *, param: str | None = None) -> ContainerRecord:
        """The record of a container that can be used; using it keeps it alive.

        One that has expired is made again, if that is what it does. Raises `ApiError`.
        """
        record = await self.get(owner, container_id, param=param)
        if record.state == "expired":
            if record.on_expired == "error":
                raise ApiError("Container is expired.", param=param)
            if text := await self._revive(record):
                await self.tell(container_id, text)
        return await self._touch(record)

    async def list(self, owner: str, page: Page, name: str | None) -> Listing[ContainerRecord]:
        """A page of the owner's containers."""
        return await self._store.list(owner, page, name)

    async def delete(self, owner: str, container_id: str) -> None:
        """End a container and forget it. Raises `ApiError` (404)."""
        async with self._locks.of(container_id):
            if not await self._store.delete(owner, container_id):
                raise not_found("Container", container_id)
            self._sandboxes.forget(container_id)
            await self._ways_out.forget(container_id)
            await self._end(container_id)

    async def workspace(self, owner: str, container_id: str) -> Workspace:
        """The files of a live container, made now if it was only reserved. Raises `ApiError`."""
        record = await self.alive(owner, container_id)
        self.require_engine()
        async with self._locks.of(container_id):
            await self._materialise(record)
        return self._engine.workspace(container_id)

    async def sandbox(self, owner: str, container_id: str, use: Use | None = None) -> Sandbox:
        """The running computer of a container, started if need be. Raises `SandboxError` or `ToolFailure`.

        `use` says for which call, in the records of what leaves the container.
        """
        try:
            record = await self._current(owner, container_id)
        except Elsewhere as exc:
            raise SandboxGone(exc.message) from None
        if record is None or (record.state == "expired" and record.on_expired == "error"):
            raise SandboxGone(GONE)
        if record.state == "expired" and (text := await self._revive(record)):
            raise ToolFailure(f"{text} This call did nothing; look around and try again.")
        async with self._locks.of(container_id):
            inner = await self._sandboxes.get(await self._materialise(record))
            await self._touch(record)
        self._ways_out.used_by(container_id, use or Use())
        return KeptAlive(inner, container_id, partial(self._in_use, record), partial(self._lost, record))

    async def equip(self, owner: str, container_id: str, skills: Sequence[ContainerSkill]) -> None:
        """Give a container further skills, also while it runs. Raises `ApiError` and `SandboxError`."""
        async with self._locks.of(container_id):
            record = await self._store.get(owner, container_id)
            if record is None or record.state == "expired":
                raise SandboxGone(GONE)
            together = joined(parsed(record.skills), skills)
            if len(together) > MAX_SKILLS:
                raise ApiError(f"A container may have at most {MAX_SKILLS} skills.", code="array_above_max_length")
            if dumped(together) != record.skills:
                await self._store.set_skills(container_id, dumped(together))
            if record.state == "running":
                await self._sandboxes.provide(container_id, skills)

    @asynccontextmanager
    async def held(self, owner: str, container_id: str) -> AsyncIterator[ContainerRecord]:
        """While inside, nothing begins in a container that is live; commands under way go on. Raises `SandboxGone`."""
        async with self._locks.of(container_id):
            record = await self._store.get(owner, container_id)
            if record is None or record.state != "running":
                raise SandboxGone(GONE)
            yield record

    async def put_back(self, owner: str, container_id: str, snapshot_id: str) -> ContainerRecord:
        """Give a container the files of a snapshot and end its processes; an expired one lives again.

        Refused while a command runs: to the one who waits for it, its computer would vanish. Raises `ApiError`,
        `SandboxError`.
        """
        self.require_engine()
        async with self._locks.of(container_id):
            record = await self._store.get(owner, container_id)
            if record is None:
                raise not_found("Container", container_id)
            if self._busy[container_id]:
                raise ApiError(
                    "A command or terminal runs in this container. Cancel its response or close it, then restore.",
                    status=409,
                    code="container_busy",
                )
            if record.state == "running":
                self._sandboxes.forget(container_id)
                await self._engine.restore(container_id, snapshot_id)
            else:
                await self._make_again(record, snapshot_id)
        return replace(await self._touch(record), state="running")

    async def tell(self, container_id: str, text: str) -> None:
        """Have the next run in the container told `text`."""
        await self._snapshots.tell(container_id, text)

    async def news(self, container_id: str) -> str:
        """What a run in the container must be told, given out once; "" if there is nothing."""
        return await self._snapshots.news(container_id)

    @asynccontextmanager
    async def _in_use(self, record: ContainerRecord) -> AsyncIterator[None]:
        """While inside, the container is in use and does not expire."""
        self._busy[record.id] += 1
        try:
            yield
        finally:
            self._busy[record.id] -= 1
            if not self._busy[record.id]:
                del self._busy[record.id]
                self._ways_out.used_by(record.id, Use())
            await self._touch(record)

    async def _lost(self, record: ContainerRecord, why: SandboxGone) -> str:
        """The computer of a container died while a command ran: what a model should know of it."""
        self._sandboxes.forget(record.id)
        return aftermath(await self._store.get(record.owner, record.id), why)

    async def _revive(self, record: ContainerRecord) -> str:
        """Make an expired container again, as it says; return what a model must be told of that, "" if nothing.

        Raises `ContainerCeiling`, `SandboxError`.
        """
        self.require_engine()
        async with self._locks.of(record.id):
            fresh = await self._store.get(record.owner, record.id)
            if fresh is None or fresh.state != "expired":
                return ""  # somebody else was faster
            wanted = record.on_expired == "restore"
            last = await self._snapshots.latest(record.owner, record.id) if wanted else None
            try:
                await self._make_again(record, last.id if last is not None else None)
            except SnapshotGone:
                last = None
                await self._make_again(record, None)
            await self._touch(record)
        log.info("container.revived", container_id=record.id, snapshot=last.id if last is not None else None)
        return brought_back(last.created_at) if last is not None else EMPTY

    async def _make_again(self, record: ContainerRecord, origin: str | None) -> None:
        """Make a container that is not live, when nothing is left of it. Raises as `Allocator.make` does."""
        if record.id in self._unended:
            await self._engine.destroy(record.id)
            self._unended.discard(record.id)
        await self._allocator.make(record, partial(self._store.set_state, record.id, "running"), origin)

    async def _end(self, container_id: str) -> None:
        """End what there is of a container that is not live any more; what does not end now, the sweep tries again.

        Call it under the container's lock.
        """
        try:
            await self._engine.destroy(container_id)
        except SandboxError as exc:
            log.warning("container.not_ended", container_id=container_id, error=str(exc))
            self._unended.add(container_id)
        else:
            self._unended.discard(container_id)

    async def _add(self, record: ContainerRecord, order: Order) -> None:
        """Store a new container with its secrets."""
        await self._store.add(record)
        await self._ways_out.keep(record, order.secrets)

    async def _materialise(self, record: ContainerRecord) -> ContainerRecord:
        """Make what a reserved container only promises; return its record. Call it under the container's lock."""
        fresh = await self._store.get(record.owner, record.id)
        if fresh is None or fresh.state == "expired":
            raise SandboxGone(GONE)
        if fresh.state == "reserved":
            await self._allocator.make(record, lambda: self._store.set_state(record.id, "running"))
        return replace(fresh, state="running")

    def _record(self, owner: str, order: Order, *, where: str) -> ContainerRecord:
        check(order, self._policy, self.report, where)
        return promised(new_id("cntr"), owner, order, self._policy, int(self._now()))

    def _idle(self, record: ContainerRecord) -> bool:
        idle_s = self._now() - record.last_active_at
        return not self._busy[record.id] and idle_s >= record.expires_after_minutes * 60

    async def _touch(self, record: ContainerRecord) -> ContainerRecord:
        now = int(self._now())
        # What a command does is worth more than the time at which it did.
        with suppress(StoreUnavailable):
            await self._store.touch(record.id, now)
        return replace(record, last_active_at=now)

    async def _current(self, owner: str, container_id: str) -> ContainerRecord | None:
        """The record, expired if its time has come or its host is no more. Raises `Elsewhere`."""
        record = await self._store.get(owner, container_id)
        if record is None or record.state == "reserved":
            return record
        here = self._hosts is None or await self._hosts.is_here(record.host)
        if record.state == "running" and not here:
            log.warning("container.lost", container_id=record.id, host=record.host)
            await self._store.set_state(record.id, "expired")
        elif record.state == "running" and self._idle(record):
            await self._expire(record)
        else:
            return record
        return await self._store.get(owner, container_id)

    async def _expire(self, record: ContainerRecord) -> None:
        async with self._locks.of(record.id):
            fresh = await self._store.get(record.owner, record.id)
            if fresh is None or fresh.state != "running" or not self._idle(fresh):
                return  # used, deleted or expired while this waited for the lock
            if fresh.on_expired == "restore":
                await self._remember(fresh)
            await self._store.set_state(record.id, "expired")
            self._sandboxes.forget(record.id)
            await self._ways_out.expire(fresh)
            await self._end(record.id)
        log.info("container.expired", container_id=record.id)

    async def _remember(self, record: ContainerRecord) -> None:
        """Keep the files of a container that expires, for its next use. Call it under the container's lock."""
        try:
            await self._snapshots.take_after(record, None)
        except (ApiError, SandboxError) as exc:
            log.warning("snapshot.not_taken", container_id=record.id, error=str(exc))

    async def _expire_idle(self) -> None:
        for record in await self._store.live():
            if self._idle(record):
                await self._expire(record)
        for container_id in tuple(self._unended):
            async with self._locks.of(container_id):
                if container_id in self._unended:  # and was not made again while this waited
                    await self._end(container_id)
        await self._store.forget_reserved(int(self._now()) - RESERVED_SECONDS)


def _log_found(report: EngineReport) -> None:
    words = {finding.name: finding.detail for finding in report.weaknesses}
    (log.info if report.usable else log.warning)(
        "engine.found", engine=report.engine, level=report.level, usable=report.usable, not_enforced=words
    )
