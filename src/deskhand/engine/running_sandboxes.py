"""The sandboxes of containers that run: started or found again, with their skills and their way out."""

from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

import structlog

from ..ports.sandbox import Bundle, EngineReport, Sandbox, SandboxEngine, SandboxSpec, SandboxUnavailable
from ..ports.store import ContainerRecord
from .container_order import ContainerPolicy, limits_of
from .container_skills import ContainerSkill, parsed
from .ways_out import WaysOut

log = structlog.get_logger()


class RunningSandboxes:
    """The sandboxes of every owner. Call `get` and `provide` under the lock of the container.

    `skills` gives the packed content of a skill by its digest.
    """

    def __init__(
        self,
        engine: SandboxEngine,
        report: EngineReport,
        policy: ContainerPolicy,
        skills: Callable[[str], AsyncIterator[bytes]],
        ways_out: WaysOut,
    ) -> None:
        self._engine = engine
        self._report = report
        self._policy = policy
        self._skills = skills
        self._ways_out = ways_out
        self._running: dict[str, Sandbox] = {}

    @property
    def ids(self) -> frozenset[str]:
        """The containers whose sandboxes were used and not forgotten."""
        return frozenset(self._running)

    async def get(self, record: ContainerRecord) -> Sandbox:
        """The sandbox of a live container, started unless it runs. Raises `SandboxError`."""
        found = self._running.get(record.id) or await self._start(record)
        self._running[record.id] = found
        return found

    def forget(self, container_id: str) -> None:
        """A sandbox is gone, or about to be: the next use starts it. Idempotent."""
        self._running.pop(container_id, None)

    async def provide(self, container_id: str, skills: Sequence[ContainerSkill]) -> None:
        """Unpack skills where the container sees them, unless they are there. Raises `SandboxError`."""
        for skill in skills:
            bundle = Bundle(skill.digest, skill.folder, partial(self._skills, skill.digest))
            try:
                await self._engine.provide(container_id, bundle)
            except FileNotFoundError:
                # A computer without one of its skills is worth more than none.
                log.warning("container.skill_missing", container_id=container_id, skill=skill.name)

    async def _start(self, record: ContainerRecord) -> Sandbox:
        if not self._report.usable:
            raise SandboxUnavailable("this host cannot isolate commands")
        await self.provide(record.id, parsed(record.skills))
        if (found := await self._engine.attach(record.id)) is not None:
            await self._ways_out.open(record)
            return found
        variables = await self._ways_out.open(record)
        proxied = variables is not None
        return await self._engine.start(
            SandboxSpec(record.id, limits_of(record, self._policy), variables or {}, proxied)
        )
