"""What every `TraceStore` must do, as checks to run against an implementation.

A check takes a store that may hold other things already, and raises `AssertionError`.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from ..core.errors import ApiError
from ..ports.store import Page
from ..ports.traces import SpanRecord, TraceFilter, TraceRecord, TraceStore
from .conformance_store import unique

TraceCheck = Callable[[TraceStore], Awaitable[None]]

EVERY: Final = TraceFilter()
MOST: Final = 100


def trace(id_: str, created_at: int = 5, group_id: str | None = None) -> TraceRecord:
    """A trace as a client tells it."""
    return TraceRecord(id_, created_at, {"id": id_, "workflow_name": "w \0 é", "group_id": group_id}, group_id)


def span(trace_id: str, response_id: str | None = None, id_: str | None = None) -> SpanRecord:
    """A span as a client tells it."""
    id_ = id_ or unique("span")
    return SpanRecord(id_, trace_id, 6, {"id": id_, "span_data": {"response_id": response_id}}, response_id)


async def listed(store: TraceStore, owner: str, wanted: TraceFilter = EVERY) -> list[str]:
    """The ids that a list has, oldest first."""
    return [record.id for record in (await store.list(owner, Page(100, "asc"), wanted)).data]


async def status_of(asked: Awaitable[object]) -> int:
    """The status of the `ApiError` that is raised; 200 for none."""
    try:
        await asked
    except ApiError as exc:
        return exc.status
    return 200


async def a_trace_is_read_as_it_was_kept(store: TraceStore) -> None:
    owner, id_ = unique("proj"), unique("trace")
    spans = [span(id_, "resp_1"), span(id_)]
    assert await store.put(owner, [trace(id_)], spans, MOST) == 0
    assert await store.get(owner, id_) == trace(id_)
    assert (await store.spans(owner, id_, Page(100, "asc"))).data == spans
    assert (await store.spans(owner, id_, Page(1, "desc"))).data == spans[1:]
    after = await store.spans(owner, id_, Page(100, "asc", spans[0].id))
    assert (after.data, after.has_more) == (spans[1:], False)


async def projects_may_use_the_same_ids(store: TraceStore) -> None:
    owner, other, id_ = unique("proj"), unique("proj"), unique("trace")
    await store.put(owner, [trace(id_, group_id="mine")], [span(id_, "resp_1", "span_1")], MOST)
    assert await store.get(other, id_) is None
    assert (await store.spans(other, id_, Page(100, "asc"))).data == []
    assert not await store.delete(other, id_)
    await store.put(other, [trace(id_)], [span(id_, None, "span_1")], MOST)
    assert await store.get(owner, id_) == trace(id_, group_id="mine")
    assert await listed(store, other, TraceFilter(response_id="resp_1")) == []
    assert await listed(store, owner, TraceFilter(response_id="resp_1")) == [id_]


async def what_is_told_again_is_told_anew(store: TraceStore) -> None:
    owner, id_ = unique("proj"), unique("trace")
    first = span(id_, None, "span_1")
    await store.put(owner, [trace(id_)], [first, first], MOST)
    await store.put(owner, [trace(id_, created_at=9, group_id="g")], [span(id_, "resp_2", "span_1")], MOST)
    found = await store.get(owner, id_)
    assert found is not None
    assert (found.created_at, found.group_id) == (5, "g")
    assert [kept.response_id for kept in (await store.spans(owner, id_, Page(100, "asc"))).data] == ["resp_2"]


async def a_span_may_come_before_its_trace(store: TraceStore) -> None:
    owner, id_ = unique("proj"), unique("trace")
    await store.put(owner, [], [span(id_, "resp_3")], MOST)
    assert await listed(store, owner) == [id_]
    await store.put(owner, [trace(id_, group_id="g")], [], MOST)
    assert await listed(store, owner, TraceFilter("g", "resp_3")) == [id_]
    assert await listed(store, owner, TraceFilter("g", "resp_4")) == []
    assert await listed(store, owner, TraceFilter("h")) == []


async def a_trace_has_only_so_many_spans(store: TraceStore) -> None:
    owner, id_ = unique("proj"), unique("trace")
    spans = [span(id_) for _ in range(5)]
    assert await store.put(owner, [trace(id_)], spans, 3) == 2
    # One that is there may be told anew even so.
    assert await store.put(owner, [], [spans[0], span(id_)], 3) == 1
    assert (await store.spans(owner, id_, Page(100, "asc"))).data == spans[:3]


async def a_list_comes_in_pages_both_ways(store: TraceStore) -> None:
    owner, ids = unique("proj"), [unique("trace") for _ in range(4)]
    for created_at, id_ in zip((1, 2, 2, 3), ids, strict=True):
        await store.put(owner, [trace(id_, created_at)], [], MOST)
    first = await store.list(owner, Page(3, "asc"), EVERY)
    assert ([record.id for record in first.data], first.has_more) == (ids[:3], True)
    newest = await store.list(owner, Page(2, "desc", ids[3]), EVERY)
    assert ([record.id for record in newest.data], newest.has_more) == ([ids[2], ids[1]], True)
    assert await status_of(store.list(owner, Page(2, "desc", "nobody"), EVERY)) == 404


async def a_deleted_trace_is_gone(store: TraceStore) -> None:
    owner, id_ = unique("proj"), unique("trace")
    await store.put(owner, [trace(id_)], [span(id_)], MOST)
    assert await store.delete(owner, id_)
    assert not await store.delete(owner, id_)
    assert await store.get(owner, id_) is None
    await store.put(owner, [trace(id_)], [], MOST)
    assert (await store.spans(owner, id_, Page(100, "asc"))).data == []


TRACE_CHECKS: Final[tuple[TraceCheck, ...]] = (
    a_trace_is_read_as_it_was_kept,
    projects_may_use_the_same_ids,
    what_is_told_again_is_told_anew,
    a_span_may_come_before_its_trace,
    a_trace_has_only_so_many_spans,
    a_list_comes_in_pages_both_ways,
    a_deleted_trace_is_gone,
)
