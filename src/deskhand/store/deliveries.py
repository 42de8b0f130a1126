"""The outbox of webhooks in the database."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ..ports.store import Listing, Page
from ..ports.webhooks import DeliveryRecord, EndpointRecord, Settled
from ..wire.codec import encode
from ..wire.response import Response
from ..wire.webhooks import WebhookEvent
from .database import Connection, Database, Driver
from .pages import ListQueries, list_page
from .queries import load
from .text import column
from .webhooks import SEPARATOR, endpoint_record


class Announcer:
    """Puts the ends of background responses into the outbox, in the transaction that stores them."""

    def __init__(self, driver: Driver) -> None:
        self._sql = load("deliveries", driver)

    def announce(self, connection: Connection, response: Response) -> None:
        """Tell every endpoint that wants to know of a response's end, if it runs in the background, once.

        What is stored of the response tells whose it is; one that was deleted is not told of. The ids follow from the
        response's, so that a unit that is run again, or a response that is ended again, is told of only once.
        """
        type_ = f"response.{response.status}"
        told = [
            (endpoint_id, owner)
            for endpoint_id, owner, types in self._sql.told(connection, response_id=column(response.id))
            if type_ in types.split(SEPARATOR)
        ]
        if not told:
            return
        now = int(time.time())
        event = WebhookEvent(
            id=_id("evt", response.id), type=type_, created_at=response.completed_at or now, data={"id": response.id}
        )
        rows = [asdict(_delivery(endpoint_id, owner, event, now)) for endpoint_id, owner in told]
        self._sql.insert_deliveries(connection, rows)


class SqlDeliveries:
    """The `DeliveryStore` of a database. Text that no database can hold is changed as `store.text` says."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = load("deliveries", database.driver)
        self._endpoints = load("webhooks", database.driver)
        self._lists = ListQueries(self._sql.delivery_place, self._sql.newer_deliveries, self._sql.older_deliveries)

    async def add(self, record: DeliveryRecord) -> None:
        """Store a delivery. Does nothing if its id is known."""
        row = {name: column(value) if isinstance(value, str) else value for name, value in asdict(record).items()}
        await self._database.write(lambda connection: self._sql.insert_deliveries(connection, [row]))

    async def list(self, owner: str, endpoint_id: str, page: Page) -> Listing[DeliveryRecord]:
        """A page of an endpoint's deliveries. Raises `ApiError` (404) if `page.after` is not one of the owner's."""
        filters: dict[str, str | None] = {"owner": column(owner), "endpoint_id": column(endpoint_id)}
        return await self._database.read(
            lambda c: list_page(c, self._lists, page, "Webhook delivery", filters, DeliveryRecord)
        )

    async def retry(self, owner: str, endpoint_id: str, delivery_id: str, now: int) -> DeliveryRecord | None:
        """Make a delivery due now, unless it is being sent."""
        key = {"id": column(delivery_id), "owner": column(owner), "endpoint_id": column(endpoint_id)}

        def unit(connection: Connection) -> DeliveryRecord | None:
            self._sql.retry_delivery(connection, **key, now=now)
            row = self._sql.delivery(connection, **key)
            return DeliveryRecord(*row) if row else None

        return await self._database.write(unit)

    async def due(self, now: int, each: int) -> Sequence[DeliveryRecord]:
        """Deliveries to send now, at most `each` of an endpoint."""

        def unit(connection: Connection) -> Sequence[DeliveryRecord]:
            if self._sql.is_due(connection, now=now) is None:
                return []
            return [DeliveryRecord(*row) for row in self._sql.due_deliveries(connection, now=now, each=each)]

        return await self._database.read(unit)

    async def claim(self, delivery: DeliveryRecord, now: int, lease_until: int) -> EndpointRecord | None:
        """Begin an attempt, if nobody else has."""
        key = {"id": column(delivery.id), "attempts": delivery.attempts, "now": now, "lease_until": lease_until}

        def unit(connection: Connection) -> EndpointRecord | None:
            if not self._sql.claim_delivery(connection, **key):
                return None
            row = self._endpoints.endpoint_of_delivery(connection, id=key["id"])
            return endpoint_record(*row) if row else None

        return await self._database.write(unit)

    async def settle(self, delivery: DeliveryRecord, settled: Settled) -> bool:
        """End the attempt that was begun on `delivery`."""
        row: dict[str, Any] = asdict(settled) | {
            "id": column(delivery.id),
            "attempts": delivery.attempts + 1,
            "error": column(settled.error),
        }
        return bool(await self._database.write(lambda connection: self._sql.settle_delivery(connection, **row)))

    async def forget(self, before: int, now: int) -> None:
        """Remove what is old, and what belongs to nothing."""

        def unit(connection: Connection) -> None:
            self._sql.delete_finished(connection, before=before)
            self._sql.delete_orphaned(connection)
            self._endpoints.delete_previous_secrets(connection, now=now)

        await self._database.write(unit)


def _delivery(endpoint_id: str, owner: str, event: WebhookEvent, now: int) -> DeliveryRecord:
    return DeliveryRecord(
        id=_id("wh", endpoint_id, event.id),
        owner=owner,
        endpoint_id=endpoint_id,
        event_id=event.id,
        event_type=event.type,
        body=encode(event).decode(),
        created_at=now,
        next_attempt_at=now,
    )


def _id(prefix: str, *of: str) -> str:
    """An id that looks like the others (48 hex digits) and is the same for the same things."""
    return f"{prefix}_{hashlib.sha256(' '.join(of).encode()).hexdigest()[:48]}"
