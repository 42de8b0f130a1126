"""Input items: every spelling that clients use, made into whole items with ids; and the rules that pair them. Pure."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec

from ..core.errors import ApiError, duplicate_item, missing
from ..core.turn import unanswered
from ..core.validation import api_error
from ..wire.codec import decode_item, item_prefix
from ..wire.items import (
    ApplyPatchCall,
    Call,
    CallOutput,
    ComputerCall,
    ComputerCallOutput,
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    Item,
    LocalShellCall,
    LocalShellCallOutput,
    McpApprovalRequest,
    McpApprovalResponse,
    Message,
    ShellCall,
    ToolSearchCall,
    ToolSearchOutput,
    answers,
)
from ..wire.parts import InputFile, InputImage, Part

MAX_ITEMS = 50_000

_WORDS = {
    FunctionCall: "function call",
    CustomToolCall: "custom tool call",
    ShellCall: "shell call",
    LocalShellCall: "local shell call",
    ApplyPatchCall: "apply patch call",
    ComputerCall: "computer call",
    ToolSearchCall: "tool search call",
}


def read_input(
    value: str | Sequence[Mapping[str, Any]] | None, new_id: Callable[[str], str], where: str = "input"
) -> list[Item]:
    """The items of a request's `input`, or whatever `where` says. Raises `ApiError` that names the first bad one."""
    if value is None:
        return []
    if isinstance(value, str):
        return [_read({"role": "user", "content": value}, where, new_id)]
    if len(value) > MAX_ITEMS:
        raise ApiError(f"At most {MAX_ITEMS} input items fit a request.", code="array_above_max_length", param=where)
    items = [_read(fields, f"{where}[{index}]", new_id) for index, fields in enumerate(value)]
    _refuse_duplicates(items, where)
    return items


def with_own_ids(
    given: Sequence[Item], taken: Collection[str], new_id: Callable[[str], str], where: str = "input"
) -> list[Item]:
    """`given` with an id for each item that nothing else in its conversation has; `taken` are those that are there.

    An output may have come with the id of its call, and gets another. Raises `ApiError` for other items with an id that
    is taken.
    """
    seen, owned = set(taken), list[Item]()
    for item in given:
        own = item
        if item.id in seen:
            if not isinstance(item, CallOutput):
                raise duplicate_item(item.id, where)
            own = msgspec.structs.replace(item, id=new_id(item_prefix(item.type)), call_id=answers(item))
        seen.add(own.id)
        owned.append(own)
    return owned


def name_calls(context: Sequence[Item], given: Sequence[Item]) -> list[Item]:
    """`given` with every output naming its call by `call_id`.

    Clients name a local shell call by its item id as well, and a function call by its name, or name and namespace.
    """
    everything = [*context, *given]
    shells = {item.id: item.call_id for item in everything if isinstance(item, LocalShellCall)}
    waiting = [item for item in unanswered(everything) if isinstance(item, FunctionCall)]
    named: list[Item] = []
    for item in given:
        match item:
            case LocalShellCallOutput() if answers(item) in shells:
                named.append(msgspec.structs.replace(item, call_id=shells[answers(item)]))
            case FunctionCallOutput(call_id="") if call := next((c for c in waiting if _is_named(c, item)), None):
                waiting.remove(call)
                named.append(msgspec.structs.replace(item, call_id=call.call_id))
            case _:
                named.append(item)
    return named


def check_pairs(context: Sequence[Item], given: Sequence[Item], sealed: Sequence[Item] = ()) -> None:
    """Raise `ApiError` if an output has no call, or a call of the client's has no output.

    Calls that this server should have answered are let pass: a run that was cut off must not end a conversation. So are
    those that are `sealed`, being of the context what only a compaction item holds: no client can look into it.
    """
    everything = [*context, *given]
    unseen = {id(item) for item in sealed}
    calls = {item.call_id for item in everything if isinstance(item, Call)}
    for item in given:
        if isinstance(item, CallOutput) and answers(item) not in calls and not _ours(item):
            words = item.type.removesuffix("_output").replace("_", " ")
            raise ApiError(f"No tool call found for {words} output with call_id {answers(item)}.", param="input")
    _check_approvals(context, given)
    for item in unanswered(everything):
        if item.status != "completed" or _ours(item) or id(item) in unseen:
            continue
        raise ApiError(f"No tool output found for {_WORDS[type(item)]} {item.call_id}.", param="input")


