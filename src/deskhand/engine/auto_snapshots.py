"""A snapshot after each stored response that ran something, so that any earlier turn's computer can be brought back.

It is taken when the client has been told the end. Whoever uses the container next waits for it: the task takes the
container's lock before anything that the next request could do.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

import structlog

from ..core.errors import DeskhandError
from ..ports.sandbox import SandboxError, SandboxGone
from ..wire.items import Item
from .containers import Containers
from .placement import ran_in
from .snapshots import Snapshots

log = structlog.get_logger()

FAREWELL_SECONDS = 1.0
"""How long snapshots under way may take when the server stops."""


class AutoSnapshots:
    """Takes them, as tasks of its own. Use as `async with snapshots.serving()`."""

    def __init__(self, containers: Containers, snapshots: Snapshots) -> None:
        self._containers = containers
        self._snapshots = snapshots
        self._tasks: asyncio.TaskGroup | None = None
        self._pending: dict[str, asyncio.Task[None]] = {}

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["AutoSnapshots"]:
        """Take snapshots until the block ends, then finish those under way."""
        async with asyncio.TaskGroup() as group:
            self._tasks = group
            try:
                yield self
            finally:
                self._tasks = None
                if pending := list(self._pending.values()):
                    await asyncio.wait(pending, timeout=FAREWELL_SECONDS)
                    for task in pending:
                        task.cancel()

    def ended(self, owner: str, response_id: str, output: Sequence[Item]) -> None:
        """A stored response has ended with this output. Returns at once."""
        used = {container_id for item in output if (container_id := ran_in(item)) is not None}
        if not used or self._tasks is None:
            return
        task = self._tasks.create_task(self._take_all(owner, response_id, used))
        self._pending[response_id] = task
        task.add_done_callback(lambda _: self._pending.pop(response_id, None))

    async def settled(self, response_id: str) -> None:
        """Return when the response's snapshots are taken, if any are."""
        if (task := self._pending.get(response_id)) is not None:
            await asyncio.wait({task})

    async def _take_all(self, owner: str, response_id: str, used: Collection[str]) -> None:
        async with asyncio.TaskGroup() as group:
            for container_id in used:
                group.create_task(self._take(owner, response_id, container_id))

    async def _take(self, owner: str, response_id: str, container_id: str) -> None:
        try:
            async with self._containers.held(owner, container_id) as record:
                await self._snapshots.take_after(record, response_id)
        except SandboxGone:
            return  # it was deleted or has expired
        except (DeskhandError, SandboxError) as exc:
            log.warning("snapshot.not_taken", container_id=container_id, response_id=response_id, error=str(exc))
        except Exception:
            # One snapshot must not end the server.
            log.exception("snapshot.failed", container_id=container_id, response_id=response_id)
