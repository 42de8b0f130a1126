"""Tools and their settings as a request names them: checked, and read into what the engine uses. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from ..core.errors import ApiError, missing
from ..core.validation import api_error
from ..ports.model import ForeignChoice, NamedTool, ToolChoice
from ..tools.file_search import DEFAULT_RESULTS
from ..tools.function import strict_by_default
from ..wire.codec import plain
from ..wire.items import Item, OpaqueItem, ToolSearchOutput
from ..wire.network import AllowlistNetwork
from ..wire.request import CreateResponse, TextFormat
from ..wire.tools import (
    ApplyPatchTool,
    CodeInterpreterAuto,
    CodeInterpreterTool,
    ContainerAuto,
    CustomTool,
    FileSearchTool,
    FunctionTool,
    OpaqueTool,
    ShellTool,
    Tool,
    decode_tool,
)
from ..wire.vector_stores import RankingOptions
from .remote_tools import shown_remote
from .schema_cost import MAX_PARTS, is_larger, patterns
from .strict_schema import strict_complaint
from .text_format import schema_complaint

Auto = TypeVar("Auto", ContainerAuto, CodeInterpreterAuto)

MAX_TOOLS = 1024
MAX_TOOL_PATTERNS = 400
"""Each is compiled when its schema is checked, and a hostile one takes milliseconds."""
ADDED = "additional_tools"
"""The input item that brings tools in the middle of a conversation."""
_SECRET_FIELDS = frozenset({"authorization", "headers", "domain_secrets"})
_SCHEMAS = frozenset({"parameters"})
"""Fields whose keys are names of the client's own, such as an argument called `headers`."""
_WITH_TOOLS = frozenset({ADDED})
_HOSTED_CHOICES = frozenset(
    {
        "file_search",
        "web_search",
        "web_search_preview",
        "web_search_preview_2025_03_11",
        "web_search_2025_08_26",
        "computer",
        "computer_use",
        "computer_use_preview",
        "image_generation",
        "code_interpreter",
        "mcp",
        "programmatic_tool_calling",
        "apply_patch",
        "shell",
        "local_shell",
    }
)


def read_tools(value: Sequence[Mapping[str, Any]] | None, where: str = "tools") -> list[Tool]:
    """The tools of a request. Raises `ApiError` that names the first bad one."""
    if value is not None and len(value) > MAX_TOOLS:
        raise ApiError(f"At most {MAX_TOOLS} tools fit a request.", code="array_above_max_length", param=where)
    if is_larger(value, MAX_PARTS):
        message = f"The tools of a request have at most {MAX_PARTS} keywords, names and entries of lists in all."
        raise ApiError(message, code="invalid_function_parameters", param=where)
    if patterns(list(value or [])) > MAX_TOOL_PATTERNS:
        message = f"At most {MAX_TOOL_PATTERNS} regular expressions fit the schemas of a request's tools."
        raise ApiError(message, code="invalid_function_parameters", param=where)
    return [_read_tool(fields, f"{where}[{index}]") for index, fields in enumerate(value or [])]


def added_tools(items: Sequence[Item], *, new_from: int) -> list[Tool]:
    """The tools that `additional_tools` items and tool searches bring, oldest first.

    `new_from` is where this request's items begin.
    """
    tools: list[Tool] = []
    for index, item in enumerate(items):
        if (found := _brought(item)) is not None:
            where = f"input[{index - new_from}].tools" if index >= new_from else "previous_response_id"
            if not isinstance(found, list) or not all(isinstance(fields, dict) for fields in found):
                raise ApiError(f"Invalid type for '{where}': expected tools.", code="invalid_type", param=where)
            tools += read_tools(found, where)
    return tools


def _brought(item: Item) -> Any:
    """What an item says are its tools; None if it is no item that brings any."""
    match item:
        case OpaqueItem(type="additional_tools", fields=fields):
            return fields.get("tools", "none")
        case ToolSearchOutput(tools=tools):
            return list(tools)
        case _:
            return None


def storable(item: Item) -> Item:
    """The item without the credentials of the tools in it."""
    if isinstance(item, OpaqueItem) and item.type in _WITH_TOOLS:
        return OpaqueItem(without_secrets(item.fields))
    if isinstance(item, ToolSearchOutput):
        return msgspec.structs.replace(item, tools=tuple(without_secrets(list(item.tools))))
    return item


def normalised(tool: Tool) -> Tool:
    """The tool as the response echoes it: defaults filled in."""
    match tool:
        case FunctionTool():
            return strict_by_default(tool)
        case FileSearchTool():
            found = tool.max_num_results or DEFAULT_RESULTS
            ranking = tool.ranking_options or RankingOptions()
            return msgspec.structs.replace(tool, max_num_results=found, ranking_options=ranking)
        case CustomTool(format=None):
            return msgspec.structs.replace(tool, format={"type": "text"})
        case OpaqueTool(type="mcp", fields=fields):
            return OpaqueTool(shown_remote(without_secrets(fields)))
        case OpaqueTool(fields=fields):
            return OpaqueTool(without_secrets(fields))
        case CodeInterpreterTool(container=CodeInterpreterAuto() as python):
            return msgspec.structs.replace(tool, container=_bare(python))
        case ShellTool(environment=ContainerAuto() as auto) | ApplyPatchTool(environment=ContainerAuto() as auto):
            return msgspec.structs.replace(tool, environment=_bare(auto))
        case _:
            return tool


