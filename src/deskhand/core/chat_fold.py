"""A chat completion put together from its chunks, and taken apart into chunks. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from .errors import UpstreamError

Json = dict[str, Any]

LONGEST: Final = 32 << 20
"""Characters of a completion that is put together."""
_TOP: Final = frozenset({"choices", "object", "usage"})


class Texts:
    """Strings that grow piece by piece, in nested fields of an object."""

    def __init__(self) -> None:
        self._pieces: dict[tuple[str, ...], list[str]] = {}
        self._size = 0

    def add(self, path: tuple[str, ...], text: str) -> None:
        """One more piece. Raises `UpstreamError` when it is too much."""
        self._size += len(text)
        if self._size > LONGEST:
            raise UpstreamError(f"The model's answer is longer than {LONGEST} characters.")
        self._pieces.setdefault(path, []).append(text)

    def into(self, fields: Json) -> None:
        """Put the whole strings in their places."""
        for (*outer, name), pieces in self._pieces.items():
            place = fields
            for step in outer:
                place = place.setdefault(step, {})
            place[name] = "".join(pieces)


class _Call:
    def __init__(self) -> None:
        self.fields: Json = {}
        self.texts = Texts()


class ChatFold:
    """Grows a completion of one choice. `completion` is what it has come to."""

    def __init__(self) -> None:
        self._whole: Json | None = None
        self._top: Json = {}
        self._usage: Any = None
        self._message: Json = {}
        self._texts = Texts()
        self._calls: dict[int, _Call] = {}
        self._annotations: list[Any] = []
        self._logprobs: dict[str, list[Any]] = {}
        self._finish: Any = None

    def feed(self, document: Mapping[str, Any]) -> None:
        """One more chunk, or the whole. Raises `UpstreamError` if it grows too long."""
        if is_whole(document):
            self._whole = dict(document)
            return
        self._top |= {name: value for name, value in document.items() if name not in _TOP and value is not None}
        self._usage = document.get("usage") or self._usage
        for choice in document.get("choices") or ():
            self._choice(choice)

    def completion(self) -> Json:
        """The whole completion."""
        if self._whole is not None:
            return self._whole
        message: Json = {"role": "assistant", "content": None, "refusal": None, "annotations": self._annotations}
        message |= self._message
        self._texts.into(message)
        if self._calls:
            message["tool_calls"] = [_finished(self._calls[at]) for at in sorted(self._calls)]
        logprobs = {"content": None, "refusal": None, **self._logprobs} if self._logprobs else None
        choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": self._finish or "stop"}
        whole = {**self._top, "object": "chat.completion", "choices": [choice]}
        return whole if self._usage is None else {**whole, "usage": self._usage}

    def _choice(self, choice: Mapping[str, Any]) -> None:
        delta = choice.get("delta")
        for name, value in (delta if isinstance(delta, dict) else {}).items():
            self._grow(name, value)
        logprobs = choice.get("logprobs")
        for name, tokens in (logprobs if isinstance(logprobs, dict) else {}).items():
            if isinstance(tokens, list):
                self._logprobs.setdefault(name, []).extend(tokens)
        self._finish = choice.get("finish_reason") or self._finish

    def _grow(self, name: str, value: Any) -> None:
        match name, value:
            case "tool_calls", list():
                for piece in value:
                    if isinstance(piece, dict):
                        self._call(piece)
            case "function_call", dict():
                for inner, text in value.items():
                    if isinstance(text, str):
                        self._texts.add((name, inner), text)
            case "annotations", list():
                self._annotations += value
            case _, None:
                pass
            case "role", _:
                pass
            case _, str():
                self._texts.add((name,), value)
            case _:
                self._message[name] = value

    def _call(self, piece: Mapping[str, Any]) -> None:
        index = piece.get("index")
        at = index if isinstance(index, int) else max(len(self._calls) - (0 if piece.get("id") else 1), 0)
        call = self._calls.setdefault(at, _Call())
        for name, value in piece.items():
            match value:
                case dict():
                    for inner, text in value.items():
                        if isinstance(text, str):
                            call.texts.add((name, inner), text)
                case None:
                    pass
                case _ if name != "index":
                    call.fields[name] = value
                case _:
                    pass


def is_whole(document: Mapping[str, Any]) -> bool:
    """Whether this is a whole completion, and not a chunk of one."""
    return any(
        isinstance(choice.get("message"), dict) and not isinstance(choice.get("delta"), dict)
        for choice in document.get("choices") or ()
    )


def chunks_of(document: Mapping[str, Any], *, usage: bool) -> list[Json]:
    """A whole completion as the chunks that would have told it; with `usage`, the last one says what was used."""
    top = {name: value for name, value in document.items() if name not in _TOP}
    head = {**top, "object": "chat.completion.chunk"}
    said = [{**head, "choices": [_delta(choice)]} for choice in document.get("choices") or ()]
    ends = [{**head, "choices": [_end(choice)]} for choice in document.get("choices") or ()]
    told = [{**head, "choices": [], "usage": document["usage"]}] if usage and document.get("usage") else []
    return [*said, *ends, *told]


def _delta(choice: Mapping[str, Any]) -> Json:
    message = choice["message"] if isinstance(choice.get("message"), dict) else {}
    delta = {name: value for name, value in message.items() if value is not None}
    if isinstance(calls := delta.get("tool_calls"), list):
        delta["tool_calls"] = [{"index": at, **call} for at, call in enumerate(calls) if isinstance(call, dict)]
    delta = {"role": "assistant"} | delta
    logprobs = choice.get("logprobs")
    return {"index": choice.get("index") or 0, "delta": delta, "logprobs": logprobs, "finish_reason": None}


def _end(choice: Mapping[str, Any]) -> Json:
    reason = choice.get("finish_reason") or "stop"
    return {"index": choice.get("index") or 0, "delta": {}, "logprobs": None, "finish_reason": reason}


def _finished(call: _Call) -> Json:
    fields: Json = {"id": "", "type": "function", **call.fields}
    call.texts.into(fields)
    return fields


def texts_of(content: str | Sequence[Mapping[str, Any]] | None) -> str:
    """The text of a message's content in either of its forms."""
    if not isinstance(content, list):
        return content if isinstance(content, str) else ""
    return "".join(part["text"] for part in content if isinstance(part.get("text"), str))
