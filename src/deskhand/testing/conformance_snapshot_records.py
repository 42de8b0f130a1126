"""What every store of snapshots' records must do, as checks that any implementer can run."""

from collections.abc import Awaitable, Callable

from ..core.errors import ApiError
from ..ports.store import ContainerStore, Page, SnapshotRecord, SnapshotStore
from .conformance_records import container_record
from .conformance_store import unique

SnapshotCheck = Callable[[SnapshotStore, ContainerStore], Awaitable[None]]


def snapshot_record(
    owner: str, container_id: str, created_at: int = 1, *, automatic: bool = False, size: int = 10
) -> SnapshotRecord:
    """A snapshot."""
    return SnapshotRecord(unique("csnap"), owner, container_id, "n", automatic, created_at, size)


async def a_snapshot_belongs_to_its_owner(store: SnapshotStore, containers: ContainerStore) -> None:
    owner, other, container_id = unique("proj"), unique("proj"), unique("cntr")
    record = snapshot_record(owner, container_id)
    await store.add(record)
    assert await store.get(owner, record.id) == record
    assert await store.get(other, record.id) is None
    assert (await store.list(other, container_id, Page())).data == []
    assert await store.total_bytes(other) == 0
    await store.link("resp_1", record.id)
    assert await store.of_response(other, "resp_1") == []
    assert not await store.delete(other, record.id)
    assert record.id in await store.ids()
    assert await store.delete(owner, record.id)
    assert not await store.delete(owner, record.id)
    assert await store.of_response(owner, "resp_1") == []
    assert record.id not in await store.ids()


async def snapshots_are_paged_within_their_container(store: SnapshotStore, containers: ContainerStore) -> None:
    owner, container_id = unique("proj"), unique("cntr")
    records = [snapshot_record(owner, container_id, created_at) for created_at in (1, 2, 2, 3)]
    for record in records:
        await store.add(record)
    await store.add(snapshot_record(owner, unique("cntr"), 2))
    assert list((await store.list(owner, container_id, Page(order="asc"))).data) == records
    first = await store.list(owner, container_id, Page(limit=2))
    assert (list(first.data), first.has_more) == (records[:1:-1], True)
    rest = await store.list(owner, container_id, Page(limit=2, after=first.data[-1].id))
    assert (list(rest.data), rest.has_more) == (records[1::-1], False)
    status = 200
    try:
        await store.list(owner, container_id, Page(after="csnap_none"))
    except ApiError as exc:
        status = exc.status
    assert status == 404


async def the_oldest_automatic_ones_go_first(store: SnapshotStore, containers: ContainerStore) -> None:
    owner, container_id = unique("proj"), unique("cntr")
    kept = snapshot_record(owner, container_id, 1, size=1000)
    automatic = [snapshot_record(owner, container_id, at, automatic=True, size=at) for at in (2, 3, 3, 4)]
    elsewhere = snapshot_record(owner, unique("cntr"), 5, automatic=True)
    for record in (kept, *automatic, elsewhere):
        await store.add(record)
    assert list(await store.surplus(container_id, 2)) == automatic[:2]
    assert list(await store.surplus(container_id, 0)) == automatic
    assert list(await store.surplus(container_id, 9)) == []
    assert await store.oldest_automatic(owner) == automatic[0]
    assert await store.oldest_automatic(unique("proj")) is None
    assert [record for record in await store.aged(4) if record.owner == owner] == automatic[:3]
    assert await store.total_bytes(owner) == 1000 + 2 + 3 + 3 + 4 + 10


async def a_response_has_one_snapshot_for_each_container(store: SnapshotStore, containers: ContainerStore) -> None:
    owner, response_id = unique("proj"), unique("resp")
    first, second = (snapshot_record(owner, unique("cntr")) for _ in range(2))
    await store.add(first)
    await store.add(second)
    for record in (first, second, first):
        await store.link(response_id, record.id)
    await store.link(response_id, "csnap_none")
    assert list(await store.of_response(owner, response_id)) == [first, second]
    await store.delete(owner, first.id)
    assert list(await store.of_response(owner, response_id)) == [second]


async def news_is_told_once(store: SnapshotStore, containers: ContainerStore) -> None:
    owner = unique("proj")
    container = container_record(owner)
    await containers.add(container)
    assert await store.take_news(container.id) == ""
    await store.put_news(container.id, "old")
    await store.put_news(container.id, "new\0 ☃")
    assert (await store.take_news(container.id)).endswith("☃")
    assert await store.take_news(container.id) == ""
    await store.put_news(container.id, "never told")
    await containers.delete(owner, container.id)
    assert await store.take_news(container.id) == ""
    await store.put_news("cntr_none", "to nobody")
    assert await store.take_news("cntr_none") == ""


SNAPSHOT_RECORD_CHECKS: tuple[SnapshotCheck, ...] = (
    a_snapshot_belongs_to_its_owner,
    snapshots_are_paged_within_their_container,
    the_oldest_automatic_ones_go_first,
    a_response_has_one_snapshot_for_each_container,
    news_is_told_once,
)
