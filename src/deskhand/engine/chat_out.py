"""What a model says, as the chunks of a chat completion. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ..ports.model import (
    CallDelta,
    ModelChunk,
    ModelEnd,
    ReasoningDelta,
    RefusalDelta,
    TextAnnotation,
    TextDelta,
)
from ..wire.response import Usage

Json = dict[str, Any]

CHUNK: Final = "chat.completion.chunk"


class ChatWriter:
    """Writes one choice.

    `free_text` are the names of the tools that take free text, `stops` the texts at which the answer ends, `usage`
    tells whether what was used is said, `legacy` whether calls are said in the old way.
    """

    def __init__(self, free_text: frozenset[str], stops: Sequence[str], *, usage: bool, legacy: bool) -> None:
        self.over = False
        self._free_text = free_text
        self._stop = StopAt(stops)
        self._usage = usage
        self._legacy = legacy
        self._calls: dict[str, int] = {}
        self._custom: set[str] = set()

    def begin(self) -> Json:
        """The first chunk."""
        return _chunk({"role": "assistant", "content": "", "refusal": None})

    def feed(self, said: ModelChunk) -> Iterator[Json]:
        """The chunks for one of the model's. After the last of them, or a stop, it is `over`."""
        match said:
            case TextDelta(text=text, logprobs=logprobs):
                yield from self._text(text, logprobs)
            case RefusalDelta(text=text):
                yield _chunk({"refusal": text})
            case ReasoningDelta(text=text):
                yield _chunk({"reasoning_content": text})
            case TextAnnotation(annotation=annotation):
                yield _chunk({"annotations": [_annotation(annotation)]})
            case CallDelta():
                yield from self._call(said)
            case ModelEnd():
                yield from self._end(said)
            case _:
                pass

    def _text(self, text: str, logprobs: Sequence[Mapping[str, Any]]) -> Iterator[Json]:
        shown = self._stop.feed(text)
        if shown or logprobs:
            yield _chunk({"content": shown}, logprobs=logprobs)
        if self._stop.found:
            yield from self._end(ModelEnd("stop"))

    def _call(self, piece: CallDelta) -> Iterator[Json]:
        new = piece.key not in self._calls
        at = self._calls.setdefault(piece.key, len(self._calls))
        if piece.name in self._free_text:
            self._custom.add(piece.key)
        kind, text = ("custom", "input") if piece.key in self._custom else ("function", "arguments")
        called: Json = ({"name": piece.name} if new else {}) | {text: piece.arguments}
        if self._legacy:
            if at == 0:
                yield _chunk({"function_call": called})
            return
        head: Json = {"index": at, "id": piece.call_id, "type": kind} if new else {"index": at}
        yield _chunk({"tool_calls": [{**head, kind: called}]})

    def _end(self, end: ModelEnd) -> Iterator[Json]:
        if rest := self._stop.rest():
            yield _chunk({"content": rest})
        self.over = True
        called = "function_call" if self._legacy else "tool_calls"
        yield _chunk({}, finish=called if end.reason == "stop" and self._calls else end.reason)
        if self._usage and end.usage is not None:
            yield {"object": CHUNK, "choices": [], "usage": chat_usage(end.usage)}


class StopAt:
    """Ends a text before the first of some others; what may be the beginning of one is held back."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.found = False
        self._stops = stops
        self._held = ""

    def feed(self, text: str) -> str:
        """What can be shown now."""
        if not self._stops:
            return text
        if self.found:
            return ""
        text, self._held = self._held + text, ""
        places = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if places:
            self.found = True
            return text[: min(places)]
        held = max(self._begun(text, stop) for stop in self._stops)
        cut = len(text) - held
        self._held = text[cut:]
        return text[:cut]

    def rest(self) -> str:
        """What was held back, when no more text comes."""
        held, self._held = self._held, ""
        return "" if self.found else held

    @staticmethod
    def _begun(text: str, stop: str) -> int:
        """How many characters at the end of `text` may be the beginning of `stop`."""
        longest = min(len(stop) - 1, len(text))
        return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)


def chat_usage(usage: Usage) -> Json:
    """What was used, as chat completions say it."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.input_tokens_details.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.output_tokens_details.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _chunk(delta: Json, *, logprobs: Sequence[Mapping[str, Any]] = (), finish: str | None = None) -> Json:
    shown = {"content": list(logprobs), "refusal": None} if logprobs else None
    choice = {"index": 0, "delta": delta, "logprobs": shown, "finish_reason": finish}
    return {"object": CHUNK, "choices": [choice]}


def _annotation(annotation: Mapping[str, Any]) -> Json:
    kind = str(annotation.get("type") or "url_citation")
    return {"type": kind, kind: {name: value for name, value in annotation.items() if name != "type"}}
