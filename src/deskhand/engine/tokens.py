"""How many tokens a prompt has: estimated from its bytes, by what upstreams have reported for the prompts before it.

Vocabularies are a model's own, most are not public, and none may be downloaded while serving; what an upstream reports
as usage is the truth, and it comes with every answer. Bytes count rather than characters because most tokenizers work
on bytes: text in a script that takes three of them for a character also takes more tokens.
"""

import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, assert_never

from ..ports.model import (
    Declaration,
    FunctionDeclaration,
    Model,
    ModelChunk,
    ModelEnd,
    ModelRequest,
    PromptCall,
    PromptEntry,
    PromptMessage,
    PromptOpaque,
    PromptOutput,
    PromptReasoning,
)
from ..wire.codec import encode
from ..wire.parts import InputAudio, InputFile, InputImage, Part, text_of

BYTES_PER_TOKEN: Final = 4.0
"""For a model that has reported nothing yet (English text; OpenAI's own truncators count so)."""

LEAST_RATIO: Final = 1.0
MOST_RATIO: Final = 10.0
"""Bounds of what is learnt: an upstream that counts oddly must not make windows useless."""

WEIGHT_OF_NEWEST: Final = 0.3
"""What the newest report counts for, against all earlier ones."""

LEAST_BYTES: Final = 200
"""Smaller prompts teach nothing: most of their tokens are the upstream's own frame."""

MOST_MODELS: Final = 1000

IMAGE_TOKENS: Final = 765
LOW_DETAIL_TOKENS: Final = 85
"""An image, whatever its size: what OpenAI counts for one of 1024 x 1024, and for any at low detail."""

FILE_TOKENS: Final = 2000
"""A file that is not text (a PDF, audio), whatever its size."""

_ENTRY_BYTES: Final = 16
"""The role and the separators of an entry: about four tokens."""


@dataclass(frozen=True, slots=True)
class Weight:
    """What a prompt holds: bytes of text, and tokens that do not depend on text."""

    bytes: int = 0
    tokens: int = 0

    def __add__(self, other: "Weight") -> "Weight":
        return Weight(self.bytes + other.bytes, self.tokens + other.tokens)

    def __sub__(self, other: "Weight") -> "Weight":
        return Weight(self.bytes - other.bytes, self.tokens - other.tokens)


class TokenScale:
    """Bytes per token, by the upstream's name of a model. In memory: it is learnt again after a restart."""

    def __init__(self) -> None:
        self._ratios: dict[str, float] = {}

    def tokens(self, model: str, weight: Weight) -> int:
        """The tokens of `weight`, estimated; negative for a negative weight."""
        return math.ceil(weight.bytes / self._ratios.get(model, BYTES_PER_TOKEN)) + weight.tokens

    def learn(self, model: str, weight: Weight, input_tokens: int) -> None:
        """An upstream has counted `input_tokens` in a prompt of that weight."""
        of_text = input_tokens - weight.tokens
        if weight.bytes < LEAST_BYTES or of_text <= 0:
            return
        found = min(MOST_RATIO, max(LEAST_RATIO, weight.bytes / of_text))
        known = self._ratios.pop(model, None)
        self._ratios[model] = found if known is None else known + WEIGHT_OF_NEWEST * (found - known)
        if len(self._ratios) > MOST_MODELS:
            del self._ratios[next(iter(self._ratios))]


class Meter:
    """A `Model` that weighs the prompts of one run on their way, and learns from what is reported for them."""

    def __init__(self, model: Model, scale: TokenScale) -> None:
        self._model = model
        self._scale = scale
        self._last: tuple[Weight, int] | None = None

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        """What the model says; see `Model.stream`."""
        weight = weigh(request)
        async with aclosing(self._model.stream(request)) as chunks:
            async for chunk in chunks:
                if isinstance(chunk, ModelEnd) and chunk.usage is not None and chunk.usage.input_tokens > 0:
                    self._scale.learn(request.model, weight, chunk.usage.input_tokens)
                    self._last = (weight, chunk.usage.input_tokens)
                yield chunk

    def estimate(self, request: ModelRequest) -> int:
        """The tokens of a prompt: those reported for the last one, and an estimate for what is new since."""
        if self._last is None:
            return self._scale.tokens(request.model, weigh(request))
        known, reported = self._last
        return max(0, reported + self._scale.tokens(request.model, weigh(request) - known))

    def tokens(self, model: str, entries: Sequence[PromptEntry]) -> int:
        """The tokens of a part of a prompt, estimated."""
        return self._scale.tokens(model, weigh_entries(entries))


def weigh(request: ModelRequest) -> Weight:
    """What a model call holds: its prompt, its instructions, and the tools and the form that it names."""
    weight = weigh_entries(request.prompt) + Weight(_size(request.instructions or ""))
    for tool in request.tools:
        weight += Weight(_declared(tool))
    schema = request.text_format.get("schema")
    objects = [*request.foreign_tools, *([schema] if schema else [])]
    return weight + Weight(sum(len(encode(fields)) for fields in objects))


def weigh_entries(entries: Sequence[PromptEntry]) -> Weight:
    """What a part of a prompt holds."""
    return sum((_weigh(entry) for entry in entries), Weight())


def _weigh(entry: PromptEntry) -> Weight:
    match entry:
        case PromptMessage(parts=parts):
            return _parts(parts)
        case PromptReasoning(text=text, summary=summary):
            return Weight(_size(text or "".join(summary)) + _ENTRY_BYTES)
        case PromptCall(name=name, arguments=arguments):
            return Weight(_size(name) + _size(arguments) + _ENTRY_BYTES)
        case PromptOutput(output=str(output)):
            return Weight(_size(output) + _ENTRY_BYTES)
        case PromptOutput(output=parts):
            assert not isinstance(parts, str)
            return _parts(parts)
        case PromptOpaque(item=item):
            return Weight(len(encode(item)))
        case _:
            assert_never(entry)


def _parts(parts: Sequence[Part]) -> Weight:
    return sum((_part(part) for part in parts), Weight(_ENTRY_BYTES))


def _part(part: Part) -> Weight:
    match part:
        case InputImage(detail=detail):
            return Weight(tokens=LOW_DETAIL_TOKENS if detail == "low" else IMAGE_TOKENS)
        case InputFile(file_data=str(data)) if data.startswith(("data:text/", "data:application/json")):
            return Weight(len(data) * 3 // 4)
        case InputFile() | InputAudio():
            return Weight(tokens=FILE_TOKENS)
        case _:
            return Weight(_size(text_of((part,))))


def _declared(tool: Declaration) -> int:
    form = tool.parameters if isinstance(tool, FunctionDeclaration) else tool.format
    return _size(tool.name) + _size(tool.description) + len(encode(form or {})) + _ENTRY_BYTES


def _size(text: str) -> int:
    return len(text.encode("utf-8", "replace"))
