"""Containers: made when first used, kept while active, expired when idle, found again after a restart.

Idle expiry counts from `last_active_at` (API reference, "Containers"); a running command keeps its container alive.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from weakref import WeakValueDictionary

import structlog

from ..core.errors import ApiError, ToolFailure, not_found
from ..ports.sandbox import (
    Command,
    EngineReport,
    ExecEvent,
    Limits,
    Sandbox,
    SandboxEngine,
    SandboxGone,
    SandboxSpec,
    SandboxUnavailable,
    Workspace,
)
from ..ports.store import ContainerRecord, ContainerStore, Listing, OnExpired, Page
from ..wire.tools import MemoryLimit
from .background import beside
from .ids import new_id

log = structlog.get_logger()

MEMORY_BYTES: Mapping[MemoryLimit, int] = {"1g": 1 << 30, "4g": 4 << 30, "16g": 16 << 30, "64g": 64 << 30}
GONE = "The container has expired or was deleted; its files are gone."
SWEEP_SECONDS = 5.0
RESERVED_SECONDS = 24 * 3600
"""How long the id of a container that nothing used can still be used."""


@dataclass(frozen=True, slots=True)
class ContainerPolicy:
    """The operator's limits of containers."""

    idle_minutes: int = 20
    max_memory: MemoryLimit = "4g"
    max_live: int = 50
    on_expired: OnExpired = "error"
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Order:
    """What a new container shall be like. None and "" leave it to the operator's defaults."""

    name: str = "container_auto"
    memory_limit: MemoryLimit | None = None
    idle_minutes: int | None = None
    on_expired: OnExpired | None = None
    network: str = ""
    skills: str = ""


