"""Chat completions that are kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from .store import Listing, Page


@dataclass(frozen=True, slots=True)
class CompletionRecord:
    """A chat completion. `created_at` is in unix seconds; `body` is what was answered, without the metadata."""

    id: str
    owner: str
    created_at: int
    model: str
    metadata: Mapping[str, str]
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CompletionFilter:
    """Which completions a list is about: of a model (None for any), and with all of this metadata."""

    model: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


class CompletionStore(Protocol):
    """Chat completions, and the messages that they answered. Another owner's do not exist for you."""

    async def add(self, record: CompletionRecord, messages: Sequence[Mapping[str, Any]]) -> None:
        """Keep a new completion. Durable on return."""
        ...

    async def get(self, owner: str, completion_id: str) -> CompletionRecord | None:
        """The completion, or None."""
        ...

    async def messages(self, owner: str, completion_id: str) -> Sequence[Mapping[str, Any]] | None:
        """The messages that a completion answered, oldest first; None if there is no such completion."""
        ...

    async def list(self, owner: str, page: Page, wanted: CompletionFilter) -> Listing[CompletionRecord]:
        """A page. Raises `ApiError` (404) if `page.after` is not the owner's."""
        ...

    async def set_metadata(self, owner: str, completion_id: str, metadata: Mapping[str, str]) -> bool:
        """Replace the metadata; False if there is no such completion."""
        ...

    async def delete(self, owner: str, completion_id: str) -> bool:
        """Forget a completion; False if there is none."""
        ...

    async def expire(self, before: int, most: int) -> int:
        """Forget at most `most` completions of any owner from before a time (unix seconds); how many went."""
        ...
