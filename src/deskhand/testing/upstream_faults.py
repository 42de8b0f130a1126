"""What a scripted upstream can be told to get wrong, and how it spells what servers spell differently."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

CallStyle = Literal["openai", "whole", "id_each_time", "no_index", "same_index", "no_id", "split_name", "object"]
ReasoningStyle = Literal["reasoning_content", "reasoning", "reasoning_details", "thinking", "parts"]


@dataclass(frozen=True, slots=True)
class Status:
    """An HTTP error answer. `body` is the text to send; None for an OpenAI error object."""

    code: int
    retry_after: str | None = None
    body: str | None = None
    message: str = "scripted failure"
    error_code: str | None = None
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Faults:
    """How the upstream behaves. Counts are of events, the role-only first chunk of a chat stream included."""

    statuses: Sequence[Status] = ()
    """Answers to the first requests, one each; after them it works."""
    window: int | None = None
    """Refuse prompts of more tokens, as a model's window does."""
    delay_s: float = 0.0
    """Pause before every event."""
    die_after: int | None = None
    """Cut the connection after so many events."""
    die_times: int = 1_000_000
    """How many answers die; the ones after that are whole."""
    silent_after: int | None = None
    """Say nothing more after so many events, with the connection open."""
    raw: bytes | None = None
    """This body instead of an answer."""
    raw_type: str = "text/event-stream"
    cuts: Sequence[int] = ()
    """Where the bytes of the body are cut into writes."""
    rejects: Sequence[str] = ()
    """Parameters that are refused with a 400 that names them."""
    malformed_arguments: bool = False
    argument_size: int = 16
    """Characters of arguments in one delta."""
    calls: CallStyle = "openai"
    reasoning: ReasoningStyle = "reasoning_content"
    usage: Mapping[str, Any] | None = None
    usage_on: Literal["end", "every", "never"] = "end"
    done: bool = True
    """Send `data: [DONE]`."""
    whole: bool = False
    """Answer with one JSON body though a stream was asked."""
    line_end: Literal["\n", "\r\n"] = "\n"
