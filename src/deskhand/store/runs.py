"""Processes, claims and stored events in the database."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import accumulate

import msgspec

from ..ports.runs import Claim, Held, Interrupted, Orphan, Seat, Stretch
from ..wire.events import Event
from ..wire.request import CreateResponse
from .database import Connection, Database
from .queries import load
from .rows import stored_call, stored_event, stored_item, stored_response
from .text import column

_GIVEN, _OUTPUT = 0, 1

STRETCH_CHARACTERS = 1 << 20
"""Of events that are read at once. One may be longer: commands write as much as they like, and readers are many."""


class SqlRuns:
    """The `RunStore` of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = load("runs", database.driver)

    async def add_process(self, seat: Seat) -> None:
        """Make a process known, and forget earlier ones of its host."""

        def unit(connection: Connection) -> None:
            self._sql.delete_host(connection, host=seat.host)
            self._sql.insert_process(connection, id=seat.process, host=seat.host, url=seat.url)

        await self._database.write(unit)

    async def beat(self, seat: Seat) -> bool:
        """Raise a process's counter."""

        def unit(connection: Connection) -> bool:
            if self._sql.raise_beat(connection, id=seat.process):
                return True
            self._sql.insert_process(connection, id=seat.process, host=seat.host, url=seat.url)
            return False

        return await self._database.write(unit)

    async def url_of(self, host: str) -> str | None:
        """Where a host serves."""
        host = column(host)
        row = await self._database.read(lambda connection: self._sql.url_of(connection, host=host))
        return str(row[0]) if row else None

    async def assign(self, claim: Claim, host: str) -> None:
        """Leave a response to a host."""
        key = {"id": column(claim.response_id), "epoch": claim.epoch, "host": host}
        await self._database.write(lambda connection: self._sql.assign(connection, **key))

    async def beats(self) -> Mapping[str, int]:
        """The counters of all processes."""
        return dict(await self._database.read(lambda connection: [*self._sql.beats(connection)]))

    async def remove_process(self, process: str) -> None:
        """Forget a process."""
        await self._database.write(lambda connection: self._sql.delete_process(connection, id=process))

    async def orphans(self, limit: int) -> Sequence[Orphan]:
        """Unfinished responses of processes that are not known, by their turns, deleted ones among them."""
        rows = await self._database.read(lambda connection: [*self._sql.orphans(connection, most=limit)])
        return [Orphan(owner, id_, epoch, bool(waits)) for owner, id_, epoch, waits in rows]

    async def any_waits(self) -> bool:
        """Whether a response waits for room."""
        return await self._database.read(lambda connection: self._sql.any_waits(connection)) is not None

    async def take(self, orphan: Orphan, process: str) -> Claim | None:
        """Claim an orphan."""
        key = {"id": column(orphan.response_id), "epoch": orphan.epoch}
        taken = await self._database.write(lambda connection: self._sql.take(connection, **key, process=process))
        return Claim(orphan.response_id, orphan.epoch + 1) if taken else None

    async def give_back(self, claim: Claim) -> None:
        """Leave a response to others."""
        key = {"id": column(claim.response_id), "epoch": claim.epoch}
        await self._database.write(lambda connection: self._sql.give_back(connection, **key))

    async def interrupted(self, claim: Claim) -> Interrupted | None:
        """What is stored of a claimed response."""
        id_ = column(claim.response_id)

        # In a transaction: what is read belongs together.
        def unit(connection: Connection) -> Interrupted | None:
            found = self._sql.claimed(connection, id=id_, epoch=claim.epoch)
            if found is None:
                return None
            status, text, request, streamed, cancelling = found
            output = [stored_item(*row) for row in list(self._sql.items_of(connection, id=id_, side=_OUTPUT))]
            return Interrupted(
                stored_response(text, status, output),
                [stored_item(*row) for row in list(self._sql.items_of(connection, id=id_, side=_GIVEN))],
                _request(request),
                bool(streamed),
                bool(cancelling),
                [stored_call(*row) for row in list(self._sql.model_calls(connection, id=id_))],
                {
                    index: self._events_of(connection, id_, index)
                    for (index,) in [*self._sql.open_items(connection, id=id_)]
                },
                self._sql.next_sequence(connection, id=id_)[0],
            )

        return await self._database.write(unit)

    def _events_of(self, connection: Connection, id_: str, index: int) -> Sequence[Event]:
        rows = self._sql.item_events(connection, id=id_, output_index=index)
        return [stored_event(text) for (text,) in rows]

    async def held(self, process: str) -> Mapping[str, Held]:
        """What a process runs."""
        rows = await self._database.read(lambda connection: [*self._sql.held(connection, process=process)])
        return {id_: Held(owner, epoch, bool(cancelling)) for id_, owner, epoch, cancelling in rows}

    async def begin(self, claim: Claim) -> None:
        """A queued response is in progress."""
        key = {"id": column(claim.response_id), "epoch": claim.epoch}
        await self._database.write(lambda connection: self._sql.begin_response(connection, **key))

    async def cancel(self, owner: str, response_id: str) -> None:
        """Ask for a response to be cancelled."""
        key = {"id": column(response_id), "owner": column(owner)}
        await self._database.write(lambda connection: self._sql.mark_cancelling(connection, **key))

    async def events(self, response_id: str, *, after: int, limit: int) -> Stretch:
        """Stored events, as many as are not long together."""
        id_ = column(response_id)

        def unit(connection: Connection) -> tuple[list[str], bool]:
            found = [*self._sql.event_lengths(connection, id=id_, after=after, most=limit)]
            if not found:
                return [], False
            together = accumulate(length for _, length in found)
            fitting = max(1, sum(length <= STRETCH_CHARACTERS for length in together))
            rows = self._sql.events(connection, id=id_, after=after, last=found[fitting - 1][0])
            return [text for (text,) in rows], fitting < len(found) or len(found) == limit

        texts, more = await self._database.read(unit)
        return Stretch([stored_event(text) for text in texts], more)

    async def is_streamed(self, owner: str, response_id: str) -> bool:
        """Whether events are stored."""
        key = {"id": column(response_id), "owner": column(owner)}
        row = await self._database.read(lambda connection: self._sql.is_streamed(connection, **key))
        return bool(row and row[0])

    async def is_over(self, response_id: str) -> bool:
        """Whether there will be no more events."""
        id_ = column(response_id)
        row = await self._database.read(lambda connection: self._sql.is_unfinished(connection, id=id_))
        return row is None


def _request(text: str | None) -> CreateResponse | None:
    """The stored request; None as well for one that another version has stored, and that this one cannot read."""
    with suppress(msgspec.MsgspecError):
        return None if text is None else msgspec.json.decode(text, type=CreateResponse)
    return None
