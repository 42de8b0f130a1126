"""What every `EgressStore` must do, as checks to run against an implementation beside its `ContainerStore`.

A check takes stores that may hold other things already, and raises `AssertionError`.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from ..ports.store import ContainerRecord, ContainerStore, EgressRecord, EgressStore, Page, StoredSecret
from .conformance_records import every_page, not_found
from .conformance_store import unique

EgressCheck = Callable[[EgressStore, ContainerStore], Awaitable[None]]

SEALED = bytes(range(256))


async def _container(containers: ContainerStore) -> ContainerRecord:
    record = ContainerRecord(unique("cntr"), unique("proj"), "c", "running", 1, 1, 20, "1g")
    await containers.add(record)
    return record


def _record(container: ContainerRecord, created_ms: int, path: str = "/") -> EgressRecord:
    return EgressRecord(
        id=unique("egr"),
        owner=container.owner,
        container_id=container.id,
        created_ms=created_ms,
        response_id="resp_1",
        call_id="",
        host="example.com",
        port=443,
        method="GET",
        path=path,
        decision="denied",
        reason="path_not_allowed",
        rule="*.example.com",
        verified=False,
        status=403,
        bytes_out=5 * 10**12,
        bytes_in=0,
        secrets=("A", "B"),
    )


async def secrets_are_kept_replaced_and_forgotten(store: EgressStore, containers: ContainerStore) -> None:
    container, other = await _container(containers), await _container(containers)
    one = StoredSecret(container.id, "KEY", "a.test", "placeholder", SEALED)
    two = replace(one, domain="b.test", sealed=b"")
    await store.keep_secrets([two, one, replace(one, container_id=other.id)])
    assert list(await store.secrets(container.id)) == [one, two]
    fresh = replace(one, sealed=b"fresh", placeholder="other")
    await store.keep_secrets([fresh])
    assert list(await store.secrets(container.id)) == [fresh, two]
    await store.forget_secrets(container.id)
    await store.forget_secrets(container.id)
    assert list(await store.secrets(container.id)) == []
    assert len(await store.secrets(other.id)) == 1
    await store.keep_secrets([])


async def secrets_go_with_their_container(store: EgressStore, containers: ContainerStore) -> None:
    container = await _container(containers)
    await store.keep_secrets([StoredSecret(container.id, "KEY", "a.test", "p", SEALED)])
    assert await containers.delete(container.owner, container.id)
    assert list(await store.secrets(container.id)) == []


async def secrets_of_an_unknown_container_are_refused(store: EgressStore, containers: ContainerStore) -> None:
    try:
        await store.keep_secrets([StoredSecret(unique("cntr"), "KEY", "a.test", "p", SEALED)])
    except Exception:
        return
    raise AssertionError("a secret was kept for nobody")


async def records_come_back_as_they_were(store: EgressStore, containers: ContainerStore) -> None:
    container = await _container(containers)
    first = _record(container, 1, path="/é\u2028\U0001f600")
    second = replace(_record(container, 2), decision="allowed", verified=True, secrets=(), reason="")
    await store.add([first, second])
    await store.add([])
    assert list((await store.list(container.owner, container.id, Page(order="asc"))).data) == [first, second]


async def records_are_listed_in_pages_and_by_their_owner(store: EgressStore, containers: ContainerStore) -> None:
    container, other = await _container(containers), await _container(containers)
    records = [_record(container, n // 4) for n in range(25)]
    await store.add([*records, _record(other, 3)])
    await every_page(lambda page: store.list(container.owner, container.id, page), [r.id for r in records])
    assert list((await store.list(other.owner, container.id, Page())).data) == []
    await not_found(store.list(other.owner, other.id, Page(after=records[0].id)))


async def records_outlive_their_container_until_they_are_old(store: EgressStore, containers: ContainerStore) -> None:
    container = await _container(containers)
    old, young = _record(container, -(10**15)), _record(container, 10**15)
    await store.add([old, young])
    await containers.delete(container.owner, container.id)
    assert len((await store.list(container.owner, container.id, Page())).data) == 2
    await store.forget_records(-(10**15) + 1)
    assert list((await store.list(container.owner, container.id, Page())).data) == [young]


EGRESS_CHECKS: Sequence[EgressCheck] = (
    secrets_are_kept_replaced_and_forgotten,
    secrets_go_with_their_container,
    secrets_of_an_unknown_container_are_refused,
    records_come_back_as_they_were,
    records_are_listed_in_pages_and_by_their_owner,
    records_outlive_their_container_until_they_are_old,
)
"""Every check of an `EgressStore`."""
