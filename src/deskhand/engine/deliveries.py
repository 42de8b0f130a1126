"""Deliveries of webhooks: what is in the outbox is sent until it is taken, or for three days.

An attempt begins with a lease in the database, so that of several processes one sends; what a dead process had begun is
sent again when its lease ends. Receivers therefore see an event at least once, always under the same `webhook-id`.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

import structlog

from ..core.errors import ApiError, StoreUnavailable
from ..egress.post import Poster, PostFailed, Reply
from ..egress.sealing import Unsealable
from ..egress.urls import BadUrl, parse_url
from ..ports.webhooks import DeliveryRecord, DeliveryState, DeliveryStore, EndpointRecord, Settled
from .background import beside, repeatedly
from .backoff import next_attempt, retry_after_seconds
from .signing import Signing
from .slots import Slots

log = structlog.get_logger()

MOST_AT_ONCE: Final = 128
"""Attempts under way; more than all endpoints of one project have."""
MOST_OF_ENDPOINT: Final = 4
MOST_TESTS: Final = 4
"""Tests under way of one project."""
POLL_S: Final = 1.0
LEASE_S: Final = 30
"""An attempt and the writes around it, with room for clocks that differ."""
KEPT_S: Final = 30 * 24 * 3600
"""How long a delivery that has finished is in the log."""
FORGET_EVERY_S: Final = 3600.0

_GONE: Final = 410


class Deliveries:
    """Sends what is in the outbox. Use as `async with deliveries.serving()`."""

    def __init__(
        self, store: DeliveryStore, signing: Signing, poster: Poster, now: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._signing = signing
        self._poster = poster
        self._now = now
        self._sending: dict[str, str] = {}
        self._tests = Slots(MOST_TESTS, "webhook tests")
        self._woken = asyncio.Event()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Deliveries"]:
        """Send until the block ends. Attempts that are under way then are made again later."""
        tidying = repeatedly("webhook.forgetting", self._forget, FORGET_EVERY_S)
        async with beside(self._send_forever()), beside(tidying):
            yield self

    def wake(self) -> None:
        """There may be something to send."""
        self._woken.set()

    async def test(self, endpoint: EndpointRecord, record: DeliveryRecord) -> Reply:
        """Send an event at once, one time, and keep in the log how it went. Raises `ApiError` if nobody answers."""
        with self._tests.taken(endpoint.owner):
            result = await self._post(endpoint, record)
        await self._store.add(_tested(record, result, int(self._now())))
        if isinstance(result, PostFailed):
            raise ApiError(f"The endpoint could not be tested: {result}.", code="webhook_test_failed")
        return result

    async def _send_forever(self) -> None:
        async with asyncio.TaskGroup() as attempts:
            await repeatedly("webhook.outbox", lambda: self._begin_due(attempts), POLL_S, self._woken)

    async def _begin_due(self, attempts: asyncio.TaskGroup) -> None:
        busy = Counter(self._sending.values())
        for delivery in await self._store.due(int(self._now()), MOST_OF_ENDPOINT):
            if len(self._sending) >= MOST_AT_ONCE:
                return
            if delivery.id in self._sending or busy[delivery.endpoint_id] >= MOST_OF_ENDPOINT:
                continue
            busy[delivery.endpoint_id] += 1
            self._sending[delivery.id] = delivery.endpoint_id
            attempts.create_task(self._attempt(delivery))

    async def _attempt(self, delivery: DeliveryRecord) -> None:
        try:
            now = int(self._now())
            endpoint = await self._store.claim(delivery, now, now + LEASE_S)
            if endpoint is not None:
                await self._settle(delivery, await self._post(endpoint, delivery))
        except StoreUnavailable as exc:
            log.warning("webhook.not_settled", delivery_id=delivery.id, error=str(exc))
        except Exception:
            # One delivery must not end the others; when its lease ends it is tried again.
            log.exception("webhook.attempt_failed", delivery_id=delivery.id, endpoint_id=delivery.endpoint_id)
        finally:
            del self._sending[delivery.id]
            self.wake()

    async def _post(self, endpoint: EndpointRecord, delivery: DeliveryRecord) -> Reply | PostFailed:
        try:
            # Signed with the time of the attempt: receivers refuse what is older than minutes.
            headers = self._signing.headers(endpoint, delivery.id, delivery.body, int(self._now()))
            return await self._poster.post(parse_url(endpoint.url), headers, delivery.body.encode())
        except PostFailed as exc:
            return exc
        except (Unsealable, BadUrl) as exc:
            log.error("webhook.endpoint_unusable", endpoint_id=endpoint.id, reason=str(exc))
            return PostFailed("it cannot be signed or addressed; rotate the endpoint's secret, or give it another URL")

    async def _settle(self, delivery: DeliveryRecord, result: Reply | PostFailed) -> None:
        outcome = settled(delivery, result, int(self._now()), random.random())
        if not await self._store.settle(delivery, outcome):
            log.warning("webhook.lease_lost", delivery_id=delivery.id, endpoint_id=delivery.endpoint_id)
        elif outcome.state == "failed":
            log.warning(
                "webhook.given_up",
                delivery_id=delivery.id,
                endpoint_id=delivery.endpoint_id,
                event_type=delivery.event_type,
                attempts=delivery.attempts + 1,
                error=outcome.error,
            )

    async def _forget(self) -> None:
        now = int(self._now())
        await self._store.forget(now - KEPT_S, now)


def settled(delivery: DeliveryRecord, result: Reply | PostFailed, now: int, random: float) -> Settled:
    """What becomes of a delivery after an attempt. Pure; `random` is from 0 to 1.

    Every 2xx is a success. A 410 says that nobody will ever listen there again: this delivery is given up. Everything
    else may be mended, also a 4xx, and is tried again.
    """
    status, error = _told(result)
    if not error:
        return Settled("delivered", status, "", 0, now)
    asked = retry_after_seconds(result.retry_after, now) if isinstance(result, Reply) else 0
    again = next_attempt(delivery.created_at, delivery.attempts + 1, now, random, asked)
    if again is None or status == _GONE:
        return Settled("failed", status, error, 0, now)
    return Settled("pending", status, error, again, 0)


def _told(result: Reply | PostFailed) -> tuple[int, str]:
    """The status code of an attempt (0 for none), and what is wrong with it ("" for nothing)."""
    match result:
        case PostFailed():
            return 0, str(result)
        case Reply(status) if 200 <= status < 300:
            return status, ""
        case Reply(status) if 300 <= status < 400:
            return status, f"it answered {status}; redirects are not followed"
        case Reply(status):
            return status, f"it answered {status}"


def _tested(record: DeliveryRecord, result: Reply | PostFailed, now: int) -> DeliveryRecord:
    status, error = _told(result)
    state: DeliveryState = "failed" if error else "delivered"
    return replace(record, state=state, attempts=1, status_code=status, error=error, finished_at=now)
