"""A prompt as chat-completion messages, for servers of every strictness. Pure.

What strict servers ask for: one leading system message; the calls of a turn in one assistant message, with the text
said before them; the answers right behind it, in call order; nothing unanswered; arguments that are JSON objects.
"""

import base64
import binascii
import urllib.parse
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, assert_never

import msgspec

from ..ports.model import (
    PromptCall,
    PromptEntry,
    PromptMessage,
    PromptOpaque,
    PromptOutput,
    PromptReasoning,
)
from ..wire.codec import plain
from ..wire.parts import (
    InputAudio,
    InputFile,
    InputImage,
    InputText,
    OutputText,
    Part,
    PlainText,
    ReasoningText,
    Refusal,
    SummaryText,
)
from . import free_text
from .pairing import paired

Json = dict[str, Any]

SEEN_BELOW: Final = "[shown in the next message]"
_TEXT_TYPES: Final = frozenset(
    {
        "application/json",
        "application/xml",
        "application/x-yaml",
        "application/yaml",
        "application/toml",
        "application/javascript",
        "application/x-sh",
        "application/sql",
        "application/x-ndjson",
        "image/svg+xml",
    }
)


def messages(prompt: Sequence[PromptEntry], instructions: str | None, reasoning_field: str | None) -> list[Json]:
    """The messages of a chat-completions request.

    `reasoning_field` is what the reasoning of the current turn is returned as; None leaves it out.
    """
    entries = paired(prompt)
    builder = _Builder(_answers(entries), reasoning_field, _current_turn(entries))
    if instructions:
        builder.system(instructions)
    for index, entry in enumerate(entries):
        builder.add(index, entry)
    builder.close_turn()
    return builder.said


@dataclass(slots=True)
class _Turn:
    """What the model said in one go."""

    texts: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: list[PromptCall] = field(default_factory=list)


class _Builder:
    def __init__(self, answers: dict[str, deque[PromptOutput]], reasoning_field: str | None, current_turn: int) -> None:
        self.said: list[Json] = []
        self._answers = answers
        self._reasoning_field = reasoning_field
        self._current_turn = current_turn
        self._turn = _Turn()

    def system(self, text: str) -> None:
        if len(self.said) == 1 and self.said[0]["role"] == "system":
            self.said[0]["content"] += f"\n\n{text}"
        elif text:
            self.said.append({"role": "system", "content": text})

    def add(self, index: int, entry: PromptEntry) -> None:
        match entry:
            case PromptMessage(role="assistant", parts=parts):
                if text := _plain_text(parts):
                    self._turn.texts.append(text)
            case PromptMessage(role="user", parts=parts):
                self.close_turn()
                self.said.append({"role": "user", "content": _content(parts)})
            case PromptMessage(parts=parts):
                self.close_turn()
                self.system(_plain_text(parts))
            case PromptReasoning(text=text):
                if index > self._current_turn and text:
                    self._turn.reasoning.append(text)
            case PromptCall():
                self._turn.calls.append(entry)
            case PromptOutput():
                self.close_turn()
            case PromptOpaque():
                pass
            case _:
                assert_never(entry)

    def close_turn(self) -> None:
        turn, self._turn = self._turn, _Turn()
        if not turn.texts and not turn.calls:
            self._turn.reasoning = turn.reasoning
            return
        message: Json = {"role": "assistant", "content": "\n\n".join(turn.texts)}
        if turn.reasoning and self._reasoning_field:
            message[self._reasoning_field] = "\n".join(turn.reasoning)
        if turn.calls:
            message["tool_calls"] = [_tool_call(call) for call in turn.calls]
        self.said.append(message)
        shown: list[Json] = []
        for call in turn.calls:
            text, more = _tool_content(self._answers[call.call_id].popleft())
            self.said.append({"role": "tool", "tool_call_id": call.call_id, "content": text})
            shown += more
        if shown:
            lead = {"type": "text", "text": "From the tool output above:"}
            self.said.append({"role": "user", "content": [lead, *shown]})


def _answers(entries: Sequence[PromptEntry]) -> dict[str, deque[PromptOutput]]:
    answers: dict[str, deque[PromptOutput]] = defaultdict(deque)
    for entry in entries:
        if isinstance(entry, PromptOutput):
            answers[entry.call_id].append(entry)
    return answers


