"""The recorder: drafts in; events and items out, strictly in order."""

import asyncio
import time
from collections.abc import Sequence

from ..core.drafts import Draft, Progress
from ..core.writer import Ending, ResponseWriter
from ..ports.runs import ModelCall, Written
from ..wire.events import Event
from ..wire.items import Item
from ..wire.response import IncompleteDetails, ResponseError, Usage
from .ledger import Ledger


class Recorder:
    """Numbers what a run says and hands it to the ledger.

    `flush` makes everything so far durable; the run calls it before anything acts on an item.
    """

    def __init__(self, writer: ResponseWriter, ledger: Ledger) -> None:
        self._writer = writer
        self._ledger = ledger
        self._finished = False
        # Held across number-then-put: two tools streaming at once must not put event 6 before event 5, or a
        # reader resuming after 6 never sees 5.
        self._lock = asyncio.Lock()

    @property
    def produced(self) -> Sequence[Item]:
        """The response's items, in output order."""
        return self._writer.output

    async def start(self) -> None:
        """Announce the response, unless that was done before."""
        async with self._lock:
            if self._writer.begun:
                return
            await self._ledger.put(Written(events=self._writer.start()))

    async def record(self, drafts: Sequence[Draft]) -> None:
        """Write drafts in order. Items are not durable before the next `flush`."""
        if drafts:
            async with self._lock:
                await self._ledger.put(self._written(drafts))

    async def record_turn(self, drafts: Sequence[Draft], call: ModelCall) -> None:
        """Write the end of a model's turn: its last drafts, and how it ended. They become durable together."""
        async with self._lock:
            written = self._written(drafts)
            await self._ledger.put(Written(written.items, written.events, [call]))

    async def flush(self) -> None:
        """Make every item recorded so far durable."""
        await self._ledger.flush()

    async def finish(
        self,
        status: Ending,
        *,
        usage: Usage | None,
        error: ResponseError | None = None,
        incomplete: IncompleteDetails | None = None,
    ) -> None:
        """End the response: stored first, so that whoever reads the terminal event can fetch it.

        Only the first ending counts. Raises `StoreUnavailable`, `ClaimLost`.
        """
        async with self._lock:
            if self._finished:
                return
            self._finished = True
            events = self._writer.finish(
                status, completed_at=int(time.time()), usage=usage, error=error, incomplete=incomplete
            )
            items = {
                event.fields["output_index"]: event.fields["item"]
                for event in events
                if event.type == "response.output_item.done"
            }
            await self._ledger.finish(self._writer.response, Written(items, events))

    def _written(self, drafts: Sequence[Draft]) -> Written:
        items: dict[int, Item] = {}
        events: list[Event] = []
        for draft in drafts:
            event = self._writer.write(draft)
            events.append(event)
            if not isinstance(draft, Progress):
                items[event.fields["output_index"]] = draft.item
        return Written(items, events)
