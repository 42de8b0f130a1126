"""Webhook endpoints, and the outbox of events on their way to them.

An event is put into the outbox in the transaction of what it tells of, one delivery for each endpoint that wants it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from .store import Listing, Page

DeliveryState = Literal["pending", "delivered", "failed"]
"""`failed` is given up; what failed and is tried again is pending."""


@dataclass(frozen=True, slots=True)
class EndpointRecord:
    """An endpoint. Times are unix seconds. `secret` and `previous` are sealed.

    `previous` signs as well until `previous_until`.
    """

    id: str
    owner: str
    name: str
    url: str
    event_types: tuple[str, ...]
    created_at: int
    updated_at: int
    hint: str
    secret: bytes = field(repr=False)
    previous: bytes | None = field(default=None, repr=False)
    previous_until: int = 0


@dataclass(frozen=True, slots=True)
class EndpointChange:
    """Other values for an endpoint; None leaves one as it is."""

    name: str | None = None
    url: str | None = None
    event_types: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A sealed secret. That before it signs until `previous_until` (unix seconds), not at all if that is 0."""

    sealed: bytes = field(repr=False)
    hint: str
    previous_until: int


class WebhookStore(Protocol):
    """Endpoints. Every implementation passes `deskhand.testing.conformance_webhooks`."""

    async def add(self, record: EndpointRecord, most: int) -> bool:
        """Store a new endpoint; False if its owner has `most` already. Durable on return."""
        ...

    async def get(self, owner: str, endpoint_id: str) -> EndpointRecord | None: ...
    async def list(self, owner: str, page: Page) -> Listing[EndpointRecord]: ...
    async def change(self, owner: str, endpoint_id: str, change: EndpointChange, now: int) -> EndpointRecord | None:
        """The endpoint as it is then; None if there is none. What changes nothing is no update."""
        ...

    async def rotate(self, owner: str, endpoint_id: str, secret: NewSecret, now: int) -> EndpointRecord | None:
        """Give an endpoint another secret. Durable on return."""
        ...

    async def delete(self, owner: str, endpoint_id: str) -> bool:
        """Remove an endpoint, its secrets and its deliveries."""
        ...


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """An event for an endpoint. Times are unix seconds; 0 is none.

    `attempts` counts those that were begun; `status_code` and `error` are of the last that ended.
    """

    id: str
    owner: str
    endpoint_id: str
    event_id: str
    event_type: str
    body: str
    created_at: int
    state: DeliveryState = "pending"
    attempts: int = 0
    status_code: int = 0
    error: str = ""
    next_attempt_at: int = 0
    finished_at: int = 0


@dataclass(frozen=True, slots=True)
class Settled:
    """How an attempt ended, and what becomes of its delivery."""

    state: DeliveryState
    status_code: int
    error: str
    next_attempt_at: int
    finished_at: int


class DeliveryStore(Protocol):
    """The outbox. Every implementation passes `deskhand.testing.conformance_webhooks`."""

    async def add(self, record: DeliveryRecord) -> None:
        """Store a delivery. Durable on return."""
        ...

    async def list(self, owner: str, endpoint_id: str, page: Page) -> Listing[DeliveryRecord]:
        """A page of an endpoint's deliveries. Raises `ApiError` (404) if `page.after` is not one of the owner's."""
        ...

    async def retry(self, owner: str, endpoint_id: str, delivery_id: str, now: int) -> DeliveryRecord | None:
        """Make a delivery due now, unless it is being sent; the delivery as it is then, None if there is none."""
        ...

    async def due(self, now: int, each: int) -> Sequence[DeliveryRecord]:
        """Deliveries to send now, at most `each` of an endpoint: its longest due ones. Those of all, longest first."""
        ...

    async def claim(self, delivery: DeliveryRecord, now: int, lease_until: int) -> EndpointRecord | None:
        """Begin an attempt: its endpoint; None if somebody else has begun one, or there is nothing to send any more.

        Nobody else begins one before `lease_until`.
        """
        ...

    async def settle(self, delivery: DeliveryRecord, settled: Settled) -> bool:
        """End the attempt that was begun on `delivery`. False if another was begun after its lease: nothing changes."""
        ...

    async def forget(self, before: int, now: int) -> None:
        """Remove deliveries that finished before a time or have no endpoint, and secrets whose time is over."""
        ...
