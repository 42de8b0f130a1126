"""A call that is one text, shown while the model types it: a function's arguments, or a custom tool's free text."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from ..core.drafts import Closed, Draft, Opened, Progress
from ..ports.tool import TurnEnding
from ..wire.items import CustomToolCall, FunctionCall


class TypedReader:
    """Reads a call into `field` of its item; `events` is the stem of its event types.

    `nothing` stands for the text of a call that the model made without any.
    """

    def __init__(
        self,
        item: FunctionCall | CustomToolCall,
        events: str,
        field: Literal["arguments", "input"],
        nothing: str = "",
    ) -> None:
        self._item = item
        self._events = events
        self._field = field
        self._nothing = nothing
        self._pieces: list[str] = []
        self._opened = False

    def feed(self, arguments: str) -> Sequence[Draft]:
        drafts: list[Draft] = []
        if not self._opened:
            self._opened = True
            drafts.append(Opened(self._item))
        if arguments:
            self._pieces.append(arguments)
            drafts.append(Progress(self._item.id, f"{self._events}.delta", {"delta": arguments}))
        return drafts

    def end(self, ending: TurnEnding) -> Sequence[Draft]:
        drafts = self.feed("" if self._pieces or ending == "incomplete" else self._nothing)
        text: dict[str, str] = {self._field: "".join(self._pieces)}
        closed = msgspec.structs.replace(self._item, status=ending, **text)
        return [*drafts, Progress(self._item.id, f"{self._events}.done", text), Closed(closed)]
