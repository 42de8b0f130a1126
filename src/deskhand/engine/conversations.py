"""Conversations: made, changed and read by their owners. Responses go on with them through `Continuations`."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog

from ..core.errors import ApiError, not_found
from ..ports.conversations import ConversationRecord, ConversationStore
from ..ports.store import Listing, Page
from ..wire.items import Item, ItemReference
from .attachments import Attachments
from .background import repeatedly
from .continuation import Continuations
from .ids import new_id
from .items_in import read_input, with_own_ids
from .tools_in import storable
from .window import TRIGGER, is_trigger

log = structlog.get_logger()

COLLECT_SECONDS: Final = 60.0
"""How often it is looked for deleted conversations that no response needs any more."""

_NEW_ITEMS: Final = "items"
"""The parameter that brings items."""

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Conversations:
    """Another owner's conversations do not exist for you."""

    store: ConversationStore
    continuations: Continuations
    attachments: Attachments
    now: Callable[[], float] = time.time

    async def create(self, owner: str, items: Sequence[Fields], metadata: Mapping[str, str]) -> ConversationRecord:
        """A new conversation. Raises `ApiError` for the first item that cannot be read."""
        given = with_own_ids(await self._read(owner, items), (), new_id, _NEW_ITEMS)
        record = ConversationRecord(new_id("conv"), owner, int(self.now()), metadata)
        await self.store.add(record, given)
        return record

    async def get(self, owner: str, conversation_id: str) -> ConversationRecord:
        """One conversation. Raises `ApiError` (404)."""
        record = await self.store.get(owner, conversation_id)
        if record is None:
            raise not_found("Conversation", conversation_id)
        return record

    async def set_metadata(self, owner: str, conversation_id: str, metadata: Mapping[str, str]) -> ConversationRecord:
        """Replace the metadata, also while a response goes on with the conversation. Raises `ApiError` (404)."""
        record = await self.get(owner, conversation_id)
        if not await self.store.set_metadata(owner, conversation_id, metadata):
            raise not_found("Conversation", conversation_id)
        return replace(record, metadata=metadata)

    async def delete(self, owner: str, conversation_id: str) -> None:
        """Forget a conversation. Raises `ApiError` (404, locked)."""
        if not await self.store.delete(owner, conversation_id):
            raise not_found("Conversation", conversation_id)

    async def append(self, owner: str, conversation_id: str, items: Sequence[Fields]) -> Sequence[Item]:
        """Add items behind the last; the items as they are now. Raises `ApiError` (400, 404, locked)."""
        await self.get(owner, conversation_id)
        given = await self._read(owner, items)
        known = await self.store.known(owner, conversation_id, {item.id for item in given})
        given = with_own_ids(given, known, new_id, _NEW_ITEMS)
        await self.store.append(owner, conversation_id, given)
        return given

    async def items(self, owner: str, conversation_id: str, page: Page) -> Listing[Item]:
        """A page of the items. Raises `ApiError` (404)."""
        return await self.store.items(owner, conversation_id, page)

    async def item(self, owner: str, conversation_id: str, item_id: str) -> Item:
        """One item. Raises `ApiError` (404)."""
        await self.get(owner, conversation_id)
        item = await self.store.item(owner, conversation_id, item_id)
        if item is None:
            raise not_found("Item", item_id)
        return item

    async def delete_item(self, owner: str, conversation_id: str, item_id: str) -> ConversationRecord:
        """Forget an item; the conversation that is left. Raises `ApiError` (404, locked)."""
        record = await self.get(owner, conversation_id)
        if not await self.store.delete_item(owner, conversation_id, item_id):
            raise not_found("Item", item_id)
        return record

    async def collect_forever(self) -> None:
        """Remove deleted conversations once the last of their responses is gone."""
        await repeatedly("conversations.collection", self.store.collect, COLLECT_SECONDS)

    async def _read(self, owner: str, fields: Sequence[Fields]) -> list[Item]:
        """New items: whole, readable, without credentials, and with what references name in their place."""
        given = read_input(fields, new_id, _NEW_ITEMS)
        for index, item in enumerate(given):
            if is_trigger(item):
                raise _no_item(f"{_NEW_ITEMS}[{index}]")
        read = [await self._resolved(owner, item, index) for index, item in enumerate(given)]
        await self.attachments.check(owner, read, _NEW_ITEMS)
        return [storable(item) for item in read]

    async def _resolved(self, owner: str, item: Item, index: int) -> Item:
        if not isinstance(item, ItemReference):
            return item
        found = await self.continuations.item(owner, item.id)
        if found is None:
            raise not_found("Item", item.id, param=f"{_NEW_ITEMS}[{index}].id")
        return found


def _no_item(where: str) -> ApiError:
    return ApiError(
        f"A '{TRIGGER}' is a wish, and not kept: send it as the last item of a response's input.",
        code="invalid_value",
        param=where,
    )
