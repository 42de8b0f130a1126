"""Chat-completion chunks as `ModelChunk`s, lenient with everything that servers get wrong. Pure.

Facts from: OpenAI's chunk schema; vLLM (usage on every chunk, `reasoning`), llama.cpp, Ollama (whole calls, ids and
indexes missing), DeepSeek and Qwen (`reasoning_content`), OpenRouter (`reasoning_details`, errors inside the stream),
Mistral (content as parts with `thinking`), Groq (`x_groq.usage`).
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, Literal

import msgspec

from ..core.errors import UpstreamError
from ..ports.model import (
    CallDelta,
    ModelChunk,
    ModelEnd,
    ReasoningDelta,
    RefusalDelta,
    TextAnnotation,
    TextDelta,
)
from ..wire.response import InputTokensDetails, OutputTokensDetails, Usage
from . import failures
from .free_text import Unwrapper

_LENGTH: Final = frozenset({"length", "max_tokens", "model_length", "max_output_tokens"})
_FILTERED: Final = frozenset({"content_filter", "safety", "prohibited_content", "recitation", "blocklist"})


class _Delta(msgspec.Struct, gc=False):
    # `Any` where servers differ: one odd field must not cost the whole chunk.
    content: Any = None
    refusal: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_details: Any = None
    thinking: Any = None
    tool_calls: Any = None
    annotations: Any = None


class _Choice(msgspec.Struct, gc=False):
    index: Any = 0
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: Any = None
    logprobs: Any = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: Any = None
    error: Any = None
    object: Any = None
    message: Any = None
    x_groq: Any = None


_DECODER: Final = msgspec.json.Decoder(_Chunk)


class ChatReader:
    """Reads one streamed (or whole) chat completion.

    `functions` and `free_text` are the names offered; `mint_id` makes call ids for servers that send none;
    `on_reasoning_field` hears what this server calls its reasoning. Raw reasoning goes to `reasoning_channel`.
    """

    def __init__(
        self,
        name: str,
        key: str | None,
        *,
        functions: Collection[str],
        free_text: Collection[str],
        mint_id: Callable[[], str],
        on_reasoning_field: Callable[[str], None] = lambda _: None,
        reasoning_channel: Literal["content", "summary"] = "content",
    ) -> None:
        self.ended = False
        self._reasoning_channel = reasoning_channel
        self._on_reasoning_field = on_reasoning_field
        self._reasoning_field: str | None = None
        self._name = name
        self._key = key
        self._calls = _Calls(frozenset(functions), frozenset(free_text), mint_id)
        self._finish_reason: str | None = None
        self._usage: Usage | None = None
        self._spoke = False

    def feed(self, payload: bytes) -> list[ModelChunk]:
        """The chunks of one payload. Raises `UpstreamError`."""
        if payload == b"[DONE]":
            self.ended = True
            return []
        try:
            chunk = _DECODER.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise failures.garbage(self._name, payload, self._key) from None
        if chunk.error or chunk.object == "error":
            error = chunk.error or {"message": chunk.message}
            raise failures.from_object(self._name, error, self._key)
        if chunk.usage or chunk.x_groq:
            self._read_usage(chunk)
        chunks: list[ModelChunk] = []
        for choice in chunk.choices or ():
            if choice.index in (0, None):
                self._read_choice(choice, chunks)
        self._spoke = self._spoke or chunk.choices is not None
        return chunks if self._reasoning_channel == "content" else [_summarised(one) for one in chunks]

    def finish(self) -> list[ModelChunk]:
        """What is left, and the end. Raises `UpstreamError` if the stream was cut off."""
        if not self.ended and self._finish_reason is None:
            if not self._spoke:
                raise UpstreamError(f"The model server {self._name!r} ended its answer without one.", retryable=True)
            said = f"The model server {self._name!r} broke off in the middle of its answer."
            raise UpstreamError(said, retryable=True)
        return [*self._calls.finish(), ModelEnd(_reason(self._finish_reason), self._usage)]

    def _read_choice(self, choice: _Choice, chunks: list[ModelChunk]) -> None:
        delta = choice.delta or choice.message
        if delta is not None:
            self._read_reasoning(delta, chunks)
            if delta.content:
                _read_content(delta.content, choice.logprobs, chunks)
            if delta.refusal and isinstance(delta.refusal, str):
                chunks.append(RefusalDelta(delta.refusal))
            if delta.annotations:
                chunks += _annotations(delta.annotations)
            if isinstance(delta.tool_calls, list):
                for call in delta.tool_calls:
                    if isinstance(call, dict):
                        self._calls.feed(call, chunks)
        if choice.finish_reason:
            if choice.message is not None:
                self.ended = True
            self._finish_reason = str(choice.finish_reason).lower()
            if self._finish_reason == "error":
                raise UpstreamError(f"The model server {self._name!r} ended its answer with an error.", retryable=True)

    def _read_reasoning(self, delta: _Delta, chunks: list[ModelChunk]) -> None:
        # Servers that rename the field send both for a while; the text is the same.
        for field in ("reasoning_content", "reasoning", "thinking"):
            text = getattr(delta, field)
            if text and isinstance(text, str):
                if field != self._reasoning_field:
                    self._reasoning_field = field
                    self._on_reasoning_field(field)
                chunks.append(ReasoningDelta(text))
                return
        if isinstance(delta.reasoning_details, list):
            chunks += _reasoning_details(delta.reasoning_details)

    def _read_usage(self, chunk: _Chunk) -> None:
        usage = chunk.usage
        if not usage and isinstance(chunk.x_groq, dict):
            usage = chunk.x_groq.get("usage")
        if isinstance(usage, dict):
            self._usage = usage_of(usage)


def _summarised(chunk: ModelChunk) -> ModelChunk:
    return ReasoningDelta(chunk.text, "summary") if isinstance(chunk, ReasoningDelta) else chunk


def usage_of(usage: Mapping[str, Any]) -> Usage:
    """Chat usage as Responses usage; whatever is missing counts as zero."""
    details = _mapping(usage.get("prompt_tokens_details"))
    spent = _mapping(usage.get("completion_tokens_details"))
    cached = _number(details, "cached_tokens") or _number(usage, "prompt_cache_hit_tokens", "cached_tokens")
    written = _number(details, "cache_write_tokens", "cache_creation_tokens")
    thought = _number(spent, "reasoning_tokens") or _number(usage, "reasoning_tokens")
    given, made = _number(usage, "prompt_tokens"), _number(usage, "completion_tokens")
    return Usage(
        input_tokens=given,
        input_tokens_details=InputTokensDetails(cached, written),
        output_tokens=made,
        output_tokens_details=OutputTokensDetails(thought),
        total_tokens=_number(usage, "total_tokens") or given + made,
    )


class _Call:
    def __init__(self, key: str) -> None:
        self.key = key
        self.id = ""
        self.name = ""
        self.announced = False
        self.argued = False
        self.unwrapper: Unwrapper | None = None


class _Calls:
    """Puts the pieces of a turn's calls together. A call is announced when its first argument piece arrives, as its
    name and id may come in pieces before that."""

    def __init__(self, functions: frozenset[str], free_text: frozenset[str], mint_id: Callable[[], str]) -> None:
        self._offered = functions | free_text
        self._free_text = free_text
        self._mint_id = mint_id
        self._calls: list[_Call] = []
        self._at: dict[int, _Call] = {}

    def feed(self, piece: Mapping[str, Any], chunks: list[ModelChunk]) -> None:
        function = _mapping(piece.get("function"))
        call = self._call_of(piece, function, chunks)
        name = function.get("name")
        if isinstance(name, str) and name and not call.announced:
            call.name = self._grown(call.name, name)
        arguments = function.get("arguments")
        if arguments is not None and not isinstance(arguments, str):
            arguments = msgspec.json.encode(arguments).decode()
        if arguments:
            self._announce(call, chunks)
            self._argue(call, arguments, chunks)

    def finish(self) -> list[ModelChunk]:
        chunks: list[ModelChunk] = []
        for call in self._calls:
            self._announce(call, chunks)
            if call.unwrapper is not None:
                if rest := call.unwrapper.finish():
                    chunks.append(CallDelta(call.key, rest))
            elif not call.argued:
                chunks.append(CallDelta(call.key, "{}"))
        return chunks

    def _call_of(self, piece: Mapping[str, Any], function: Mapping[str, Any], chunks: list[ModelChunk]) -> _Call:
        id_ = piece.get("id") if isinstance(piece.get("id"), str) else None
        index = piece.get("index")
        found = self._find(index if isinstance(index, int) else None, id_, function)
        if found is None:
            if self._calls:
                self._announce(self._calls[-1], chunks)
            found = _Call(f"call-{len(self._calls)}")
            self._calls.append(found)
        if isinstance(index, int):
            self._at[index] = found
        found.id = found.id or id_ or ""
        return found

    def _find(self, index: int | None, id_: str | None, function: Mapping[str, Any]) -> _Call | None:
        if index is not None:
            found = self._at.get(index)
            # Some servers number every call 0; a new id is then the only sign of a new call.
            return None if found is not None and id_ and found.id and found.id != id_ else found
        if id_:
            return next((call for call in self._calls if call.id == id_), None)
        if not self._calls or (function.get("name") and self._calls[-1].argued):
            return None
        return self._calls[-1]

    def _grown(self, name: str, piece: str) -> str:
        """`name` with one more piece: servers send it whole, again with every delta, or in pieces."""
        if not name or name == piece:
            return piece
        return name + piece if name not in self._offered or name + piece in self._offered else name

    def _announce(self, call: _Call, chunks: list[ModelChunk]) -> None:
        if call.announced:
            return
        call.announced = True
        if call.name in self._free_text:
            call.unwrapper = Unwrapper()
        call.id = call.id or self._mint_id()
        chunks.append(CallDelta(call.key, call_id=call.id, name=call.name))

    def _argue(self, call: _Call, arguments: str, chunks: list[ModelChunk]) -> None:
        call.argued = True
        if call.unwrapper is not None:
            arguments = call.unwrapper.feed(arguments)
        if arguments:
            chunks.append(CallDelta(call.key, arguments))


def _read_content(content: Any, logprobs: Any, chunks: list[ModelChunk]) -> None:
    if isinstance(content, str):
        chunks.append(TextDelta(content, _logprobs(logprobs) if logprobs else ()))
        return
    for part in content if isinstance(content, list) else ():
        match part:
            case str():
                chunks.append(TextDelta(part))
            case {"type": "thinking", "thinking": str() as text}:
                chunks.append(ReasoningDelta(text))
            case {"type": "thinking", "thinking": list() as pieces}:
                chunks += [ReasoningDelta(str(p["text"])) for p in pieces if isinstance(p, dict) and p.get("text")]
            case {"type": "refusal", "refusal": str() as text}:
                chunks.append(RefusalDelta(text))
            case {"text": str() as text} if text:
                chunks.append(TextDelta(text))
            case _:
                pass


def _logprobs(logprobs: Any) -> tuple[Mapping[str, Any], ...]:
    tokens = _mapping(logprobs).get("content")
    return tuple(
        {**_logprob(token), "top_logprobs": [_logprob(top) for top in token.get("top_logprobs") or ()]}
        for token in (tokens if isinstance(tokens, list) else ())
        if isinstance(token, dict)
    )


def _logprob(token: Mapping[str, Any]) -> dict[str, Any]:
    text = token.get("token") or ""
    return {
        "token": text,
        "bytes": token.get("bytes") or list(str(text).encode()),
        "logprob": token.get("logprob") or 0.0,
    }


def _annotations(annotations: Any) -> list[ModelChunk]:
    found: list[ModelChunk] = []
    for one in annotations if isinstance(annotations, list) else ():
        kind = one.get("type") if isinstance(one, dict) else None
        if isinstance(kind, str):
            inner = one.get(kind)
            found.append(TextAnnotation({"type": kind, **inner} if isinstance(inner, dict) else one))
    return found


def _reasoning_details(details: list[Any]) -> list[ModelChunk]:
    found: list[ModelChunk] = []
    for one in details:
        match one:
            case {"type": "reasoning.summary", "summary": str() as text} if text:
                found.append(ReasoningDelta(text, "summary"))
            case {"text": str() as text} if text:
                found.append(ReasoningDelta(text))
            case _:
                pass
    return found


def _reason(finish_reason: str | None) -> Literal["stop", "length", "content_filter"]:
    if finish_reason in _LENGTH:
        return "length"
    return "content_filter" if finish_reason in _FILTERED else "stop"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(values: Mapping[str, Any], *names: str) -> int:
    for name in names:
        value = values.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return int(value)
    return 0
