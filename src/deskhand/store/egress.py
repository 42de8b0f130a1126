"""Secrets of containers, sealed, and the record of what left, in the database."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from ..ports.store import EgressRecord, Listing, Page, StoredSecret
from .database import Connection, Database
from .pages import ListQueries, list_page
from .queries import load
from .text import column

_SEPARATOR = ","
"""Between the names of secrets, which have no comma."""


class SqlEgress:
    """The `EgressStore` of a database. Text that no database can hold is changed as `store.text` says."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = load("egress", database.driver)
        self._lists = ListQueries(self._sql.record_place, self._sql.newer_records, self._sql.older_records)

    async def keep_secrets(self, secrets: Sequence[StoredSecret]) -> None:
        """Store secrets, or other values for them. Raises `IntegrityViolated` for an unknown container."""
        rows = [_row(secret) for secret in secrets]

        def unit(connection: Connection) -> None:
            for row in rows:
                self._sql.insert_secret(connection, **row)

        await self._database.write(unit)

    async def secrets(self, container_id: str) -> Sequence[StoredSecret]:
        """A container's secrets, by name and domain."""
        key = column(container_id)
        rows = await self._database.read(lambda c: [*self._sql.container_secrets(c, container_id=key)])
        return [StoredSecret(*row) for row in rows]

    async def forget_secrets(self, container_id: str) -> None:
        """Remove a container's secrets. Idempotent."""
        key = column(container_id)
        await self._database.write(lambda connection: self._sql.delete_secrets(connection, container_id=key))

    async def add(self, records: Sequence[EgressRecord]) -> None:
        """Store records. Durable on return."""
        rows = [
            _row(record) | {"secrets": _SEPARATOR.join(record.secrets), "verified": int(record.verified)}
            for record in records
        ]
        await self._database.write(lambda connection: self._sql.insert_records(connection, rows))

    async def list(self, owner: str, container_id: str, page: Page) -> Listing[EgressRecord]:
        """A page of the records of a container. Raises `ApiError` (404) if `page.after` is not one of the owner's."""
        filters: dict[str, str | None] = {"owner": column(owner), "container_id": column(container_id)}
        return await self._database.read(
            lambda connection: list_page(connection, self._lists, page, "Egress record", filters, _record)
        )

    async def forget_records(self, before_ms: int) -> None:
        """Remove the records of attempts that began earlier."""
        await self._database.write(lambda connection: self._sql.delete_records(connection, before=before_ms))


def _row(value: StoredSecret | EgressRecord) -> dict[str, Any]:
    return {name: column(entry) if isinstance(entry, str) else entry for name, entry in asdict(value).items()}


def _record(*row: Any) -> EgressRecord:
    names = [field.name for field in fields(EgressRecord)]
    values = dict(zip(names, row, strict=True))
    secrets = tuple(values["secrets"].split(_SEPARATOR)) if values["secrets"] else ()
    return EgressRecord(**values | {"verified": bool(values["verified"]), "secrets": secrets})
