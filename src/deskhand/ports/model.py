"""What the engine needs from a model: a prompt in, what the model says out, in one vocabulary for every dialect."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from ..core.drafts import Draft
from ..wire.items import OpaqueItem
from ..wire.parts import Part
from ..wire.response import Usage


@dataclass(frozen=True, slots=True)
class PromptMessage:
    """Something said. Files have been resolved: images are URLs or data URLs, files are data URLs.

    `standing` is what this server says in the user's place; it stays when older parts of a prompt are left out.
    `native` is the same for OpenAI's own API, which may have sealed it and can open it.
    """

    role: Literal["system", "developer", "user", "assistant"]
    parts: Sequence[Part]
    phase: str | None = None
    standing: bool = False
    native: OpaqueItem | None = None


@dataclass(frozen=True, slots=True)
class PromptReasoning:
    """What the model thought earlier. `encrypted_content` is the upstream's own blob, if it sent one."""

    id: str
    text: str
    summary: Sequence[str] = ()
    encrypted_content: str | None = None


@dataclass(frozen=True, slots=True)
class PromptCall:
    """A call the model made earlier, as a function call (`free_text`: as a custom tool call).

    `native` is the same for upstreams that speak the Responses API and have a tool of its kind themselves.
    """

    call_id: str
    name: str
    arguments: str
    free_text: bool = False
    namespace: str | None = None
    native: OpaqueItem | None = None


@dataclass(frozen=True, slots=True)
class PromptOutput:
    """The answer to a `PromptCall`, with the same `native` form."""

    call_id: str
    output: str | Sequence[Part]
    free_text: bool = False
    native: OpaqueItem | None = None


@dataclass(frozen=True, slots=True)
class PromptOpaque:
    """An item that only an upstream which speaks the Responses API can understand; other dialects leave it out."""

    item: OpaqueItem


PromptEntry = PromptMessage | PromptReasoning | PromptCall | PromptOutput | PromptOpaque


@dataclass(frozen=True, slots=True)
class FunctionDeclaration:
    """A function the model may call. `parameters` is a JSON schema.

    The upstream is asked to keep to it if it is `strict`; `checked`, the client relies on it.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    strict: bool = False
    checked: bool = False


@dataclass(frozen=True, slots=True)
class FreeTextDeclaration:
    """A tool that takes free text. `format` is the custom tool's own (text, or a lark or regex grammar)."""

    name: str
    description: str
    format: Mapping[str, Any] | None = None


Declaration = FunctionDeclaration | FreeTextDeclaration


@dataclass(frozen=True, slots=True)
class NamedTool:
    """The model must call this tool."""

    name: str


@dataclass(frozen=True, slots=True)
class ForeignChoice:
    """The model must use a tool among `foreign_tools`; `fields` is the wire's own `tool_choice`."""

    fields: Mapping[str, Any]


ToolChoice = Literal["auto", "none", "required"] | NamedTool | ForeignChoice


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One model call. `model` is the upstream's own name; None means "leave it to the upstream"."""

    model: str
    prompt: Sequence[PromptEntry]
    instructions: str | None = None
    tools: Sequence[Declaration] = ()
    foreign_tools: Sequence[Mapping[str, Any]] = ()
    """Wire tools that Deskhand does not run: for upstreams that speak the Responses API and may know them."""
    tool_choice: ToolChoice = "auto"
    parallel_tool_calls: bool = True
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    logprobs: bool = False
    text_format: Mapping[str, Any] = field(default_factory=lambda: {"type": "text"})
    verbosity: str | None = None
    reasoning: Mapping[str, Any] = field(default_factory=dict)
    """`effort` and `summary` as the client set them; empty if it did not."""
    seal_reasoning: bool = False
    """The client keeps the conversation itself and wants reasoning in a form that it can send back."""
    truncation: Literal["auto", "disabled"] = "disabled"
    prompt_cache_key: str | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More of the answer."""

    text: str
    logprobs: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class MessagePhase:
    """The upstream labels the message that follows (`commentary` or `final_answer`)."""

    phase: str


@dataclass(frozen=True, slots=True)
class TextAnnotation:
    """A citation on the current text."""

    annotation: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RefusalDelta:
    """More of a refusal."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More of what the model thinks: raw text (`content`) or a summary of it (`summary`, part `index`)."""

    text: str
    channel: Literal["content", "summary"] = "content"
    index: int = 0


@dataclass(frozen=True, slots=True)
class ReasoningSealed:
    """The upstream's opaque blob for the reasoning just said."""

    encrypted_content: str


@dataclass(frozen=True, slots=True)
class CallDelta:
    """A piece of a call. `key` tells parallel calls of a turn apart; the first piece carries `call_id` and `name`.

    `arguments` is the next piece of the JSON arguments, or of the free text of a custom tool.
    """

    key: str
    arguments: str = ""
    call_id: str = ""
    name: str = ""
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class CallEnd:
    """The call's arguments are complete. Dialects that cannot tell leave it out: the end of the turn ends all calls."""

    key: str


@dataclass(frozen=True, slots=True)
class Foreign:
    """An event of an item that the upstream made and ran by itself (its own web search, say)."""

    draft: Draft


@dataclass(frozen=True, slots=True)
class ModelEnd:
    """The model has said all it has to say this turn. Exactly one, last.

    `wrong` is why the turn cannot stand: it does not have the form that was asked for, also when it was asked again.
    """

    reason: Literal["stop", "length", "content_filter"]
    usage: Usage | None = None
    wrong: str = ""


ModelChunk = (
    TextDelta
    | MessagePhase
    | TextAnnotation
    | RefusalDelta
    | ReasoningDelta
    | ReasoningSealed
    | CallDelta
    | CallEnd
    | Foreign
    | ModelEnd
)


class Model(Protocol):
    """One upstream. Every implementation passes `deskhand.testing.conformance_model`."""

    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        """What the model says. Retries by itself while nothing has been said.

        Raises `UpstreamError`, also in the middle. Closing the iterator closes the connection.
        """
        ...