def _current_turn(entries: Sequence[PromptEntry]) -> int:
    """The index of the last user message: what follows it belongs to the turn that is going on."""
    users = (i for i, entry in enumerate(entries) if isinstance(entry, PromptMessage) and entry.role == "user")
    return max(users, default=-1)


def _tool_call(call: PromptCall) -> Json:
    arguments = free_text.wrap(call.arguments) if call.free_text else _object_arguments(call.arguments)
    return {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _object_arguments(arguments: str) -> str:
    # Servers that parse the arguments of earlier calls fail the whole request over one that is not an object.
    try:
        value = msgspec.json.decode(arguments or "{}")
    except (msgspec.DecodeError, RecursionError):
        value = None
    if isinstance(value, dict):
        return arguments or "{}"
    return msgspec.json.encode({"malformed_arguments": arguments}).decode()


def _tool_content(answer: PromptOutput) -> tuple[str, list[Json]]:
    """The text of a tool's answer, and what only a user message can show."""
    if isinstance(answer.output, str):
        return answer.output, []
    texts: list[str] = []
    shown: list[Json] = []
    for part in answer.output:
        rendered = _part(part)
        if rendered["type"] == "text":
            texts.append(rendered["text"])
        else:
            texts.append(SEEN_BELOW)
            shown.append(rendered)
    return "\n".join(texts), shown


def _content(parts: Sequence[Part]) -> str | list[Json]:
    rendered = [_part(part) for part in parts]
    if all(part["type"] == "text" for part in rendered):
        return "\n".join(part["text"] for part in rendered)
    return rendered


def _plain_text(parts: Sequence[Part]) -> str:
    return "\n".join(part["text"] for part in map(_part, parts) if part["type"] == "text" and part["text"])


def _part(part: Part) -> Json:
    match part:
        case InputText(text=text) | OutputText(text=text) | PlainText(text=text):
            return _text(text)
        case SummaryText(text=text) | ReasoningText(text=text) | Refusal(refusal=text):
            return _text(text)
        case InputImage(image_url=str() as url, detail=detail):
            # Chat knows no `original`.
            shown = "high" if detail == "original" else detail
            image = {"url": url} if detail == "auto" else {"url": url, "detail": shown}
            return {"type": "image_url", "image_url": image}
        case InputImage():
            return _text("[an image that could not be read]")
        case InputAudio(input_audio=audio):
            return {"type": "input_audio", "input_audio": audio}
        case InputFile():
            return _file(part)
        case _:
            assert_never(part)


def _text(text: str) -> Json:
    return {"type": "text", "text": text}


def _file(part: InputFile) -> Json:
    name = part.filename if isinstance(part.filename, str) else "file"
    if isinstance(part.file_data, str):
        text = _readable(part.file_data, name)
        if text is not None:
            return _text(f"[file: {name}]\n{text}\n[end of file: {name}]")
        return {"type": "file", "file": {"filename": name, "file_data": part.file_data}}
    if isinstance(part.file_url, str):
        return _text(f"[file: {name} at {part.file_url}]")
    return {"type": "file", "file": {key: value for key, value in plain(part).items() if key == "file_id"}}


def _readable(data: str, name: str) -> str | None:
    """The text of a data URL (or bare base64) if it is text-like, else None."""
    header, comma, body = data.partition(",")
    media_type = ""
    encoded = True
    if header.startswith("data:") and comma:
        media_type, *options = header.removeprefix("data:").split(";")
        encoded = "base64" in options
    else:
        body = data
    media_type = media_type.strip().lower()
    texty = media_type.startswith("text/") or media_type in _TEXT_TYPES or media_type.endswith(("+json", "+xml"))
    unknown = media_type in {"", "application/octet-stream"} and not name.lower().endswith(".pdf")
    if not texty and not unknown:
        return None
    try:
        raw = base64.b64decode(body, validate=False) if encoded else urllib.parse.unquote_to_bytes(body)
        text = raw.decode("utf-8-sig", "replace" if texty else "strict")
    except (binascii.Error, ValueError):
        return None
    return None if unknown and "\0" in text else text
