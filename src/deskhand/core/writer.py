"""The response writer: the only code that mints stream events.

Rule 1: every event of a response passes through `write` or `finish`, so that numbering and ordering can be wrong in
        one place only.
Rule 2: no I/O. Methods return events; the caller stores and sends them.

A cancelled response ends with `response.incomplete`, whose response says that it is `cancelled`: the API has no event
of that name, no recording shows what it sends instead, and this one is what every client's reader ends cleanly on.

Items are announced in `output_index` order because clients append on `output_item.added` and then index by
`output_index`.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, assert_never

import msgspec

from ..wire.events import Event
from ..wire.items import (
    ApplyPatchCallOutput,
    Compaction,
    Item,
    ItemReference,
    McpApprovalRequest,
    McpApprovalResponse,
    McpListTools,
    OpaqueItem,
)
from ..wire.response import IncompleteDetails, Response, ResponseError, Usage
from .drafts import Closed, Draft, Opened, Progress, Revised

Ending = Literal["completed", "incomplete", "failed", "cancelled"]

# The SDK's types (3.52) and recordings have no item_id on these.
_WITHOUT_ITEM_ID = frozenset(
    {"response.shell_call_command.added", "response.shell_call_command.delta", "response.shell_call_command.done"}
)


class DraftError(Exception):
    """A producer broke the opened, progress, closed rule. Always our bug."""


class ResponseWriter:
    """Turns drafts into numbered events and keeps the response they add up to."""

    def __init__(self, response: Response, *, next_sequence: int = 0, still_open: Collection[int] = ()) -> None:
        """Begin a response, or go on with one whose items at the indexes `still_open` were not closed yet."""
        self._response = response
        self._next_sequence = next_sequence
        self._output: list[Item] = list(response.output)
        self._index: dict[str, int] = {item.id: i for i, item in enumerate(self._output)}
        self._open: dict[str, Item] = {self._output[i].id: self._output[i] for i in sorted(still_open)}

    @property
    def response(self) -> Response:
        """The response so far."""
        return msgspec.structs.replace(self._response, output=list(self._output))

    @property
    def output(self) -> Sequence[Item]:
        """The items so far, in output order."""
        return self._output

    @property
    def begun(self) -> bool:
        """Whether the response was announced."""
        return self._next_sequence > 0

    def start(self) -> list[Event]:
        """The first events of every response: two, or three if it waited in a queue."""
        asked = self.response
        self._response = msgspec.structs.replace(self._response, status="in_progress")
        begun = self.response
        if asked.status != "queued":
            return [
                self._event("response.created", {"response": begun}),
                self._event("response.in_progress", {"response": begun}),
            ]
        return [
            self._event("response.created", {"response": asked}),
            self._event("response.queued", {"response": asked}),
            self._event("response.in_progress", {"response": begun}),
        ]

    def write(self, draft: Draft) -> Event:
        """The event of one draft. Raises `DraftError` on a draft out of order."""
        match draft:
            case Progress(item_id, type_, fields):
                return self._progressed(item_id, type_, fields)
            case Revised(item, type_, fields):
                event = self._progressed(item.id, type_, fields)
                self._open[item.id] = self._output[self._index[item.id]] = item
                return event
            case Opened(item):
                return self._opened(item)
            case Closed(item):
                return self._closed(item)
            case _:
                assert_never(draft)

    def finish(
        self,
        status: Ending,
        *,
        completed_at: int,
        usage: Usage | None = None,
        error: ResponseError | None = None,
        incomplete: IncompleteDetails | None = None,
    ) -> list[Event]:
        """Close whatever is still open as incomplete, then end the response.

        A failure is announced by an `error` event in its nested wire form before the terminal event (recorded).
        """
        events = [self._closed(incomplete_item(item)) for item in list(self._open.values())]
        self._response = msgspec.structs.replace(
            self._response,
            status=status,
            completed_at=completed_at if status == "completed" else None,
            usage=usage,
            error=error,
            incomplete_details=incomplete,
            # What is asked for is echoed while it runs; there is one tier here.
            service_tier="default",
        )
        if error is not None and status == "failed":
            body = {"type": error_type(error.code), "code": error.code, "message": error.message, "param": None}
            events.append(self._event("error", {"error": body}))
        type_ = "response.incomplete" if status == "cancelled" else f"response.{status}"
        return [*events, self._event(type_, {"response": self.response})]

    def _opened(self, item: Item) -> Event:
        if item.id in self._index:
            raise DraftError(f"item {item.id!r} opened twice")
        index = self._index[item.id] = len(self._output)
        self._open[item.id] = item
        self._output.append(item)
        return self._event("response.output_item.added", {"output_index": index, "item": item})

    def _progressed(self, item_id: str, type_: str, fields: Mapping[str, Any]) -> Event:
        where: dict[str, Any] = {"output_index": self._require_open(item_id)}
        if type_ not in _WITHOUT_ITEM_ID:
            where["item_id"] = item_id
        return self._event(type_, {**where, **fields})

    def _closed(self, item: Item) -> Event:
        index = self._require_open(item.id)
        del self._open[item.id]
        self._output[index] = item
        return self._event("response.output_item.done", {"output_index": index, "item": item})

    def _require_open(self, item_id: str) -> int:
        if item_id not in self._open:
            raise DraftError(f"item {item_id!r} is not open")
        return self._index[item_id]

    def _event(self, type_: str, fields: dict[str, Any]) -> Event:
        number, self._next_sequence = self._next_sequence, self._next_sequence + 1
        return Event(type_, number, fields)


def incomplete_item(item: Item) -> Item:
    """`item` as it looks when its producer stopped half-way."""
    match item:
        case OpaqueItem():
            return OpaqueItem({**item.fields, "status": "incomplete"})
        case ItemReference() | ApplyPatchCallOutput() | Compaction() | McpApprovalRequest() | McpApprovalResponse():
            return item
        case McpListTools():
            return msgspec.structs.replace(item, error="interrupted: the tools were not listed")
        case _:
            return msgspec.structs.replace(item, status="incomplete")


def error_type(code: str) -> str:
    """OpenAI's `error.type` for a ResponseError code."""
    return "invalid_request_error" if code in {"invalid_prompt", "context_length_exceeded"} else "server_error"


def failed_instead(ending: Event, error: ResponseError) -> Event:
    """The terminal event of a response whose ending could not be stored."""
    response = msgspec.structs.replace(ending.fields["response"], status="failed", error=error, completed_at=None)
    return Event("response.failed", ending.sequence_number, {"response": response})
