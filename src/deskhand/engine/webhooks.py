"""Webhook endpoints: who is told when a background response ends. Secrets are told once, when they are made."""

import time
from collections.abc import Callable, Collection, Sequence
from typing import Final

from ..core.errors import ApiError, not_found
from ..egress.addresses import objection
from ..egress.hosts import is_address
from ..egress.urls import BadUrl, parse_url
from ..ports.store import Listing, Page
from ..ports.webhooks import DeliveryRecord, DeliveryStore, EndpointChange, EndpointRecord, NewSecret, WebhookStore
from ..wire.codec import encode
from ..wire.webhooks import CreateWebhookEndpoint, UpdateWebhookEndpoint
from .deliveries import Deliveries
from .ids import new_id
from .signing import Signing, hint, new_secret
from .webhook_samples import sample

MOST_ENDPOINTS: Final = 20
"""Of one project. Together they cannot take every attempt that the server makes at once."""
OVERLAP_S: Final = 24 * 3600
"""How long a secret that was replaced may go on to sign (API reference, "Webhooks")."""


class Webhooks:
    """The endpoints of every project, and what was sent to them."""

    def __init__(
        self,
        store: WebhookStore,
        outbox: DeliveryStore,
        deliveries: Deliveries,
        signing: Signing,
        private_hosts: Collection[str],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._deliveries = deliveries
        self._signing = signing
        self._private_hosts = private_hosts
        self._now = now

    async def create(self, owner: str, given: CreateWebhookEndpoint) -> tuple[EndpointRecord, str]:
        """A new endpoint and its secret. Raises `ApiError`."""
        self._check_url(given.url)
        now, id_, secret = int(self._now()), new_id("whe"), new_secret()
        record = EndpointRecord(
            id=id_,
            owner=owner,
            name=given.name,
            url=given.url,
            event_types=_unique(given.event_types),
            created_at=now,
            updated_at=now,
            hint=hint(secret),
            secret=self._signing.seal(secret, owner, id_),
        )
        if not await self._store.add(record, MOST_ENDPOINTS):
            raise ApiError(
                f"This project has {MOST_ENDPOINTS} webhook endpoints, the most that it may have. Delete one first.",
                code="webhook_endpoint_limit_exceeded",
            )
        return record, secret

    async def get(self, owner: str, endpoint_id: str) -> EndpointRecord:
        """An endpoint. Raises `ApiError` (404)."""
        return _found(await self._store.get(owner, endpoint_id), endpoint_id)

    async def list(self, owner: str, page: Page) -> Listing[EndpointRecord]:
        """A page of a project's endpoints. Raises `ApiError`."""
        return await self._store.list(owner, page)

    async def update(self, owner: str, endpoint_id: str, given: UpdateWebhookEndpoint) -> EndpointRecord:
        """Change an endpoint; what waits for it goes where it is then. Raises `ApiError`."""
        if given.url is not None:
            self._check_url(given.url)
        types = None if given.event_types is None else _unique(given.event_types)
        change = EndpointChange(given.name, given.url, types)
        return _found(await self._store.change(owner, endpoint_id, change, int(self._now())), endpoint_id)

    async def delete(self, owner: str, endpoint_id: str) -> None:
        """Forget an endpoint and everything that was or is to be sent to it. Raises `ApiError` (404)."""
        if not await self._store.delete(owner, endpoint_id):
            raise not_found("Webhook endpoint", endpoint_id)

    async def rotate(self, owner: str, endpoint_id: str, *, overlap: bool) -> tuple[EndpointRecord, str]:
        """Another secret for an endpoint; with `overlap` the old one signs as well for a day. Raises `ApiError`."""
        now, secret = int(self._now()), new_secret()
        until = now + OVERLAP_S if overlap else 0
        sealed = NewSecret(self._signing.seal(secret, owner, endpoint_id), hint(secret), until)
        return _found(await self._store.rotate(owner, endpoint_id, sealed, now), endpoint_id), secret

    async def test(self, owner: str, endpoint_id: str, event_type: str) -> int:
        """Send a sample event at once; the status code that was answered. Raises `ApiError`, also for no answer."""
        endpoint, now = await self.get(owner, endpoint_id), int(self._now())
        event = sample(event_type, now)
        record = DeliveryRecord(
            new_id("wh"), owner, endpoint_id, event.id, event_type, encode(event).decode(), created_at=now
        )
        return (await self._deliveries.test(endpoint, record)).status

    async def deliveries(self, owner: str, endpoint_id: str, page: Page) -> Listing[DeliveryRecord]:
        """A page of what was or is to be sent to an endpoint. Raises `ApiError`."""
        await self.get(owner, endpoint_id)
        return await self._outbox.list(owner, endpoint_id, page)

    async def retry(self, owner: str, endpoint_id: str, delivery_id: str) -> DeliveryRecord:
        """Send a delivery now, whatever became of it; what is being sent is left alone. Raises `ApiError` (404)."""
        await self.get(owner, endpoint_id)
        record = await self._outbox.retry(owner, endpoint_id, delivery_id, int(self._now()))
        if record is None:
            raise not_found("Webhook delivery", delivery_id)
        self._deliveries.wake()
        return record

    def _check_url(self, url: str) -> None:
        """Raise `ApiError` for what would never be called. What a name stands for shows when it is called."""
        try:
            host = parse_url(url).host
        except BadUrl as exc:
            raise ApiError(f"Invalid 'url': {exc}.", code="invalid_value", param="url") from None
        if is_address(host) and objection(host, private_allowed=host in self._private_hosts):
            raise ApiError(
                "Invalid 'url': its host is a private address, which this server calls only if its operator names it "
                "in allow_private_hosts.",
                code="invalid_value",
                param="url",
            )


def _unique(types: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(types))


def _found(record: EndpointRecord | None, endpoint_id: str) -> EndpointRecord:
    if record is None:
        raise not_found("Webhook endpoint", endpoint_id)
    return record
