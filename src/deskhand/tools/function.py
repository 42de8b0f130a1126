"""The `function` tool: a function that the client runs. The call goes back to the client."""

from collections.abc import Sequence

import msgspec

from ..core.drafts import Closed, Draft, Opened, Progress
from ..ports.model import FunctionDeclaration, PromptCall, PromptOutput
from ..ports.tool import NewId, TurnEnding
from ..wire.items import FunctionCall, FunctionCallOutput
from ..wire.tools import FunctionTool as FunctionSpec


class FunctionTool:
    """A function of the client's, maybe inside a namespace; the model knows it by the name `spoken`."""

    hosted = False

    def __init__(self, spec: FunctionSpec, namespace: str | None = None, spoken: str | None = None) -> None:
        self._spec = spec
        self._namespace = namespace
        self._spoken = spoken or spec.name

    @property
    def declaration(self) -> FunctionDeclaration:
        spec = self._spec
        parameters = spec.parameters or {"type": "object", "properties": {}}
        return FunctionDeclaration(self._spoken, spec.description or "", parameters, strict=bool(spec.strict))

    def read(self, call_id: str, new_id: NewId) -> "FunctionReader":
        namespace = self._namespace if self._namespace is not None else msgspec.UNSET
        return FunctionReader(
            FunctionCall(
                id=new_id("fc"),
                call_id=call_id,
                name=self._spec.name,
                arguments="",
                status="in_progress",
                namespace=namespace,
            )
        )


class FunctionReader:
    """Streams the arguments as they come."""

    def __init__(self, item: FunctionCall) -> None:
        self._item = item
        self._pieces: list[str] = []
        self._opened = False

    def feed(self, arguments: str) -> Sequence[Draft]:
        drafts: list[Draft] = []
        if not self._opened:
            self._opened = True
            drafts.append(Opened(self._item))
        if arguments:
            self._pieces.append(arguments)
            delta = {"delta": arguments}
            drafts.append(Progress(self._item.id, "response.function_call_arguments.delta", delta))
        return drafts

    def end(self, ending: TurnEnding) -> Sequence[Draft]:
        # A call without arguments is an empty object on the wire; many chat servers send nothing.
        drafts = list(self.feed("" if self._pieces or ending == "incomplete" else "{}"))
        arguments = "".join(self._pieces)
        done = {"arguments": arguments}
        item = msgspec.structs.replace(self._item, arguments=arguments, status=ending)
        return [*drafts, Progress(item.id, "response.function_call_arguments.done", done), Closed(item)]


def prompt_call(item: FunctionCall) -> PromptCall:
    """The call as the model reads it later."""
    namespace = item.namespace if isinstance(item.namespace, str) else None
    return PromptCall(item.call_id, item.name, item.arguments, namespace=namespace)


def prompt_output(item: FunctionCallOutput) -> PromptOutput:
    """The answer as the model reads it."""
    return PromptOutput(item.call_id, item.output)
