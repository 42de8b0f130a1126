"""A Responses event stream as `ModelChunk`s. Pure.

Servers differ in how much they stream: what only the `done` item or the final response carries is read from there.
Facts from recorded OpenAI streams, OpenAI's event types, and gaps known of vLLM and LM Studio (missing `done` events).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from ..core.drafts import Closed, Opened, Progress
from ..core.errors import UpstreamError
from ..ports.model import (
    CallDelta,
    CallEnd,
    Foreign,
    MessagePhase,
    ModelChunk,
    ModelEnd,
    ReasoningDelta,
    ReasoningSealed,
    RefusalDelta,
    TextAnnotation,
    TextDelta,
)
from ..wire.items import OpaqueItem
from ..wire.response import InputTokensDetails, OutputTokensDetails, Usage
from . import failures

Json = Mapping[str, Any]

_CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
_OURS = frozenset({"message", "reasoning", *_CALLS})
_STAMPED = frozenset({"type", "sequence_number", "output_index", "item_id"})


@dataclass(slots=True)
class _Item:
    """An item being told. `said` is its text or arguments so far, as deltas told it."""

    key: str
    kind: str
    said: str = ""
    closed: bool = False


class ResponsesReader:
    """Reads one streamed (or whole) response."""

    def __init__(self, name: str, key: str | None) -> None:
        self.ended = False
        self._name = name
        self._key = key
        self._items: dict[int, _Item] = {}
        self._by_id: dict[str, _Item] = {}
        self._end: ModelEnd | None = None
        self._spoke = False

    def feed(self, payload: bytes) -> list[ModelChunk]:
        """The chunks of one payload. Raises `UpstreamError`."""
        if payload == b"[DONE]":
            self.ended = True
            return []
        try:
            event = msgspec.json.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise failures.garbage(self._name, payload, self._key) from None
        if not isinstance(event, dict):
            raise failures.garbage(self._name, payload, self._key)
        self._spoke = True
        if event.get("object") == "response" and "type" not in event:
            return self._final(event)
        return self._event(str(event.get("type") or ("error" if event.get("error") else "")), event)

    def finish(self) -> list[ModelChunk]:
        """The end. Raises `UpstreamError` if the stream was cut off."""
        if self._end is None:
            what = "broke off in the middle of its answer" if self._spoke else "ended its answer without one"
            raise UpstreamError(f"The model server {self._name!r} {what}.", retryable=True)
        return [self._end]

    def _event(self, type_: str, event: Json) -> list[ModelChunk]:
        match type_:
            case "response.output_text.delta":
                return self._text(event)
            case "response.output_text.annotation.added":
                annotation = event.get("annotation")
                return [TextAnnotation(annotation)] if isinstance(annotation, dict) else []
            case "response.refusal.delta":
                return [RefusalDelta(self._grown(event))]
            case "response.reasoning_summary_text.delta":
                return [ReasoningDelta(self._grown(event), "summary", _index(event, "summary_index"))]
            case "response.reasoning_text.delta":
                return [ReasoningDelta(self._grown(event), "content", _index(event, "content_index"))]
            case "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta":
                item = self._find(event)
                return [CallDelta(item.key, self._grown(event))] if item else []
            case "response.output_item.added":
                return self._added(_mapping(event.get("item")), _index(event, "output_index"))
            case "response.output_item.done":
                return self._done(_mapping(event.get("item")), _index(event, "output_index"))
            case "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled":
                return self._final(_mapping(event.get("response")))
            case "error":
                raise failures.from_object(self._name, event.get("error") or event, self._key)
            case _:
                return self._progress(type_, event)

    def _text(self, event: Json) -> list[ModelChunk]:
        text = self._grown(event)
        logprobs = event.get("logprobs")
        return [TextDelta(text, logprobs if isinstance(logprobs, list) else ())] if text or logprobs else []

    def _grown(self, event: Json) -> str:
        delta = event.get("delta")
        text = delta if isinstance(delta, str) else ""
        item = self._find(event)
        if item is not None:
            item.said += text
        return text

    def _added(self, item: Json, index: int) -> list[ModelChunk]:
        kind = str(item.get("type") or "")
        told = _Item(str(item.get("id") or f"item_{index}"), kind)
        self._items[index] = self._by_id[told.key] = told
        if kind in _CALLS:
            begun = str(item.get(_CALLS[kind]) or "")
            told.said = begun
            return [_call(told.key, item, begun)]
        if kind == "message":
            return [MessagePhase(str(item["phase"]))] if item.get("phase") else []
        return [] if kind in _OURS else [Foreign(Opened(_opaque(item, told.key)))]

    def _done(self, item: Json, index: int) -> list[ModelChunk]:
        told = self._items.get(index) or self._by_id.get(str(item.get("id")))
        chunks: list[ModelChunk] = []
        if told is None:
            blank = {**item, "arguments": "", "input": ""} if item.get("type") in _CALLS else item
            chunks += self._added(blank, index)
            told = self._items[index]
        if told.closed:
            return []
        told.closed = True
        match told.kind:
            case "message":
                return chunks if told.said else chunks + _message(item)
            case "reasoning":
                return chunks + _reasoning(item, told.said)
            case "function_call" | "custom_tool_call":
                whole = str(item.get(_CALLS[told.kind]) or "")
                if whole.startswith(told.said) and len(whole) > len(told.said):
                    chunks.append(CallDelta(told.key, whole[len(told.said) :]))
                return [*chunks, CallEnd(told.key)]
            case _:
                return [*chunks, Foreign(Closed(_opaque(item, told.key)))]

    def _progress(self, type_: str, event: Json) -> list[ModelChunk]:
        """Events of items that the upstream runs itself, as they are; the rest repeats what deltas said."""
        item = self._find(event)
        if item is None or item.kind in _OURS or item.closed:
            return []
        fields = {name: value for name, value in event.items() if name not in _STAMPED}
        return [Foreign(Progress(item.key, type_, fields))]

    def _final(self, response: Json) -> list[ModelChunk]:
        status = response.get("status")
        if status in {"failed", "cancelled"}:
            error = response.get("error") or {"message": f"the response was {status}", "code": "server_error"}
            raise failures.from_object(self._name, error, self._key)
        chunks: list[ModelChunk] = []
        output = response.get("output")
        for index, item in enumerate(output if isinstance(output, list) else ()):
            told = self._by_id.get(str(item.get("id"))) or self._items.get(index)
            if told is None or not told.closed:
                chunks += self._done(item, index)
        usage = response.get("usage")
        reason = _mapping(response.get("incomplete_details")).get("reason")
        counted = _usage(usage) if isinstance(usage, dict) else None
        if status == "incomplete" and reason == "content_filter":
            self._end = ModelEnd("content_filter", counted)
        else:
            self._end = ModelEnd("length" if status == "incomplete" else "stop", counted)
        self.ended = True
        return chunks

    def _find(self, event: Json) -> _Item | None:
        found = self._by_id.get(str(event.get("item_id") or ""))
        return found or self._items.get(_index(event, "output_index", missing=-1))


def _call(key: str, item: Json, arguments: str) -> CallDelta:
    call_id = str(item.get("call_id") or item.get("id") or key)
    namespace = str(item.get("namespace") or "")
    return CallDelta(key, arguments, call_id=call_id, name=str(item.get("name") or ""), namespace=namespace)


def _message(item: Json) -> list[ModelChunk]:
    chunks: list[ModelChunk] = []
    content = item.get("content")
    for part in content if isinstance(content, list) else ():
        match part:
            case {"type": "output_text", "text": str() as text} if text:
                chunks.append(TextDelta(text, part.get("logprobs") or ()))
                chunks += [TextAnnotation(one) for one in part.get("annotations") or ()]
            case {"type": "refusal", "refusal": str() as text}:
                chunks.append(RefusalDelta(text))
            case _:
                pass
    return chunks


def _reasoning(item: Json, said: str) -> list[ModelChunk]:
    chunks: list[ModelChunk] = []
    if not said:
        for index, part in enumerate(item.get("summary") or ()):
            chunks.append(ReasoningDelta(str(part.get("text") or ""), "summary", index))
        for index, part in enumerate(item.get("content") or ()):
            chunks.append(ReasoningDelta(str(part.get("text") or ""), "content", index))
    # Only the done item carries the whole blob; the one announced is partial (recorded).
    if item.get("encrypted_content"):
        chunks.append(ReasoningSealed(str(item["encrypted_content"])))
    return chunks


def _opaque(item: Json, key: str) -> OpaqueItem:
    return OpaqueItem(item if item.get("id") else {**item, "id": key})


def _usage(usage: Json) -> Usage:
    given, made = _index(usage, "input_tokens"), _index(usage, "output_tokens")
    details = _mapping(usage.get("input_tokens_details"))
    spent = _mapping(usage.get("output_tokens_details"))
    return Usage(
        input_tokens=given,
        input_tokens_details=InputTokensDetails(
            _index(details, "cached_tokens"), _index(details, "cache_write_tokens")
        ),
        output_tokens=made,
        output_tokens_details=OutputTokensDetails(_index(spent, "reasoning_tokens")),
        total_tokens=_index(usage, "total_tokens") or given + made,
    )


def _index(fields: Json, name: str, missing: int = 0) -> int:
    value = fields.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else missing


def _mapping(value: Any) -> Json:
    return value if isinstance(value, dict) else {}
