"""Ledgers whose store fails, or is cut short: nothing is lost, and no number is given out that may be stored."""

import asyncio
from contextlib import suppress

import pytest

from deskhand.core.drafts import Closed, Opened
from deskhand.core.errors import StoreUnavailable
from deskhand.core.writer import ResponseWriter
from deskhand.engine.ledger import ShowFirst, StoreFirst, Unsettled
from deskhand.engine.recorder import Recorder
from deskhand.ports.runs import Claim, Written
from deskhand.store.memory import Discard, MemoryLog
from deskhand.testing.conformance_store import begun, said
from deskhand.wire.response import Response

pytestmark = pytest.mark.anyio


class Failing(Discard):
    """A store that is away at first, or never answers, and keeps what it is given."""

    def __init__(self, *, silent: bool = False) -> None:
        self.kept: list[Written] = []
        self._silent = silent

    async def save(self, claim: Claim, written: Written) -> None:
        if self._silent:
            await asyncio.Event().wait()
        raise StoreUnavailable("away")

    async def finish(self, claim: Claim, response: Response, written: Written) -> None:
        self.kept.append(written)


async def test_a_foreground_ending_brings_what_could_not_be_stored_before() -> None:
    store, log, item = Failing(), MemoryLog(), said("x")
    recorder = Recorder(ResponseWriter(begun()), ShowFirst(log, store, Claim("r")))
    await recorder.start()
    await recorder.record([Opened(item), Closed(item)])
    with pytest.raises(StoreUnavailable):
        await recorder.flush()
    await recorder.finish("failed", usage=None)
    assert [written.items for written in store.kept] == [{0: item}]


@pytest.mark.parametrize("silent", [False, True])
async def test_nothing_is_numbered_after_events_that_may_not_be_stored(silent: bool) -> None:
    store, log = Failing(silent=silent), MemoryLog()
    ledger = StoreFirst(log, store, Claim("r"), lambda: None)
    recorder = Recorder(ResponseWriter(begun()), ledger)
    await recorder.start()
    with suppress(StoreUnavailable, TimeoutError):
        async with asyncio.timeout(0.05):
            await recorder.flush()
    with pytest.raises(Unsettled):
        await recorder.finish("cancelled", usage=None)
    assert store.kept == []
    assert not log.ended
