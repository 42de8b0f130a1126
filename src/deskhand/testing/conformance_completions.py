"""What every `CompletionStore` must do, as checks to run against an implementation.

A check takes a store that may hold other things already, and raises `AssertionError`.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from ..core.errors import ApiError
from ..ports.completions import CompletionFilter, CompletionRecord, CompletionStore
from ..ports.store import Page
from .conformance_store import unique

CompletionCheck = Callable[[CompletionStore], Awaitable[None]]

EVERY: Final = CompletionFilter()


async def kept(store: CompletionStore, owner: str, created_at: int = 5, **metadata: str) -> CompletionRecord:
    """A completion that is kept."""
    id_ = unique("chatcmpl")
    record = CompletionRecord(id_, owner, created_at, "m", metadata, {"id": id_, "choices": [{"index": 0}]})
    await store.add(record, [{"role": "user", "content": "hello \0 é"}])
    return record


async def listed(store: CompletionStore, owner: str, wanted: CompletionFilter = EVERY) -> list[str]:
    """The ids that a list has, oldest first."""
    return [record.id for record in (await store.list(owner, Page(100, "asc"), wanted)).data]


async def a_completion_is_read_as_it_was_kept(store: CompletionStore) -> None:
    owner = unique("proj")
    record = await kept(store, owner, a="1")
    assert await store.get(owner, record.id) == record
    assert await store.messages(owner, record.id) == [{"role": "user", "content": "hello \0 é"}]
    assert await store.get(owner, "nobody") is None
    assert await store.messages(owner, "nobody") is None


async def another_owners_does_not_exist(store: CompletionStore) -> None:
    owner, other = unique("proj"), unique("proj")
    record = await kept(store, owner)
    assert await store.get(other, record.id) is None
    assert await store.messages(other, record.id) is None
    assert not await store.set_metadata(other, record.id, {"a": "1"})
    assert not await store.delete(other, record.id)
    assert await listed(store, other) == []
    assert await store.get(owner, record.id) == record


async def a_list_comes_in_pages_both_ways(store: CompletionStore) -> None:
    owner = unique("proj")
    ids = [(await kept(store, owner, created_at)).id for created_at in (1, 2, 2, 3)]
    first = await store.list(owner, Page(3, "asc"), EVERY)
    assert ([record.id for record in first.data], first.has_more) == (ids[:3], True)
    rest = await store.list(owner, Page(3, "asc", ids[2]), EVERY)
    assert ([record.id for record in rest.data], rest.has_more) == (ids[3:], False)
    newest = await store.list(owner, Page(2, "desc", ids[3]), EVERY)
    assert ([record.id for record in newest.data], newest.has_more) == ([ids[2], ids[1]], True)
    refused: ApiError | None = None
    try:
        await store.list(owner, Page(2, "asc", "nobody"), EVERY)
    except ApiError as exc:
        refused = exc
    assert refused is not None
    assert (refused.status, refused.param) == (404, "after")


async def a_list_is_of_a_model_and_has_all_of_the_metadata(store: CompletionStore) -> None:
    owner = unique("proj")
    one = await kept(store, owner, a="1", b="2", c="%")
    two = await kept(store, owner, a="1", b="3")
    for wanted, found in [
        ({"a": "1"}, [one.id, two.id]),
        ({"b": "2", "a": "1"}, [one.id]),
        ({"c": "%", "a": "1", "b": "2"}, [one.id]),
        ({"c": "_"}, []),
        ({"A": "1"}, []),
        ({"a": "2"}, []),
        ({"1": "a"}, []),
        ({"a": "1", "d": "4"}, []),
    ]:
        assert await listed(store, owner, CompletionFilter(metadata=wanted)) == found, wanted
    assert await listed(store, owner, CompletionFilter("m", {"b": "3"})) == [two.id]
    assert await listed(store, owner, CompletionFilter("M")) == []


async def other_metadata_is_found_instead(store: CompletionStore) -> None:
    owner = unique("proj")
    record = await kept(store, owner, a="1")
    assert await store.set_metadata(owner, record.id, {"b": "2"})
    assert await store.get(owner, record.id) == replace(record, metadata={"b": "2"})
    assert await listed(store, owner, CompletionFilter(metadata={"a": "1"})) == []
    assert await listed(store, owner, CompletionFilter(metadata={"b": "2"})) == [record.id]


async def what_is_deleted_is_gone(store: CompletionStore) -> None:
    owner = unique("proj")
    record, other = await kept(store, owner), await kept(store, owner)
    assert await store.delete(owner, record.id)
    assert not await store.delete(owner, record.id)
    assert await listed(store, owner) == [other.id]


async def what_is_old_goes_a_few_at_a_time(store: CompletionStore) -> None:
    owner = unique("proj")
    old = [(await kept(store, owner, -time)).id for time in (30, 20, 10)]
    young = await kept(store, owner, 5)
    assert await store.expire(0, 2) == 2
    assert await listed(store, owner) == [old[2], young.id]
    assert await store.expire(0, 2) == 1
    assert await store.expire(0, 2) == 0
    assert await listed(store, owner) == [young.id]


COMPLETION_CHECKS: Final[tuple[CompletionCheck, ...]] = (
    a_completion_is_read_as_it_was_kept,
    another_owners_does_not_exist,
    a_list_comes_in_pages_both_ways,
    a_list_is_of_a_model_and_has_all_of_the_metadata,
    other_metadata_is_found_instead,
    what_is_deleted_is_gone,
    what_is_old_goes_a_few_at_a_time,
)
