"""The `custom` tool: free text to a tool that the client runs. The call goes back to the client."""

import msgspec

from ..ports.model import FreeTextDeclaration, PromptCall, PromptOutput
from ..ports.tool import NewId
from ..wire.items import CustomToolCall, CustomToolCallOutput
from ..wire.tools import CustomTool as CustomSpec
from .typed import TypedReader


class CustomTool:
    """A free-text tool of the client's, maybe inside a namespace; the model knows it by the name `spoken`."""

    hosted = False

    def __init__(self, spec: CustomSpec, namespace: str | None = None, spoken: str | None = None) -> None:
        self._spec = spec
        self._namespace = namespace
        self._spoken = spoken or spec.name

    @property
    def declaration(self) -> FreeTextDeclaration:
        return FreeTextDeclaration(self._spoken, self._spec.description or "", self._spec.format)

    def read(self, call_id: str, new_id: NewId) -> TypedReader:
        item = CustomToolCall(
            id=new_id("ctc"),
            call_id=call_id,
            name=self._spec.name,
            input="",
            status="in_progress",
            namespace=self._namespace if self._namespace is not None else msgspec.UNSET,
        )
        return TypedReader(item, "response.custom_tool_call_input", "input")


def prompt_call(item: CustomToolCall) -> PromptCall:
    """The call as the model reads it later."""
    namespace = item.namespace if isinstance(item.namespace, str) else None
    return PromptCall(item.call_id, item.name, item.input, free_text=True, namespace=namespace)


def prompt_output(item: CustomToolCallOutput) -> PromptOutput:
    """The answer as the model reads it."""
    return PromptOutput(item.call_id, item.output, free_text=True)
