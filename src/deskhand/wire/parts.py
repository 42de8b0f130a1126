"""Content parts and annotations: what messages and tool outputs are made of (API reference, "Content parts")."""

from typing import Any

from msgspec import UNSET, Struct, UnsetType


class _Part(Struct, frozen=True, kw_only=True, tag_field="type"):
    pass


class InputText(_Part, frozen=True, kw_only=True, tag="input_text"):
    """Text given to the model."""

    text: str
    prompt_cache_breakpoint: Any = UNSET


class InputImage(_Part, frozen=True, kw_only=True, tag="input_image"):
    """An image given to the model: a URL, a data URL, or a file id."""

    image_url: str | None = None
    file_id: str | None = None
    detail: str = "auto"
    prompt_cache_breakpoint: Any = UNSET


class InputFile(_Part, frozen=True, kw_only=True, tag="input_file"):
    """A file given to the model: a file id, a data URL, or a URL."""

    file_id: str | UnsetType = UNSET
    file_data: str | UnsetType = UNSET
    file_url: str | UnsetType = UNSET
    filename: str | UnsetType = UNSET
    detail: str | UnsetType = UNSET
    prompt_cache_breakpoint: Any = UNSET


class InputAudio(_Part, frozen=True, kw_only=True, tag="input_audio"):
    """Audio given to the model; passed to upstreams that take it."""

    input_audio: dict[str, Any]


class OutputText(_Part, frozen=True, kw_only=True, tag="output_text"):
    """Text the model wrote. `annotations` and `logprobs` are always on the wire (recorded)."""

    text: str
    annotations: tuple[dict[str, Any], ...] = ()
    logprobs: tuple[dict[str, Any], ...] = ()


class Refusal(_Part, frozen=True, kw_only=True, tag="refusal"):
    """The model declined."""

    refusal: str


class PlainText(_Part, frozen=True, kw_only=True, tag="text"):
    """Text without a side, as some clients replay it."""

    text: str


class SummaryText(_Part, frozen=True, kw_only=True, tag="summary_text"):
    """A piece of a reasoning summary."""

    text: str


class ReasoningText(_Part, frozen=True, kw_only=True, tag="reasoning_text"):
    """A piece of raw reasoning."""

    text: str


Part = InputText | InputImage | InputFile | InputAudio | OutputText | Refusal | PlainText | SummaryText | ReasoningText


def text_of(parts: tuple[Part, ...]) -> str:
    """The readable text of `parts`, joined."""
    return "".join(_text(part) for part in parts)


def _text(part: Part) -> str:
    match part:
        case InputText(text=text) | OutputText(text=text) | PlainText(text=text):
            return text
        case SummaryText(text=text) | ReasoningText(text=text):
            return text
        case Refusal(refusal=refusal):
            return refusal
        case InputImage() | InputFile() | InputAudio():
            return ""
