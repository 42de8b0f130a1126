"""Scripted actions as Responses: requests in, numbered events out. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ..ports.model import Declaration, FreeTextDeclaration, FunctionDeclaration
from .script import Action, Call, CutOff, Entry, Fail, Refuse, Say, Think
from .upstream_chat import tokens, words
from .upstream_faults import Faults

Json = dict[str, Any]


def entries(body: Mapping[str, Any]) -> list[Entry]:
    """The conversation of a Responses request."""
    given = body.get("input") or ()
    if isinstance(given, str):
        return [Entry("user", given)]
    found: list[Entry] = []
    for item in given:
        match item:
            case {"type": "function_call" | "custom_tool_call", "name": name}:
                found.append(Entry("call", item.get("arguments") or item.get("input") or "", name))
            case {"type": "function_call_output" | "custom_tool_call_output", "output": output}:
                found.append(Entry("output", _text_of(output)))
            case {"role": "user" | "assistant" as role, "content": content}:
                found.append(Entry(role, _text_of(content)))
            case {"role": _, "content": content}:
                found.append(Entry("system", _text_of(content)))
            case _:
                pass
    return found


def declarations(body: Mapping[str, Any]) -> list[Declaration]:
    """The functions and custom tools that a Responses request offers."""
    found: list[Declaration] = []
    for tool in body.get("tools") or ():
        match tool:
            case {"type": "function", "name": name}:
                found.append(FunctionDeclaration(name, tool.get("description") or "", tool.get("parameters") or {}))
            case {"type": "custom", "name": name}:
                found.append(FreeTextDeclaration(name, tool.get("description") or "", tool.get("format")))
            case _:
                pass
    return found


def schema(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The JSON schema that the answer must have, if one is asked for."""
    found = ((body.get("text") or {}).get("format") or {}).get("schema")
    return found if isinstance(found, dict) else None


def forced(body: Mapping[str, Any]) -> str | None:
    """The tool that must be called: its name, "" for any, None if none must."""
    choice = body.get("tool_choice")
    if choice == "required":
        return ""
    return choice.get("name") if isinstance(choice, dict) else None


def size(body: Mapping[str, Any]) -> int:
    """How many tokens the prompt of a Responses request counts as."""
    return tokens([Entry("system", body.get("instructions") or ""), *entries(body)], body.get("tools"))


def stream(actions: Sequence[Action], body: Mapping[str, Any], faults: Faults) -> Iterator[Json]:
    """The events of a streamed answer."""
    for number, event in enumerate(_events(actions, body, faults)):
        yield {**event, "sequence_number": number}


def whole(actions: Sequence[Action], body: Mapping[str, Any], faults: Faults) -> Json:
    """The answer in one piece."""
    response: Json = list(_events(actions, body, faults))[-1]["response"]
    return response


def _events(actions: Sequence[Action], body: Mapping[str, Any], faults: Faults) -> Iterator[Json]:
    begun = {**_head(body), "status": "in_progress", "output": [], "usage": None, "error": None}
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    output: list[Json] = []
    ending: Json = {"status": "completed", "error": None, "incomplete_details": None}
    for action in actions:
        match action:
            case Fail(code=code, message=message):
                error = {"type": "server_error", "code": code, "message": message, "param": None}
                yield {"type": "error", "error": error}
                ending = {"status": "failed", "error": {"code": code, "message": message}}
            case CutOff(reason=reason):
                ending = {"status": "incomplete", "error": None, "incomplete_details": {"reason": reason}}
            case _:
                item = _item(action, len(output))
                yield from _item_events(item, action, len(output), body, faults)
                output.append(item)
    usage = dict(faults.usage) if faults.usage is not None else _usage(body)
    last = {**begun, **ending, "output": output, "usage": None if faults.usage_on == "never" else usage}
    yield {"type": f"response.{ending['status']}", "response": last}


def _item(action: Action, index: int) -> Json:
    match action:
        case Think(text=text):
            summary = [{"type": "summary_text", "text": text}]
            return {"id": f"rs_{index}", "type": "reasoning", "summary": summary, "encrypted_content": f"sealed:{text}"}
        case Call(free_text=True):
            more = {"type": "custom_tool_call", "input": action.arguments}
            return {"id": f"ctc_{index}", "call_id": f"call_{action.name}_{index}", "name": action.name, **more}
        case Call():
            more = {"type": "function_call", "arguments": action.arguments, "status": "completed"}
            return {"id": f"fc_{index}", "call_id": f"call_{action.name}_{index}", "name": action.name, **more}
        case Say(text=text, final=final):
            phase = {} if final else {"phase": "commentary"}
            part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        case _:
            phase, part = {}, {"type": "refusal", "refusal": getattr(action, "text", "")}
    message = {"id": f"msg_{index}", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    return {**message, **phase}


def _item_events(item: Json, action: Action, index: int, body: Mapping[str, Any], faults: Faults) -> Iterator[Json]:
    where = {"item_id": item["id"], "output_index": index}
    blank = _BLANK[item["type"]]
    yield {"type": "response.output_item.added", "output_index": index, "item": {**item, **blank}}
    match action:
        case Say(text=text):
            for word in words(text):
                logprobs = [{"token": word, "logprob": -0.5, "top_logprobs": []}] if body.get("top_logprobs") else []
                more = {"content_index": 0, "delta": word, "logprobs": logprobs, "obfuscation": "x"}
                yield {"type": "response.output_text.delta", **where, **more}
            yield {"type": "response.output_text.done", **where, "content_index": 0, "text": text, "logprobs": []}
        case Refuse(text=text):
            for word in words(text):
                yield {"type": "response.refusal.delta", **where, "content_index": 0, "delta": word}
        case Think(text=text):
            kind = "reasoning_summary_text" if faults.reasoning == "reasoning_content" else "reasoning_text"
            at = {"summary_index": 0} if kind == "reasoning_summary_text" else {"content_index": 0}
            for word in words(text):
                yield {"type": f"response.{kind}.delta", **where, **at, "delta": word}
        case Call(arguments=arguments, free_text=free_text):
            kind = "custom_tool_call_input" if free_text else "function_call_arguments"
            size = max(1, faults.argument_size)
            for start in range(0, len(arguments), size):
                yield {"type": f"response.{kind}.delta", **where, "delta": arguments[start : start + size]}
            yield {"type": f"response.{kind}.done", **where, "input" if free_text else "arguments": arguments}
        case _:
            pass
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", "") for part in content or () if isinstance(part, dict) and part.get("text"))


def _usage(body: Mapping[str, Any]) -> Json:
    given = size(body)
    return {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": given + 5,
    }


def _head(body: Mapping[str, Any]) -> Json:
    model = body.get("model") or "scripted"
    return {"id": "resp_scripted", "object": "response", "created_at": 1_700_000_000, "model": model}


_BLANK: Final[Mapping[str, Json]] = {
    "message": {"content": [], "status": "in_progress"},
    "reasoning": {"summary": [], "encrypted_content": "partial"},
    "function_call": {"arguments": "", "status": "in_progress"},
    "custom_tool_call": {"input": ""},
}
