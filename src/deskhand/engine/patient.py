"""A store that waits for its database: for runs that nobody's connection depends on."""

from collections.abc import Sequence
from dataclasses import dataclass

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_exponential_jitter

from ..core.errors import StoreUnavailable
from ..ports.runs import UNPLANNED, Claim, Plan, Written
from ..ports.store import ResponseStore
from ..wire.items import Item
from ..wire.response import Response

PATIENCE_SECONDS = 1800.0
"""How long a run waits for the store; then it is left to whoever takes it up once the store is back."""


@dataclass(frozen=True, slots=True)
class PatientResponses:
    """A `ResponseStore` whose writes of a run are tried again while the store is unavailable. The rest is not."""

    store: ResponseStore

    async def create(self, owner: str, response: Response, given: Sequence[Item], plan: Plan = UNPLANNED) -> None:
        """As the store does: a client waits for the answer."""
        await self.store.create(owner, response, given, plan)

    async def save(self, claim: Claim, written: Written) -> None:
        """Store what was written, once the store is there."""
        async for attempt in _attempts():
            with attempt:
                await self.store.save(claim, written)

    async def finish(self, claim: Claim, response: Response, written: Written) -> None:
        """Store the ending, once the store is there."""
        async for attempt in _attempts():
            with attempt:
                await self.store.finish(claim, response, written)

    async def get(self, owner: str, response_id: str) -> Response | None:
        """As the store does."""
        return await self.store.get(owner, response_id)

    async def delete(self, owner: str, response_id: str) -> bool:
        """As the store does."""
        return await self.store.delete(owner, response_id)

    async def given(self, owner: str, response_id: str) -> Sequence[Item] | None:
        """As the store does."""
        return await self.store.given(owner, response_id)

    async def context(self, owner: str, response_id: str) -> Sequence[Item]:
        """As the store does."""
        return await self.store.context(owner, response_id)

    async def item(self, owner: str, item_id: str) -> Item | None:
        """As the store does."""
        return await self.store.item(owner, item_id)


def _attempts() -> AsyncRetrying:
    return AsyncRetrying(
        retry=retry_if_exception_type(StoreUnavailable),
        wait=wait_exponential_jitter(initial=0.2, max=5.0),
        stop=stop_after_delay(PATIENCE_SECONDS),
        reraise=True,
    )
