"""What only OpenAI's chat completions know of tools, said in the words that every chat server knows. Pure.

A tool of free text is a function with one string, a set of allowed tools is the tools that there are.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from ..ports.model import FreeTextDeclaration
from . import free_text
from .free_text import Unwrapper

Json = dict[str, Any]


def lowered(body: Mapping[str, Any]) -> tuple[Mapping[str, Any], frozenset[str]]:
    """The body for servers that know functions only, and the names of what were tools of free text in it."""
    tools = [tool for tool in _dicts(body.get("tools")) if _is_allowed(tool, body.get("tool_choice"))]
    names = frozenset(str(_inner(tool)["name"]) for tool in tools if tool.get("type") == "custom")
    changed: Json = dict(body)
    if tools:
        changed["tools"] = [_function(tool) if tool.get("type") == "custom" else tool for tool in tools]
    match body.get("tool_choice"):
        case {"type": "custom", "custom": {"name": name}}:
            changed["tool_choice"] = {"type": "function", "function": {"name": name}}
        case {"type": "allowed_tools", "allowed_tools": {"mode": mode}}:
            changed["tool_choice"] = mode
        case _:
            pass
    changed["messages"] = [_message(message) for message in _dicts(body.get("messages"))]
    return changed, names


class FreeTextCalls:
    """Makes calls of functions into calls of the tools of free text that the functions stood for, as they arrive."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._open: dict[int, Unwrapper] = {}

    def raised(self, document: Json) -> Json:
        """The chunk or completion with such calls in it."""
        if not self._names:
            return document
        for choice in document["choices"]:
            if isinstance(message := choice.get("message"), dict):
                if called := [self._whole(call) for call in _dicts(message.get("tool_calls"))]:
                    message["tool_calls"] = called
            elif isinstance(delta := choice.get("delta"), dict):
                calls = [self._piece(call) for call in _dicts(delta.get("tool_calls"))]
                calls += self._rest() if choice.get("finish_reason") else []
                if calls:
                    delta["tool_calls"] = calls
        return document

    def _whole(self, call: Json) -> Json:
        function = call.get("function")
        if not isinstance(function, dict) or function.get("name") not in self._names:
            return call
        unwrapper = Unwrapper()
        text = unwrapper.feed(_arguments(function)) + unwrapper.finish()
        return {**_without(call, "function"), "type": "custom", "custom": {"name": function["name"], "input": text}}

    def _piece(self, call: Json) -> Json:
        function, index = call.get("function"), call.get("index")
        if not isinstance(function, dict):
            return call
        at = index if isinstance(index, int) else 0
        custom: Json = {}
        if function.get("name") in self._names and at not in self._open:
            self._open[at] = Unwrapper()
            custom["name"] = function["name"]
            call = {**call, "type": "custom"}
        if at not in self._open:
            return call
        custom["input"] = self._open[at].feed(_arguments(function))
        return {**_without(call, "function"), "custom": custom}

    def _rest(self) -> list[Json]:
        rest = [(at, unwrapper.finish()) for at, unwrapper in self._open.items()]
        self._open.clear()
        return [{"index": at, "custom": {"input": text}} for at, text in rest if text]


def _is_allowed(tool: Json, choice: Any) -> bool:
    match choice:
        case {"type": "allowed_tools", "allowed_tools": {"tools": list(allowed)}}:
            return any(_inner(one).get("name") == _inner(tool).get("name") for one in allowed if isinstance(one, dict))
        case _:
            return True


def _function(tool: Json) -> Json:
    custom = _inner(tool)
    form = custom.get("format")
    declared = FreeTextDeclaration(custom["name"], custom.get("description") or "", flat_format(form))
    parameters, description = free_text.schema(declared), free_text.description(declared)
    return {
        "type": "function",
        "function": {"name": declared.name, "description": description, "parameters": parameters},
    }


def flat_format(form: Any) -> Mapping[str, Any] | None:
    """The format of a custom tool as the Responses API spells it, where a grammar has no object of its own."""
    match form:
        case {"type": "grammar", "grammar": dict(grammar)}:
            return {"type": "grammar", **grammar}
        case dict():
            return form
        case _:
            return None


def _message(message: Json) -> Json:
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return message
    return {**message, "tool_calls": [_call(call) for call in _dicts(calls)]}


def _call(call: Json) -> Json:
    match call:
        case {"type": "custom", "custom": {"name": name, "input": str(text)}}:
            function = {"name": name, "arguments": free_text.wrap(text)}
            return {**_without(call, "custom"), "type": "function", "function": function}
        case _:
            return call


def _arguments(function: Mapping[str, Any]) -> str:
    arguments = function.get("arguments")
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    return msgspec.json.encode(arguments).decode()


def _inner(tool: Json) -> Json:
    found = tool.get(str(tool.get("type")))
    return found if isinstance(found, dict) else {}


def _dicts(value: Any) -> list[Json]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _without(fields: Json, name: str) -> Json:
    return {key: value for key, value in fields.items() if key != name}
