"""Vector stores in the database."""

from collections.abc import Iterable, Sequence
from typing import Any

from ..core.chunking import Chunk, ChunkSizes
from ..core.errors import not_found
from ..ports.store import Listing, Page
from ..ports.vector_stores import (
    Attributes,
    BatchRecord,
    Changes,
    Counts,
    FileState,
    NewFile,
    StoreFileRecord,
    VectorStoreRecord,
)
from ..wire.codec import decode
from .database import Connection, Database, Driver
from .pages import ListQueries, list_page
from .queries import load
from .text import body, column

DAY_SECONDS = 86_400


class SqlVectorStores:
    """The `VectorStoreRecords` of a database. Text that no database can hold is changed as `store.text` says."""

    def __init__(self, database: Database) -> None:
        self._database = database
        sql = self._sql = load("vector_stores", database.driver)
        self._lists = ListQueries(sql.store_place, sql.newer_stores, sql.older_stores)

    async def add(self, record: VectorStoreRecord, files: Sequence[NewFile]) -> None:
        """Keep a new store. Raises `IntegrityViolated` on a known id."""
        row = {
            "id": column(record.id),
            "owner": column(record.owner),
            "name": column(record.name),
            "description": column(record.description),
            "metadata": body(record.metadata),
            "created_at": record.created_at,
            "last_active_at": record.last_active_at,
            "expires_days": record.expires_days,
            "expires_at": record.expires_at,
            "embedding_model": column(record.embedding_model),
        }

        def unit(connection: Connection) -> None:
            self._sql.insert_store(connection, **row)
            seq = self._sql.store(connection, id=row["id"], owner=row["owner"])[0]
            self._insert_files(connection, seq, record, files, record.created_at, 0)

        await self._database.write(unit)

    async def get(self, owner: str, store_id: str) -> VectorStoreRecord | None:
        """The store."""
        key = {"id": column(store_id), "owner": column(owner)}
        row = await self._database.read(lambda connection: self._sql.store(connection, **key))
        return _store(*row) if row else None

    async def counts(self, stores: Sequence[VectorStoreRecord]) -> Sequence[Counts]:
        """What has become of the files of each."""

        def unit(connection: Connection) -> list[Counts]:
            return [_counts([*self._sql.counted(connection, store=one.seq)]) for one in stores]

        return await self._database.read(unit)

    async def list(self, owner: str, page: Page) -> Listing[VectorStoreRecord]:
        """A page of the owner's stores."""
        filters = {"owner": column(owner)}
        return await self._database.read(lambda c: list_page(c, self._lists, page, "Vector store", filters, _store))

    async def update(self, record: VectorStoreRecord, changes: Changes, now: int) -> None:
        """Change what callers may change."""
        row = {
            "store": record.seq,
            "now": now,
            "name": None if changes.name is None else column(changes.name),
            "metadata": None if changes.metadata is None else body(changes.metadata),
            "expires_days": changes.expires_days,
        }

        def unit(connection: Connection) -> None:
            self._sql.update_store(connection, **row)
            self._sql.touch_store(connection, store=record.seq, now=now, day=DAY_SECONDS)

        await self._database.write(unit)

    async def touch(self, record: VectorStoreRecord, now: int) -> None:
        """A store is used now."""
        row = {"store": record.seq, "now": now, "day": DAY_SECONDS}
        await self._database.write(lambda connection: self._sql.touch_store(connection, **row))

    async def delete(self, owner: str, store_id: str) -> bool:
        """Forget a store; its chunks go later, a few at a time."""
        key = {"id": column(store_id), "owner": column(owner)}

        def unit(connection: Connection) -> bool:
            row = self._sql.store(connection, **key)
            if row is None:
                return False
            empty_store(self._sql, connection, row[0])
            self._sql.delete_store(connection, store=row[0])
            return True

        return await self._database.write(unit)

    async def add_files(
        self, record: VectorStoreRecord, files: Sequence[NewFile], now: int, batch_id: str | None, most: int
    ) -> bool:
        """Put files into a store, in a new batch if that has an id."""

        def unit(connection: Connection) -> bool:
            # First, so that whoever does the same waits here: else PostgreSQL finds the same file in it twice.
            if not self._sql.touch_store(connection, store=record.seq, now=now, day=DAY_SECONDS):
                raise not_found("Vector store", record.id, param="vector_store_id")
            batch = 0
            if batch_id is not None:
                self._sql.insert_batch(connection, id=column(batch_id), store=record.seq, created_at=now)
                batch = self._sql.batch(connection, id=column(batch_id), store=record.seq)[0]
            self._insert_files(connection, record.seq, record, files, now, batch)
            if self._sql.file_count(connection, store=record.seq)[0] > most:
                raise _TooMany
            return True

        try:
            return await self._database.write(unit)
        except _TooMany:
            return False

    def _insert_files(
        self,
        connection: Connection,
        seq: int,
        record: VectorStoreRecord,
        files: Sequence[NewFile],
        now: int,
        batch: int,
    ) -> None:
        for new in files:
            key = {"store": seq, "file_id": column(new.file_id)}
            if self._sql.store_file(connection, **key) is not None:
                self._take_out(connection, seq, column(new.file_id))
        rows = [
            {
                "store": seq,
                "batch": batch,
                "owner": column(record.owner),
                "file_id": column(new.file_id),
                "filename": column(new.filename),
                "created_at": now,
                "attributes": body(new.attributes),
                "chunk_tokens": new.sizes.tokens,
                "overlap_tokens": new.sizes.overlap,
            }
            for new in files
        ]
        if rows:
            self._sql.insert_files(connection, rows)

    async def file(self, record: VectorStoreRecord, file_id: str) -> StoreFileRecord | None:
        """A file of a store."""
        key = {"store": record.seq, "file_id": column(file_id)}
        row = await self._database.read(lambda connection: self._sql.store_file(connection, **key))
        return _file(*row) if row else None

    async def files(
        self, record: VectorStoreRecord, page: Page, state: FileState | None, batch_id: str | None
    ) -> Listing[StoreFileRecord]:
        """A page of its files."""
        sql = self._sql

        def place(connection: Connection, id: str, owner: str) -> Any:
            return sql.store_file_place(connection, id=id, owner=owner, store=record.seq)

        def unit(connection: Connection) -> Listing[StoreFileRecord]:
            batch = None
            if batch_id is not None:
                found = sql.batch(connection, id=column(batch_id), store=record.seq)
                batch = found[0] if found else -1
            where = {"store": record.seq, "batch": batch, "status": state}

            def newer(connection: Connection, owner: str, **rest: Any) -> Iterable[tuple[Any, ...]]:
                rows: Iterable[tuple[Any, ...]] = sql.newer_store_files(connection, **where, **rest)
                return rows

            def older(connection: Connection, owner: str, **rest: Any) -> Iterable[tuple[Any, ...]]:
                rows: Iterable[tuple[Any, ...]] = sql.older_store_files(connection, **where, **rest)
                return rows

            lists, filters = ListQueries(place, newer, older), {"owner": column(record.owner)}
            return list_page(connection, lists, page, "Vector store file", filters, _file)

        return await self._database.read(unit)

    async def set_attributes(self, record: VectorStoreRecord, file_id: str, attributes: Attributes) -> bool:
        """Replace the attributes of a file."""
        row = {"store": record.seq, "file_id": column(file_id), "attributes": body(attributes)}

        return bool(await self._database.write(lambda connection: self._sql.set_attributes(connection, **row)))

    async def remove_file(self, record: VectorStoreRecord, file_id: str) -> bool:
        """Take a file out of a store."""
        return await self._database.write(lambda c: self._take_out(c, record.seq, column(file_id)))

    def _take_out(self, connection: Connection, seq: int, file_id: str) -> bool:
        self._sql.trash_file(connection, store=seq, file_id=file_id)
        self._sql.revise_store(connection, store=seq)
        return bool(self._sql.delete_file(connection, store=seq, file_id=file_id))

    async def content(self, file: StoreFileRecord, after: int, limit: int) -> Sequence[tuple[int, Chunk]]:
        """Chunks of an indexed file in order, each with its place."""
        row = {"file": file.seq, "after": after, "limit": limit}
        found = await self._database.read(lambda connection: [*self._sql.content(connection, **row)])
        return [(seq, Chunk(text, repeated)) for seq, repeated, text in found]

    async def batch(self, record: VectorStoreRecord, batch_id: str) -> BatchRecord | None:
        """A batch of a store."""

        def unit(connection: Connection) -> BatchRecord | None:
            row = self._sql.batch(connection, id=column(batch_id), store=record.seq)
            if row is None:
                return None
            seq, id_, created_at, cancelled = row
            counts = _counts([*self._sql.counted_batch(connection, batch=seq)])
            return BatchRecord(id_, created_at, bool(cancelled), counts)

        return await self._database.read(unit)

    async def cancel_batch(self, record: VectorStoreRecord, batch_id: str) -> None:
        """Index no more of a batch's files."""

        def unit(connection: Connection) -> None:
            row = self._sql.batch(connection, id=column(batch_id), store=record.seq)
            if row is not None:
                self._sql.trash_files_of_batch(connection, batch=row[0])
                if self._sql.cancel_files_of_batch(connection, batch=row[0]):
                    self._sql.cancel_batch(connection, batch=row[0])

        await self._database.write(unit)


