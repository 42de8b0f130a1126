"""Every tool type this server offers. To add one: write its file, add its line in `_tool` and in `PROMPTS`."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, assert_never

import msgspec

from ..core.errors import ApiError
from ..ports.model import (
    Declaration,
    ForeignChoice,
    NamedTool,
    PromptCall,
    PromptEntry,
    PromptOutput,
    ToolChoice,
)
from ..ports.tool import HostedTool, Tool
from ..wire import tools as wire
from ..wire.codec import plain
from ..wire.items import (
    ApplyPatchCall,
    ApplyPatchCallOutput,
    CodeInterpreterCall,
    ComputerCall,
    ComputerCallOutput,
    ContainerReference,
    CustomToolCall,
    CustomToolCallOutput,
    FileSearchCall,
    FunctionCall,
    FunctionCallOutput,
    Item,
    LocalEnvironment,
    LocalShellCall,
    LocalShellCallOutput,
    McpCall,
    ShellCall,
    ShellCallOutput,
    ToolSearchCall,
    ToolSearchOutput,
)
from . import (
    apply_patch,
    code_interpreter,
    computer,
    custom,
    file_search,
    function,
    local_shell,
    mcp,
    shell,
    tool_search,
)
from .apply_patch import ApplyPatchTool
from .code_interpreter import CodeInterpreterTool
from .commands import CommandLimits
from .computer import ComputerTool
from .custom import CustomTool
from .file_search import FileSearchTool
from .function import FunctionTool
from .hosted_patch import HostedApplyPatchTool
from .local_shell import LocalShellTool
from .shell import HostedShellTool, ShellTool
from .tool_search import Hidden, ToolSearchTool
from .unknown import UnknownTool

PROMPTS: Mapping[type, Callable[[Any], PromptCall | PromptOutput]] = {
    FunctionCall: function.prompt_call,
    FunctionCallOutput: function.prompt_output,
    CustomToolCall: custom.prompt_call,
    CustomToolCallOutput: custom.prompt_output,
    ShellCall: shell.prompt_call,
    ShellCallOutput: shell.prompt_output,
    CodeInterpreterCall: code_interpreter.prompt_call,
    FileSearchCall: file_search.prompt_call,
    LocalShellCall: local_shell.prompt_call,
    LocalShellCallOutput: local_shell.prompt_output,
    ApplyPatchCall: apply_patch.prompt_call,
    ApplyPatchCallOutput: apply_patch.prompt_output,
    ComputerCall: computer.prompt_call,
    ComputerCallOutput: computer.prompt_output,
    ToolSearchCall: tool_search.prompt_call,
    ToolSearchOutput: tool_search.prompt_output,
    McpCall: mcp.prompt_call,
}
"""How a model reads each kind of call and answer, whether or not the tool is offered now."""

OUTCOMES: Mapping[type, Callable[[Any], PromptOutput]] = {
    CodeInterpreterCall: code_interpreter.prompt_output,
    FileSearchCall: file_search.prompt_output,
    McpCall: mcp.prompt_output,
}
"""How a model reads the outcome of a call that carries its own."""


EMULATED = frozenset({*computer.KINDS, "computer_use", tool_search.NAME})
"""Types of tools that become functions for models which do not know them."""

Identity = tuple[str | None, str]
"""A tool's namespace, if it has one, and its name in there; types without a name go by their type."""


