"""What every `FileStore`, `ContainerStore` and `BlobStore` must do, as checks to run against an implementation.

A check takes a store that may hold other things already, and raises `AssertionError`.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Literal, Protocol, TypeVar

from ..core.errors import ApiError
from ..ports.store import (
    BlobStore,
    BlobTooLarge,
    ContainerFileRecord,
    ContainerRecord,
    ContainerStore,
    FileRecord,
    FileStore,
    Listing,
    Page,
)
from .conformance_store import unique

FileCheck = Callable[[FileStore], Awaitable[None]]
ContainerCheck = Callable[[ContainerStore], Awaitable[None]]
BlobCheck = Callable[[BlobStore], Awaitable[None]]

MANY = 25


class _Named(Protocol):
    @property
    def id(self) -> str: ...


N = TypeVar("N", bound=_Named)


async def not_found(refused: Awaitable[object]) -> None:
    """Check that it raises a 404."""
    status = None
    try:
        await refused
    except ApiError as error:
        status = error.status
    assert status == 404


async def pages(
    list_page: Callable[[Page], Awaitable[Listing[N]]], order: Literal["asc", "desc"], limit: int
) -> list[str]:
    """The ids of a whole list, read page by page."""
    found: list[str] = []
    after: str | None = None
    while True:
        listing = await list_page(Page(limit, order, after))
        assert len(listing.data) <= limit
        found += [value.id for value in listing.data]
        if not listing.has_more:
            return found
        assert len(listing.data) == limit
        after = found[-1]


async def every_page(list_page: Callable[[Page], Awaitable[Listing[N]]], expected: Sequence[str]) -> None:
    """Check a list, given oldest first, in both orders and several page sizes, and its unknown cursors."""
    for limit in (1, 7, len(expected), 100):
        assert await pages(list_page, "asc", limit) == list(expected)
        assert await pages(list_page, "desc", limit) == list(reversed(expected))
    for unknown in ("none", "\ud800", ""):
        await not_found(list_page(Page(after=unknown)))


def file_record(
    owner: str, created_at: int = 1, *, purpose: str = "user_data", expires_at: int | None = None
) -> FileRecord:
    """A file of 5 GB."""
    return FileRecord(unique("file"), owner, "a.txt", 5 * 10**9, purpose, created_at, expires_at, unique("blob"))


async def a_file_reads_as_it_was_added(store: FileStore) -> None:
    owner, other = unique("proj"), unique("proj")
    record = replace(file_record(owner, expires_at=2**40), filename="naïve \u2028 ' 😀.txt")
    await store.add(record)
    assert await store.get(owner, record.id) == record
    assert await store.get(other, record.id) is None
    assert await store.delete(other, record.id) is None
    assert (await store.list(other, Page(), None)).data == []
    assert await store.delete(owner, record.id) == record
    assert await store.delete(owner, record.id) is None
    assert await store.get(owner, record.id) is None


async def a_name_that_is_not_text_is_kept_readable(store: FileStore) -> None:
    owner = unique("proj")
    record = replace(file_record(owner), filename="a\udcff\0b")
    await store.add(record)
    found = await store.get(owner, record.id)
    assert found is not None
    assert found.filename.startswith("a")
    assert found.filename.endswith("b")


async def files_are_listed_in_order(store: FileStore) -> None:
    owner = unique("proj")
    records = [file_record(owner, n // 4, purpose="batch" if n % 3 else "vision") for n in range(MANY)]
    for record in records:
        await store.add(record)
    await store.add(file_record(unique("proj")))
    await every_page(lambda page: store.list(owner, page, None), [record.id for record in records])
    some = [record.id for record in records if record.purpose == "batch"]
    await every_page(lambda page: store.list(owner, page, "batch"), some)
    assert await store.list(owner, Page(), "none") == Listing([], has_more=False)
    foreign = file_record(unique("proj"))
    await store.add(foreign)
    await not_found(store.list(owner, Page(after=foreign.id), None))


async def expired_files_and_used_blobs_are_found(store: FileStore) -> None:
    owner = unique("proj")
    old, soon, never = (file_record(owner, expires_at=at) for at in (10, 20, None))
    twin = replace(file_record(unique("proj")), blob=old.blob)
    for record in (old, soon, never, twin):
        await store.add(record)
    expired = [record for record in await store.expired(19) if record.owner == owner]
    assert expired == [old]
    assert soon in await store.expired(20)
    assert await store.delete(owner, old.id) == old
    assert await store.blob_in_use(old.blob), "the other file has the same bytes"
    assert await store.delete(twin.owner, twin.id) == twin
    assert not await store.blob_in_use(old.blob)


FILE_CHECKS: Sequence[FileCheck] = (
    a_file_reads_as_it_was_added,
    a_name_that_is_not_text_is_kept_readable,
    files_are_listed_in_order,
    expired_files_and_used_blobs_are_found,
)


def container_record(owner: str, created_at: int = 1, *, name: str = "c") -> ContainerRecord:
    """A running container."""
    return ContainerRecord(unique("cntr"), owner, name, "running", created_at, created_at, 20, "4g")


async def a_container_reads_as_it_was_added(store: ContainerStore) -> None:
    owner, other = unique("proj"), unique("proj")
    record = container_record(owner)
    await store.add(record)
    assert await store.get(owner, record.id) == record
    assert await store.get(other, record.id) is None
    assert not await store.delete(other, record.id)
    await store.touch(record.id, 99)
    await store.set_state(record.id, "expired")
    assert await store.get(owner, record.id) == replace(record, last_active_at=99, state="expired")
    await store.touch("none", 99)
    await store.set_state("none", "running")
    assert await store.delete(owner, record.id)
    assert not await store.delete(owner, record.id)
    assert await store.get(owner, record.id) is None


async def containers_are_listed_in_order_without_reserved_ones(store: ContainerStore) -> None:
    owner, hidden = unique("proj"), replace(container_record(unique("proj")), state="reserved")
    records = [container_record(owner, n // 4, name="ab"[n % 2]) for n in range(MANY)]
    for record in records:
        await store.add(record)
        await store.add(replace(record, id=unique("cntr"), state="reserved"))
    await every_page(lambda page: store.list(owner, page, None), [record.id for record in records])
    await every_page(lambda page: store.list(owner, page, "a"), [r.id for r in records if r.name == "a"])
    await store.add(hidden)
    assert await store.get(hidden.owner, hidden.id) == hidden
    assert await store.list(hidden.owner, Page(), None) == Listing([], has_more=False)


async def live_containers_are_counted_by_owner(store: ContainerStore) -> None:
    owner, other = unique("proj"), unique("proj")
    mine, reserved, foreign = container_record(owner), container_record(owner), container_record(other)
    await store.add(mine)
    await store.add(replace(reserved, state="reserved"))
    await store.add(foreign)
    assert await store.count_live(owner) == 1
    assert [record for record in await store.live() if record.owner in {owner, other}] == [mine, foreign]
    await store.set_state(reserved.id, "running")
    assert await store.count_live(owner) == 2
    await store.set_state(mine.id, "expired")
    assert await store.count_live(owner) == 1
    assert await store.count_live(unique("proj")) == 0


async def files_of_a_container_keep_their_ids(store: ContainerStore) -> None:
    container, other = container_record(unique("proj")), container_record(unique("proj"))
    await store.add(container)
    await store.add(other)
    record = ContainerFileRecord(unique("cfile"), container.id, "out/a.csv", "assistant", 1)
    assert await store.add_file(record) == record
    again = replace(record, id=unique("cfile"), source="user")
    assert await store.add_file(again) == record, "a path keeps its first id"
    elsewhere = replace(again, container_id=other.id)
    assert await store.add_file(elsewhere) == elsewhere
    second = await store.add_file(replace(record, id=unique("cfile"), path="\udcff\0"))
    assert list(await store.files(container.id)) == [record, second]
    assert await store.file(container.id, record.id) == record
    assert await store.file(other.id, record.id) is None
    await store.delete_file(other.id, record.id)
    assert await store.file(container.id, record.id) == record
    await store.delete_file(container.id, record.id)
    await store.delete_file(container.id, record.id)
    assert list(await store.files(container.id)) == [second]
    assert await store.delete(container.owner, container.id)
    assert list(await store.files(container.id)) == []
    assert await store.file(container.id, second.id) is None
    assert list(await store.files(other.id)) == [elsewhere]
    await not_found(store.add_file(record))


CONTAINER_CHECKS: Sequence[ContainerCheck] = (
    a_container_reads_as_it_was_added,
    containers_are_listed_in_order_without_reserved_ones,
    live_containers_are_counted_by_owner,
    files_of_a_container_keep_their_ids,
)


async def chunked(data: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    """`data` in pieces."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def content(store: BlobStore, key: str) -> bytes | None:
    """All bytes of a blob; None if there are none."""
    try:
        return b"".join([chunk async for chunk in store.open(key)])
    except FileNotFoundError:
        return None


