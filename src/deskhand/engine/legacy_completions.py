"""Legacy completions, made of chat completions: a prompt is what the user says. Pure but for the asking."""

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ..core.errors import ApiError, missing
from ..core.validation import api_error
from ..wire.chat import CreateCompletion
from ..wire.codec import convert
from .chat import Chats
from .chat_in import ChatRequest, read_chat
from .ids import new_id

Json = dict[str, Any]

_SAME: Final = (
    "model",
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "stop",
    "seed",
    "logit_bias",
    "user",
)
_REASONS: Final = frozenset({"stop", "length", "content_filter"})


@dataclass(frozen=True, slots=True)
class LegacyRequest:
    """A request for completions: of each prompt, a chat."""

    asked: CreateCompletion
    prompts: Sequence[str]
    chats: Sequence[ChatRequest]


def read_legacy(body: Mapping[str, Any]) -> LegacyRequest:
    """The request in a body. Raises `ApiError`."""
    try:
        asked = convert(body, CreateCompletion)
    except msgspec.ValidationError as exc:
        raise api_error(exc) from None
    for name, most in (("n", asked.n), ("best_of", asked.best_of)):
        if most is not None and most > 1:
            message = f"Unsupported value: '{name}' is {most}; this server makes one choice of each prompt."
            raise ApiError(message, code="unsupported_value", param=name)
    if asked.suffix:
        raise ApiError(
            "Unsupported parameter: 'suffix'. Models that chat cannot be asked to fill a gap.",
            code="unsupported_parameter",
            param="suffix",
        )
    prompts = _prompts(asked.prompt)
    fields = {name: value for name in _SAME if (value := body.get(name)) is not None}
    if asked.max_tokens:
        fields["max_tokens"] = asked.max_tokens
    if asked.logprobs is not None:
        fields |= {"logprobs": True, "top_logprobs": asked.logprobs}
    if asked.stream:
        fields["stream"] = True
        if asked.stream_options is not None and asked.stream_options.include_usage:
            fields["stream_options"] = {"include_usage": True}
    chats = [read_chat({**fields, "messages": [{"role": "user", "content": prompt}]}) for prompt in prompts]
    return LegacyRequest(asked, prompts, chats)


@dataclass(frozen=True, slots=True)
class LegacyCompletions:
    """Answers one prompt after the other."""

    chats: Chats

    async def whole(self, owner: str, request: LegacyRequest) -> Json:
        """The completions. Raises `ApiError`."""
        choices, used = [], []
        for index, chat in enumerate(request.chats):
            found = await self.chats.whole(owner, chat)
            choices.append(_choice(request, index, found["choices"][0] if found["choices"] else {}))
            used.append(found.get("usage") or {})
        return {**_head(request), "choices": choices, "usage": _together(used)}

    async def stream(self, owner: str, request: LegacyRequest) -> AsyncGenerator[Json, None]:
        """The chunks. Raises `ApiError`, also in the middle."""
        head = _head(request)
        used: list[Mapping[str, Any]] = []
        for index, chat in enumerate(request.chats):
            if request.asked.echo:
                yield {**head, "choices": [_said(index, request.prompts[index])]}
            async with aclosing(self.chats.stream(owner, chat)) as chunks:
                async for chunk in chunks:
                    said = [_piece(index, choice) for choice in chunk["choices"]]
                    if any(one["text"] or one["finish_reason"] for one in said):
                        yield {**head, "choices": said}
                    elif chunk.get("usage") and not said:
                        used.append(chunk["usage"])
        if used:
            yield {**head, "choices": [], "usage": _together(used)}


def _prompts(prompt: str | Sequence[Any] | None) -> list[str]:
    match prompt:
        case None:
            raise missing("prompt")
        case str():
            return [prompt]
        case _ if all(isinstance(one, str) for one in prompt):
            return list(prompt)
        case _:
            raise ApiError(
                "Invalid type for 'prompt': expected a string or an array of strings. Arrays of tokens cannot be read "
                "here, as only the model knows their texts.",
                code="invalid_type",
                param="prompt",
            )


def _head(request: LegacyRequest) -> Json:
    return {
        "id": new_id("cmpl"),
        "object": "text_completion",
        "created": int(time.time()),
        "model": request.asked.model,
    }


def _together(used: Sequence[Mapping[str, Any]]) -> Json:
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    return {name: sum(one.get(name) or 0 for one in used) for name in names}


def _choice(request: LegacyRequest, index: int, choice: Mapping[str, Any]) -> Json:
    text = (choice.get("message") or {}).get("content")
    before = request.prompts[index] if request.asked.echo else ""
    said = _said(index, before + (text if isinstance(text, str) else ""), choice.get("logprobs"), len(before))
    return {**said, "finish_reason": _reason(choice.get("finish_reason") or "stop")}


def _piece(index: int, choice: Mapping[str, Any]) -> Json:
    text = (choice.get("delta") or {}).get("content")
    said = _said(index, text if isinstance(text, str) else "", choice.get("logprobs"))
    reason = choice.get("finish_reason")
    return {**said, "finish_reason": _reason(reason) if reason else None}


def _said(index: int, text: str, logprobs: Any = None, start: int = 0) -> Json:
    return {"index": index, "text": text, "logprobs": _logprobs(logprobs, start), "finish_reason": None}


def _reason(reason: Any) -> str:
    return reason if reason in _REASONS else "stop"


def _logprobs(logprobs: Any, start: int) -> Json | None:
    """Log probabilities in the columns of old; texts are counted in characters from `start`."""
    tokens = [one for one in (logprobs or {}).get("content") or () if isinstance(one, dict)]
    if not tokens:
        return None
    texts = [str(one.get("token") or "") for one in tokens]
    offsets = [start]
    for text in texts[:-1]:
        offsets.append(offsets[-1] + len(text))
    return {
        "tokens": texts,
        "token_logprobs": [one.get("logprob") for one in tokens],
        "top_logprobs": [
            {str(top.get("token") or ""): top.get("logprob") for top in one.get("top_logprobs") or ()} for one in tokens
        ],
        "text_offset": offsets,
    }
