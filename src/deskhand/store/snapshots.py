"""Snapshots' records, and what a model must be told of a container, in the database."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ..ports.store import Listing, Page, SnapshotRecord
from .database import Connection, Database
from .pages import ListQueries, list_page
from .queries import load
from .text import column


class SqlSnapshots:
    """The `SnapshotStore` of a database. Text that no database can hold is changed as `store.text` says."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = load("snapshots", database.driver)
        self._lists = ListQueries(self._sql.snapshot_place, self._sql.newer_snapshots, self._sql.older_snapshots)

    async def add(self, record: SnapshotRecord) -> None:
        """Store a new record. Durable on return. Raises `IntegrityViolated` on a known id."""
        row = {name: column(value) if isinstance(value, str) else value for name, value in asdict(record).items()}
        row["automatic"] = int(record.automatic)
        await self._database.write(lambda connection: self._sql.insert_snapshot(connection, **row))

    async def get(self, owner: str, snapshot_id: str) -> SnapshotRecord | None:
        """The record."""
        key = {"id": column(snapshot_id), "owner": column(owner)}
        row = await self._database.read(lambda connection: self._sql.snapshot(connection, **key))
        return _record(*row) if row else None

    async def list(self, owner: str, container_id: str, page: Page) -> Listing[SnapshotRecord]:
        """A page of a container's snapshots. Raises `ApiError` (404) on an unknown `page.after`."""
        filters = {"owner": column(owner), "container_id": column(container_id)}
        return await self._database.read(
            lambda connection: list_page(connection, self._lists, page, "Snapshot", filters, _record)
        )

    async def ids(self) -> Sequence[str]:
        """The ids of every owner's snapshots."""
        return [row[0] for row in await self._database.read(lambda connection: [*self._sql.snapshot_ids(connection)])]

    async def surplus(self, container_id: str, most: int) -> Sequence[SnapshotRecord]:
        """A container's automatic snapshots but the newest `most`."""
        key = {"container_id": column(container_id), "most": most}
        rows = await self._database.read(lambda connection: [*self._sql.surplus_snapshots(connection, **key)])
        return [_record(*row) for row in rows]

    async def aged(self, before: int) -> Sequence[SnapshotRecord]:
        """Automatic snapshots of every owner from before a time."""
        rows = await self._database.read(lambda connection: [*self._sql.aged_snapshots(connection, before=before)])
        return [_record(*row) for row in rows]

    async def oldest_automatic(self, owner: str) -> SnapshotRecord | None:
        """The owner's automatic snapshot that can go first."""
        owner = column(owner)
        row = await self._database.read(lambda connection: self._sql.oldest_automatic(connection, owner=owner))
        return _record(*row) if row else None

    async def total_bytes(self, owner: str) -> int:
        """How much room the owner's snapshots have together."""
        owner = column(owner)
        (total,) = await self._database.read(lambda connection: self._sql.snapshot_bytes(connection, owner=owner))
        return int(total)

    async def delete(self, owner: str, snapshot_id: str) -> bool:
        """Remove the record."""
        key = {"id": column(snapshot_id), "owner": column(owner)}
        return bool(await self._database.write(lambda connection: self._sql.delete_snapshot(connection, **key)))

    async def link(self, response_id: str, snapshot_id: str) -> None:
        """Note that the computer was so after a response."""
        row = {"response_id": column(response_id), "snapshot_id": column(snapshot_id)}
        await self._database.write(lambda connection: self._sql.insert_response_snapshot(connection, **row))

    async def of_response(self, owner: str, response_id: str) -> Sequence[SnapshotRecord]:
        """What was linked to a response."""
        key = {"response_id": column(response_id), "owner": column(owner)}
        rows = await self._database.read(lambda connection: [*self._sql.response_snapshots(connection, **key)])
        return [_record(*row) for row in rows]

    async def put_news(self, container_id: str, text: str) -> None:
        """Keep what the next model that uses the container is told, in place of what was kept before."""
        row = {"container_id": column(container_id), "text": column(text)}
        await self._database.write(lambda connection: self._sql.put_news(connection, **row))

    async def take_news(self, container_id: str) -> str:
        """What was kept, once; "" if nothing was."""
        key = {"container_id": column(container_id)}
        # Mostly there is none, and a read is cheaper than a write.
        if await self._database.read(lambda connection: self._sql.news(connection, **key)) is None:
            return ""

        def unit(connection: Connection) -> str:
            row = self._sql.news(connection, **key)
            self._sql.delete_news(connection, **key)
            return str(row[0]) if row else ""

        return await self._database.write(unit)


def _record(*row: Any) -> SnapshotRecord:
    id_, owner, container_id, name, automatic, created_at, size, isolation = row
    return SnapshotRecord(id_, owner, container_id, name, bool(automatic), created_at, size, isolation)
