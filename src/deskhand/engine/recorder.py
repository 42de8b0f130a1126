"""The recorder: drafts in; events and items out, strictly in order."""

import asyncio
import time
from collections.abc import Sequence

from ..core.drafts import Draft, Progress
from ..core.errors import DeskhandError
from ..core.writer import Ending, ResponseWriter, failed_instead
from ..ports.log import EventLog
from ..ports.store import ResponseStore
from ..wire.items import Item
from ..wire.response import IncompleteDetails, Response, ResponseError, Usage


class Recorder:
    """Numbers, logs and stores what a run says.

    Deltas only reach the log. Items also reach the store: `flush` makes those since the last flush durable, and the
    run calls it before anything acts on them.
    """

    def __init__(self, response: Response, log: EventLog, store: ResponseStore) -> None:
        self._writer = ResponseWriter(response)
        self._log = log
        self._store = store
        self._response_id = response.id
        self._unsaved: dict[int, Item] = {}
        self._finished = False
        # Held across number-then-append: two tools streaming at once must not append event 6 before event 5, or a
        # reader resuming after 6 never sees 5.
        self._lock = asyncio.Lock()

    @property
    def produced(self) -> Sequence[Item]:
        """The response's items, in output order."""
        return self._writer.output

    async def start(self) -> None:
        """Announce the response."""
        await self._log.append(self._writer.start())

    async def record(self, drafts: Sequence[Draft]) -> None:
        """Log drafts in order. Items are not durable before the next `flush`."""
        if not drafts:
            return
        async with self._lock:
            events = []
            for draft in drafts:
                event = self._writer.write(draft)
                events.append(event)
                if not isinstance(draft, Progress):
                    self._unsaved[event.fields["output_index"]] = draft.item
            await self._log.append(events)

    async def flush(self) -> None:
        """Make every item recorded so far durable."""
        async with self._lock:
            unsaved, self._unsaved = self._unsaved, {}
        if unsaved:
            await self._store.save(self._response_id, unsaved)

    async def finish(
        self,
        status: Ending,
        *,
        usage: Usage | None,
        error: ResponseError | None = None,
        incomplete: IncompleteDetails | None = None,
    ) -> None:
        """End the response: stored first, so that whoever reads the terminal event can fetch it.

        Only the first ending counts. Raises `StoreUnavailable`; the log then says that the response failed.
        """
        async with self._lock:
            if self._finished:
                return
            self._finished = True
            events = self._writer.finish(
                status, completed_at=int(time.time()), usage=usage, error=error, incomplete=incomplete
            )
            for event in events:
                if event.type == "response.output_item.done":
                    self._unsaved[event.fields["output_index"]] = event.fields["item"]
            unsaved, self._unsaved = self._unsaved, {}
            try:
                await self._store.finish(self._writer.response, unsaved)
            except DeskhandError as exc:
                events[-1] = failed_instead(events[-1], ResponseError("server_error", str(exc)))
                raise
            finally:
                await self._log.append(events)
