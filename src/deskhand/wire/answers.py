"""Types of answers that are made as plain JSON. The OpenAPI document is made of them, and nothing else is."""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType


class ErrorFields(Struct, frozen=True, kw_only=True):
    """What went wrong. `code` is stable, `message` is for people, `param` is the parameter that is to blame."""

    message: str
    type: str
    param: str | None
    code: str | None


class Error(Struct, frozen=True, kw_only=True):
    """Any answer that is not a success."""

    error: ErrorFields


class Deleted(Struct, frozen=True, kw_only=True):
    """Something is gone. `object` says what it was."""

    id: str
    object: str
    deleted: Literal[True]


class DeletedSkillVersion(Deleted, frozen=True, kw_only=True):
    """A version of a skill is gone."""

    version: str


class Model(Struct, frozen=True, kw_only=True):
    """A name that requests may use."""

    id: str
    created: int
    owned_by: str
    object: Literal["model"]


class ModelList(Struct, frozen=True, kw_only=True):
    """Every name that is served."""

    data: list[Model]
    object: Literal["list"]


class CodexCatalogue(Struct, frozen=True, kw_only=True):
    """The same as Codex reads it, for who names a `client_version`."""

    models: list[dict[str, Any]]


class WebhookEventTypes(Struct, frozen=True, kw_only=True):
    """What an endpoint may be told of."""

    data: list[str]
    object: Literal["list"]


class ChatUsage(Struct, frozen=True, kw_only=True):
    """Tokens of a chat completion."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatCompletion(Struct, frozen=True, kw_only=True):
    """What a model answered. A kept one has `metadata`, and what was asked for."""

    id: str
    created: int
    model: str
    choices: list[dict[str, Any]]
    object: Literal["chat.completion"]
    usage: ChatUsage | None | UnsetType = UNSET
    metadata: dict[str, str] | None | UnsetType = UNSET


class ChatCompletionMessage(Struct, frozen=True, kw_only=True):
    """A message that a kept completion answered."""

    id: str
    role: str
    content: str | None | UnsetType = UNSET


class Completion(Struct, frozen=True, kw_only=True):
    """What a model answered to prompts."""

    id: str
    created: int
    model: str
    choices: list[dict[str, Any]]
    object: Literal["text_completion"]


class Embedding(Struct, frozen=True, kw_only=True):
    """The vector of one text: numbers, or base64 of single precision."""

    index: int
    embedding: list[float] | str
    object: Literal["embedding"]


class EmbeddingUsage(Struct, frozen=True, kw_only=True):
    """Tokens of the texts."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(Struct, frozen=True, kw_only=True):
    """The vectors of the texts of a request, in their order."""

    data: list[Embedding]
    model: str
    usage: EmbeddingUsage
    object: Literal["list"]


class Health(Struct, frozen=True, kw_only=True):
    """Whether the server is up, and what it enforces."""

    status: Literal["ok", "degraded"]
    version: str
    isolation: dict[str, Any]
    storage: dict[str, Any]
    runs: int


class StreamEvent(Struct, frozen=True, kw_only=True):
    """An event of a response. Beside its type and number it has the fields of its type (API reference)."""

    type: str
    sequence_number: int
