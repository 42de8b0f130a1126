"""A call of a function that nobody offered. Models do that; the answer lets them adapt."""

from collections.abc import Sequence

import msgspec

from ..core.drafts import Closed, Draft, Opened
from ..ports.model import FunctionDeclaration
from ..ports.tool import NewId, TurnEnding
from ..wire.items import FunctionCallOutput
from ..wire.tools import FunctionTool as FunctionSpec
from .function import FunctionTool
from .typed import TypedReader


class UnknownTool:
    """Stands for a tool name that the model made up."""

    hosted = False

    def __init__(self, name: str, offered: Sequence[str]) -> None:
        # A made-up name may hold anything; on the wire it is a function's name like any other.
        self._spec = FunctionSpec(name=name[:128])
        self._offered = offered

    @property
    def declaration(self) -> FunctionDeclaration:
        return FunctionTool(self._spec).declaration

    def read(self, call_id: str, new_id: NewId) -> "UnknownReader":
        reader = FunctionTool(self._spec).read(call_id, new_id)
        reason = f"There is no tool named {self._spec.name!r}. Tools: {', '.join(self._offered) or 'none'}."
        output = FunctionCallOutput(id=new_id("fco"), call_id=call_id, output=reason, status="incomplete")
        return UnknownReader(reader, output)


class UnknownReader:
    """Shows the call, and right after it the answer."""

    def __init__(self, reader: TypedReader, output: FunctionCallOutput) -> None:
        self._reader = reader
        self._output = output

    def feed(self, arguments: str) -> Sequence[Draft]:
        return self._reader.feed(arguments)

    def end(self, ending: TurnEnding) -> Sequence[Draft]:
        drafts = self._reader.end(ending)
        if ending == "incomplete":
            return drafts
        opened = msgspec.structs.replace(self._output, status="in_progress")
        return [*drafts, Opened(opened), Closed(self._output)]
