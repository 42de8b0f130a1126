"""The `function` tool: a function that the client runs. The call goes back to the client."""

import msgspec

from ..ports.model import FunctionDeclaration, PromptCall, PromptOutput
from ..ports.tool import NewId
from ..wire.items import FunctionCall, FunctionCallOutput
from ..wire.tools import FunctionTool as FunctionSpec
from .strictness import made_strict
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
        spec = strict_by_default(self._spec)
        parameters = spec.parameters or {"type": "object", "properties": {}}
        checked = self._spec.strict is True
        return FunctionDeclaration(self._spoken, spec.description or "", parameters, bool(spec.strict), checked)

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


def strict_by_default(spec: FunctionSpec) -> FunctionSpec:
    """The function as it is offered and echoed: made strict if `strict` is left out and its schema allows that."""
    if spec.strict is not None:
        return spec
    parameters = made_strict(spec.parameters) if spec.parameters else None
    if parameters is None:
        return msgspec.structs.replace(spec, strict=False)
    return msgspec.structs.replace(spec, parameters=parameters, strict=True)


def prompt_call(item: FunctionCall) -> PromptCall:
    """The call as the model reads it later."""
    namespace = item.namespace if isinstance(item.namespace, str) else None
    return PromptCall(item.call_id, item.name, item.arguments, namespace=namespace)


def prompt_output(item: FunctionCallOutput) -> PromptOutput:
    """The answer as the model reads it."""
    return PromptOutput(item.call_id, item.output)
