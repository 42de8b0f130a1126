"""Scripted actions as chat completions: requests in, chunks out, in the spelling of the vendor asked for. Pure."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..ports.model import Declaration, FunctionDeclaration
from .script import Action, Call, CutOff, Entry, Fail, Refuse, Say, Think
from .upstream_faults import Faults

Json = dict[str, Any]


def entries(body: Mapping[str, Any]) -> list[Entry]:
    """The conversation of a chat-completions request."""
    found: list[Entry] = []
    for message in body.get("messages") or ():
        text = text_of(message.get("content"))
        match message.get("role"):
            case "tool":
                found.append(Entry("output", text))
                continue
            case "user" | "assistant" as role:
                kind = role
            case _:
                kind = "system"
        if text:
            found.append(Entry(kind, text))
        for call in message.get("tool_calls") or ():
            found.append(Entry("call", call["function"]["arguments"], call["function"]["name"]))
    return found


def declarations(body: Mapping[str, Any]) -> list[Declaration]:
    """The functions that a chat-completions request offers."""
    return [
        FunctionDeclaration(f["name"], f.get("description") or "", f.get("parameters") or {})
        for f in (tool["function"] for tool in body.get("tools") or () if tool.get("type") == "function")
    ]


def schema(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The JSON schema that the answer must have, if one is asked for."""
    form = body.get("response_format") or {}
    found = (form.get("json_schema") or {}).get("schema")
    return found if isinstance(found, dict) else None


def forced(body: Mapping[str, Any]) -> str | None:
    """The tool that must be called: its name, "" for any, None if none must."""
    choice = body.get("tool_choice")
    if choice == "required":
        return ""
    return choice["function"]["name"] if isinstance(choice, dict) else None


def text_of(content: Any) -> str:
    """The text of message content in either of its forms."""
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", "") for part in content or () if isinstance(part, dict) and part.get("text"))


def size(body: Mapping[str, Any]) -> int:
    """How many tokens the prompt of a chat-completions request counts as."""
    return tokens(entries(body), body.get("tools"))


def tokens(said: Sequence[Entry], tools: Sequence[Mapping[str, Any]] | None) -> int:
    """How many tokens a prompt counts as: a quarter of the characters of its conversation and its tools."""
    return (sum(len(entry.text) for entry in said) + sum(len(json.dumps(tool)) for tool in tools or ())) // 4 + 1


def words(text: str) -> list[str]:
    """`text` in the pieces it is streamed in."""
    return re.findall(r"\S+\s*|\s+", text)


def stream(actions: Sequence[Action], body: Mapping[str, Any], faults: Faults) -> Iterator[Json]:
    """The chunks of a streamed answer."""
    usage = _usage(body, faults)
    every = {"usage": usage} if faults.usage_on == "every" else {}
    wants_usage = (body.get("stream_options") or {}).get("include_usage")

    def chunk(delta: Json, finish: str | None = None) -> Json:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": _logprobs(delta, body)}
        return {**_head(body), "object": "chat.completion.chunk", "choices": [choice], **every}

    yield chunk({"role": "assistant", "content": ""})
    for action in actions:
        if isinstance(action, Fail):
            yield {"error": {"message": action.message, "code": action.code, "type": action.code}}
            return
    for delta in _deltas(actions, faults):
        yield chunk(delta)
    yield chunk({}, _finish(actions))
    if wants_usage and faults.usage_on == "end":
        yield {**_head(body), "object": "chat.completion.chunk", "choices": [], "usage": usage}


def whole(actions: Sequence[Action], body: Mapping[str, Any], faults: Faults) -> Json:
    """The answer in one piece."""
    text = "".join(a.text for a in actions if isinstance(a, Say))
    message: Json = {"role": "assistant", "content": text or None}
    if thoughts := "".join(a.text for a in actions if isinstance(a, Think)):
        message["reasoning_content"] = thoughts
    if refusal := "".join(a.text for a in actions if isinstance(a, Refuse)):
        message["refusal"] = refusal
    if calls := [a for a in actions if isinstance(a, Call)]:
        message["tool_calls"] = [_call(call, i) for i, call in enumerate(calls)]
    choice = {"index": 0, "message": message, "finish_reason": _finish(actions), "logprobs": None}
    return {**_head(body), "object": "chat.completion", "choices": [choice], "usage": _usage(body, faults)}


