"""Containers: made when first used, kept while active, expired when idle, found again after a restart.

Idle expiry counts from `last_active_at` (API reference, "Containers"); a running command keeps its container alive.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar
from weakref import WeakValueDictionary

import structlog

from ..core.errors import ApiError, ToolFailure, not_found
from ..egress.door import Use
from ..ports.sandbox import (
    STRENGTH,
    Bundle,
    Cell,
    CellEvent,
    Command,
    EngineReport,
    ExecEvent,
    Level,
    Limits,
    Sandbox,
    SandboxEngine,
    SandboxError,
    SandboxExhausted,
    SandboxGone,
    SandboxSpec,
    SandboxUnavailable,
    Session,
    SnapshotGone,
    Terminal,
    Workspace,
)
from ..ports.store import ContainerRecord, ContainerStore, Listing, OnExpired, Page
from ..wire.network import DomainSecret
from ..wire.tools import MemoryLimit
from .background import beside
from .container_skills import ContainerSkill, dumped, joined, parsed
from .egress import Egress
from .ids import new_id
from .news import EMPTY, brought_back
from .snapshots import Snapshots

log = structlog.get_logger()

E = TypeVar("E")

MEMORY_BYTES: Mapping[MemoryLimit, int] = {"1g": 1 << 30, "4g": 4 << 30, "16g": 16 << 30, "64g": 64 << 30}
GONE = "The container has expired or was deleted; its files are gone."
MAX_SKILLS = 200
"""Skills of one environment (API reference, "Skills")."""
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
    isolation: Level | None = None
    secrets: Sequence[DomainSecret] = field(default=(), repr=False)


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
    ) -> None:
        self._egress = egress
        self._skills = skills
        self._store = store
        self._engine = engine
        self._policy = policy
        self._snapshots = snapshots
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
        for report in (self.report, *self.report.others):
            self._log(report)
        live = await self._store.live()
        swept = await self._engine.sweep({record.id for record in live})
        if live or swept:
            log.info("containers.found", live=len(live), swept=len(swept))
        for record in live:
            await self._reopen(record)
        async with beside(self._expire_forever()):
            yield self

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
        return least is None or self._engine_of(record).level in STRENGTH[STRENGTH.index(least) :]

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
        await self._make(record, lambda: self._add(running, order), origin)
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
        async with self._lock(container_id):
            if not await self._store.delete(owner, container_id):
                raise not_found("Container", container_id)
            self._running.pop(container_id, None)
            if self._egress is not None:
                await self._egress.forget(container_id)
            await self._engine.destroy(container_id)

    async def workspace(self, owner: str, container_id: str) -> Workspace:
        """The files of a live container, made now if it was only reserved. Raises `ApiError`."""
        record = await self.alive(owner, container_id)
        self.require_engine()
        async with self._lock(container_id):
            await self._materialise(record)
        return self._engine.workspace(container_id)

    async def sandbox(self, owner: str, container_id: str, use: Use | None = None) -> Sandbox:
        """The running computer of a container, started if need be. Raises `SandboxError` or `ToolFailure`.

        `use` says for which call, in the records of what leaves the container.
        """
        record = await self._store.get(owner, container_id)
        if record is not None and record.state == "running" and self._idle(record):
            await self._expire(record)
            record = await self._store.get(owner, container_id)
        if record is None or (record.state == "expired" and record.on_expired == "error"):
            raise SandboxGone(GONE)
        if record.state == "expired" and (text := await self._revive(record)):
            raise ToolFailure(f"{text} This call did nothing; look around and try again.")
        async with self._lock(container_id):
            await self._materialise(record)
            inner = self._running.get(container_id) or await self._start(record)
            self._running[container_id] = inner
            await self._touch(record)
        self._used_by(record, use or Use())
        return _KeptAlive(inner, self, record)

    async def equip(self, owner: str, container_id: str, skills: Sequence[ContainerSkill]) -> None:
        """Give a container further skills, also while it runs. Raises `ApiError` and `SandboxError`."""
        async with self._lock(container_id):
            record = await self._store.get(owner, container_id)
            if record is None or record.state == "expired":
                raise SandboxGone(GONE)
            together = joined(parsed(record.skills), skills)
            if len(together) > MAX_SKILLS:
                raise ApiError(f"A container may have at most {MAX_SKILLS} skills.", code="array_above_max_length")
            if dumped(together) != record.skills:
                await self._store.set_skills(container_id, dumped(together))
            if record.state == "running":
                await self._provide(container_id, skills)

    @asynccontextmanager
    async def held(self, owner: str, container_id: str) -> AsyncIterator[ContainerRecord]:
        """While inside, nothing begins in a container that is live; commands under way go on. Raises `SandboxGone`."""
        async with self._lock(container_id):
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
        async with self._lock(container_id):
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
                self._running.pop(container_id, None)
                await self._engine.restore(container_id, snapshot_id)
            else:
                await self._make(record, partial(self._store.set_state, container_id, "running"), snapshot_id)
        return replace(await self._touch(record), state="running")

    async def tell(self, container_id: str, text: str) -> None:
        """Have the next run in the container told `text`."""
        await self._snapshots.tell(container_id, text)

    async def news(self, container_id: str) -> str:
        """What a run in the container must be told, given out once; "" if there is nothing."""
        return await self._snapshots.news(container_id)

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
                self._used_by(record, Use())
            await self._touch(record)

    async def lost(self, record: ContainerRecord, why: SandboxGone) -> str:
        """The computer of a container died while a command ran: what a model should know of it."""
        self._running.pop(record.id, None)
        fresh = await self._store.get(record.owner, record.id)
        if fresh is None or fresh.state == "expired":
            return "The container was deleted or has expired while the command ran; its files are gone."
        happened = "ran out of memory and stopped" if isinstance(why, SandboxExhausted) else "stopped"
        return (
            f"The computer {happened} while the command ran. Files in the working directory are kept; running "
            "processes are gone. The next command starts it again."
        )

    async def _revive(self, record: ContainerRecord) -> str:
        """Make an expired container again, as it says; return what a model must be told of that, "" if nothing.

        Raises `ContainerCeiling`, `SandboxError`.
        """
        self.require_engine()
        async with self._lock(record.id):
            fresh = await self._store.get(record.owner, record.id)
            if fresh is None or fresh.state != "expired":
                return ""  # somebody else was faster
            wanted = record.on_expired == "restore"
            last = await self._snapshots.latest(record.owner, record.id) if wanted else None
            keep = partial(self._store.set_state, record.id, "running")
            try:
                await self._make(record, keep, last.id if last is not None else None)
            except SnapshotGone:
                last = None
                await self._make(record, keep)
            await self._touch(record)
        log.info("container.revived", container_id=record.id, snapshot=last.id if last is not None else None)
        return brought_back(last.created_at) if last is not None else EMPTY

    async def _start(self, record: ContainerRecord) -> Sandbox:
        if not self.report.usable:
            raise SandboxUnavailable("this host cannot isolate commands")
        fresh = await self._store.get(record.owner, record.id) or record
        await self._provide(record.id, parsed(fresh.skills))
        if (found := await self._engine.attach(record.id)) is not None:
            await self._way_out(fresh)
            return found
        variables = await self._way_out(fresh)
        proxied = variables is not None
        return await self._engine.start(SandboxSpec(record.id, self._limits(record), variables or {}, proxied))

    async def _add(self, record: ContainerRecord, order: Order) -> None:
        """Store a new container with its secrets."""
        await self._store.add(record)
        if self._egress is not None:
            await self._egress.keep(record, order.secrets)

    async def _way_out(self, record: ContainerRecord) -> Mapping[str, str] | None:
        """Open the container's way out, if it has one; the variables for its computer. Raises `SandboxUnavailable`."""
        try:
            return await self._egress.open(record) if self._egress is not None else None
        except OSError as exc:
            raise SandboxUnavailable(f"the network of the container could not be set up: {exc}") from exc

    async def _reopen(self, record: ContainerRecord) -> None:
        """Open the way out of a container that an earlier process left running. Until then nothing leaves it."""
        try:
            await self._way_out(record)
        except SandboxError as exc:
            log.warning("container.network_failed", container_id=record.id, error=str(exc))

    def _used_by(self, record: ContainerRecord, use: Use) -> None:
        if self._egress is not None:
            self._egress.used_by(record.id, use)

    async def _provide(self, container_id: str, skills: Sequence[ContainerSkill]) -> None:
        """Unpack skills where the container sees them, unless they are there. Call it under the container's lock."""
        for skill in skills:
            bundle = Bundle(skill.digest, skill.folder, partial(self._skills, skill.digest))
            try:
                await self._engine.provide(container_id, bundle)
            except FileNotFoundError:
                # A computer without one of its skills is worth more than none.
                log.warning("container.skill_missing", container_id=container_id, skill=skill.name)

    async def _materialise(self, record: ContainerRecord) -> None:
        """Make what a reserved container only promises. Call it under the container's lock."""
        fresh = await self._store.get(record.owner, record.id)
        if fresh is None or fresh.state == "expired":
            raise SandboxGone(GONE)
        if fresh.state == "reserved":
            await self._make(record, lambda: self._store.set_state(record.id, "running"))

    async def _make(
        self, record: ContainerRecord, keep: Callable[[], Awaitable[None]], origin: str | None = None
    ) -> None:
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
                await self._engine.allocate(record.id, self._limits(record), origin, self._engine_of(record).engine)
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
        if order.isolation is not None and self.report.usable and self.report.choose(order.isolation) is None:
            offered = sorted({found.level for found in (self.report, *self.report.others) if found.usable})
            raise ApiError(
                f"isolation '{order.isolation}' is not offered by this server; it has: {', '.join(offered)}.",
                code="invalid_value",
                param=f"{where}isolation",
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
            isolation=order.isolation or "",
        )

    def _engine_of(self, record: ContainerRecord) -> EngineReport:
        """The engine that starts the container: the first that isolates as well as was asked for."""
        found = self.report.choose(record.isolation) if record.isolation else self.report
        if found is None:
            raise SandboxUnavailable(f"no engine of this server isolates as the container asks for: {record.isolation}")
        return found

    def _log(self, report: EngineReport) -> None:
        words = {finding.name: finding.detail for finding in report.weaknesses}
        (log.info if report.usable else log.warning)(
            "engine.found", engine=report.engine, level=report.level, usable=report.usable, not_enforced=words
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
            if fresh.on_expired == "restore":
                await self._remember(fresh)
            await self._store.set_state(record.id, "expired")
            self._running.pop(record.id, None)
            await self._end_network(fresh)
            await self._engine.destroy(record.id)
        log.info("container.expired", container_id=record.id)

    async def _end_network(self, record: ContainerRecord) -> None:
        """Close the way out of a container that expires; its secrets go too, unless it can come back."""
        if self._egress is None:
            return
        if record.on_expired == "error":
            await self._egress.forget(record.id)
        else:
            await self._egress.close(record.id)

    async def _remember(self, record: ContainerRecord) -> None:
        """Keep the files of a container that expires, for its next use. Call it under the container's lock."""
        try:
            await self._snapshots.take_after(record, None)
        except (ApiError, SandboxError) as exc:
            log.warning("snapshot.not_taken", container_id=record.id, error=str(exc))

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

    def exec(self, command: Command) -> AsyncGenerator[ExecEvent, None]:
        return self._while_busy(self._inner.exec(command))

    def run_code(self, cell: Cell) -> AsyncGenerator[CellEvent, None]:
        return self._while_busy(self._inner.run_code(cell))

    @asynccontextmanager
    async def open_terminal(self, session: Session) -> AsyncIterator[Terminal]:
        async with self._containers.busy(self._record), self._inner.open_terminal(session) as terminal:
            yield terminal

    async def _while_busy(self, inner: AsyncGenerator[E, None]) -> AsyncGenerator[E, None]:
        async with self._containers.busy(self._record):
            try:
                async with aclosing(inner) as events:
                    async for event in events:
                        yield event
            except SandboxGone as exc:
                raise SandboxGone(await self._containers.lost(self._record, exc)) from exc

    async def ping(self) -> None:
        await self._inner.ping()
