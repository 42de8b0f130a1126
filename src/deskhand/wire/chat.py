"""The bodies of chat completions, legacy completions and embeddings (API reference, "Chat completions").

Only what this server must understand is typed. What else clients send is kept beside it and passed on to upstreams that
speak chat completions, which know best what of it they take.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)
]
Stop = str | Annotated[list[str], Meta(max_length=4)] | None
Json = dict[str, Any]
MAX_MESSAGES = 2**16
MAX_TOOLS = 1024
MAX_CHOICES = 128
MAX_PROMPTS = 128
MAX_EMBEDDED = 2048
"""Inputs of one request for embeddings (API reference, "Embeddings")."""


class ChatStreamOptions(Struct, frozen=True, kw_only=True):
    """What a stream says beside the answer."""

    include_usage: bool | None = None


class NamedFunction(Struct, frozen=True, kw_only=True):
    """A function, or a tool of free text, in a tool, a choice or a call. `arguments` and `input` are a call's."""

    name: Annotated[str, Meta(min_length=1, max_length=128)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    format: dict[str, Any] | None = None


class ChatTool(Struct, frozen=True, kw_only=True):
    """A tool that the client runs."""

    type: Literal["function", "custom"] = "function"
    function: NamedFunction | None = None
    custom: NamedFunction | None = None

    @property
    def named(self) -> NamedFunction | None:
        """What the tool is, by its type."""
        return self.function if self.type == "function" else self.custom


class CalledFunction(Struct, frozen=True, kw_only=True):
    """A function that the model called."""

    name: str
    arguments: str | None = None


class CalledCustom(Struct, frozen=True, kw_only=True):
    """A tool of free text that the model called."""

    name: str
    input: str | None = None


class ChatCall(Struct, frozen=True, kw_only=True):
    """A call in the history."""

    id: str
    type: Literal["function", "custom"] | None = "function"
    function: CalledFunction | None = None
    custom: CalledCustom | None = None


class ChatMessage(Struct, frozen=True, kw_only=True):
    """One message of the history. The parts of its content are checked one by one."""

    role: Literal["developer", "system", "user", "assistant", "tool", "function"]
    content: str | list[Json] | None = None
    refusal: str | None = None
    tool_calls: list[ChatCall] | None = None
    tool_call_id: str | None = None
    function_call: CalledFunction | None = None
    name: str | None = None
    reasoning_content: Any = None
    reasoning: Any = None


class ImageUrl(Struct, frozen=True, kw_only=True):
    """An image, by URL or as a data URL."""

    url: str
    detail: str | None = None


class ChatFile(Struct, frozen=True, kw_only=True):
    """A file: uploaded before, or in the message."""

    file_id: str | None = None
    file_data: str | None = None
    filename: str | None = None


class ChatPart(Struct, frozen=True, kw_only=True):
    """A part of a message's content, of any type."""

    type: Literal["text", "image_url", "input_audio", "file", "refusal"]
    text: str | None = None
    image_url: ImageUrl | None = None
    input_audio: Json | None = None
    file: ChatFile | None = None
    refusal: str | None = None


class JsonSchema(Struct, frozen=True, kw_only=True):
    """The schema of a structured output."""

    name: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    schema: Json | None = None
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(Struct, frozen=True, kw_only=True):
    """The form that the answer must have."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class CreateChatCompletion(Struct, frozen=True, kw_only=True):
    """The body of `POST /v1/chat/completions`."""

    model: Annotated[str, Meta(min_length=1)]
    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=MAX_MESSAGES)]
    stream: bool | None = None
    stream_options: ChatStreamOptions | None = None
    store: bool | None = None
    metadata: Metadata | None = None
    n: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] | None = None
    tools: Annotated[list[ChatTool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: str | Json | None = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[NamedFunction], Meta(max_length=MAX_TOOLS)] | None = None
    function_call: str | Json | None = None
    response_format: ResponseFormat | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    stop: Stop = None
    seed: int | None = None
    logit_bias: dict[str, float] | None = None
    reasoning_effort: str | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    modalities: list[str] | None = None
    prompt_cache_key: str | None = None
    web_search_options: Json | None = None
    user: str | None = None


class UpdateChatCompletion(Struct, frozen=True, kw_only=True):
    """The body of `POST /v1/chat/completions/{id}`."""

    metadata: Metadata | None


class CreateCompletion(Struct, frozen=True, kw_only=True):
    """The body of `POST /v1/completions`."""

    model: Annotated[str, Meta(min_length=1)]
    prompt: str | Annotated[list[Any], Meta(min_length=1, max_length=MAX_PROMPTS)] | None = None
    stream: bool | None = None
    stream_options: ChatStreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] | None = None
    best_of: Annotated[int, Meta(ge=1, le=20)] | None = None
    echo: bool | None = None
    suffix: str | None = None
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = 16
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    stop: Stop = None
    seed: int | None = None
    logit_bias: dict[str, float] | None = None
    user: str | None = None


class CreateEmbeddings(Struct, frozen=True, kw_only=True):
    """The body of `POST /v1/embeddings`. What `input` may be is told apart afterwards."""

    model: Annotated[str, Meta(min_length=1)]
    input: str | Annotated[list[Any], Meta(min_length=1)]
    dimensions: Annotated[int, Meta(ge=1, le=16_384)] | None = None
    encoding_format: Literal["float", "base64"] | None = None
    user: str | None = None
