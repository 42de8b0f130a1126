"""The body of `POST /v1/responses` (API reference, "POST /responses request"): names, types and bounds.

Nulls are accepted everywhere, as clients send them. A field that is not listed here is refused by name; those under
"accepted and ignored" are what real clients send beyond the reference.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from .response import ConversationRef

MAX_INPUT_CHARACTERS = 10_485_760

Include = Literal[
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
]


class StreamOptions(Struct, frozen=True, kw_only=True):
    """How a stream is sent."""

    include_obfuscation: bool | None = None


class TextFormat(Struct, frozen=True, kw_only=True):
    """The form the final text must have."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")] | None = None
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class TextOptions(Struct, frozen=True, kw_only=True):
    """Form and length of the final text."""

    format: TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ReasoningOptions(Struct, frozen=True, kw_only=True):
    """How much the model should think, and what of it is shown."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    context: Literal["auto", "current_turn", "all_turns"] | None = None
    mode: str | None = None


class PromptCacheOptions(Struct, frozen=True, kw_only=True):
    """How the prompt is cached. Echoed; caching is the upstream's affair."""

    mode: Literal["implicit", "explicit"] | None = None
    ttl: Literal["30m", "12h"] | None = None
    prewarm: bool | None = None
    comparison_response_id: str | None = None


class ImageOptions(Struct, frozen=True, kw_only=True):
    """Whether images may be compressed. Echoed; this server never compresses them."""

    context_compression: Literal["auto", "enabled", "disabled"] | None = None


class ContextManagement(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to do about a long context: compact it, from so many tokens on. Without a number, when it is too long."""

    type: Literal["compaction"]
    compact_threshold: Annotated[int, Meta(ge=1000)] | None = None


class CreateResponse(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request for a response. `input` and `tools` are checked item by item afterwards."""

    model: str | None = None
    input: Annotated[str, Meta(max_length=MAX_INPUT_CHARACTERS)] | list[dict[str, Any]] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: str | ConversationRef | None = None
    store: bool | None = None
    background: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    include: list[Include] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: Annotated[int, Meta(ge=1)] | None = None
    max_output_tokens: Annotated[int, Meta(ge=16)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    metadata: (
        Annotated[dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)]
        | None
    ) = None
    context_management: Annotated[list[ContextManagement], Meta(min_length=1)] | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast", "ultrafast"] | None = None
    prompt: dict[str, Any] | None = None
    prompt_cache_key: Annotated[str, Meta(max_length=64)] | None = None
    prompt_cache_options: PromptCacheOptions | None = None
    prompt_cache_retention: Literal["in_memory", "in-memory", "24h"] | None = None
    moderation: dict[str, Any] | None = None
    safety_identifier: Annotated[str, Meta(max_length=128)] | None = None
    image: ImageOptions | None = None
    access_programs: dict[str, Any] | None = None
    user: str | None = None

    generate: bool | None = None
    """Whether to generate output (of the WebSocket mode; honoured everywhere)."""

    # Accepted and ignored: sent by Codex, chat-minded clients and the SDK's WebSocket sessions.
    client_metadata: Any = None
    internal_chat_message_metadata_passthrough: Any = None
    frequency_penalty: Any = None
    presence_penalty: Any = None
    extra_headers: Any = None
    multi_agent: Any = None
    stream_id: Any = None

    @property
    def conversation_ref(self) -> ConversationRef | None:
        """The conversation that the response belongs to, however the request names it."""
        return ConversationRef(self.conversation) if isinstance(self.conversation, str) else self.conversation
