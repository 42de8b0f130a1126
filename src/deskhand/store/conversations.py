"""Conversations and their items in the database, and what responses do to them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from ..core.errors import conversation_locked, duplicate_item, not_found
from ..ports.conversations import Continuable, ConversationRecord
from ..ports.store import Listing, Page
from ..wire.items import Item
from ..wire.response import Response
from .database import Connection, Database, Driver
from .queries import load
from .rows import stored_item
from .text import body, column

_LAST = 2**62
"""Beyond every position."""
_ADDING = frozenset({"completed", "incomplete"})
"""How a response ends that becomes part of its conversation: what its user has read, the next one must know of."""


class Turns:
    """What responses do to conversations, within the transactions that store the responses."""

    def __init__(self, driver: Driver) -> None:
        self._sql = load("conversations", driver)

    def begin(self, connection: Connection, owner: str, response: Response, revision: int) -> None:
        """A new response was stored; if it has a conversation, it goes on with that as it was at `revision`.

        One that is not to be stored is there for nobody else. Raises `ApiError` (404; locked, also if the conversation
        has changed since).
        """
        if response.conversation is None:
            return
        id_ = column(response.conversation.id)
        hold(self._sql, connection, owner, id_)
        if self._sql.state(connection, id=id_)[0] != revision:
            raise conversation_locked()
        row = {"conversation_id": id_, "revision": revision, "hidden": int(not response.store)}
        self._sql.begin_response(connection, id=column(response.id), **row)

    def end(self, connection: Connection, response: Response) -> None:
        """A response is about to be stored as ended: its items become part of its conversation, once."""
        if response.conversation is None or response.status not in _ADDING:
            return
        added = self._sql.append_response(connection, id=column(response.id))
        if added:
            self._sql.raise_revision(connection, id=column(response.conversation.id), by=added)

    def leave(self, connection: Connection, response: Response) -> None:
        """A response was stored as ended: nothing of it stays but in its conversation, if it was not to be stored."""
        if not response.store:
            self._sql.forget_response(connection, id=column(response.id))


class SqlConversations:
    """The `ConversationStore` of a database. Text that no database can hold is changed as `store.text` says."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = load("conversations", database.driver)

    async def add(self, record: ConversationRecord, items: Sequence[Item]) -> None:
        """Store a conversation and its first items. Raises `IntegrityViolated` on a known id."""
        row = {"id": column(record.id), "owner": column(record.owner), "created_at": record.created_at}
        metadata = body(record.metadata)

        def unit(connection: Connection) -> None:
            self._sql.insert_conversation(connection, **row, metadata=metadata)
            self._append(connection, record.id, 0, items)

        await self._database.write(unit)

    async def get(self, owner: str, conversation_id: str) -> ConversationRecord | None:
        """The conversation, unless it is deleted."""
        key = {"id": column(conversation_id), "owner": column(owner)}
        row = await self._database.read(lambda connection: self._sql.conversation(connection, **key))
        if row is None:
            return None
        id_, project_id, created_at, metadata = row
        return ConversationRecord(id_, project_id, created_at, msgspec.json.decode(metadata, type=dict[str, str]))

    async def set_metadata(self, owner: str, conversation_id: str, metadata: Mapping[str, str]) -> bool:
        """Replace the metadata."""
        row = {"id": column(conversation_id), "owner": column(owner), "metadata": body(metadata)}
        return bool(await self._database.write(lambda connection: self._sql.set_metadata(connection, **row)))

    async def delete(self, owner: str, conversation_id: str) -> bool:
        """Delete a conversation, or hide it as long as its responses are kept."""
        id_ = column(conversation_id)

        def unit(connection: Connection) -> bool:
            if self._sql.conversation(connection, id=id_, owner=column(owner)) is None:
                return False
            hold(self._sql, connection, owner, conversation_id)
            return bool(self._sql.hide_used(connection, id=id_) or self._sql.delete_conversation(connection, id=id_))

        return await self._database.write(unit)

    async def append(self, owner: str, conversation_id: str, items: Sequence[Item]) -> None:
        """Store items behind the last."""
        id_ = column(conversation_id)

        def unit(connection: Connection) -> None:
            hold(self._sql, connection, owner, conversation_id)
            for item in items:
                if item.id and self._sql.is_known(connection, id=id_, item_id=column(item.id)) is not None:
                    raise duplicate_item(item.id, "items")
            self._append(connection, conversation_id, self._sql.state(connection, id=id_)[0], items)

        await self._database.write(unit)

    def _append(self, connection: Connection, conversation_id: str, revision: int, items: Sequence[Item]) -> None:
        rows = _item_rows(conversation_id, revision, items)
        if rows:
            self._sql.insert_items(connection, rows)
            self._sql.raise_revision(connection, id=column(conversation_id), by=len(rows))

    async def items(self, owner: str, conversation_id: str, page: Page) -> Listing[Item]:
        """A page of the items, by position."""
        id_ = column(conversation_id)
        select, edge = (self._sql.newer_items, 0) if page.order == "asc" else (self._sql.older_items, _LAST)

        def unit(connection: Connection) -> list[tuple[str, str]]:
            if self._sql.conversation(connection, id=id_, owner=column(owner)) is None:
                raise not_found("Conversation", conversation_id)
            position = edge
            if page.after is not None:
                (position,) = self._sql.place(connection, id=id_, item_id=column(page.after))
                if position is None:
                    raise not_found("Item", page.after, param="after")
            return [*select(connection, id=id_, position=position, most=page.limit + 1)]

        rows = await self._database.read(unit)
        return Listing([stored_item(*row) for row in rows[: page.limit]], has_more=len(rows) > page.limit)

    async def item(self, owner: str, conversation_id: str, item_id: str) -> Item | None:
        """One item of the conversation."""
        key = {"id": column(conversation_id), "owner": column(owner), "item_id": column(item_id)}
        row = await self._database.read(lambda connection: self._sql.item(connection, **key))
        return stored_item(*row) if row else None

    async def delete_item(self, owner: str, conversation_id: str, item_id: str) -> bool:
        """Delete an item from the conversation. Responses that brought it keep theirs."""
        id_ = column(conversation_id)

        def unit(connection: Connection) -> bool:
            hold(self._sql, connection, owner, conversation_id)
            if not self._sql.delete_item(connection, id=id_, item_id=column(item_id)):
                return False
            self._sql.raise_revision(connection, id=id_, by=1)
            return True

        return await self._database.write(unit)

    async def known(self, owner: str, conversation_id: str, item_ids: Collection[str]) -> Collection[str]:
        """Ids that items of the conversation have."""
        key = {"id": column(conversation_id), "owner": column(owner)}

        def unit(connection: Connection) -> set[str]:
            return {id_ for id_ in item_ids if self._sql.item(connection, **key, item_id=column(id_)) is not None}

        return await self._database.read(unit)

    async def continuable(self, owner: str, conversation_id: str) -> Continuable | None:
        """Every item, as far as it is of the revision that is told."""
        id_ = column(conversation_id)

        def unit(connection: Connection) -> tuple[int, int, list[tuple[str, str]]] | None:
            if self._sql.conversation(connection, id=id_, owner=column(owner)) is None:
                return None
            state = self._sql.state(connection, id=id_)
            if state is None:
                return None
            return *state, [*self._sql.items_until(connection, id=id_, revision=state[0])]

        found = await self._database.read(unit)
        if found is None:
            return None
        revision, running, rows = found
        return Continuable([stored_item(*row) for row in rows], revision, locked=bool(running))

    async def newest_item(self, owner: str, item_id: str) -> Item | None:
        """An item of any conversation of the owner's."""
        key = {"owner": column(owner), "item_id": column(item_id)}
        row = await self._database.read(lambda connection: self._sql.newest_item(connection, **key))
        return stored_item(*row) if row else None

    async def collect(self) -> None:
        """Delete hidden conversations whose responses are gone."""
        await self._database.write(self._sql.collect)


def hold(sql: Any, connection: Connection, owner: str, conversation_id: str) -> None:
    """Keep a conversation from changing until the transaction ends.

    Raises `ApiError` if there is none (404), or if a response goes on with it (locked).
    """
    id_ = column(conversation_id)
    if not sql.hold(connection, id=id_, owner=column(owner)):
        raise not_found("Conversation", conversation_id)
    if sql.state(connection, id=id_)[1]:
        raise conversation_locked()


def _item_rows(conversation_id: str, revision: int, items: Sequence[Item]) -> list[dict[str, Any]]:
    return [
        {
            "conversation_id": column(conversation_id),
            "position": position,
            "item_id": column(item.id),
            "type": column(item.type),
            "body": body(item),
        }
        for position, item in enumerate(items, revision + 1)
    ]