class Containers:
    """The containers of every owner. Use as `async with`; inside, idle ones expire by themselves."""

    def __init__(
        self,
        store: ContainerStore,
        engine: SandboxEngine,
        report: EngineReport,
        policy: ContainerPolicy,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._engine = engine
        self._policy = policy
        self._now = now
        self._running: dict[str, Sandbox] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._ceilings: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._making: Counter[str] = Counter()
        self._busy: Counter[str] = Counter()
        self.report = report

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Containers"]:
        """Re-adopt what an earlier process left, then expire idle containers until the block ends."""
        live = await self._store.live()
        swept = await self._engine.sweep({record.id for record in live})
        if live or swept:
            log.info("containers.found", live=len(live), swept=len(swept))
        async with beside(self._expire_forever()):
            yield self

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

    async def reserve(self, owner: str, order: Order, *, where: str) -> ContainerRecord:
        """Give out the id of a container that will be made when it is first used; `where` begins names in errors."""
        record = self._record(owner, order, where=where)
        await self._store.add(record)
        return record

    async def create(self, owner: str, order: Order) -> ContainerRecord:
        """Make a container now; its computer starts with the first command. Raises `ApiError`."""
        self.require_engine()
        record = self._record(owner, order, where="")
        running = replace(record, state="running")
        await self._make(record, lambda: self._store.add(running))
        return running

    async def get(self, owner: str, container_id: str, *, param: str | None = None) -> ContainerRecord:
        """The record. Raises `ApiError` (404) if the owner has no such container."""
        record = await self._store.get(owner, container_id)
        if record is None:
            raise not_found("Container", container_id, param=param)
        if record.state == "running" and self._idle(record):
            await self._expire(record)
            return await self.get(owner, container_id, param=param)
        return record

    async def alive(self, owner: str, container_id: str, *, param: str | None = None) -> ContainerRecord:
        """The record of a container that can be used; using it keeps it alive. Raises `ApiError`."""
        record = await self.get(owner, container_id, param=param)
        if record.state == "expired":
            raise ApiError("Container is expired.", param=param)
        return await self._touch(record)

    async def list(self, owner: str, page: Page, name: str | None) -> Listing[ContainerRecord]:
        """A page of the owner's containers."""
        return await self._store.list(owner, page, name)

    async def delete(self, owner: str, container_id: str) -> None:
        """End a container and forget it. Raises `ApiError` (404)."""
        async with self._lock(container_id):
            if not await self._store.delete(owner, container_id):
                raise not_found("Container", container_id)
            self._running.pop(container_id, None)
            await self._engine.destroy(container_id)

    async def workspace(self, owner: str, container_id: str) -> Workspace:
        """The files of a live container, made now if it was only reserved. Raises `ApiError`."""
        record = await self.alive(owner, container_id)
        self.require_engine()
        async with self._lock(container_id):
            await self._materialise(record)
        return self._engine.workspace(container_id)

    async def sandbox(self, owner: str, container_id: str) -> Sandbox:
        """The running computer of a container, started if need be. Raises `SandboxError` or `ToolFailure`."""
        record = await self._store.get(owner, container_id)
        if record is None or record.state == "expired" or (record.state == "running" and self._idle(record)):
            raise SandboxGone(GONE)
        async with self._lock(container_id):
            await self._materialise(record)
            inner = self._running.get(container_id) or await self._start(record)
            self._running[container_id] = inner
            await self._touch(record)
        return _KeptAlive(inner, self, record)

    @asynccontextmanager
    async def busy(self, record: ContainerRecord) -> AsyncIterator[None]:
        """While inside, the container is in use and does not expire."""
        self._busy[record.id] += 1
        try:
            yield
        finally:
            self._busy[record.id] -= 1
            if not self._busy[record.id]:
                del self._busy[record.id]
            await self._touch(record)

    async def lost(self, record: ContainerRecord) -> str:
        """The computer of a container died while a command ran: what a model should know of it."""
        self._running.pop(record.id, None)
        fresh = await self._store.get(record.owner, record.id)
        if fresh is None or fresh.state == "expired":
            return "The container was deleted or has expired while the command ran; its files are gone."
        return (
            "The computer stopped while the command ran. Files in the working directory are kept; running processes "
            "are gone. The next command starts it again."
        )

    async def _start(self, record: ContainerRecord) -> Sandbox:
        if not self.report.usable:
            raise SandboxUnavailable("this host cannot isolate commands")
        if (found := await self._engine.attach(record.id)) is not None:
            return found
        return await self._engine.start(SandboxSpec(record.id, self._limits(record)))

    async def _materialise(self, record: ContainerRecord) -> None:
        """Make what a reserved container only promises. Call it under the container's lock."""
        fresh = await self._store.get(record.owner, record.id)
        if fresh is None or fresh.state == "expired":
            raise SandboxGone(GONE)
        if fresh.state == "reserved":
            await self._make(record, lambda: self._store.set_state(record.id, "running"))

    async def _make(self, record: ContainerRecord, keep: Callable[[], Awaitable[None]]) -> None:
        """Allocate a container, if its owner may have one more, and `keep` it as live. Raises `ContainerCeiling`.

        What is live and what is being made are counted under one lock: requests that come together cannot all pass.
        What was made is kept or destroyed, also when the caller is cancelled.
        """
        owner, most = record.owner, self._policy.max_live
        ceiling = self._ceilings.setdefault(owner, asyncio.Lock())
        async with ceiling:
            if await self._store.count_live(owner) + self._making[owner] >= most:
                raise ContainerCeiling(most)
            self._making[owner] += 1
        try:
            try:
                await self._engine.allocate(record.id, self._limits(record))
                await ceiling.acquire()
            except BaseException:
                await self._engine.destroy(record.id)
                raise
            try:
                await asyncio.shield(keep())
            finally:
                ceiling.release()
        finally:
            self._making[owner] -= 1

    def _record(self, owner: str, order: Order, *, where: str) -> ContainerRecord:
        memory = order.memory_limit or "1g"
        if MEMORY_BYTES[memory] > MEMORY_BYTES[self._policy.max_memory]:
            raise ApiError(
                f"memory_limit '{memory}' is above this server's largest, '{self._policy.max_memory}'.",
                code="invalid_value",
                param=f"{where}memory_limit",
            )
        now = int(self._now())
        return ContainerRecord(
            new_id("cntr"),
            owner,
            order.name,
            "reserved",
            created_at=now,
            last_active_at=now,
            expires_after_minutes=order.idle_minutes or self._policy.idle_minutes,
            memory_limit=memory,
            on_expired=order.on_expired or self._policy.on_expired,
            network=order.network,
            skills=order.skills,
        )

    def _limits(self, record: ContainerRecord) -> Limits:
        return replace(self._policy.limits, memory_bytes=MEMORY_BYTES[record.memory_limit])

    def _lock(self, container_id: str) -> asyncio.Lock:
        return self._locks.setdefault(container_id, asyncio.Lock())

    def _idle(self, record: ContainerRecord) -> bool:
        idle_s = self._now() - record.last_active_at
        return not self._busy[record.id] and idle_s >= record.expires_after_minutes * 60

    async def _touch(self, record: ContainerRecord) -> ContainerRecord:
        now = int(self._now())
        await self._store.touch(record.id, now)
        return replace(record, last_active_at=now)

    async def _expire(self, record: ContainerRecord) -> None:
        async with self._lock(record.id):
            fresh = await self._store.get(record.owner, record.id)
            if fresh is None or fresh.state != "running" or not self._idle(fresh):
                return  # used, deleted or expired while this waited for the lock
            await self._store.set_state(record.id, "expired")
            self._running.pop(record.id, None)
            await self._engine.destroy(record.id)
        log.info("container.expired", container_id=record.id)

    async def _expire_forever(self) -> None:
        while True:
            try:
                for record in await self._store.live():
                    if self._idle(record):
                        await self._expire(record)
                await self._store.forget_reserved(int(self._now()) - RESERVED_SECONDS)
            except Exception:
                # One container that cannot be removed now must not keep the others alive for ever.
                log.exception("container.expiry_failed")
            await asyncio.sleep(SWEEP_SECONDS)


class ContainerCeiling(ApiError, ToolFailure):
    """The project has as many live containers as it may have: 429 for a request, words for a model."""

    def __init__(self, ceiling: int) -> None:
        super().__init__(
            f"This project already has {ceiling} live containers, the most that it may have. Delete one or wait until "
            "one expires.",
            status=429,
            code="rate_limit_exceeded",
            kind="requests",
            retry_after=30,
        )


class _KeptAlive:
    """A sandbox whose commands count as activity of its container."""

    def __init__(self, inner: Sandbox, containers: Containers, record: ContainerRecord) -> None:
        self._inner = inner
        self._containers = containers
        self._record = record

    @property
    def container_id(self) -> str:
        return self._record.id

    async def exec(self, command: Command) -> AsyncGenerator[ExecEvent, None]:
        async with self._containers.busy(self._record):
            try:
                async with aclosing(self._inner.exec(command)) as events:
                    async for event in events:
                        yield event
            except SandboxGone as exc:
                raise SandboxGone(await self._containers.lost(self._record)) from exc

    async def ping(self) -> None:
        await self._inner.ping()