def _deltas(actions: Sequence[Action], faults: Faults) -> Iterator[Json]:
    number = 0
    for action in actions:
        match action:
            case Say(text=text):
                for word in words(text):
                    yield {"content": word}
            case Refuse(text=text):
                for word in words(text):
                    yield {"refusal": word}
            case Think(text=text):
                for word in words(text):
                    yield _reasoning(word, faults)
            case Call():
                for piece in _call_pieces(action, number, faults):
                    yield {"tool_calls": [piece]}
                number += 1
            case _:
                pass


def _call_pieces(call: Call, number: int, faults: Faults) -> Iterator[Json]:
    made = _call(call, number)
    arguments = made["function"]["arguments"]
    head = {"index": number, "id": made["id"], "type": "function"}
    size = max(1, faults.argument_size)
    pieces = [arguments[i : i + size] for i in range(0, len(arguments), size)]
    name = call.name
    match faults.calls:
        case "whole":
            yield {**head, "function": {"name": name, "arguments": arguments}}
            return
        case "object":
            yield {"id": head["id"], "function": {"name": name, "arguments": json.loads(arguments)}}
            return
        case "no_index":
            del head["index"]
        case "same_index":
            head["index"] = 0
        case "no_id":
            del head["id"]
        case _:
            pass
    names = [name[:3], name[3:]] if faults.calls == "split_name" else [name]
    yield {**head, "function": {"name": names[0], "arguments": ""}}
    for rest in names[1:]:
        yield {"index": number, "function": {"name": rest, "arguments": None}}
    again = {"id": head["id"]} if faults.calls in {"id_each_time", "no_index"} else {}
    where = {"index": head["index"]} if "index" in head else {}
    for piece in pieces:
        yield {**where, **again, "function": {"arguments": piece}}


def _call(call: Call, number: int) -> Json:
    arguments = call.arguments
    # Free-text tools reach a chat server as functions with one text parameter.
    if call.free_text or not arguments.lstrip().startswith("{"):
        arguments = json.dumps({"input": arguments}, ensure_ascii=False)
    return {
        "index": number,
        "id": f"call_{call.name}_{number}",
        "type": "function",
        "function": {"name": call.name, "arguments": arguments},
    }


def _reasoning(text: str, faults: Faults) -> Json:
    match faults.reasoning:
        case "reasoning_details":
            return {"reasoning_details": [{"type": "reasoning.text", "text": text, "index": 0}]}
        case "parts":
            return {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": text}]}]}
        case name:
            return {name: text, "content": None}


def _logprobs(delta: Json, body: Mapping[str, Any]) -> Json | None:
    text = delta.get("content")
    if not body.get("logprobs") or not isinstance(text, str) or not text:
        return None
    one = {"token": text, "logprob": -0.5, "bytes": list(text.encode())}
    return {"content": [{**one, "top_logprobs": [one] * int(body.get("top_logprobs") or 0)}]}


def _finish(actions: Sequence[Action]) -> str:
    for action in actions:
        if isinstance(action, CutOff):
            return "content_filter" if action.reason == "content_filter" else "length"
    return "tool_calls" if any(isinstance(action, Call) for action in actions) else "stop"


def _usage(body: Mapping[str, Any], faults: Faults) -> Json:
    if faults.usage is not None:
        return dict(faults.usage)
    given = size(body)
    return {"prompt_tokens": given, "completion_tokens": 5, "total_tokens": given + 5}


def _head(body: Mapping[str, Any]) -> Json:
    return {"id": "chatcmpl-scripted", "created": 1_700_000_000, "model": body.get("model") or "scripted"}
