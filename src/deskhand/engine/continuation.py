"""What a request continues from: the items that come before its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..core.errors import ApiError
from ..ports.store import ResponseStore
from ..wire.items import Item
from ..wire.request import CreateResponse

Recent = Mapping[str, Sequence[Item]]
"""Responses that only the connection of a request knows: by id, every item of the context and of the output."""


@dataclass(frozen=True, slots=True)
class Continued:
    """The items before a request's own, oldest first."""

    items: Sequence[Item] = ()


@dataclass(frozen=True, slots=True)
class Continuations:
    """Finds what requests continue from."""

    responses: ResponseStore

    async def read(self, owner: str, request: CreateResponse, recent: Recent) -> Continued:
        """Raises `ApiError` if a request names something that it cannot continue from."""
        if request.previous_response_id is not None:
            return Continued(await self._chain(owner, request.previous_response_id, recent))
        return Continued()

    async def _chain(self, owner: str, response_id: str, recent: Recent) -> Sequence[Item]:
        if response_id in recent:
            return recent[response_id]
        previous = await self.responses.get(owner, response_id)
        if previous is None:
            raise ApiError(
                f"Previous response with id '{response_id}' not found.",
                code="previous_response_not_found",
                param="previous_response_id",
            )
        if previous.status in {"queued", "in_progress"}:
            raise ApiError(
                f"Previous response '{response_id}' is still {previous.status}. Wait until it has ended.",
                param="previous_response_id",
            )
        return await self.responses.context(owner, response_id)
