"""Chat completions that are kept: what their owners do with them, and their end."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from ..core.chat_fold import texts_of
from ..core.errors import not_found
from ..ports.completions import CompletionFilter, CompletionRecord, CompletionStore
from ..ports.store import Listing, Page
from .background import repeatedly
from .chat_in import ChatRequest

log = structlog.get_logger()

EXPIRY_SECONDS: Final = 60.0
BATCH: Final = 20
PAUSE_SECONDS: Final = 0.05
_DAY_SECONDS: Final = 86_400
_ECHOED: Final = (
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "tools",
    "tool_choice",
    "response_format",
)
"""What a kept completion says of its request (API reference, "Get chat completion")."""

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StoredCompletions:
    """Another owner's completions do not exist for you. They live for `days`; 0 for ever."""

    store: CompletionStore
    days: float
    now: Callable[[], float] = time.time

    async def add(self, owner: str, request: ChatRequest, completion: Json) -> None:
        """Keep what was answered to `request`."""
        asked = request.asked
        echoed = {name: request.body.get(name) for name in _ECHOED}
        record = CompletionRecord(
            completion["id"],
            owner,
            completion["created"],
            asked.model,
            asked.metadata or {},
            {**echoed, "input_user": asked.user, **completion},
        )
        await self.store.add(record, request.body["messages"])

    async def get(self, owner: str, completion_id: str) -> CompletionRecord:
        """One completion. Raises `ApiError` (404)."""
        record = await self.store.get(owner, completion_id)
        if record is None:
            raise not_found("Chat completion", completion_id)
        return record

    async def list(self, owner: str, page: Page, wanted: CompletionFilter) -> Listing[CompletionRecord]:
        """A page. Raises `ApiError` (404) for an unknown `page.after`."""
        return await self.store.list(owner, page, wanted)

    async def messages(self, owner: str, completion_id: str) -> Sequence[Json]:
        """The messages that a completion answered, as they are shown. Raises `ApiError` (404)."""
        found = await self.store.messages(owner, completion_id)
        if found is None:
            raise not_found("Chat completion", completion_id)
        return [_shown(f"{completion_id}-{index}", message) for index, message in enumerate(found)]

    async def set_metadata(self, owner: str, completion_id: str, metadata: Mapping[str, str]) -> CompletionRecord:
        """Replace the metadata. Raises `ApiError` (404)."""
        await self.store.set_metadata(owner, completion_id, metadata)
        return await self.get(owner, completion_id)

    async def delete(self, owner: str, completion_id: str) -> None:
        """Forget a completion. Raises `ApiError` (404)."""
        if not await self.store.delete(owner, completion_id):
            raise not_found("Chat completion", completion_id)

    async def expire_forever(self) -> None:
        """Forget what is old, until cancelled."""
        if self.days:
            await repeatedly("completions.expiry", self._expire, EXPIRY_SECONDS)

    async def _expire(self) -> None:
        """In small batches, so that nobody waits long for the database."""
        before = int(self.now() - self.days * _DAY_SECONDS)
        gone = BATCH
        while gone == BATCH:
            gone = await self.store.expire(before, BATCH)
            await asyncio.sleep(PAUSE_SECONDS)


def _shown(id_: str, message: Json) -> Json:
    """A message with an id; content in parts stands beside its text."""
    content = message.get("content")
    parts = content if isinstance(content, list) else None
    return {"refusal": None, "name": None, **message, "id": id_, "content": texts_of(content), "content_parts": parts}
