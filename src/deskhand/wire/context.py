"""Bodies about a context rather than a response: compaction by itself, and counting tokens (API reference, "Other
operations")."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from .items import Item
from .request import MAX_INPUT_CHARACTERS, ImageOptions, PromptCacheOptions, ReasoningOptions, TextOptions
from .response import ConversationRef, Usage

Input = Annotated[str, Meta(max_length=MAX_INPUT_CHARACTERS)] | list[dict[str, Any]] | None


class CompactContext(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/responses/compact`. Settings of caches, tiers and images change nothing."""

    model: str | None = None
    input: Input = None
    instructions: str | None = None
    previous_response_id: str | None = None
    prompt_cache_key: Annotated[str, Meta(max_length=64)] | None = None
    prompt_cache_options: PromptCacheOptions | None = None
    prompt_cache_retention: Literal["in_memory", "in-memory", "24h"] | None = None
    service_tier: Literal["auto", "default", "fast", "flex", "priority"] | None = None
    image: ImageOptions | None = None


class CompactedContext(Struct, frozen=True, kw_only=True):
    """A compacted context: every message of the user, and the item that stands for the whole."""

    id: str
    created_at: int
    output: list[Item]
    usage: Usage
    object: Literal["response.compaction"] = "response.compaction"


class CountTokens(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/responses/input_tokens`."""

    model: str | None = None
    input: Input = None
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: str | ConversationRef | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    truncation: Literal["auto", "disabled"] | None = None
    parallel_tool_calls: bool | None = None
    personality: str | None = None


class InputTokens(Struct, frozen=True, kw_only=True):
    """How many tokens a request would have."""

    input_tokens: int
    object: Literal["response.input_tokens"] = "response.input_tokens"
