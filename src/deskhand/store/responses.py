"""Responses and items in the database.

A response's body is stored without its output, and every item in a row of its own: a run stores what is new, never the
conversation so far.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from ..ports.runs import UNPLANNED, Claim, ClaimLost, Plan, QueueFull, Written
from ..wire.items import Item
from ..wire.response import Response
from .conversations import Turns
from .database import Connection, Database
from .deliveries import Announcer
from .queries import load
from .rows import call_row, event_row, stored_item, stored_response
from .text import body, column

_GIVEN, _OUTPUT = 0, 1


class SqlResponses:
    """The `ResponseStore` of a database.

    Text that no database can hold is changed as `store.text` says. Storing the state of a response that was deleted
    meanwhile does nothing.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = load("responses", database.driver)
        self._announcer = Announcer(database.driver)
        self._turns = Turns(database.driver)

    async def create(self, owner: str, response: Response, given: Sequence[Item], plan: Plan = UNPLANNED) -> None:
        """Store a new response, its input, and its output if any.

        Raises `IntegrityViolated` on a known id, `QueueFull`, and `ApiError` if its conversation is gone or changed.
        """
        row = {
            **_row(response),
            "owner": column(owner),
            "previous_id": response.previous_response_id and column(response.previous_response_id),
            "created_at": response.created_at,
            "background": int(response.background),
            "streamed": int(plan.streamed),
            "process": plan.process,
            "request": None if plan.request is None else body(plan.request),
        }
        items = [
            *_item_rows(response.id, _GIVEN, enumerate(given)),
            *_item_rows(response.id, _OUTPUT, enumerate(response.output)),
        ]

        def unit(connection: Connection) -> None:
            self._sql.insert_response(connection, **row)
            if plan.places is not None and self._sql.waiting(connection, owner=row["owner"])[0] > plan.places:
                raise QueueFull(plan.places)
            self._turns.begin(connection, owner, response, plan.revision)
            if items:
                self._sql.insert_items(connection, items)

        await self._database.write(unit)

    async def save(self, claim: Claim, written: Written) -> None:
        """Store what was written. Raises `ClaimLost`."""
        put = self._put(claim, written)
        await self._database.write(put)

    async def finish(self, claim: Claim, response: Response, written: Written) -> None:
        """Store the ended response and what was written; other items of `response.output` are not looked at.

        The webhooks that tell of its end are stored with it, and its items are added to its conversation.
        """
        row, put = _row(response), self._put(claim, written)

        def unit(connection: Connection) -> None:
            put(connection)
            self._turns.end(connection, response)
            self._sql.end_response(connection, **row)
            self._announcer.announce(connection, response)
            self._turns.leave(connection, response)

        await self._database.write(unit)

    def _put(self, claim: Claim, written: Written) -> Callable[[Connection], None]:
        """Stores what was written, in a transaction, if the claim holds."""
        id_ = column(claim.response_id)
        items = _item_rows(claim.response_id, _OUTPUT, written.items.items())
        events = [event_row(id_, event) for event in written.events]
        calls = [call_row(id_, call) for call in written.calls]

        first = events[0]["sequence_number"] if events else -1

        def unit(connection: Connection) -> None:
            epoch, is_stored = self._sql.claim_on(connection, id=id_, sequence_number=first) or (claim.epoch, 0)
            if epoch != claim.epoch:
                raise ClaimLost(f"Another process has taken over the response '{claim.response_id}'.")
            if is_stored:
                # By the same claim: the database went away before it could say so, and this is the second try.
                return
            if items:
                self._sql.put_items(connection, items)
            if events:
                self._sql.insert_events(connection, events)
            for call in calls:
                self._sql.insert_call(connection, **call)

        return unit

    async def get(self, owner: str, response_id: str) -> Response | None:
        """The response with its output, unless it is deleted."""
        id_, owner = column(response_id), column(owner)
        rows = await self._database.read(lambda c: list(self._sql.response(c, id=id_, owner=owner)))
        if not rows:
            return None
        (_, status, fields), *output = rows
        return stored_response(fields, status, [stored_item(type_, text) for _, type_, text in output])

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
        return [stored_item(type_, text) for type_, text in rows if text is not None] if rows else None

    async def context(self, owner: str, response_id: str) -> Sequence[Item]:
        """Every item of the chain. Deleted responses count: whether one may still continue from them is for `get`."""
        id_, owner = column(response_id), column(owner)
        rows = await self._database.read(lambda c: list(self._sql.chain_items(c, id=id_, owner=owner)))
        return [stored_item(type_, text) for type_, text, *_ in rows]

    async def item(self, owner: str, item_id: str) -> Item | None:
        """The newest item with this id."""
        id_, owner = column(item_id), column(owner)
        row = await self._database.read(lambda c: self._sql.newest_item(c, item_id=id_, owner=owner))
        return stored_item(*row) if row else None


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
