"""The page of coverage says what the code does."""

import json

from ..coverage import SURFACE, TABLE, sent, table


def test_the_page_does_not_lag() -> None:
    assert TABLE.read_text() == table(), "make docs"


def test_events_are_found_by_name_and_by_stem() -> None:
    events = json.loads(SURFACE.read_text())["events"]
    found = sent(events)
    assert {"response.created", "response.output_text.delta", "response.function_call_arguments.done"} <= found
    assert not {event for event in found if "audio" in event or "image_gen" in event}
