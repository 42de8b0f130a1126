"""A prompt as the `input` of a Responses request. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, assert_never

from ..ports.model import PromptCall, PromptEntry, PromptMessage, PromptOpaque, PromptOutput, PromptReasoning
from ..wire.codec import plain
from ..wire.items import NO_PREFIX, OpaqueItem
from ..wire.parts import InputText, OutputText, Part, PlainText, ReasoningText, Refusal, SummaryText
from .pairing import paired

Json = dict[str, Any]


def input_items(prompt: Sequence[PromptEntry], *, openais_own: bool) -> list[Json]:
    """The input items of a Responses request.

    OpenAI's own API refuses reasoning that it did not seal, and knows messages between agents. Others get both as text.
    """
    items: list[Json] = []
    for entry in paired(prompt):
        if (item := _item(entry, openais_own)) is not None:
            items.append(item)
    return items


def _item(entry: PromptEntry, openais_own: bool) -> Json | None:
    match entry:
        case PromptMessage(native=OpaqueItem() as native) if openais_own:
            return _opaque(native)
        case PromptMessage():
            return _message(entry)
        case PromptReasoning():
            return _reasoning(entry, raw=not openais_own)
        case PromptCall(native=OpaqueItem() as native) | PromptOutput(native=OpaqueItem() as native):
            return dict(native.fields)
        case PromptCall(free_text=True):
            item: Json = {"type": "custom_tool_call", "call_id": entry.call_id, "name": entry.name}
            return item | {"input": entry.arguments}
        case PromptCall():
            item = {"type": "function_call", "call_id": entry.call_id, "name": entry.name}
            return item | {"arguments": entry.arguments or "{}"}
        case PromptOutput(output=output):
            kind = "custom_tool_call_output" if entry.free_text else "function_call_output"
            said = output if isinstance(output, str) else [_part(part, "input_text") for part in output]
            return {"type": kind, "call_id": entry.call_id, "output": said}
        case PromptOpaque(item=opaque):
            return _opaque(opaque)
        case _:
            assert_never(entry)


def _opaque(item: OpaqueItem) -> Json:
    # An id that this server gave says nothing to the upstream, which may refuse its prefix.
    ours = item.id.startswith(f"{NO_PREFIX}_")
    return {name: value for name, value in item.fields.items() if not (name == "id" and ours)}


def _message(message: PromptMessage) -> Json:
    texts = "output_text" if message.role == "assistant" else "input_text"
    content = [_part(part, texts) for part in message.parts]
    item: Json = {"type": "message", "role": message.role}
    # A plain string is the one form that every server takes for every role.
    one_text = len(content) == 1 and content[0].keys() == {"type", "text"}
    item["content"] = content[0]["text"] if one_text else content
    if message.phase:
        item["phase"] = message.phase
    return item


def _part(part: Part, texts: str) -> Json:
    match part:
        case InputText() if texts == "input_text":
            fields: Mapping[str, Any] = plain(part)
        case InputText(text=text) | OutputText(text=text) | PlainText(text=text):
            return {"type": texts, "text": text}
        case SummaryText(text=text) | ReasoningText(text=text):
            return {"type": texts, "text": text}
        case Refusal(refusal=text) if texts == "input_text":
            return {"type": texts, "text": text}
        case _:
            fields = plain(part)
    return {name: value for name, value in fields.items() if value is not None}


def _reasoning(entry: PromptReasoning, raw: bool) -> Json | None:
    summary = [{"type": "summary_text", "text": text} for text in entry.summary]
    # Without an id: ours is not the one that the upstream gave, and a sealed blob stands for itself.
    if entry.encrypted_content:
        return {"type": "reasoning", "summary": summary, "encrypted_content": entry.encrypted_content}
    if raw and entry.text:
        content = [{"type": "reasoning_text", "text": entry.text}]
        return {"type": "reasoning", "id": entry.id, "summary": summary, "content": content}
    return None