async def bytes_read_as_they_were_put(store: BlobStore) -> None:
    for size in (0, 1, 100_000, 1_500_000):
        data = unique("data").encode() * (size // 32) + b"x" * (size % 32)
        blob = await store.put(chunked(data), max_bytes=len(data))
        assert blob.bytes == len(data)
        assert blob.key.startswith(hashlib.sha256(data).hexdigest())
        assert await content(store, blob.key) == data
        await store.delete(blob.key)
        await store.delete(blob.key)
        assert await content(store, blob.key) is None


async def too_many_bytes_are_refused_and_not_kept(store: BlobStore) -> None:
    data = unique("data").encode() * 20_000
    try:
        await store.put(chunked(data), max_bytes=len(data) - 1)
    except BlobTooLarge:
        pass
    else:
        raise AssertionError("too many bytes were taken")
    assert await content(store, hashlib.sha256(data).hexdigest()) is None


async def the_same_bytes_may_be_put_at_once(store: BlobStore) -> None:
    data = unique("data").encode() * 20_000
    blobs = await asyncio.gather(*(store.put(chunked(data), max_bytes=len(data)) for _ in range(8)))
    for blob in blobs:
        assert await content(store, blob.key) == data


async def a_put_that_is_given_up_keeps_nothing(store: BlobStore) -> None:
    data = unique("data").encode() * 20_000

    async def stuck() -> AsyncIterator[bytes]:
        yield data
        await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(store.put(stuck(), max_bytes=len(data)))
        await asyncio.sleep(0.01)
        task.cancel()
    assert await content(store, hashlib.sha256(data).hexdigest()) is None


async def names_that_are_not_keys_name_nothing(store: BlobStore) -> None:
    for key in ("", ".", "../x", "/etc/passwd", "\0", "A" * 64, "a" * 63, "a" * 64 + "\n", "incoming", "\ud800" * 64):
        assert await content(store, key) is None
        await store.delete(key)


BLOB_CHECKS: Sequence[BlobCheck] = (
    bytes_read_as_they_were_put,
    too_many_bytes_are_refused_and_not_kept,
    the_same_bytes_may_be_put_at_once,
    a_put_that_is_given_up_keeps_nothing,
    names_that_are_not_keys_name_nothing,
)
