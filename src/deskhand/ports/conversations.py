"""Conversations: items that outlive the responses that made them. One response at a time goes on with each."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..wire.items import Item
from .store import Listing, Page


@dataclass(frozen=True, slots=True)
class ConversationRecord:
    """A conversation without its items. `created_at` is in unix seconds."""

    id: str
    owner: str
    created_at: int
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Continuable:
    """What a response would go on with: every item, oldest first, and the revision of which that is true.

    The revision rises with every change of the items. `locked` if a response goes on with the conversation already.
    """

    items: Sequence[Item]
    revision: int
    locked: bool


class ConversationStore(Protocol):
    """Conversations and their items. Every implementation passes `deskhand.testing.conformance_conversations`.

    Whoever changes items while a response goes on with the conversation gets an `ApiError` (400, conversation_locked).
    What that response adds is stored by the `ResponseStore`, with its end.
    """

    async def add(self, record: ConversationRecord, items: Sequence[Item]) -> None:
        """Store a new conversation. Durable on return."""
        ...

    async def get(self, owner: str, conversation_id: str) -> ConversationRecord | None: ...
    async def set_metadata(self, owner: str, conversation_id: str, metadata: Mapping[str, str]) -> bool:
        """Replace the metadata; False if there is no such conversation."""
        ...

    async def delete(self, owner: str, conversation_id: str) -> bool:
        """Forget a conversation; False if there was none. Raises `ApiError` (locked).

        Its items stay for the responses that went on with it, which may still be continued from.
        """
        ...

    async def append(self, owner: str, conversation_id: str, items: Sequence[Item]) -> None:
        """Store items behind the last. Durable on return. Raises `ApiError` (404, locked, a known item id)."""
        ...

    async def items(self, owner: str, conversation_id: str, page: Page) -> Listing[Item]:
        """A page of the items. Raises `ApiError` (404), also if `page.after` is not one of them."""
        ...

    async def item(self, owner: str, conversation_id: str, item_id: str) -> Item | None:
        """One item; the newest, should an upstream have used its id twice."""
        ...

    async def delete_item(self, owner: str, conversation_id: str, item_id: str) -> bool:
        """Forget an item; False if there was none. Raises `ApiError` (locked)."""
        ...

    async def known(self, owner: str, conversation_id: str, item_ids: Collection[str]) -> Collection[str]:
        """Those of the ids that items of the conversation have."""
        ...

    async def continuable(self, owner: str, conversation_id: str) -> Continuable | None:
        """What a response would go on with; None if there is no such conversation."""
        ...

    async def newest_item(self, owner: str, item_id: str) -> Item | None:
        """An item by its id, whichever conversation it is in."""
        ...

    async def collect(self) -> None:
        """Remove deleted conversations that no response needs any more."""
        ...
