"""The Response object (API reference, "The Response object"): every field is on the wire, null where unset."""

from typing import Any, Literal

from msgspec import Struct, field

from .items import Item
from .tools import Tool

ResponseStatus = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]


class InputTokensDetails(Struct, frozen=True):
    """Where the input tokens came from. `cache_write_tokens` is required by the SDK's type."""

    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputTokensDetails(Struct, frozen=True):
    """What the output tokens were spent on."""

    reasoning_tokens: int = 0


class Usage(Struct, frozen=True):
    """Tokens of all model calls of a response, added up."""

    input_tokens: int = 0
    input_tokens_details: InputTokensDetails = InputTokensDetails()
    output_tokens: int = 0
    output_tokens_details: OutputTokensDetails = OutputTokensDetails()
    total_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            input_tokens_details=InputTokensDetails(
                self.input_tokens_details.cached_tokens + other.input_tokens_details.cached_tokens,
                self.input_tokens_details.cache_write_tokens + other.input_tokens_details.cache_write_tokens,
            ),
            output_tokens=self.output_tokens + other.output_tokens,
            output_tokens_details=OutputTokensDetails(
                self.output_tokens_details.reasoning_tokens + other.output_tokens_details.reasoning_tokens
            ),
            total_tokens=self.total_tokens + other.total_tokens,
        )


class ResponseError(Struct, frozen=True):
    """Why a response failed."""

    code: str
    message: str


class IncompleteDetails(Struct, frozen=True):
    """Why a response is incomplete."""

    reason: Literal["max_output_tokens", "max_messages", "content_filter", "steered"]


class Billing(Struct, frozen=True):
    """Who pays; the API always says the developer."""

    payer: str = "developer"


class ToolUsage(Struct, frozen=True):
    """Counters of tools that OpenAI bills apart; zero here (recorded shape)."""

    image_gen: dict[str, Any] = field(
        default_factory=lambda: {
            "input_tokens": 0,
            "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
            "output_tokens": 0,
            "output_tokens_details": {"image_tokens": 0, "text_tokens": 0},
            "total_tokens": 0,
        }
    )
    web_search: dict[str, int] = field(default_factory=lambda: {"num_requests": 0})


class ConversationRef(Struct, frozen=True):
    """The conversation a response belongs to."""

    id: str


class Response(Struct, frozen=True, kw_only=True):
    """One response. `output` is in `output_index` order."""

    id: str
    created_at: int
    model: str
    object: Literal["response"] = "response"
    status: ResponseStatus = "in_progress"
    access_programs: Any = None
    background: bool = False
    billing: Billing = Billing()
    completed_at: int | None = None
    conversation: ConversationRef | None = None
    error: ResponseError | None = None
    frequency_penalty: float = 0
    image: dict[str, Any] = field(default_factory=lambda: {"context_compression": "disabled"})
    incomplete_details: IncompleteDetails | None = None
    input_transformations: list[Any] = []
    instructions: str | list[Any] | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    metadata: dict[str, str] = {}
    moderation: Any = None
    output: list[Item] = []
    parallel_tool_calls: bool = True
    presence_penalty: float = 0
    previous_response_id: str | None = None
    prompt: Any = None
    prompt_cache_diagnostics: Any = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] = field(default_factory=lambda: {"mode": "implicit", "ttl": "30m"})
    prompt_cache_retention: str | None = None
    reasoning: dict[str, Any] = field(default_factory=lambda: {"effort": None, "summary": None})
    safety_identifier: str | None = None
    service_tier: str = "auto"
    store: bool = True
    temperature: float = 1.0
    text: dict[str, Any] = field(default_factory=lambda: {"format": {"type": "text"}, "verbosity": "medium"})
    tool_choice: Any = "auto"
    tool_usage: ToolUsage = ToolUsage()
    tools: list[Tool] = []
    top_logprobs: int = 0
    top_p: float = 1.0
    truncation: Literal["auto", "disabled"] = "disabled"
    usage: Usage | None = None
    user: str | None = None
