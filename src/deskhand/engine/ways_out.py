"""The ways out of containers through their lives: opened with the computer, closed at the end, and who uses them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from ..egress.door import Use
from ..ports.sandbox import SandboxError, SandboxUnavailable
from ..ports.store import ContainerRecord
from ..wire.network import DomainSecret
from .egress import Egress

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class WaysOut:
    """The ways out of every container; without `egress` nothing leaves any."""

    egress: Egress | None

    async def keep(self, record: ContainerRecord, secrets: Sequence[DomainSecret]) -> None:
        """Store the secrets of a new container."""
        if self.egress is not None:
            await self.egress.keep(record, secrets)

    async def open(self, record: ContainerRecord) -> Mapping[str, str] | None:
        """Open the container's way out, if it has one; the variables for its computer. Raises `SandboxError`."""
        try:
            return await self.egress.open(record) if self.egress is not None else None
        except OSError as exc:
            raise SandboxUnavailable(f"the network of the container could not be set up: {exc}") from exc

    async def reopen(self, record: ContainerRecord) -> None:
        """Open the way out of a container that an earlier process left running. Until then nothing leaves it."""
        try:
            await self.open(record)
        except SandboxError as exc:
            log.warning("container.network_failed", container_id=record.id, error=str(exc))

    def used_by(self, container_id: str, use: Use) -> None:
        """Note which call uses a container from now on, for the records."""
        if self.egress is not None:
            self.egress.used_by(container_id, use)

    async def expire(self, record: ContainerRecord) -> None:
        """Close the way out of a container that expires; its secrets go too, unless it can come back."""
        if self.egress is None:
            return
        if record.on_expired == "error":
            await self.egress.forget(record.id)
        else:
            await self.egress.close(record.id)

    async def forget(self, container_id: str) -> None:
        """Close the way out of a container that was deleted, and destroy its secrets. Idempotent."""
        if self.egress is not None:
            await self.egress.forget(container_id)
