"""Uploaded files' records in the database."""

from collections.abc import Mapping, Sequence

from ..ports.store import FileRecord, Listing, Page
from .database import Connection, Database
from .pages import ListQueries, list_page
from .queries import load
from .text import column
from .vector_stores import Detacher


class SqlFiles:
    """The `FileStore` of a database. Text that no database can hold is changed as `store.text` says."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = load("files", database.driver)
        self._detacher = Detacher(database.driver)
        self._lists = ListQueries(self._sql.file_place, self._sql.newer_files, self._sql.older_files)

    async def add(self, record: FileRecord) -> None:
        """Store a new record. Durable on return. Raises `IntegrityViolated` on a known id."""
        await self._database.write(lambda connection: self._sql.insert_file(connection, **file_row(record)))

    async def get(self, owner: str, file_id: str) -> FileRecord | None:
        """The record, expired or not."""
        key = {"id": column(file_id), "owner": column(owner)}
        row = await self._database.read(lambda connection: self._sql.file(connection, **key))
        return FileRecord(*row) if row else None

    async def list(self, owner: str, page: Page, purpose: str | None) -> Listing[FileRecord]:
        """A page of the owner's files. Raises `ApiError` (404) if `page.after` is not one of them."""
        filters = {"owner": column(owner), "purpose": purpose and column(purpose)}
        return await self._database.read(lambda c: list_page(c, self._lists, page, "File", filters, FileRecord))

    async def delete(self, owner: str, file_id: str) -> FileRecord | None:
        """Remove the record and return it. No vector store has the file any more."""
        key = {"id": column(file_id), "owner": column(owner)}

        def unit(connection: Connection) -> FileRecord | None:
            row = self._sql.file(connection, **key)
            self._sql.delete_file(connection, **key)
            self._detacher.detach(connection, **key)
            return FileRecord(*row) if row else None

        return await self._database.write(unit)

    async def expired(self, now: int) -> Sequence[FileRecord]:
        """Records of every owner whose time has passed, first the longest expired."""
        rows = await self._database.read(lambda connection: [*self._sql.expired_files(connection, now=now)])
        return [FileRecord(*row) for row in rows]

    async def blob_in_use(self, blob: str) -> bool:
        """True if a record of any owner names this blob, or a part of an upload."""
        key = column(blob)
        return await self._database.read(lambda connection: self._sql.blob_user(connection, blob=key)) is not None


def file_row(record: FileRecord) -> Mapping[str, str | int | None]:
    """What `insert_file` takes."""
    return {
        "id": column(record.id),
        "owner": column(record.owner),
        "filename": column(record.filename),
        "bytes": record.bytes,
        "purpose": column(record.purpose),
        "created_at": record.created_at,
        "expires_at": record.expires_at,
        "blob": column(record.blob),
    }
