"""Chat completions passed on to an upstream that speaks them: the client's own words there, the upstream's own back."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final

import msgspec

from ..core.chat_fold import is_whole
from ..core.errors import UpstreamError
from ..ports.chat import Document
from ..wire.codec import encode
from . import failures
from .adapting import Adaptation
from .chat import OPTIONAL
from .chat_tools import FreeTextCalls, lowered
from .http import Endpoint, Exchange, speak

_EXTRAS: Final = (
    "metadata",
    "moderation",
    "prediction",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "web_search_options",
)
_OPTIONAL: Final = {
    **{name: how for name, how in OPTIONAL.items() if name != "reasoning_field"},
    **{name: rf"\b{name}\b" for name in _EXTRAS},
}
_RENAMED: Final = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}


class ChatRelay:
    """A `Chat` behind chat completions. `endpoint` is the caller's to close.

    Only OpenAI's own servers know tools of free text and sets of allowed tools; the others get functions instead.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._adaptation = Adaptation(_OPTIONAL)

    def complete(self, body: Mapping[str, Any]) -> AsyncGenerator[Document, None]:
        """What the upstream answers; see `Chat.complete`."""
        plain, free_text = (body, frozenset[str]()) if self._endpoint.openais_own else lowered(body)
        return speak(self._endpoint, lambda: self._begin(plain, free_text))

    async def _begin(self, body: Mapping[str, Any], free_text: frozenset[str]) -> tuple[Exchange, "RelayReader"]:
        def attempt(refused: frozenset[str]) -> Any:
            sent = _accepted(body, refused)
            return frozenset(_OPTIONAL.keys() & sent.keys()), self._endpoint.open("/chat/completions", encode(sent))

        exchange: Exchange = await self._adaptation.send(str(body["model"]), attempt)
        return exchange, RelayReader(self._endpoint.name, self._endpoint.key, FreeTextCalls(free_text))


class RelayReader:
    """Reads one chat completion, streamed or whole, and changes nothing in it but calls of tools of free text."""

    def __init__(self, name: str, key: str | None, calls: FreeTextCalls) -> None:
        self.ended = False
        self._name = name
        self._key = key
        self._calls = calls
        self._finished = False

    def feed(self, payload: bytes) -> list[Document]:
        """The document in a payload. Raises `UpstreamError`."""
        if payload == b"[DONE]":
            self.ended = True
            return []
        try:
            document = msgspec.json.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise failures.garbage(self._name, payload, self._key) from None
        if not isinstance(document, dict):
            raise failures.garbage(self._name, payload, self._key)
        if document.get("error") or document.get("object") == "error":
            raise failures.from_object(self._name, document.get("error") or document, self._key)
        choices = [choice for choice in _list(document.get("choices")) if isinstance(choice, dict)]
        self._finished = self._finished or any(choice.get("finish_reason") for choice in choices)
        document["choices"] = choices
        self.ended = self.ended or is_whole(document)
        return [self._calls.raised(document)]

    def finish(self) -> list[Document]:
        """Nothing more. Raises `UpstreamError` if the answer was cut off."""
        if not self.ended and not self._finished:
            said = f"The model server {self._name!r} broke off in the middle of its answer."
            raise UpstreamError(said, retryable=True)
        return []


def _accepted(body: Mapping[str, Any], refused: frozenset[str]) -> dict[str, Any]:
    """`body` without what the upstream refused before; the limit of tokens gets its other name instead."""
    renamed = {_RENAMED[name] if name in _RENAMED and name in refused else name: body[name] for name in body}
    return {name: value for name, value in renamed.items() if name not in refused}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
