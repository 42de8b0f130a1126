"""Chat completions in the database."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from ..ports.completions import CompletionFilter, CompletionRecord
from ..ports.store import Listing, Page
from ..wire.codec import decode, encode
from .database import Connection, Database
from .pages import ListQueries, list_page
from .queries import load
from .text import body, column


class SqlCompletions:
    """The `CompletionStore` of a database. Text that no database can hold is changed as `store.text` says."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = load("completions", database.driver)
        self._lists = ListQueries(self._sql.completion_place, self._sql.newer_completions, self._sql.older_completions)

    async def add(self, record: CompletionRecord, messages: Sequence[Mapping[str, Any]]) -> None:
        """Keep a new completion. Raises `IntegrityViolated` on a known id."""
        row = {
            "id": column(record.id),
            "owner": column(record.owner),
            "created_at": record.created_at,
            "model": column(record.model),
            "metadata": body(record.metadata),
            "tags": " ".join(_tags(record.metadata)),
            "body": body(record.body),
            "messages": body(list(messages)),
        }
        await self._database.write(lambda connection: self._sql.insert_completion(connection, **row))

    async def get(self, owner: str, completion_id: str) -> CompletionRecord | None:
        """The completion, or None."""
        key = {"id": column(completion_id), "owner": column(owner)}
        row = await self._database.read(lambda connection: self._sql.completion(connection, **key))
        return _record(*row) if row else None

    async def messages(self, owner: str, completion_id: str) -> Sequence[Mapping[str, Any]] | None:
        """The messages that a completion answered."""
        key = {"id": column(completion_id), "owner": column(owner)}
        row = await self._database.read(lambda connection: self._sql.messages(connection, **key))
        found: Sequence[Mapping[str, Any]] | None = decode(row[0]) if row else None
        return found

    async def list(self, owner: str, page: Page, wanted: CompletionFilter) -> Listing[CompletionRecord]:
        """A page. Raises `ApiError` (404) if `page.after` is not the owner's."""
        filters = {
            "owner": column(owner),
            "model": wanted.model and column(wanted.model),
            "tags": f"%{'%'.join(_tags(wanted.metadata))}%" if wanted.metadata else None,
        }
        return await self._database.read(
            lambda connection: list_page(connection, self._lists, page, "Chat completion", filters, _record)
        )

    async def set_metadata(self, owner: str, completion_id: str, metadata: Mapping[str, str]) -> bool:
        """Replace the metadata."""
        row = {
            "id": column(completion_id),
            "owner": column(owner),
            "metadata": body(metadata),
            "tags": " ".join(_tags(metadata)),
        }
        return bool(await self._database.write(lambda connection: self._sql.set_completion_metadata(connection, **row)))

    async def delete(self, owner: str, completion_id: str) -> bool:
        """Forget a completion."""
        key = {"id": column(completion_id), "owner": column(owner)}
        return bool(await self._database.write(lambda connection: self._sql.delete_completion(connection, **key)))

    async def expire(self, before: int, most: int) -> int:
        """Forget old completions of every owner."""

        def unit(connection: Connection) -> int:
            return int(self._sql.expire_completions(connection, before=before, most=most))

        return await self._database.write(unit)


def _tags(metadata: Mapping[str, str]) -> list[str]:
    """A digest of each pair, in order.

    Metadata that has some pairs among others is then a `LIKE` of one pattern, which means the same to every database:
    digits have no case, and no wildcards.
    """
    return sorted(hashlib.blake2b(encode([key, metadata[key]]), digest_size=16).hexdigest() for key in metadata)


def _record(id_: str, owner: str, created_at: int, model: str, metadata: str, text: str) -> CompletionRecord:
    """The completion of a row."""
    return CompletionRecord(id_, owner, created_at, model, decode(metadata), decode(text))
