"""Where a run's events and items go: to whoever reads them and into the store, in the order that its kind wants.

A foreground run shows first: its reader should not wait for a disk, and items are durable before anything acts on them.
A resumable run stores first: a number that a reader has seen must never be given to another event after a crash.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol

import structlog

from ..core.errors import DeskhandError
from ..core.writer import failed_instead
from ..ports.log import EventLog
from ..ports.runs import Claim, ModelCall, Written
from ..ports.store import ResponseStore
from ..wire.events import Event
from ..wire.items import Item
from ..wire.response import Response, ResponseError

log = structlog.get_logger()

BATCH_SECONDS = 0.01
"""How long events of a resumable run are gathered before they are stored together."""

MOST_PENDING = 2048
"""Events that wait to be stored, above which the run waits as well."""


class Unsettled(DeskhandError):
    """It is not known how much of a run was stored. Who takes it up next reads that; nothing more is stored here."""


class Ledger(Protocol):
    """Takes what a run writes, strictly in order. The caller holds the lock under which it was numbered."""

    async def put(self, written: Written) -> None:
        """Take what was written. It need not be durable on return."""
        ...

    async def flush(self) -> None:
        """Make everything that was put durable."""
        ...

    async def finish(self, response: Response, written: Written) -> None:
        """Store the ended response with the last that was written, and only then show its ending."""
        ...


class _Pending:
    """What was written and is not stored yet."""

    def __init__(self) -> None:
        self.items: dict[int, Item] = {}
        self.events: list[Event] = []
        self.calls: list[ModelCall] = []

    def add(self, items: Written, events: Sequence[Event]) -> None:
        self.items.update(items.items)
        self.calls += items.calls
        self.events += events

    def take(self) -> Written | None:
        """Everything, once; None if there is nothing."""
        if not (self.items or self.events or self.calls):
            return None
        taken = Written(self.items, self.events, self.calls)
        self.items, self.events, self.calls = {}, [], []
        return taken

    def put_back(self, taken: Written) -> None:
        """What was taken and could not be stored, before what has come since."""
        self.items = {**taken.items, **self.items}
        self.events = [*taken.events, *self.events]
        self.calls = [*taken.calls, *self.calls]


class ShowFirst:
    """The `Ledger` of a run whose events are not stored."""

    def __init__(self, log: EventLog, store: ResponseStore, claim: Claim) -> None:
        self._log = log
        self._store = store
        self._claim = claim
        self._pending = _Pending()

    async def put(self, written: Written) -> None:
        """Show it."""
        self._pending.add(written, ())
        await self._log.append(written.events)

    async def flush(self) -> None:
        """Store the items so far."""
        if (taken := self._pending.take()) is not None:
            try:
                await self._store.save(self._claim, taken)
            except BaseException:
                # The ending is stored with them, if it can be.
                self._pending.put_back(taken)
                raise

    async def finish(self, response: Response, written: Written) -> None:
        """Store, then show. If nothing can be stored, what is shown is that the response failed."""
        self._pending.add(written, ())
        events = list(written.events)
        try:
            await self._store.finish(self._claim, response, self._pending.take() or Written())
        except DeskhandError as exc:
            events[-1] = failed_instead(events[-1], ResponseError("server_error", str(exc)))
            raise
        finally:
            await self._log.append(events)


class StoreFirst:
    """The `Ledger` of a resumable run. Use within `async with ledger.storing()`, which stores what is put.

    `lost` is called if nothing more can be stored. Once storing has failed or was cut short, the next numbers are not
    known here, and whatever else is put raises `Unsettled`.
    """

    def __init__(self, log: EventLog, store: ResponseStore, claim: Claim, lost: Callable[[], None]) -> None:
        self._log = log
        self._store = store
        self._claim = claim
        self._lost = lost
        self._pending = _Pending()
        self._settled = True
        self._more = asyncio.Event()
        self._storing = asyncio.Lock()

    @asynccontextmanager
    async def storing(self) -> AsyncIterator[None]:
        """Store what is put, in small batches, while the block runs."""
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self._store_forever())
            try:
                yield
            finally:
                task.cancel()

    async def put(self, written: Written) -> None:
        """Keep it for the next batch."""
        self._pending.add(written, written.events)
        self._more.set()
        if len(self._pending.events) > MOST_PENDING:
            await self.flush()

    async def flush(self) -> None:
        """Store what is pending, then show it."""
        async with self._storing:
            if (taken := self._pending.take()) is not None:
                with self._settling():
                    await self._store.save(self._claim, taken)
                await self._log.append(taken.events)

    async def finish(self, response: Response, written: Written) -> None:
        """Store the ending with what is pending, then show it."""
        async with self._storing:
            self._pending.add(written, written.events)
            taken = self._pending.take() or Written()
            with self._settling():
                await self._store.finish(self._claim, response, taken)
            await self._log.append(taken.events)

    @contextmanager
    def _settling(self) -> Iterator[None]:
        if not self._settled:
            raise Unsettled(f"What is stored of the response '{self._claim.response_id}' is to be read again.")
        self._settled = False
        yield
        self._settled = True

    async def _store_forever(self) -> None:
        while True:
            await self._more.wait()
            await asyncio.sleep(BATCH_SECONDS)
            self._more.clear()
            try:
                await self.flush()
            except DeskhandError as exc:
                log.warning("run.lost", response_id=self._claim.response_id, error=str(exc))
                return self._lost()
