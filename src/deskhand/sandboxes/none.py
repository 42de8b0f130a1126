"""No isolation: hosted tools are refused. For servers that only route models."""

import asyncio
from collections.abc import Collection, Sequence

from ..ports.sandbox import (
    Bundle,
    EngineReport,
    Finding,
    Limits,
    Outlet,
    Sandbox,
    SandboxSpec,
    SandboxUnavailable,
    Snapshot,
    Workspace,
)


class NoEngine:
    """Runs nothing, and says why."""

    def __init__(self, reason: str, mend: str = "") -> None:
        self._reason = reason
        self._mend = mend

    async def probe(self) -> EngineReport:
        finding = Finding("engine", ok=False, detail=self._reason, mend=self._mend, required=True)
        return EngineReport("none", "none", [finding])

    async def allocate(self, container_id: str, limits: Limits, origin: str | None = None, engine: str = "") -> None:
        raise SandboxUnavailable(self._reason)

    async def snapshot(self, container_id: str, snapshot_id: str) -> Snapshot:
        raise SandboxUnavailable(self._reason)

    async def restore(self, container_id: str, snapshot_id: str) -> None:
        raise SandboxUnavailable(self._reason)

    async def drop_snapshot(self, snapshot_id: str) -> None:
        return None

    async def sweep_snapshots(self, keep: Collection[str]) -> Sequence[str]:
        return []

    def workspace(self, container_id: str) -> Workspace:
        raise SandboxUnavailable(self._reason)

    async def provide(self, container_id: str, bundle: Bundle) -> None:
        raise SandboxUnavailable(self._reason)

    def expect_python(self) -> None:
        return

    async def keep_python_warm(self) -> None:
        await asyncio.Event().wait()

    async def keep_fair(self) -> None:
        return None

    async def outlet(self, container_id: str) -> Outlet:
        raise SandboxUnavailable(self._reason)

    async def start(self, spec: SandboxSpec) -> Sandbox:
        raise SandboxUnavailable(self._reason)

    async def attach(self, container_id: str) -> Sandbox | None:
        return None

    async def keep_warm(self, count: int) -> None:
        return None

    async def destroy(self, container_id: str) -> None:
        return None

    async def sweep(self, keep: Collection[str]) -> Sequence[str]:
        return []
