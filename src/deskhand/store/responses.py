"""Responses and items in the database.

A response's body is stored without its output, and every item in a row of its own: a run stores what is new, never the
conversation so far.
"""

from collections.abc import Iterable, Mapping, Sequence
from sqlite3 import Connection
from typing import Any, get_args

import msgspec

from ..ports.store import Owned
from ..wire.codec import convert, decode
from ..wire.items import Item, KnownItem, OpaqueItem
from ..wire.response import (
    Billing,
    ConversationRef,
    IncompleteDetails,
    Response,
    ResponseError,
    ToolUsage,
    Usage,
)
from ..wire.tools import decode_tool
from .database import Database
from .queries import load
from .text import body, column

_GIVEN, _OUTPUT = 0, 1

# Not `decode_item`: that reads what clients send, and drops nulls that a stored item may mean.
_KNOWN = msgspec.json.Decoder(KnownItem)
_KNOWN_TYPES = frozenset(str(kind.__struct_config__.tag) for kind in get_args(KnownItem))
_NESTED: Mapping[str, Any] = {
    "billing": Billing,
    "conversation": ConversationRef | None,
    "error": ResponseError | None,
    "incomplete_details": IncompleteDetails | None,
    "tool_usage": ToolUsage,
    "usage": Usage | None,
}


class SqlResponses:
    """The `ResponseStore` of a database.

    Text that no database can hold is changed as `store.text` says. Storing the state of a response that was deleted
    meanwhile does nothing.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = load("responses")

    async def create(self, owner: str, response: Response, given: Sequence[Item]) -> None:
        """Store a new response, its input, and its output if any. Raises `sqlite3.IntegrityError` on a known id."""
        row = {
            **_row(response),
            "owner": column(owner),
            "previous_id": response.previous_response_id and column(response.previous_response_id),
            "created_at": response.created_at,
        }
        items = [
            *_item_rows(response.id, _GIVEN, enumerate(given)),
            *_item_rows(response.id, _OUTPUT, enumerate(response.output)),
        ]

        def unit(connection: Connection) -> None:
            self._sql.insert_response(connection, **row)
            if items:
                self._sql.insert_items(connection, items)

        await self._database.write(unit)

    async def save(self, response_id: str, items: Mapping[int, Item]) -> None:
        """Store output items by `output_index`."""
        rows = _item_rows(response_id, _OUTPUT, items.items())
        if rows:
            await self._database.write(lambda connection: self._sql.put_items(connection, rows))

    async def finish(self, response: Response, items: Mapping[int, Item]) -> None:
        """Store the ended response and the given output items; other items of `response.output` are not looked at."""
        row, rows = _row(response), _item_rows(response.id, _OUTPUT, items.items())

        def unit(connection: Connection) -> None:
            self._sql.update_response(connection, **row)
            if rows:
                self._sql.put_items(connection, rows)

        await self._database.write(unit)

    async def get(self, owner: str, response_id: str) -> Response | None:
        """The response with its output, unless it is deleted."""
        id_, owner = column(response_id), column(owner)
        rows = await self._database.read(lambda c: list(self._sql.response(c, id=id_, owner=owner)))
        if not rows:
            return None
        (_, _, fields), *output = rows
        return _response(fields, [_item(type_, text) for _, type_, text in output])

    async def delete(self, owner: str, response_id: str) -> bool:
        """Delete the response, or hide it as long as others continue from it."""
        key = {"id": column(response_id), "owner": column(owner)}

        def unit(connection: Connection) -> bool:
            hidden = self._sql.hide_continued(connection, **key)
            return bool(hidden or self._sql.delete_uncontinued(connection, **key))

        return await self._database.write(unit)

    async def given(self, owner: str, response_id: str) -> Sequence[Item] | None:
        """The input items that came with the response, unless it is deleted."""
        id_, owner = column(response_id), column(owner)
        rows = await self._database.read(lambda c: list(self._sql.given_items(c, id=id_, owner=owner)))
        return [_item(type_, text) for type_, text in rows if text is not None] if rows else None

    async def context(self, owner: str, response_id: str) -> Sequence[Item]:
        """Every item of the chain. Deleted responses count: whether one may still continue from them is for `get`."""
        id_, owner = column(response_id), column(owner)
        rows = await self._database.read(lambda c: list(self._sql.chain_items(c, id=id_, owner=owner)))
        return [_item(type_, text) for type_, text in rows]

    async def item(self, owner: str, item_id: str) -> Item | None:
        """The newest item with this id."""
        id_, owner = column(item_id), column(owner)
        row = await self._database.read(lambda c: self._sql.newest_item(c, item_id=id_, owner=owner))
        return _item(*row) if row else None

    async def unfinished(self) -> Sequence[Owned[Response]]:
        """Responses that have not ended, oldest first, deleted ones among them."""

        def unit(connection: Connection) -> list[tuple[str, str, list[tuple[str, str]]]]:
            return [
                (owner, fields, list(self._sql.output_items(connection, id=id_)))
                for id_, owner, fields in list(self._sql.unfinished(connection))
            ]

        rows = await self._database.read(unit)
        return [Owned(owner, _response(fields, [_item(*row) for row in output])) for owner, fields, output in rows]


def _row(response: Response) -> dict[str, Any]:
    bare = msgspec.structs.replace(response, output=[])
    return {"id": column(response.id), "status": response.status, "body": body(bare)}


def _item_rows(response_id: str, side: int, items: Iterable[tuple[int, Item]]) -> list[dict[str, Any]]:
    id_ = column(response_id)
    return [
        {
            "response_id": id_,
            "side": side,
            "position": position,
            "item_id": column(item.id),
            "type": column(item.type),
            "body": body(item),
        }
        for position, item in items
    ]


def _item(type_: str, text: str) -> Item:
    return _KNOWN.decode(text) if type_ in _KNOWN_TYPES else OpaqueItem(decode(text))


def _response(text: str, output: list[Item]) -> Response:
    """The response of a stored body. Fields that this version does not know are left out."""
    fields = {name: value for name, value in decode(text).items() if name in Response.__struct_fields__}
    for name, kind in _NESTED.items():
        if name in fields:
            fields[name] = convert(fields[name], kind)
    fields["tools"] = [decode_tool(tool) for tool in fields.get("tools", ())]
    return Response(**{**fields, "output": output})