class Detacher:
    """Takes a file that is deleted out of every vector store, in the transaction that deletes it."""

    def __init__(self, driver: Driver) -> None:
        self._sql = load("vector_stores", driver)

    def detach(self, connection: Connection, owner: str, id: str) -> None:
        """`owner` and the file's `id` are as the database has them."""
        key = {"owner": owner, "file_id": id}
        self._sql.revise_stores_of_file(connection, **key)
        self._sql.trash_file_everywhere(connection, **key)
        self._sql.delete_file_everywhere(connection, **key)


class _TooMany(Exception):
    """A store would have more files than it may: nothing is done."""


def empty_store(sql: Any, connection: Connection, seq: int) -> None:
    """Forget what is in a store; `sql` are the queries of `vector_stores`."""
    sql.trash_files(connection, store=seq)
    sql.delete_files(connection, store=seq)
    sql.delete_batches(connection, store=seq)


def _store(
    seq: int,
    id_: str,
    owner: str,
    name: str,
    description: str,
    metadata: str,
    created_at: int,
    last_active_at: int,
    expires_days: int,
    expires_at: int | None,
    embedding_model: str,
    dimensions: int,
    revision: int,
    bare: int,
) -> VectorStoreRecord:
    """The store of a row."""
    return VectorStoreRecord(
        seq,
        id_,
        owner,
        name,
        description,
        decode(metadata),
        created_at,
        last_active_at,
        expires_days,
        expires_at,
        embedding_model,
        dimensions,
        revision,
        bool(bare),
    )


def _file(
    seq: int,
    file_id: str,
    filename: str,
    created_at: int,
    status: FileState,
    error_code: str,
    error_message: str,
    attributes: str,
    chunk_tokens: int,
    overlap_tokens: int,
    usage_bytes: int,
) -> StoreFileRecord:
    """The file of a row."""
    return StoreFileRecord(
        seq,
        file_id,
        filename,
        created_at,
        status,
        error_code,
        error_message,
        decode(attributes),
        ChunkSizes(chunk_tokens, overlap_tokens),
        usage_bytes,
    )


def _counts(rows: Sequence[tuple[str, int, int | None]]) -> Counts:
    found = {status: count for status, count, _ in rows}
    used = sum(usage or 0 for status, _, usage in rows if status == "completed")
    return Counts(usage_bytes=used, **found)
