"""Which upstream serves a model name."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..core.errors import ApiError
from .chat import Chat, Embedder
from .model import Model


@dataclass(frozen=True, slots=True)
class Resolved:
    """The upstream that serves a name, and what that upstream calls it.

    `model` is None if it only makes vectors. `foreign_tools` tells whether it takes tools that this server does not
    run. `chat` is there if it speaks chat completions itself, `embedder` if it may make vectors. `reads_files` tells
    whether it takes files as they are, `keeps_schemas` whether it holds models to JSON schemas by itself,
    `calls_mcp_servers` whether it gets `mcp` tools as they are.
    """

    model: Model | None
    upstream_name: str
    foreign_tools: bool = False
    chat: Chat | None = None
    embedder: Embedder | None = None
    reads_files: bool = False
    keeps_schemas: bool = False
    calls_mcp_servers: bool = False

    def generator(self) -> Model:
        """The model, where words are asked for. Raises `ApiError` (404) if it only makes vectors."""
        if self.model is None:
            message = f"The model '{self.upstream_name}' only makes embeddings. Choose another for text."
            raise ApiError(message, status=404, code="model_not_found", param="model")
        return self.model


class Upstreams(Protocol):
    """Routing from the names that clients use to upstreams."""

    async def resolve(self, name: str) -> Resolved:
        """Raises `ApiError` (404, `model_not_found`) if nothing serves `name`."""
        ...

    async def names(self) -> Sequence[str]:
        """Every name that is known to be served."""
        ...