@dataclass(frozen=True, slots=True)
class Toolbox:
    """The tools of one request, by the name that the model calls them."""

    tools: Mapping[str, Tool]
    foreign: Sequence[Mapping[str, Any]] = ()
    """Tools that this server does not run, for upstreams that may know them."""
    spoken: Mapping[Identity, str] = field(default_factory=dict)
    """What the model calls a tool of a namespace."""
    hidden: frozenset[str] = frozenset()
    """What the model calls the tools that it has to find first."""

    def offered(self, items: Sequence[Item], *, hosted: bool = True) -> list[Declaration]:
        """What the model is offered after `items`: all but what it has yet to find; `hosted` ones if it may use them.

        What waits to be found is offered as well if nothing can find it.
        """
        unseen = self.hidden - self._found(items) if tool_search.NAME in self.tools else frozenset()
        return [
            tool.declaration for name, tool in self.tools.items() if name not in unseen and (hosted or not tool.hosted)
        ]

    def _found(self, items: Sequence[Item]) -> set[str]:
        outputs = [item for item in items if isinstance(item, ToolSearchOutput)]
        tools = [fields for output in outputs for fields in output.tools]
        return {self.spoken.get(identity, "") for fields in tools for identity, _ in _found_members(fields)}

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

    def addressed(self, entry: PromptEntry) -> PromptEntry:
        """An earlier call under the name by which its tool is offered now; other entries as they are."""
        match entry:
            case PromptCall(name=name, namespace=str(namespace)):
                return replace(entry, name=self.spoken.get((namespace, name), name), namespace=None)
            case _:
                return entry

    def chosen(self, choice: ToolChoice) -> ToolChoice:
        """A choice by the name that the model knows: a tool of a namespace is chosen by its bare name."""
        match choice:
            case ForeignChoice(fields={"type": str(kind)}) if kind in EMULATED:
                found = next((name for name in self.tools if name in computer.KINDS and name.startswith(kind)), None)
                return choice if found is None else NamedTool(found)
            case NamedTool(name=name) if (None, name) not in self.spoken:
                return NamedTool(next((s for (_, bare), s in self.spoken.items() if bare == name), name))
            case _:
                return choice

    def revealing(self, choice: ToolChoice) -> "Toolbox":
        """The toolbox in which the tool that must be called need not be found first."""
        match self.chosen(choice):
            case NamedTool(name=name):
                return replace(self, hidden=self.hidden - {name})
            case _:
                return self

    def without_foreign(self, type_: str) -> "Toolbox":
        """The toolbox without what only an upstream could run of a type."""
        return replace(self, foreign=[fields for fields in self.foreign if fields.get("type") != type_])

    def only(self, names: Collection[str] | None) -> "Toolbox":
        """The tools with these names or types; all of them if `names` is None."""
        if names is None:
            return self
        kept = {spoken for (group, name), spoken in self.spoken.items() if name in names or group in names}
        tools = {spoken: tool for spoken, tool in self.tools.items() if spoken in kept}
        foreign = [fields for fields in self.foreign if fields.get("type") in names]
        return Toolbox(tools, foreign, self.spoken, self.hidden)


def offer(
    specs: Sequence[wire.Tool],
    limits: CommandLimits,
    *,
    in_order: bool,
    added: Sequence[wire.Tool] = (),
    networks: Mapping[str, str] | None = None,
    native: bool = False,
) -> Toolbox:
    """The toolbox for a request's tools, whose containers have been resolved, and for those `added` by input items.

    Namespaces are flattened, as few upstreams know them: a tool keeps its name if no other has it, else it is offered
    as `namespace__name`. A tool that is added again replaces the earlier one. A `native` upstream has a computer tool
    of its own; for others it is a function. Raises `ApiError` if two tools of the request share a name.
    """
    members = _all_members(specs)
    for spec in added:
        members.update(_members(spec))
    if native:
        members = {identity: member for identity, member in members.items() if member.type not in computer.KINDS}
    spoken = _spoken(members)
    hidden = _hidden([*specs, *added], members)
    tools = {
        spoken[identity]: _tool(member, identity, spoken, limits, in_order, networks or {})
        if not isinstance(member, wire.OpaqueTool)
        else _emulated(member, list(hidden.values()))
        for identity, member in members.items()
    }
    offered = {id(member) for member in members.values()}
    opaque = [spec for spec in [*specs, *added] if isinstance(spec, wire.OpaqueTool)]
    foreign = [spec.fields for spec in opaque if not _is_namespace(spec) and id(spec) not in offered]
    return Toolbox(tools, foreign, spoken, frozenset(spoken[identity] for identity in hidden))


def check_names(specs: Sequence[wire.Tool]) -> None:
    """Raise `ApiError` if two tools of a request share a name."""
    _all_members(specs)


def _all_members(specs: Sequence[wire.Tool]) -> dict[Identity, wire.Tool]:
    members: dict[Identity, wire.Tool] = {}
    for index, spec in enumerate(specs):
        for identity, member in _members(spec):
            if identity in members:
                raise ApiError(
                    f"Two tools are named '{identity[1]}'. Tool names must be unique.",
                    code="invalid_value",
                    param=f"tools[{index}].name",
                )
            members[identity] = member
    return members


def _is_namespace(spec: wire.OpaqueTool) -> bool:
    return spec.type == "namespace"