def _check_approvals(context: Sequence[Item], given: Sequence[Item]) -> None:
    everything = [*context, *given]
    asked = {item.id for item in everything if isinstance(item, McpApprovalRequest)}
    answered = {item.approval_request_id for item in context if isinstance(item, McpApprovalResponse)}
    for item in given:
        if isinstance(item, McpApprovalResponse):
            name = item.approval_request_id
            if name not in asked:
                raise ApiError(f"No approval request found with id '{name}'.", param="input")
            if name in answered:
                raise ApiError(f"The approval request with id '{name}' was answered already.", param="input")
            answered.add(name)


def _ours(item: Item) -> bool:
    """Whether this server answers a call, or has answered it."""
    match item:
        case ShellCall(hosted=True) | ToolSearchCall(execution="server") | ToolSearchOutput(execution="server"):
            return True
        case _:
            return False


def _is_named(call: FunctionCall, output: FunctionCallOutput) -> bool:
    return call.name == output.name and call.namespace == output.namespace


def _read(fields: Mapping[str, Any], where: str, new_id: Callable[[str], str]) -> Item:
    whole = dict(fields)
    if whole.get("type") is None:
        whole["type"] = "message" if "role" in whole else "item_reference"
    if whole["type"] == "item_reference" and not whole.get("id"):
        raise missing(f"{where}.id")
    if not isinstance(whole["type"], str):
        raise ApiError(f"Invalid type for '{where}.type'.", code="invalid_type", param=f"{where}.type")
    if not whole.get("id"):
        whole["id"] = new_id(item_prefix(whole["type"]))
    if whole["type"] == "message" and isinstance(whole.get("content"), str):
        kind = "output_text" if whole.get("role") == "assistant" else "input_text"
        whole["content"] = [{"type": kind, "text": whole["content"]}]
    if whole["type"] == "function_call_output" and whole.get("call_id") is None and whole.get("name"):
        whole["call_id"] = ""
    try:
        item = decode_item(whole)
    except msgspec.ValidationError as exc:
        raise api_error(exc, where) from None
    _check_parts(item, where)
    return item


def _check_parts(item: Item, where: str) -> None:
    match item:
        case Message(content=parts):
            where += ".content"
        case FunctionCallOutput(output=tuple(parts)) | CustomToolCallOutput(output=tuple(parts)):
            where += ".output"
        case ComputerCallOutput(output=shot):
            if not isinstance(shot.image_url, str) and not isinstance(shot.file_id, str):
                raise missing(f"{where}.output.image_url")
            return
        case _:
            return
    for index, part in enumerate(parts):
        _check_part(part, f"{where}[{index}]")


def _check_part(part: Part, where: str) -> None:
    match part:
        case InputImage(image_url=None, file_id=None):
            raise missing(f"{where}.image_url")
        case InputImage(image_url=str(url), file_id=None) if (
            not url[:8].lower().startswith(("http://", "https://", "data:"))
        ):
            raise ApiError(
                f"Invalid '{where}.image_url': expected an http(s) URL or a data URL.",
                code="invalid_value",
                param=f"{where}.image_url",
            )
        case InputFile() if not any(isinstance(f, str) for f in (part.file_id, part.file_data, part.file_url)):
            raise missing(f"{where}.file_id")
        case _:
            return


def _refuse_duplicates(items: Sequence[Item], where: str) -> None:
    seen: set[str] = set()
    for item in items:
        if item.id in seen and not isinstance(item, CallOutput):
            raise duplicate_item(item.id, where)
        seen.add(item.id)
