"""What a request continues from: the items that come before its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..core.errors import ApiError, not_found
from ..ports.conversations import ConversationStore
from ..ports.store import ResponseStore
from ..wire.items import Item
from ..wire.request import CreateResponse
from .items_in import name_calls

Recent = Mapping[str, Sequence[Item]]
"""Responses that only the connection of a request knows: by id, every item of the context and of the output."""


@dataclass(frozen=True, slots=True)
class Continued:
    """The items before a request's own, oldest first.

    If they are a conversation's, they are those of its `revision`; it is `locked` if another response goes on with it.
    """

    items: Sequence[Item] = ()
    revision: int = 0
    locked: bool = False


@dataclass(frozen=True, slots=True)
class Continuations:
    """Finds what requests continue from."""

    responses: ResponseStore
    conversations: ConversationStore

    async def read(self, owner: str, request: CreateResponse, recent: Recent) -> Continued:
        """Raises `ApiError` if a request names something that it cannot continue from."""
        if request.previous_response_id is not None and request.conversation is not None:
            raise ApiError(
                "Mutually exclusive parameters: give 'previous_response_id' or 'conversation', not both.",
                code="mutually_exclusive_parameters",
                param="previous_response_id",
            )
        if request.previous_response_id is not None:
            return Continued(await self._chain(owner, request.previous_response_id, recent))
        if request.conversation_ref is not None:
            return await self._conversation(owner, request.conversation_ref.id)
        return Continued()

    async def item(self, owner: str, item_id: str) -> Item | None:
        """The item that a reference names: a response's, or one that was added to a conversation."""
        found = await self.responses.item(owner, item_id)
        return found or await self.conversations.newest_item(owner, item_id)

    async def _conversation(self, owner: str, conversation_id: str) -> Continued:
        found = await self.conversations.continuable(owner, conversation_id)
        if found is None:
            raise not_found("Conversation", conversation_id, param="conversation")
        # Outputs that were added by themselves name their calls as clients like to.
        return Continued(name_calls((), found.items), found.revision, found.locked)

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
