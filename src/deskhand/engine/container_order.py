"""What a new container shall be like, and what becomes of that under the operator's limits. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..core.errors import ApiError
from ..ports.sandbox import EngineReport, Level, Limits, SandboxUnavailable
from ..ports.store import ContainerRecord, OnExpired
from ..wire.network import DomainSecret
from ..wire.tools import MemoryLimit

MEMORY_BYTES: Mapping[MemoryLimit, int] = {"1g": 1 << 30, "4g": 4 << 30, "16g": 16 << 30, "64g": 64 << 30}


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

    @property
    def memory(self) -> MemoryLimit:
        """The memory it gets; the default is the API's (API reference, "Containers")."""
        return self.memory_limit or "1g"


def check(order: Order, policy: ContainerPolicy, report: EngineReport, where: str) -> None:
    """Raise `ApiError` if this server does not make such containers; `where` begins names in errors."""
    if MEMORY_BYTES[order.memory] > MEMORY_BYTES[policy.max_memory]:
        raise ApiError(
            f"memory_limit '{order.memory}' is above this server's largest, '{policy.max_memory}'.",
            code="invalid_value",
            param=f"{where}memory_limit",
        )
    if order.isolation is not None and report.usable and report.choose(order.isolation) is None:
        offered = sorted({found.level for found in (report, *report.others) if found.usable})
        raise ApiError(
            f"isolation '{order.isolation}' is not offered by this server; it has: {', '.join(offered)}.",
            code="invalid_value",
            param=f"{where}isolation",
        )


def promised(container_id: str, owner: str, order: Order, policy: ContainerPolicy, now: int) -> ContainerRecord:
    """The record of a container that was ordered at `now` (unix seconds) and of which nothing exists yet."""
    return ContainerRecord(
        container_id,
        owner,
        order.name,
        "reserved",
        created_at=now,
        last_active_at=now,
        expires_after_minutes=order.idle_minutes or policy.idle_minutes,
        memory_limit=order.memory,
        on_expired=order.on_expired or policy.on_expired,
        network=order.network,
        skills=order.skills,
        isolation=order.isolation or "",
    )


def limits_of(record: ContainerRecord, policy: ContainerPolicy) -> Limits:
    """What a container may use: the operator's limits, with the memory that was ordered."""
    return replace(policy.limits, memory_bytes=MEMORY_BYTES[record.memory_limit])


def engine_of(record: ContainerRecord, report: EngineReport) -> EngineReport:
    """The engine that starts a container: the first that isolates as well as was asked for.

    Raises `SandboxUnavailable` if there is none any more.
    """
    found = report.choose(record.isolation) if record.isolation else report
    if found is None:
        raise SandboxUnavailable(f"no engine of this server isolates as the container asks for: {record.isolation}")
    return found
