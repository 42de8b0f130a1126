"""Which upstream serves a model name."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .chat import Chat, Embedder
from .model import Model


@dataclass(frozen=True, slots=True)
class Resolved:
    """The upstream that serves a name, and what that upstream calls it.

    `foreign_tools` tells whether it takes tools that this server does not run. `chat` is there if it speaks chat
    completions itself, `embedder` if it may make vectors.
    """

    model: Model
    upstream_name: str
    foreign_tools: bool = False
    chat: Chat | None = None
    embedder: Embedder | None = None


class Upstreams(Protocol):
    """Routing from the names that clients use to upstreams."""

    async def resolve(self, name: str) -> Resolved:
        """Raises `ApiError` (404, `model_not_found`) if nothing serves `name`."""
        ...

    async def names(self) -> Sequence[str]:
        """Every name that is known to be served."""
        ...