def _bare(auto: Auto) -> Auto:
    match auto.network_policy:
        case AllowlistNetwork() as policy:
            bare = msgspec.structs.replace(policy, domain_secrets=None)
            return msgspec.structs.replace(auto, network_policy=bare)
        case _:
            return auto


def without_secrets(value: Any) -> Any:
    """A wire object without what the API never stores or echoes: credentials of MCP servers and of domains."""
    match value:
        case {"type": "mcp", "server_url": str(url)} if "?" in url:
            return without_secrets({**value, "server_url": url.partition("?")[0]})
        case Mapping():
            return {
                key: inner if key in _SCHEMAS else without_secrets(inner)
                for key, inner in value.items()
                if key not in _SECRET_FIELDS
            }
        case list():
            return [without_secrets(inner) for inner in value]
        case _:
            return value


def read_choice(value: str | Mapping[str, Any] | None, tools: Sequence[Tool]) -> ToolChoice:
    """What the model is told about using tools. Raises `ApiError` if a tool is named that is not offered."""
    match value:
        case None | "auto":
            return "auto"
        case "none":
            return "none"
        case "required":
            if not tools:
                raise ApiError(
                    "Tool choice 'required' must be specified with 'tools' parameter.",
                    code="invalid_value",
                    param="tool_choice",
                )
            return "required"
        case {"type": "function" | "custom" as kind, "name": str(name)}:
            if name not in _names(tools, kind):
                raise _absent(name)
            return NamedTool(name)
        case {"type": "allowed_tools", "tools": list(allowed), **rest}:
            for entry in allowed:
                _check_allowed(entry, tools)
            return "required" if rest.get("mode") == "required" else "auto"
        case {"type": str(kind), **rest} if kind in _HOSTED_CHOICES:
            tool = next((tool for tool in tools if _is_chosen(tool, kind, rest.get("server_label"))), None)
            if tool is None:
                raise _absent(kind)
            if isinstance(tool, OpaqueTool):
                return ForeignChoice({"type": kind} | {str(key): inner for key, inner in rest.items()})
            return NamedTool(kind)
        case _:
            raise ApiError("Invalid value for 'tool_choice'.", code="invalid_value", param="tool_choice")


def allowed_names(value: str | Mapping[str, Any] | None) -> frozenset[str] | None:
    """The names or types that an `allowed_tools` choice leaves; None if every tool may be used."""
    match value:
        case {"type": "allowed_tools", "tools": list(allowed)}:
            return frozenset(str(e.get("name") or e.get("type")) for e in allowed if isinstance(e, Mapping))
        case _:
            return None


def read_text_format(request: CreateResponse) -> dict[str, Any]:
    """`text.format` as the upstream and the echo get it. Raises `ApiError`."""
    form = request.text.format if request.text and request.text.format else TextFormat()
    if form.type != "json_schema":
        return {"type": form.type}
    if not form.name:
        raise missing("text.format.name")
    if form.schema is None:
        raise missing("text.format.schema")
    if complaint := _schema_complaint(form.schema, strict=form.strict):
        message = f"Invalid schema for response_format '{form.name}': {complaint}"
        raise ApiError(message, code="invalid_json_schema", param="text.format.schema")
    fields: dict[str, Any] = {key: value for key, value in plain(form).items() if value is not None}
    return {"description": None, "strict": False} | fields


def _read_tool(fields: Mapping[str, Any], where: str) -> Tool:
    if not isinstance(fields.get("type"), str):
        raise missing(f"{where}.type")
    try:
        tool = decode_tool(fields)
    except msgspec.ValidationError as exc:
        raise api_error(exc, where) from None
    if isinstance(tool, FunctionTool) and tool.parameters is not None:
        _check_parameters(tool, tool.parameters, f"{where}.parameters")
    return tool


def _check_parameters(tool: FunctionTool, parameters: Mapping[str, Any], where: str) -> None:
    if complaint := _schema_complaint(parameters, strict=tool.strict):
        message = f"Invalid schema for function '{tool.name}': {complaint}"
        raise ApiError(message, code="invalid_function_parameters", param=where)


def _schema_complaint(schema: Mapping[str, Any], *, strict: bool | None) -> str:
    return schema_complaint(schema) or (strict_complaint(schema) if strict else "")


def _is_chosen(tool: Tool, kind: str, server_label: Any) -> bool:
    if not tool.type.startswith(kind):
        return False
    return server_label is None or not isinstance(tool, OpaqueTool) or tool.fields.get("server_label") == server_label


def _names(tools: Sequence[Tool], kind: str) -> set[str]:
    names = {tool.name for tool in tools if isinstance(tool, FunctionTool | CustomTool) and tool.type == kind}
    for tool in tools:
        if isinstance(tool, OpaqueTool):
            names |= {m["name"] for m in tool.fields.get("tools") or () if isinstance(m, Mapping) and "name" in m}
    return names


def _check_allowed(entry: Any, tools: Sequence[Tool]) -> None:
    match entry:
        case {"type": "function" | "custom" as kind, "name": str(name)}:
            if name not in _names(tools, kind):
                raise _absent(name)
        case {"type": str(kind)}:
            if not any(tool.type == kind for tool in tools):
                raise _absent(kind)
        case _:
            raise ApiError("Invalid entry in 'tool_choice.tools'.", code="invalid_value", param="tool_choice")


def _absent(name: str) -> ApiError:
    return ApiError(f"Tool choice '{name}' not found in 'tools' parameter.", code="invalid_value", param="tool_choice")
