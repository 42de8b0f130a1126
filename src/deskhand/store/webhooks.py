"""Webhook endpoints in the database."""

from collections.abc import Callable
from dataclasses import asdict

from ..ports.store import Listing, Page
from ..ports.webhooks import EndpointChange, EndpointRecord, NewSecret
from .database import Connection, Database
from .pages import ListQueries, list_page
from .queries import load
from .text import column

SEPARATOR = ","
"""Between the types of events, which have no comma."""


class SqlWebhooks:
    """The `WebhookStore` of a database. Text that no database can hold is changed as `store.text` says."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = load("webhooks", database.driver)
        self._deliveries = load("deliveries", database.driver)
        self._lists = ListQueries(self._sql.endpoint_place, self._sql.newer_endpoints, self._sql.older_endpoints)

    async def add(self, record: EndpointRecord, most: int) -> bool:
        """Store a new endpoint, if its owner has room. Raises `IntegrityViolated` on a known id."""
        row = asdict(record) | {
            "owner": column(record.owner),
            "name": column(record.name),
            "url": column(record.url),
            "event_types": SEPARATOR.join(record.event_types),
            "most": most,
        }
        del row["previous"], row["previous_until"]
        return bool(await self._database.write(lambda connection: self._sql.insert_endpoint(connection, **row)))

    async def get(self, owner: str, endpoint_id: str) -> EndpointRecord | None:
        """The endpoint."""
        key = {"id": column(endpoint_id), "owner": column(owner)}
        row = await self._database.read(lambda connection: self._sql.endpoint(connection, **key))
        return endpoint_record(*row) if row else None

    async def list(self, owner: str, page: Page) -> Listing[EndpointRecord]:
        """A page of the owner's endpoints. Raises `ApiError` (404) if `page.after` is not one of them."""
        filters: dict[str, str | None] = {"owner": column(owner)}
        return await self._database.read(
            lambda c: list_page(c, self._lists, page, "Webhook endpoint", filters, endpoint_record)
        )

    async def change(self, owner: str, endpoint_id: str, change: EndpointChange, now: int) -> EndpointRecord | None:
        """The endpoint as it is then."""
        row = {
            "name": change.name and column(change.name),
            "url": change.url and column(change.url),
            "event_types": change.event_types and SEPARATOR.join(change.event_types),
            "now": now,
        }
        return await self._changed(
            owner, endpoint_id, lambda connection, **key: self._sql.change_endpoint(connection, **key, **row)
        )

    async def rotate(self, owner: str, endpoint_id: str, secret: NewSecret, now: int) -> EndpointRecord | None:
        """Give an endpoint another secret."""
        row = {"secret": secret.sealed, "hint": secret.hint, "now": now}
        if secret.previous_until:
            row["previous_until"] = secret.previous_until
        statement = self._sql.rotate_keeping if secret.previous_until else self._sql.rotate_at_once
        return await self._changed(owner, endpoint_id, lambda connection, **key: statement(connection, **key, **row))

    async def delete(self, owner: str, endpoint_id: str) -> bool:
        """Remove an endpoint, its secrets and its deliveries."""
        key = {"id": column(endpoint_id), "owner": column(owner)}

        def unit(connection: Connection) -> bool:
            gone = bool(self._sql.delete_endpoint(connection, **key))
            if gone:
                self._deliveries.delete_deliveries_to(connection, endpoint_id=key["id"])
            return gone

        return await self._database.write(unit)

    async def _changed(self, owner: str, endpoint_id: str, change: Callable[..., int]) -> EndpointRecord | None:
        key = {"id": column(endpoint_id), "owner": column(owner)}

        def unit(connection: Connection) -> EndpointRecord | None:
            change(connection, **key)
            row = self._sql.endpoint(connection, **key)
            return endpoint_record(*row) if row else None

        return await self._database.write(unit)


def endpoint_record(
    id_: str,
    owner: str,
    name: str,
    url: str,
    event_types: str,
    created_at: int,
    updated_at: int,
    hint: str,
    secret: bytes,
    previous: bytes | None,
    previous_until: int,
) -> EndpointRecord:
    """The endpoint of a row."""
    types = tuple(event_types.split(SEPARATOR))
    before = None if previous is None else bytes(previous)
    return EndpointRecord(
        id_, owner, name, url, types, created_at, updated_at, hint, bytes(secret), before, previous_until
    )
