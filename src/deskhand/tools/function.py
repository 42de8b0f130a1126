"""The `function` tool: a function that the client runs. The call goes back to the client."""

import msgspec

from ..ports.model import FunctionDeclaration, PromptCall, PromptOutput
from ..ports.tool import NewId
from ..wire.items import FunctionCall, FunctionCallOutput
from ..wire.tools import FunctionTool as FunctionSpec
from .typed import TypedReader


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

    def read(self, call_id: str, new_id: NewId) -> TypedReader:
        item = FunctionCall(
            id=new_id("fc"),
            call_id=call_id,
            name=self._spec.name,
            arguments="",
            status="in_progress",
            namespace=self._namespace if self._namespace is not None else msgspec.UNSET,
        )
        # A call without arguments is an empty object on the wire; many chat servers send nothing.
        return TypedReader(item, "response.function_call_arguments", "arguments", nothing="{}")


def prompt_call(item: FunctionCall) -> PromptCall:
    """The call as the model reads it later."""
    namespace = item.namespace if isinstance(item.namespace, str) else None
    return PromptCall(item.call_id, item.name, item.arguments, namespace=namespace)


def prompt_output(item: FunctionCallOutput) -> PromptOutput:
    """The answer as the model reads it."""
    return PromptOutput(item.call_id, item.output)
