"""What every `IdempotencyStore` must do, as checks to run against an implementation.

A check takes a store that may hold other things already, and a store of the same place to make responses in, and raises
`AssertionError`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from ..ports.idempotency import IdempotencyStore, KeyRecord
from ..ports.store import ResponseStore
from .conformance_store import stored, unique

IdempotencyCheck = Callable[[IdempotencyStore, ResponseStore], Awaitable[None]]

NOW = 1_000_000
LEASE, DAY = 15, 86_400
MOST = 1000


def wanted(owner: str, key: str, now: int = NOW) -> KeyRecord:
    """A request that would have a key."""
    return KeyRecord(owner, key, unique("token"), ended=False, lease_until=now + LEASE, expires_at=now + DAY)


async def claimed(store: IdempotencyStore, owner: str, key: str) -> KeyRecord:
    """A request that has a key."""
    mine = wanted(owner, key)
    assert await store.claim(mine, NOW, MOST) == mine
    return mine


async def a_key_is_one_requests_until_it_ends_and_for_its_day(
    store: IdempotencyStore, responses: ResponseStore
) -> None:
    owner, key = unique("proj"), unique("key")
    first = await claimed(store, owner, key)
    assert await store.claim(wanted(owner, key), NOW + 1, MOST) == first
    await store.settle(first.token, b"told")
    for now in (NOW + 1, NOW + LEASE, NOW + DAY - 1):
        found = await store.claim(wanted(owner, key), now, MOST)
        assert found == replace(first, ended=True, lease_until=0, sealed=b"told")
    late = wanted(owner, key, NOW + DAY)
    assert await store.claim(late, NOW + DAY, MOST) == late


async def a_key_is_of_its_project(store: IdempotencyStore, responses: ResponseStore) -> None:
    key = unique("key")
    await claimed(store, unique("proj"), key)
    await claimed(store, unique("proj"), key)


async def one_of_many_at_once_has_the_key(store: IdempotencyStore, responses: ResponseStore) -> None:
    owner, key = unique("proj"), unique("key")
    asked = [wanted(owner, key) for _ in range(20)]
    found = await asyncio.gather(*(store.claim(one, NOW, MOST) for one in asked))
    assert len({record.token for record in found}) == 1
    assert found[0] in asked


async def a_released_key_is_free(store: IdempotencyStore, responses: ResponseStore) -> None:
    owner, key = unique("proj"), unique("key")
    first = await claimed(store, owner, key)
    await store.release(first.token)
    await store.release(first.token)
    second = await claimed(store, owner, key)
    # The first request is late: it must not end, name or free what the second has.
    await store.settle(first.token, b"late")
    await store.name(first.token, "resp_late", b"late")
    await store.release(first.token)
    assert await store.claim(wanted(owner, key), NOW, MOST) == second


async def what_has_ended_is_not_released(store: IdempotencyStore, responses: ResponseStore) -> None:
    owner, key = unique("proj"), unique("key")
    first = await claimed(store, owner, key)
    await store.settle(first.token, b"told")
    await store.release(first.token)
    assert (await store.claim(wanted(owner, key), NOW, MOST)).sealed == b"told"


async def a_dead_requests_key_is_free_when_its_lease_is_over(store: IdempotencyStore, responses: ResponseStore) -> None:
    owner, key = unique("proj"), unique("key")
    first = await claimed(store, owner, key)
    await store.renew([first.token], NOW + 2 * LEASE)
    assert (await store.claim(wanted(owner, key), NOW + LEASE, MOST)).token == first.token
    assert (await store.claim(wanted(owner, key), NOW + 2 * LEASE - 1, MOST)).token == first.token
    heir = wanted(owner, key, NOW + 2 * LEASE)
    assert await store.claim(heir, NOW + 2 * LEASE, MOST) == heir


async def a_dead_request_that_made_a_response_leads_to_it(store: IdempotencyStore, responses: ResponseStore) -> None:
    owner, key, other = unique("proj"), unique("key"), unique("key")
    response = await stored(responses, owner)
    first, second = await claimed(store, owner, key), await claimed(store, owner, other)
    await store.name(first.token, response.id, b"named")
    await store.name(second.token, unique("resp"), b"named")
    late = NOW + LEASE
    found = await store.claim(wanted(owner, key, late), late, MOST)
    assert found == replace(first, response_id=response.id, sealed=b"named")
    # What was named and never made is made by who comes next.
    heir = wanted(owner, other, late)
    assert await store.claim(heir, late, MOST) == heir
    # Another project's response of that id is not its own.
    third = await claimed(store, owner, unique("key"))
    await store.name(third.token, (await stored(responses, unique("proj"))).id, b"named")
    heir = wanted(owner, third.key, late)
    assert await store.claim(heir, late, MOST) == heir


async def of_too_many_keys_the_oldest_go(store: IdempotencyStore, responses: ResponseStore) -> None:
    owner, other = unique("proj"), unique("proj")
    kept = await claimed(store, other, "key")
    await store.settle(kept.token, b"")
    running = await claimed(store, owner, "running")
    for n in range(6):
        one = wanted(owner, f"key{n}", NOW + n + 1)
        assert await store.claim(one, NOW + n + 1, most=3) == one
        await store.settle(one.token, b"")
    later = NOW + 10
    found = [(await store.claim(wanted(owner, f"key{n}", later), later, MOST)).ended for n in range(6)]
    assert found == [False, False, False, True, True, True]
    assert (await store.claim(wanted(owner, "running"), NOW, MOST)).token == running.token
    assert (await store.claim(wanted(other, "key"), NOW, MOST)).token == kept.token


async def old_keys_are_forgotten_some_at_a_time(store: IdempotencyStore, responses: ResponseStore) -> None:
    owner = unique("proj")
    late = NOW + 10 * DAY
    while await store.forget_expired(late, 1000):
        pass
    ended = [wanted(owner, f"key{n}", late) for n in range(5)]
    for one in ended:
        await store.claim(one, late, MOST)
        await store.settle(one.token, b"")
    running = wanted(owner, "running", late)
    await store.claim(running, late, MOST)
    assert await store.forget_expired(late + DAY - 1, 3) == 0
    await store.renew([running.token], late + 2 * DAY)
    assert await store.forget_expired(late + DAY, 3) == 3
    assert await store.forget_expired(late + DAY, 3) == 2
    assert await store.forget_expired(late + 2 * DAY, 3) == 1


IDEMPOTENCY_CHECKS: tuple[IdempotencyCheck, ...] = (
    a_key_is_one_requests_until_it_ends_and_for_its_day,
    a_key_is_of_its_project,
    one_of_many_at_once_has_the_key,
    a_released_key_is_free,
    what_has_ended_is_not_released,
    a_dead_requests_key_is_free_when_its_lease_is_over,
    a_dead_request_that_made_a_response_leads_to_it,
    of_too_many_keys_the_oldest_go,
    old_keys_are_forgotten_some_at_a_time,
)
