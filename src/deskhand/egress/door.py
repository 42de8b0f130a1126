"""What the proxy knows of one container, and what becomes of one attempt to leave it."""

import asyncio
from dataclasses import dataclass, field
from typing import Final, Literal

from ..ports.store import EgressRecord
from .bounds import Bounds
from .policy import Policy
from .secrets import Vault
from .streams import Traffic

LONGEST_PATH: Final = 512
MOST_DIALS: Final = 8
"""Connections that one container may be making at the same time: names are resolved by few threads for all."""


@dataclass(frozen=True, slots=True)
class Use:
    """The response and the call that use a container at the moment; "" if none is known."""

    response_id: str = ""
    call_id: str = ""


@dataclass(slots=True)
class Door:
    """One container's way out. `vault` is replaced when a secret changes; the rest counts."""

    owner: str
    container_id: str
    policy: Policy
    vault: Vault = field(default_factory=Vault)
    use: Use = Use()
    connections: int = 0
    dialling: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_DIALS))
    working: asyncio.Lock = field(default_factory=asyncio.Lock)
    attempts: int = 0
    spent: int = 0

    async def turn(self) -> None:
        """Return when no other connection of the container goes on in this round of the loop.

        Hundreds that all have something to do would else be one long round, for everybody.
        """
        async with self.working:
            await asyncio.sleep(0)

    def spend(self, size: int, bounds: Bounds) -> bool:
        """Count bytes that move; False if they must not."""
        self.spent += size
        return not bounds.container_bytes or self.spent <= bounds.container_bytes

    def check(self, bounds: Bounds) -> None:
        """Raise `Refused` for the attempt that was begun last, if the container has used up what it may."""
        if self.attempts > bounds.container_records:
            raise Refused(403, "record_limit", "this container has made as many requests as are recorded")
        if bounds.container_bytes and self.spent >= bounds.container_bytes:
            raise Refused(403, "byte_limit", "this container has moved as many bytes as it may")


@dataclass(slots=True)
class Attempt:
    """One attempt, filled in as it goes on."""

    host: str = ""
    port: int = 0
    method: str = ""
    path: str = ""
    decision: Literal["allowed", "denied"] = "allowed"
    reason: str = ""
    rule: str = ""
    verified: bool = True
    status: int = 0
    secrets: tuple[str, ...] = ()
    traffic: Traffic = field(default_factory=Traffic)
    kept: bool = True
    """False if its record would say nothing that others do not say."""

    def record(self, door: Door, record_id: str, began_ms: int, use: Use) -> EgressRecord:
        """What is kept: without the query, which may hold anything, and without any value of a secret."""
        path = door.vault.mask.text(self.path.partition("?")[0])
        return EgressRecord(
            id=record_id,
            owner=door.owner,
            container_id=door.container_id,
            created_ms=began_ms,
            response_id=use.response_id,
            call_id=use.call_id,
            host=self.host,
            port=self.port,
            method=self.method[:32],
            path=path.encode("ascii", "backslashreplace").decode()[:LONGEST_PATH],
            decision=self.decision,
            reason=self.reason,
            rule=self.rule,
            verified=self.verified,
            status=self.status,
            bytes_out=self.traffic.sent,
            bytes_in=self.traffic.received,
            secrets=self.secrets,
        )


class Refused(Exception):
    """The proxy answers instead of the outside. `denied` tells a verdict from a failure."""

    def __init__(self, status: int, reason: str, words: str, *, rule: str = "", denied: bool = True) -> None:
        super().__init__(words)
        self.status = status
        self.reason = reason
        self.words = words
        self.rule = rule
        self.denied = denied
