"""Upstreams that answer in the words of chat completions themselves, and those that make vectors of texts."""

from array import array
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Document = Mapping[str, Any]
"""A `chat.completion.chunk`, or a whole `chat.completion`, as plain JSON."""


class Chat(Protocol):
    """An upstream that takes the body of a chat completion."""

    def complete(self, body: Mapping[str, Any]) -> AsyncGenerator[Document, None]:
        """What the upstream answers to `body`, whose `model` is the upstream's own name.

        Chunks, or one whole completion, whichever was asked for: some servers do the other. Retries by itself while
        nothing has been said. Raises `UpstreamError`, also in the middle. Closing it closes the connection.
        """
        ...


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """Texts (or token ids of texts) to make vectors of. `model` is the upstream's own name."""

    model: str
    inputs: Sequence[str | Sequence[int]]
    dimensions: int | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Embedded:
    """One vector for each input, in their order, all of one length, in single precision; and the tokens they cost."""

    vectors: Sequence["array[float]"]
    tokens: int


class Embedder(Protocol):
    """An upstream that makes vectors of texts."""

    async def embed(self, request: EmbeddingRequest) -> Embedded:
        """The vectors. Raises `UpstreamError`, also for an answer that is not what was asked for."""
        ...
