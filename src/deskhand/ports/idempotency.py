"""Which idempotency keys were used, and what was answered under them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key that a project has used. Times are unix seconds.

    `token` is of the request that has it. That request is under way until `ended`, and dead if `lease_until` is over
    before. `response_id` is the stored response that it makes, "" if none is known; `sealed` is what is kept of the
    request and of its answer, b"" if nothing is yet.
    """

    owner: str
    key: str
    token: str
    ended: bool
    lease_until: int
    expires_at: int
    response_id: str = ""
    sealed: bytes = b""


class IdempotencyStore(Protocol):
    """The keys of every project. What is written is durable on return."""

    async def claim(self, wanted: KeyRecord, now: int, most: int) -> KeyRecord:
        """Take a key for `wanted` if it is free, and return its record as it is then: `wanted` if it was.

        A key is free if it was never used, if its time is over, or if the request that had it is dead and no response
        of it exists. A project has about `most` keys: of more, those that ended and expire first are forgotten.
        """
        ...

    async def name(self, token: str, response_id: str, sealed: bytes) -> None:
        """Note the response that the request of a claim makes, before it exists."""
        ...

    async def settle(self, token: str, sealed: bytes) -> None:
        """Note that the request of a claim has ended, and what is kept of it. Does nothing if the claim was lost."""
        ...

    async def release(self, token: str) -> None:
        """Forget a claim: nothing was done under it. Idempotent."""
        ...

    async def renew(self, tokens: Sequence[str], lease_until: int) -> None:
        """Set the leases of requests that are under way."""
        ...

    async def forget_expired(self, now: int, most: int) -> int:
        """Remove at most `most` keys whose time is over; how many there were."""
        ...
