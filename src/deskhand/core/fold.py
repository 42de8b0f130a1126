"""Fold a response's events back into the response: the inverse of the writer."""

from collections.abc import Iterable

import msgspec

from ..wire.events import Event
from ..wire.items import Item
from ..wire.response import Response


def fold(events: Iterable[Event]) -> Response:
    """The response that `events` describe. Deltas are skipped: a `done` event carries the whole value.

    Raises `ValueError` if `events` do not begin with `response.created`.
    """
    response: Response | None = None
    output: list[Item] = []
    for event in events:
        match event.type:
            case "response.created" | "response.queued" | "response.in_progress":
                response = event.fields["response"]
                output = list(event.fields["response"].output)
            case "response.output_item.added":
                output.append(event.fields["item"])
            case "response.output_item.done":
                output[event.fields["output_index"]] = event.fields["item"]
            case _ if event.terminal:
                response = event.fields["response"]
    if response is None:
        raise ValueError("no response.created event")
    return msgspec.structs.replace(response, output=output)
