"""Frames of a stream: as much at once as may be in memory for each of many readers."""

from collections.abc import AsyncIterator, Sequence

import pytest

from deskhand.api.sse import CHUNK_BYTES, frames
from deskhand.api.view import View
from deskhand.wire.events import Event

pytestmark = pytest.mark.anyio


async def test_long_events_are_sent_one_by_one_and_short_ones_together() -> None:
    texts = ["a", "b", *("c" * CHUNK_BYTES for _ in range(3)), "d"]
    batch = [Event("response.output_text.delta", number, {"delta": text}) for number, text in enumerate(texts)]

    async def events() -> AsyncIterator[Sequence[Event]]:
        yield batch

    chunks = [chunk async for chunk in frames(events(), View(frozenset()), "")]
    assert [chunk.count(b"data: ") for chunk in chunks] == [3, 1, 1, 1]
    assert b"".join(chunks).count(b"event: ") == len(batch)
