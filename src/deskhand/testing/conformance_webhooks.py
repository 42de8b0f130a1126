"""What every `WebhookStore` and `DeliveryStore` must do, as checks to run against implementations.

They run beside a `ResponseStore`, whose background responses are announced. A check takes stores that may hold other
things already, and raises `AssertionError`.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from ..ports.runs import Claim, ClaimLost, Plan, Written
from ..ports.store import Page, ResponseStore
from ..ports.webhooks import (
    DeliveryRecord,
    DeliveryStore,
    EndpointChange,
    EndpointRecord,
    NewSecret,
    Settled,
    WebhookStore,
)
from ..wire.response import Response, ResponseStatus
from .conformance_records import every_page, not_found
from .conformance_store import asked, begun, ended, unique

LATER: Final = 2**40
"""A time (unix seconds) that no clock shows."""
MANY: Final = 9
MOST: Final = 5


@dataclass(frozen=True, slots=True)
class WebhookStores:
    """Stores of one database."""

    endpoints: WebhookStore
    deliveries: DeliveryStore
    responses: ResponseStore


WebhookCheck = Callable[[WebhookStores], Awaitable[None]]


def _endpoint(owner: str, *types: str, created_at: int = 1) -> EndpointRecord:
    return EndpointRecord(
        id=unique("whe"),
        owner=owner,
        name="naïve \u2028 ' 😀",
        url="https://example.com/hook?a=1",
        event_types=types or ("response.completed",),
        created_at=created_at,
        updated_at=created_at,
        hint="whsec_…abcd",
        secret=bytes(range(256)),
    )


def _delivery(endpoint: EndpointRecord, created_at: int = 1, *, due: int = 1) -> DeliveryRecord:
    return DeliveryRecord(
        id=unique("wh"),
        owner=endpoint.owner,
        endpoint_id=endpoint.id,
        event_id=unique("evt"),
        event_type="response.completed",
        body='{"a":"é😀"}',
        created_at=created_at,
        next_attempt_at=due,
    )


async def _added(stores: WebhookStores, owner: str, *types: str) -> EndpointRecord:
    endpoint = _endpoint(owner, *types)
    assert await stores.endpoints.add(endpoint, MOST)
    return endpoint


async def _waiting(stores: WebhookStores, endpoint: EndpointRecord, **changes: Any) -> DeliveryRecord:
    delivery = replace(_delivery(endpoint), **changes)
    await stores.deliveries.add(delivery)
    return delivery


async def _ids_due(stores: WebhookStores, now: int, each: int, *endpoints: EndpointRecord) -> list[str]:
    """The due deliveries of these endpoints."""
    known = {endpoint.id for endpoint in endpoints}
    return [found.id for found in await stores.deliveries.due(now, each) if found.endpoint_id in known]


async def _log(stores: WebhookStores, endpoint: EndpointRecord) -> Sequence[DeliveryRecord]:
    return (await stores.deliveries.list(endpoint.owner, endpoint.id, Page(limit=100, order="asc"))).data


async def an_endpoint_reads_as_it_was_added(stores: WebhookStores) -> None:
    owner, other = unique("proj"), unique("proj")
    endpoint = await _added(stores, owner, "response.failed", "agent.session.in_progress")
    assert await stores.endpoints.get(owner, endpoint.id) == endpoint
    assert await stores.endpoints.get(other, endpoint.id) is None
    assert await stores.endpoints.change(other, endpoint.id, EndpointChange(name="x"), 5) is None
    assert await stores.endpoints.rotate(other, endpoint.id, NewSecret(b"x", "x", 0), 5) is None
    assert not await stores.endpoints.delete(other, endpoint.id)
    assert await stores.endpoints.get(owner, endpoint.id) == endpoint


async def endpoints_are_listed_in_order(stores: WebhookStores) -> None:
    owner = unique("proj")
    endpoints = [_endpoint(owner, created_at=n // 4) for n in range(MANY)]
    for endpoint in endpoints:
        assert await stores.endpoints.add(endpoint, MANY)
    foreign = await _added(stores, unique("proj"))
    await every_page(lambda page: stores.endpoints.list(owner, page), [endpoint.id for endpoint in endpoints])
    await not_found(stores.endpoints.list(owner, Page(after=foreign.id)))


async def a_project_has_only_so_many_endpoints(stores: WebhookStores) -> None:
    owner = unique("proj")
    first = [await _added(stores, owner) for _ in range(MOST)][0]
    assert not await stores.endpoints.add(_endpoint(owner), MOST)
    assert await stores.endpoints.add(_endpoint(unique("proj")), MOST)
    assert await stores.endpoints.delete(owner, first.id)
    assert await stores.endpoints.add(_endpoint(owner), MOST)


async def an_update_that_changes_nothing_is_none(stores: WebhookStores) -> None:
    endpoint = await _added(stores, unique("proj"))
    same = EndpointChange(endpoint.name, endpoint.url, endpoint.event_types)
    for change in (EndpointChange(), same):
        assert await stores.endpoints.change(endpoint.owner, endpoint.id, change, 9) == endpoint
    for number, change in enumerate(
        [EndpointChange(name="n"), EndpointChange(url="http://u"), EndpointChange(event_types=("video.failed",))], 10
    ):
        told = await stores.endpoints.change(endpoint.owner, endpoint.id, change, number)
        assert told is not None
        assert told.updated_at == number
        assert told == await stores.endpoints.get(endpoint.owner, endpoint.id)
    assert told == replace(endpoint, name="n", url="http://u", event_types=("video.failed",), updated_at=12)


async def a_secret_is_rotated_with_and_without_overlap(stores: WebhookStores) -> None:
    endpoint = await _added(stores, unique("proj"))
    key = (endpoint.owner, endpoint.id)
    both = await stores.endpoints.rotate(*key, NewSecret(b"second", "h2", LATER), 5)
    assert both == replace(
        endpoint, secret=b"second", hint="h2", previous=endpoint.secret, previous_until=LATER, updated_at=5
    )
    third = await stores.endpoints.rotate(*key, NewSecret(b"third", "h3", LATER + 1), 6)
    assert third is not None
    assert (third.secret, third.previous, third.previous_until) == (b"third", b"second", LATER + 1)
    await stores.deliveries.forget(0, LATER)
    assert await stores.endpoints.get(*key) == third
    await stores.deliveries.forget(0, LATER + 1)
    assert await stores.endpoints.get(*key) == replace(third, previous=None, previous_until=0)
    await stores.endpoints.rotate(*key, NewSecret(b"fourth", "h4", LATER), 7)
    only = await stores.endpoints.rotate(*key, NewSecret(b"fifth", "h5", 0), 8)
    assert only == replace(endpoint, secret=b"fifth", hint="h5", updated_at=8)


async def deliveries_come_back_as_they_were(stores: WebhookStores) -> None:
    endpoint = await _added(stores, unique("proj"))
    deliveries = [_delivery(endpoint, n // 4, due=LATER) for n in range(MANY)]
    for delivery in deliveries:
        await stores.deliveries.add(delivery)
    await stores.deliveries.add(replace(deliveries[0], body="another"))
    other = await _added(stores, endpoint.owner)
    await _waiting(stores, other)
    assert list(await _log(stores, endpoint)) == deliveries
    await every_page(
        lambda page: stores.deliveries.list(endpoint.owner, endpoint.id, page), [one.id for one in deliveries]
    )
    assert (await stores.deliveries.list(unique("proj"), endpoint.id, Page())).data == []


async def a_backlog_hides_nobody(stores: WebhookStores) -> None:
    owner = unique("proj")
    slow, quick = await _added(stores, owner), await _added(stores, owner)
    backlog = [await _waiting(stores, slow, next_attempt_at=n) for n in range(MANY)]
    one = await _waiting(stores, quick, next_attempt_at=LATER)
    assert await _ids_due(stores, LATER - 1, 3, slow, quick) == [delivery.id for delivery in backlog[:3]]
    assert await _ids_due(stores, LATER, 3, slow, quick) == [*(delivery.id for delivery in backlog[:3]), one.id]
    assert await stores.deliveries.claim(backlog[0], LATER, LATER + 5) == slow
    assert await _ids_due(stores, LATER, 1, slow, quick) == [backlog[1].id, one.id]


async def one_of_many_begins_an_attempt(stores: WebhookStores) -> None:
    endpoint = await _added(stores, unique("proj"))
    delivery = await _waiting(stores, endpoint)
    claims = await asyncio.gather(*[stores.deliveries.claim(delivery, 10, 20) for _ in range(MANY)])
    assert [claim for claim in claims if claim is not None] == [endpoint]
    assert await _ids_due(stores, 19, 9, endpoint) == []
    (begun_once,) = await _log(stores, endpoint)
    assert begun_once.attempts == 1
    assert await stores.deliveries.claim(begun_once, 19, 30) is None
    # The lease is over: whoever had it is dead or too late.
    assert await _ids_due(stores, 20, 9, endpoint) == [delivery.id]
    assert await stores.deliveries.claim(begun_once, 20, 30) == endpoint
    late = Settled("delivered", 200, "", 0, 21)
    assert not await stores.deliveries.settle(delivery, late)
    assert await stores.deliveries.settle(begun_once, Settled("pending", 500, "it answered 500", 40, 0))
    assert not await stores.deliveries.settle(begun_once, late)
    (found,) = await _log(stores, endpoint)
    assert found == replace(delivery, attempts=2, status_code=500, error="it answered 500", next_attempt_at=40)
    assert await _ids_due(stores, 39, 9, endpoint) == []
    assert await stores.deliveries.claim(found, 40, 50) == endpoint
    assert await stores.deliveries.settle(found, late)
    (found,) = await _log(stores, endpoint)
    assert (found.state, found.attempts, found.finished_at) == ("delivered", 3, 21)
    assert await _ids_due(stores, LATER, 9, endpoint) == []
    assert await stores.deliveries.claim(found, LATER, LATER + 1) is None


async def what_has_finished_can_be_sent_again(stores: WebhookStores) -> None:
    endpoint = await _added(stores, unique("proj"))
    delivery = await _waiting(stores, endpoint, state="failed", attempts=3, finished_at=7, next_attempt_at=0)
    key = (endpoint.owner, endpoint.id, delivery.id)
    for wrong in range(3):
        some = [*key]
        some[wrong] = "none"
        assert await stores.deliveries.retry(some[0], some[1], some[2], 8) is None
    assert await _ids_due(stores, LATER, 9, endpoint) == []
    again = await stores.deliveries.retry(*key, 8)
    assert again == replace(delivery, state="pending", next_attempt_at=8, finished_at=0)
    assert await _ids_due(stores, 8, 9, endpoint) == [delivery.id]
    assert await stores.deliveries.claim(again, 8, 20) == endpoint
    # It is being sent: nobody else shall send it at the same time.
    assert await stores.deliveries.retry(*key, 9) == replace(again, attempts=4)
    assert await _ids_due(stores, 19, 9, endpoint) == []


async def an_endpoint_takes_its_deliveries_along(stores: WebhookStores) -> None:
    owner = unique("proj")
    endpoint, other = await _added(stores, owner), await _added(stores, owner)
    delivery, kept = await _waiting(stores, endpoint), await _waiting(stores, other)
    assert await stores.deliveries.claim(delivery, 10, 20) == endpoint
    assert await stores.endpoints.delete(owner, endpoint.id)
    assert not await stores.endpoints.delete(owner, endpoint.id)
    assert not await stores.deliveries.settle(delivery, Settled("delivered", 200, "", 0, 11))
    assert list(await _log(stores, endpoint)) == []
    assert list(await _log(stores, other)) == [kept]


async def what_is_old_is_forgotten(stores: WebhookStores) -> None:
    endpoint = await _added(stores, unique("proj"))
    gone = _endpoint(endpoint.owner)
    await _waiting(stores, endpoint, state="delivered", finished_at=10)
    young = await _waiting(stores, endpoint, state="failed", finished_at=11)
    waiting = await _waiting(stores, endpoint, next_attempt_at=LATER)
    await _waiting(stores, gone)  # announced in the moment in which its endpoint was deleted
    await stores.deliveries.forget(11, 11)
    assert list(await _log(stores, endpoint)) == [young, waiting]
    assert list(await _log(stores, gone)) == []


async def _run(
    stores: WebhookStores, owner: str, status: ResponseStatus = "completed", *, background: bool = True
) -> Response:
    """A response of this project that has ended."""
    response = msgspec.structs.replace(begun(), background=background)
    await stores.responses.create(owner, response, [asked("q")], Plan("process"))
    done = msgspec.structs.replace(ended(response, []), status=status, completed_at=77)
    await stores.responses.finish(Claim(response.id), done, Written())
    return done


async def the_end_of_a_background_response_is_announced_once(stores: WebhookStores) -> None:
    owner = unique("proj")
    wants = [await _added(stores, owner, "video.failed", "response.completed") for _ in range(2)]
    others = [await _added(stores, owner, "response.failed"), await _added(stores, unique("proj"))]
    done = await _run(stores, owner)
    await stores.responses.finish(Claim(done.id), done, Written())
    told = [*(await _log(stores, wants[0])), *(await _log(stores, wants[1]))]
    assert [found.endpoint_id for found in told] == [endpoint.id for endpoint in wants]
    assert len({found.event_id for found in told}) == 1
    assert len({found.id for found in told}) == 2
    for found in told:
        event = {"id": found.event_id, "object": "event", "type": "response.completed"}
        assert json.loads(found.body) == event | {"created_at": 77, "data": {"id": done.id}}
        assert (found.owner, found.state, found.attempts) == (owner, "pending", 0)
    assert await _ids_due(stores, LATER, 9, *wants) == [found.id for found in told]
    for endpoint in others:
        assert list(await _log(stores, endpoint)) == []


async def each_ending_has_its_event(stores: WebhookStores) -> None:
    statuses: list[ResponseStatus] = ["completed", "failed", "incomplete", "cancelled"]
    owner = unique("proj")
    endpoint = await _added(stores, owner, *(f"response.{status}" for status in statuses))
    for status in statuses:
        await _run(stores, owner, status)
    assert [found.event_type for found in await _log(stores, endpoint)] == [f"response.{one}" for one in statuses]


async def only_what_ends_in_the_background_is_announced(stores: WebhookStores) -> None:
    owner = unique("proj")
    endpoint = await _added(stores, owner)
    await _run(stores, owner, background=False)
    response = msgspec.structs.replace(begun(), background=True)
    await stores.responses.create(owner, response, [asked("q")], Plan("process"))
    assert await stores.responses.delete(owner, response.id)
    await stores.responses.finish(Claim(response.id), ended(response, []), Written())
    assert list(await _log(stores, endpoint)) == []
    await _run(stores, owner)
    assert len(await _log(stores, endpoint)) == 1


async def an_end_that_is_not_stored_is_not_announced(stores: WebhookStores) -> None:
    owner = unique("proj")
    endpoint = await _added(stores, owner)
    response = msgspec.structs.replace(begun(), background=True)
    await stores.responses.create(owner, response, [asked("q")], Plan("process"))
    try:
        await stores.responses.finish(Claim(response.id, epoch=7), ended(response, []), Written())
    except ClaimLost:
        assert list(await _log(stores, endpoint)) == []
        return
    raise AssertionError("an ending was stored without a claim")


WEBHOOK_CHECKS: Sequence[WebhookCheck] = (
    an_endpoint_reads_as_it_was_added,
    endpoints_are_listed_in_order,
    a_project_has_only_so_many_endpoints,
    an_update_that_changes_nothing_is_none,
    a_secret_is_rotated_with_and_without_overlap,
    deliveries_come_back_as_they_were,
    a_backlog_hides_nobody,
    one_of_many_begins_an_attempt,
    what_has_finished_can_be_sent_again,
    an_endpoint_takes_its_deliveries_along,
    what_is_old_is_forgotten,
    the_end_of_a_background_response_is_announced_once,
    each_ending_has_its_event,
    only_what_ends_in_the_background_is_announced,
    an_end_that_is_not_stored_is_not_announced,
)