def _found_members(fields: Mapping[str, Any]) -> Iterator[tuple[Identity, wire.Tool]]:
    try:
        yield from _members(wire.decode_tool(fields))
    except msgspec.ValidationError:
        return


def _hidden(specs: Sequence[wire.Tool], members: Mapping[Identity, wire.Tool]) -> dict[Identity, Hidden]:
    """The tools among `members` that the model has to find."""
    about = {s.fields.get("name"): s.fields for s in specs if isinstance(s, wire.OpaqueTool) and _is_namespace(s)}
    hidden: dict[Identity, Hidden] = {}
    for (namespace, name), member in members.items():
        if isinstance(member, wire.FunctionTool | wire.CustomTool) and member.defer_loading is True:
            fields, described = plain(member), member.description or ""
            if namespace is None:
                hidden[namespace, name] = Hidden(name, described, fields)
                continue
            description = str(about.get(namespace, {}).get("description") or "")
            group = {"type": "namespace", "name": namespace, "description": description, "tools": [fields]}
            hidden[namespace, name] = Hidden(f"{namespace}.{name}", f"{described} {description}".strip(), group)
    return hidden


def _emulated(spec: wire.OpaqueTool, hidden: Sequence[Hidden]) -> Tool:
    return ComputerTool(spec.fields) if spec.type in computer.KINDS else ToolSearchTool(spec.fields, hidden)


def _members(spec: wire.Tool) -> Iterator[tuple[Identity, wire.Tool]]:
    """The tools in `spec`: itself, or a namespace's functions and custom tools. Members of other kinds are left out."""
    match spec:
        case wire.OpaqueTool(fields={"type": "namespace", "name": str(namespace), "tools": list(members)}):
            for fields in members:
                try:
                    member = wire.decode_tool(fields)
                except (msgspec.ValidationError, AttributeError):
                    continue
                if isinstance(member, wire.FunctionTool | wire.CustomTool):
                    yield (namespace, member.name), member
        case wire.OpaqueTool(type=kind):
            if kind in EMULATED:
                yield (None, kind), spec
        case wire.FunctionTool(name=name) | wire.CustomTool(name=name):
            yield (None, name), spec
        case _:
            yield (None, spec.type), spec


def _spoken(members: Iterable[Identity]) -> dict[Identity, str]:
    identities = list(members)
    bearers = Counter(name for _, name in identities)
    spoken = {identity: identity[1] for identity in identities if identity[0] is None}
    for namespace, name in identities:
        if namespace is not None:
            called = name if bearers[name] == 1 else f"{namespace}__{name}"
            while called in spoken.values():
                called += "_"
            spoken[namespace, name] = called
    return spoken


def _tool(
    spec: wire.KnownTool,
    identity: Identity,
    spoken: Mapping[Identity, str],
    limits: CommandLimits,
    in_order: bool,
    networks: Mapping[str, str],
) -> Tool:
    match spec:
        case wire.ShellTool(environment=wire.ContainerAuto()) | wire.ApplyPatchTool(environment=wire.ContainerAuto()):
            raise AssertionError("the container of a hosted tool is resolved before its tools are offered")
        case wire.FunctionTool():
            # A function that was found stands in a namespace of its own name (recorded), which clients go by.
            alone = identity[0] is None and spec.defer_loading is True and (None, tool_search.NAME) in spoken
            return FunctionTool(spec, identity[1] if alone else identity[0], spoken[identity])
        case wire.CustomTool():
            return CustomTool(spec, identity[0], spoken[identity])
        case wire.ShellTool(environment=ContainerReference(container_id=container_id)):
            return HostedShellTool(container_id, limits, in_order, networks.get(container_id, shell.NO_NETWORK))
        case wire.ShellTool(environment=LocalEnvironment() as environment):
            return ShellTool(environment)
        case wire.ShellTool():
            return ShellTool(None)
        case wire.CodeInterpreterTool(container=container_id):
            assert isinstance(container_id, str), "the container of a tool is resolved before it is offered"
            return CodeInterpreterTool(container_id, limits, networks.get(container_id, shell.NO_NETWORK))
        case wire.FileSearchTool():
            return FileSearchTool(spec)
        case wire.LocalShellTool():
            return LocalShellTool()
        case wire.ApplyPatchTool(environment=ContainerReference(container_id=container_id)):
            return HostedApplyPatchTool(container_id)
        case wire.ApplyPatchTool():
            return ApplyPatchTool()
        case _:
            assert_never(spec)
