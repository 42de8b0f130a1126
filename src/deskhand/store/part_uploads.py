"""Uploads in parts in the database."""

from collections.abc import Sequence
from typing import Literal

from ..ports.store import FileRecord
from ..ports.uploads import PartRecord, Room, UploadRecord
from .database import Connection, Database
from .files import file_row
from .queries import load
from .text import column


class SqlUploads:
    """The `UploadStore` of a database. Text that no database can hold is changed as `store.text` says."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = load("uploads", database.driver)
        self._files = load("files", database.driver)

    async def add(self, record: UploadRecord, most_pending: int) -> bool:
        """Store a new upload. Raises `IntegrityViolated` on a known id."""
        row = {
            "id": column(record.id),
            "owner": column(record.owner),
            "filename": column(record.filename),
            "bytes": record.bytes,
            "purpose": column(record.purpose),
            "created_at": record.created_at,
            "expires_at": record.expires_at,
            "file_expires_after": record.file_expires_after,
        }

        def unit(connection: Connection) -> bool:
            if self._sql.pending_uploads(connection, owner=row["owner"], now=record.created_at) >= most_pending:
                return False
            self._sql.insert_upload(connection, **row)
            return True

        return await self._database.write(unit)

    async def get(self, owner: str, upload_id: str) -> UploadRecord | None:
        """The upload."""
        key = {"id": column(upload_id), "owner": column(owner)}
        row = await self._database.read(lambda connection: self._sql.upload(connection, **key))
        return UploadRecord(*row) if row else None

    async def add_part(self, owner: str, part: PartRecord, room: Room) -> Literal["added", "over", "full"]:
        """Store a part, unless the upload is over or has no room for it."""
        key = {"id": column(part.upload_id), "owner": column(owner)}

        def unit(connection: Connection) -> Literal["added", "over", "full"]:
            found = self._sql.upload(connection, **key)
            upload = UploadRecord(*found) if found else None
            if upload is None or upload.state != "pending" or upload.expires_at <= part.created_at:
                return "over"
            count, size = self._sql.size_of_parts(connection, upload_id=upload.id)
            if count >= room.parts or size + part.bytes > room.bytes:
                return "full"
            self._sql.insert_part(
                connection,
                id=column(part.id),
                upload_id=upload.id,
                bytes=part.bytes,
                created_at=part.created_at,
                blob=column(part.blob),
            )
            return "added"

        return await self._database.write(unit)

    async def parts(self, upload_id: str) -> Sequence[PartRecord]:
        """The parts of an upload."""
        key = column(upload_id)
        rows = await self._database.read(lambda connection: [*self._sql.parts_of(connection, upload_id=key)])
        return [PartRecord(*row) for row in rows]

    async def complete(self, owner: str, upload_id: str, file: FileRecord) -> bool:
        """Make an upload the file. Raises `IntegrityViolated` on a known file id."""
        key = {"id": column(upload_id), "owner": column(owner), "now": file.created_at}

        def unit(connection: Connection) -> bool:
            if not self._sql.end_upload(connection, **key, state="completed", file_id=column(file.id)):
                return False
            self._files.insert_file(connection, **file_row(file))
            return True

        return await self._database.write(unit)

    async def cancel(self, owner: str, upload_id: str, now: int) -> bool:
        """End an upload without a file."""
        key = {"id": column(upload_id), "owner": column(owner), "now": now, "state": "cancelled", "file_id": None}
        return bool(await self._database.write(lambda connection: self._sql.end_upload(connection, **key)))

    async def expire(self, now: int) -> None:
        """End those whose time has passed."""
        await self._database.write(lambda connection: self._sql.expire_uploads(connection, now=now))

    async def ended_with_parts(self, most: int) -> Sequence[str]:
        """Uploads that are over and still have parts."""
        rows = await self._database.read(lambda c: [*self._sql.ended_uploads_with_parts(c, most=most)])
        return [str(row[0]) for row in rows]

    async def delete_parts(self, upload_id: str) -> Sequence[PartRecord]:
        """Forget the parts of an upload, and return them."""
        key = column(upload_id)

        def unit(connection: Connection) -> Sequence[PartRecord]:
            rows = [*self._sql.parts_of(connection, upload_id=key)]
            self._sql.delete_parts(connection, upload_id=key)
            return [PartRecord(*row) for row in rows]

        return await self._database.write(unit)

    async def forget(self, before: int) -> None:
        """Forget uploads that are long over."""
        await self._database.write(lambda connection: self._sql.forget_uploads(connection, before=before))
