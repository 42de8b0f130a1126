"""Every tool type this server offers. To add one: write its file, add its line in `offer` and in `PROMPTS`."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from ..core.errors import ApiError
from ..ports.model import PromptCall, PromptOutput
from ..ports.tool import HostedTool, Tool
from ..wire import tools as wire
from ..wire.items import (
    ApplyPatchCall,
    ApplyPatchCallOutput,
    ContainerReference,
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    Item,
    LocalEnvironment,
    LocalShellCall,
    LocalShellCallOutput,
    ShellCall,
    ShellCallOutput,
)
from . import apply_patch, custom, function, local_shell, shell
from .apply_patch import ApplyPatchTool
from .commands import CommandLimits
from .custom import CustomTool
from .function import FunctionTool
from .local_shell import LocalShellTool
from .shell import HostedShellTool, ShellTool
from .unknown import UnknownTool

PROMPTS: Mapping[type, Callable[[Any], PromptCall | PromptOutput]] = {
    FunctionCall: function.prompt_call,
    FunctionCallOutput: function.prompt_output,
    CustomToolCall: custom.prompt_call,
    CustomToolCallOutput: custom.prompt_output,
    ShellCall: shell.prompt_call,
    ShellCallOutput: shell.prompt_output,
    LocalShellCall: local_shell.prompt_call,
    LocalShellCallOutput: local_shell.prompt_output,
    ApplyPatchCall: apply_patch.prompt_call,
    ApplyPatchCallOutput: apply_patch.prompt_output,
}
"""How a model reads each kind of call and answer, whether or not the tool is offered now."""


@dataclass(frozen=True, slots=True)
class Toolbox:
    """The tools of one request, by the name that the model calls them."""

    tools: Mapping[str, Tool]
    foreign: Sequence[Mapping[str, Any]] = ()
    """Tools that this server does not run, for upstreams that may know them."""

    def named(self, name: str) -> Tool:
        """The tool of that name, or one that tells the model there is none."""
        return self.tools.get(name) or UnknownTool(name, sorted(self.tools))

    def hosted(self) -> Iterator[HostedTool]:
        """The tools whose calls this server runs."""
        for tool in self.tools.values():
            if tool.hosted:
                yield tool  # type: ignore[misc]  # `hosted` says that it is one

    def runner(self, call: Item) -> HostedTool | None:
        """The tool that runs `call`, if it is this server's to run."""
        return next((tool for tool in self.hosted() if tool.runs(call)), None)


def offer(specs: Iterable[wire.Tool], limits: CommandLimits, *, in_order: bool) -> Toolbox:
    """The toolbox for a request's tools, whose containers have been resolved.

    Raises `ApiError` if two tools share a name.
    """
    tools: dict[str, Tool] = {}
    foreign: list[Mapping[str, Any]] = []
    for index, spec in enumerate(specs):
        found = list(_tools(spec, limits, in_order=in_order))
        if not found and isinstance(spec, wire.OpaqueTool):
            foreign.append(spec.fields)
        for tool in found:
            name = tool.declaration.name
            if name in tools:
                raise ApiError(
                    f"Two tools are named '{name}'. Tool names must be unique.",
                    code="invalid_value",
                    param=f"tools[{index}].name",
                )
            tools[name] = tool
    return Toolbox(tools, foreign)


def _tools(spec: wire.Tool, limits: CommandLimits, *, in_order: bool) -> Iterator[Tool]:
    match spec:
        case wire.FunctionTool():
            yield FunctionTool(spec)
        case wire.CustomTool():
            yield CustomTool(spec)
        case wire.ShellTool(environment=ContainerReference(container_id=container_id)):
            yield HostedShellTool(container_id, limits, in_order)
        case wire.ShellTool(environment=wire.ContainerAuto()):
            raise AssertionError("the container of a shell tool is resolved before its tools are offered")
        case wire.ShellTool(environment=LocalEnvironment() | None as environment):
            yield ShellTool(environment)
        case wire.LocalShellTool():
            yield LocalShellTool()
        case wire.ApplyPatchTool():
            yield ApplyPatchTool()
        case wire.OpaqueTool(fields={"type": "namespace", "name": str(name), "tools": list(members)}):
            yield from _namespace(name, members)
        case wire.OpaqueTool():
            return


def _namespace(name: str, members: list[Any]) -> Iterator[Tool]:
    """The functions and custom tools of a namespace; members of other kinds are left out."""
    for member in members:
        try:
            spec = wire.decode_tool(member)
        except (msgspec.ValidationError, AttributeError):
            continue
        match spec:
            case wire.FunctionTool():
                yield FunctionTool(spec, namespace=name)
            case wire.CustomTool():
                yield CustomTool(spec, namespace=name)
