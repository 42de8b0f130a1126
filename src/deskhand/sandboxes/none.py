"""No isolation: hosted tools are refused. For servers that only route models."""

from collections.abc import Collection, Sequence

from ..ports.sandbox import EngineReport, Finding, Limits, Sandbox, SandboxSpec, SandboxUnavailable, Workspace


class NoEngine:
    """Runs nothing, and says why."""

    def __init__(self, reason: str, mend: str = "") -> None:
        self._reason = reason
        self._mend = mend

    async def probe(self) -> EngineReport:
        finding = Finding("engine", ok=False, detail=self._reason, mend=self._mend, required=True)
        return EngineReport("none", "none", [finding])

    async def allocate(self, container_id: str, limits: Limits) -> None:
        raise SandboxUnavailable(self._reason)

    def workspace(self, container_id: str) -> Workspace:
        raise SandboxUnavailable(self._reason)

    async def start(self, spec: SandboxSpec) -> Sandbox:
        raise SandboxUnavailable(self._reason)

    async def attach(self, container_id: str) -> Sandbox | None:
        return None

    async def destroy(self, container_id: str) -> None:
        return None

    async def sweep(self, keep: Collection[str]) -> Sequence[str]:
        return []
