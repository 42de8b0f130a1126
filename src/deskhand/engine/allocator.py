"""Making containers, and no more of one project than may live at once."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from ..core.errors import ApiError, ToolFailure
from ..locks import Locks
from ..ports.sandbox import EngineReport, SandboxEngine
from ..ports.store import ContainerRecord, ContainerStore
from .container_order import ContainerPolicy, engine_of, limits_of


class Allocator:
    """Makes the containers of every owner, each counted against its owner's ceiling."""

    def __init__(
        self, store: ContainerStore, engine: SandboxEngine, report: EngineReport, policy: ContainerPolicy
    ) -> None:
        self._store = store
        self._engine = engine
        self._report = report
        self._policy = policy
        self._ceilings = Locks()
        self._making: Counter[str] = Counter()

    async def make(
        self, record: ContainerRecord, keep: Callable[[], Awaitable[None]], origin: str | None = None
    ) -> None:
        """Allocate a container, empty or as in the snapshot `origin`, and `keep` it as live.

        What is live and what is being made are counted under one lock: requests that come together cannot all pass.
        What was made is kept or destroyed, also when the caller is cancelled. Raises `ContainerCeiling`,
        `SandboxError`.
        """
        owner, most = record.owner, self._policy.max_live
        ceiling = self._ceilings.of(owner)
        async with ceiling:
            if await self._store.count_live(owner) + self._making[owner] >= most:
                raise ContainerCeiling(most)
            self._making[owner] += 1
        try:
            try:
                engine = engine_of(record, self._report).engine
                await self._engine.allocate(record.id, limits_of(record, self._policy), origin, engine)
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
