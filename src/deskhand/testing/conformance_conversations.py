"""What every `ConversationStore` must do, as checks to run against an implementation.

A check takes a store that may hold other things already, and the `ResponseStore` of the same place, whose responses go
on with conversations. It raises `AssertionError`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from ..core.errors import ApiError
from ..ports.conversations import ConversationRecord, ConversationStore
from ..ports.runs import Claim, Plan, Written
from ..ports.store import Page, ResponseStore
from ..wire.items import FunctionCall, Item, OpaqueItem
from ..wire.response import ConversationRef, Response, ResponseStatus
from .conformance_store import asked, begun, said, stored, unique

ConversationCheck = Callable[[ConversationStore, ResponseStore], Awaitable[None]]

MANY = 10_000
AT_ONCE = 20


async def made(store: ConversationStore, owner: str, items: Sequence[Item] = ()) -> str:
    """The id of a new conversation."""
    record = ConversationRecord(unique("conv"), owner, 1, {"k": "v"})
    await store.add(record, items)
    return record.id


async def ids(store: ConversationStore, owner: str, conversation_id: str) -> list[str]:
    """The ids of what a response would go on with."""
    found = await store.continuable(owner, conversation_id)
    assert found is not None
    return [item.id for item in found.items]


async def started(
    store: ConversationStore,
    responses: ResponseStore,
    owner: str,
    conversation_id: str,
    given: Item,
    *,
    keep: bool = True,
) -> Response:
    """A response that goes on with the conversation as it is now."""
    found = await store.continuable(owner, conversation_id)
    assert found is not None
    response = msgspec.structs.replace(begun(), conversation=ConversationRef(conversation_id), store=keep)
    await responses.create(owner, response, [given], Plan(revision=found.revision))
    return response


async def ended(
    responses: ResponseStore, response: Response, output: Sequence[Item], status: ResponseStatus = "completed"
) -> Response:
    """The response when it has ended with `output`."""
    done = msgspec.structs.replace(response, status=status, output=list(output))
    await responses.finish(Claim(response.id), done, Written(dict(enumerate(output))))
    return done


async def refusal(doing: Awaitable[object]) -> ApiError | None:
    """Why something is refused; None if it is not."""
    try:
        await doing
    except ApiError as error:
        return error
    return None


async def refused(doing: Awaitable[object], code: str | None, status: int = 400) -> None:
    """Assert that something is refused."""
    error = await refusal(doing)
    assert error is not None, "it was not refused"
    assert (error.code, error.status) == (code, status), error


async def a_conversation_reads_as_it_was_stored(store: ConversationStore, responses: ResponseStore) -> None:
    owner = unique("proj")
    items: list[Item] = [
        asked("q\0\u2028é😀"),
        FunctionCall(id=unique("fc"), call_id="c", name="f", arguments="{"),
        OpaqueItem({"type": "new_thing", "id": unique("new"), "x": None, "deep": [{"n": 10**30}]}),
    ]
    record = ConversationRecord(unique("conv"), owner, 7, {"k": "v", "": "é\0"})
    await store.add(record, items)
    assert await store.get(owner, record.id) == record
    assert list((await store.items(owner, record.id, Page(order="asc"))).data) == items
    assert [await store.item(owner, record.id, item.id) for item in items] == items
    found = await store.continuable(owner, record.id)
    assert found is not None
    assert list(found.items) == items
    assert not found.locked
    assert await store.set_metadata(owner, record.id, {"other": "x"})
    changed = await store.get(owner, record.id)
    assert changed is not None
    assert changed.metadata == {"other": "x"}


async def another_owners_conversation_does_not_exist(store: ConversationStore, responses: ResponseStore) -> None:
    owner, other, item = unique("proj"), unique("proj"), asked("mine")
    id_ = await made(store, owner, [item])
    assert await store.get(other, id_) is None
    assert not await store.set_metadata(other, id_, {})
    assert not await store.delete(other, id_)
    assert await store.item(other, id_, item.id) is None
    assert await store.newest_item(other, item.id) is None
    assert await store.continuable(other, id_) is None
    assert not await store.known(other, id_, [item.id])
    await refused(store.items(other, id_, Page()), None, 404)
    await refused(store.append(other, id_, [asked("x")]), None, 404)
    await refused(store.delete_item(other, id_, item.id), None, 404)
    strangers = msgspec.structs.replace(begun(), conversation=ConversationRef(id_))
    await refused(responses.create(other, strangers, [], Plan(revision=1)), None, 404)
    assert await responses.get(other, strangers.id) is None, "nothing is left of what was refused"
    assert await ids(store, owner, id_) == [item.id]


async def pages_follow_each_other_in_both_orders(store: ConversationStore, responses: ResponseStore) -> None:
    owner = unique("proj")
    items = [asked(str(number)) for number in range(7)]
    id_ = await made(store, owner, items[:4])
    await store.append(owner, id_, items[4:])
    for order, expected in (("asc", items), ("desc", items[::-1])):
        seen: list[Item] = []
        after, more = None, True
        while more:
            page = await store.items(owner, id_, Page(3, "asc" if order == "asc" else "desc", after))
            seen += page.data
            after, more = page.data[-1].id, page.has_more
        assert seen == expected
    await refused(store.items(owner, id_, Page(after="msg_unknown")), None, 404)
    other = await made(store, owner)
    assert not (await store.items(owner, other, Page())).data
    await refused(store.items(owner, other, Page(after=items[0].id)), None, 404)


async def a_page_of_many_items_is_found(store: ConversationStore, responses: ResponseStore) -> None:
    owner = unique("proj")
    items = [asked(str(number)) for number in range(MANY)]
    id_ = await made(store, owner, items)
    middle = MANY // 2
    up = await store.items(owner, id_, Page(100, "asc", items[middle].id))
    assert list(up.data) == items[middle + 1 : middle + 101]
    down = await store.items(owner, id_, Page(100, "desc", items[middle].id))
    assert list(down.data) == items[middle - 100 : middle][::-1]
    assert up.has_more
    assert down.has_more


async def an_item_comes_once_and_can_be_deleted(store: ConversationStore, responses: ResponseStore) -> None:
    owner, first, second = unique("proj"), asked("1"), asked("2")
    id_ = await made(store, owner, [first])
    await refused(store.append(owner, id_, [second, first]), None)
    assert await ids(store, owner, id_) == [first.id], "all or nothing"
    await store.append(owner, id_, [second])
    assert set(await store.known(owner, id_, [first.id, second.id, "msg_x"])) == {first.id, second.id}
    assert await store.delete_item(owner, id_, first.id)
    assert not await store.delete_item(owner, id_, first.id)
    assert await ids(store, owner, id_) == [second.id]
    assert await store.item(owner, id_, first.id) is None
    third = asked("3")
    await store.append(owner, id_, [third])
    assert await ids(store, owner, id_) == [second.id, third.id], "what is new comes last, whatever was deleted"


async def a_response_adds_its_items_when_it_completes(store: ConversationStore, responses: ResponseStore) -> None:
    owner, first, given = unique("proj"), asked("1"), asked("2")
    id_ = await made(store, owner, [first])
    response = await started(store, responses, owner, id_, given)
    output = [said("a"), said("b")]
    await responses.save(Claim(response.id), Written({0: output[0]}))
    assert await ids(store, owner, id_) == [first.id], "nothing before the end"
    done = await ended(responses, response, output)
    expected = [first.id, given.id, *(item.id for item in output)]
    assert await ids(store, owner, id_) == expected
    # Whoever could not know whether an ending was stored stores it again.
    await responses.finish(Claim(response.id), done, Written())
    assert await ids(store, owner, id_) == expected
    cut = await started(store, responses, owner, id_, asked("3"))
    await ended(responses, cut, [said("half")], "incomplete")
    assert len(await ids(store, owner, id_)) == 6, "what its user has read is part of the conversation"


async def a_response_that_fails_adds_nothing(store: ConversationStore, responses: ResponseStore) -> None:
    owner, first = unique("proj"), asked("1")
    id_ = await made(store, owner, [first])
    statuses: tuple[ResponseStatus, ...] = ("failed", "cancelled")
    for status in statuses:
        response = await started(store, responses, owner, id_, asked("x"))
        await ended(responses, response, [said("half")], status)
        assert await ids(store, owner, id_) == [first.id]
        assert len(await responses.context(owner, response.id)) == 3, "but the response keeps it"


async def one_response_at_a_time_goes_on(store: ConversationStore, responses: ResponseStore) -> None:
    owner, item = unique("proj"), asked("1")
    id_ = await made(store, owner, [item])
    running = await started(store, responses, owner, id_, asked("2"))
    found = await store.continuable(owner, id_)
    assert found is not None
    assert found.locked
    second = msgspec.structs.replace(begun(), conversation=ConversationRef(id_))
    locked = "conversation_locked"
    await refused(responses.create(owner, second, [], Plan(revision=found.revision)), locked)
    assert await responses.get(owner, second.id) is None
    await refused(store.append(owner, id_, [asked("x")]), locked)
    await refused(store.delete_item(owner, id_, item.id), locked)
    await refused(store.delete(owner, id_), locked)
    assert await store.set_metadata(owner, id_, {})
    await ended(responses, running, [], "failed")
    await store.append(owner, id_, [asked("x")])
    third = await started(store, responses, owner, id_, asked("3"))
    assert await responses.delete(owner, third.id), "a response that is deleted lets go"
    await ended(responses, third, [said("late")])
    assert len(await ids(store, owner, id_)) == 2, "and adds nothing any more"


async def of_many_that_start_at_once_one_does(store: ConversationStore, responses: ResponseStore) -> None:
    owner = unique("proj")
    id_ = await made(store, owner)

    async def attempt() -> str | None:
        response = msgspec.structs.replace(begun(), conversation=ConversationRef(id_))
        error = await refusal(responses.create(owner, response, [asked("x")], Plan(revision=0)))
        return "started" if error is None else error.code

    told = await asyncio.gather(*(attempt() for _ in range(AT_ONCE)))
    assert sorted(told, key=str) == ["conversation_locked"] * (AT_ONCE - 1) + ["started"]


async def a_response_that_read_an_older_state_is_refused(store: ConversationStore, responses: ResponseStore) -> None:
    owner, item = unique("proj"), asked("1")
    id_ = await made(store, owner, [item])

    async def read() -> int:
        found = await store.continuable(owner, id_)
        assert found is not None
        return found.revision

    async def start(revision: int) -> None:
        response = msgspec.structs.replace(begun(), conversation=ConversationRef(id_))
        await responses.create(owner, response, [], Plan(revision=revision))

    before = await read()
    await store.append(owner, id_, [asked("2")])
    await refused(start(before), "conversation_locked")
    before = await read()
    await store.delete_item(owner, id_, item.id)
    await refused(start(before), "conversation_locked")
    await start(await read())


async def a_response_that_is_not_stored_leaves_its_items_only(
    store: ConversationStore, responses: ResponseStore
) -> None:
    owner, given, answer = unique("proj"), asked("1"), said("2")
    id_ = await made(store, owner)
    response = await started(store, responses, owner, id_, given, keep=False)
    assert await responses.get(owner, response.id) is None
    assert await responses.given(owner, response.id) is None
    assert await responses.item(owner, given.id) is None
    assert not await responses.delete(owner, response.id)
    assert (await store.continuable(owner, id_)).locked  # type: ignore[union-attr]  # it was just made
    await ended(responses, response, [answer])
    assert await ids(store, owner, id_) == [given.id, answer.id]
    assert await responses.context(owner, response.id) == [], "no trace but in the conversation"
    assert await store.newest_item(owner, answer.id) == answer


async def a_branch_has_what_its_response_went_on_with(store: ConversationStore, responses: ResponseStore) -> None:
    owner, first = unique("proj"), asked("0")
    id_ = await made(store, owner, [first])
    turns: list[Response] = []
    expected: list[list[str]] = []
    for number in range(3):
        given, answer = asked(f"q{number}"), said(f"a{number}")
        response = await started(store, responses, owner, id_, given)
        turns.append(await ended(responses, response, [answer]))
        expected.append([*(expected[-1] if expected else [first.id]), given.id, answer.id])
    for turn, items in zip(turns, expected, strict=True):
        assert [item.id for item in await responses.context(owner, turn.id)] == items
    branch = await stored(responses, owner, after=turns[1])
    context = [item.id for item in await responses.context(owner, branch.id)]
    assert context[:-2] == expected[1]
    assert await ids(store, owner, id_) == expected[2], "a branch does not change the conversation"


async def a_deleted_conversation_keeps_its_items_for_its_responses(
    store: ConversationStore, responses: ResponseStore
) -> None:
    owner, first, given = unique("proj"), asked("0"), asked("1")
    id_ = await made(store, owner, [first])
    done = await ended(responses, await started(store, responses, owner, id_, given), [said("2")])
    assert await store.delete(owner, id_)
    assert not await store.delete(owner, id_)
    assert await store.get(owner, id_) is None
    assert await store.continuable(owner, id_) is None
    assert await store.newest_item(owner, first.id) is None
    await refused(store.append(owner, id_, [asked("x")]), None, 404)
    await store.collect()
    assert len(await responses.context(owner, done.id)) == 3
    assert await responses.delete(owner, done.id)
    await store.collect()
    assert await responses.context(owner, done.id) == []


CONVERSATION_CHECKS: tuple[ConversationCheck, ...] = (
    a_conversation_reads_as_it_was_stored,
    another_owners_conversation_does_not_exist,
    pages_follow_each_other_in_both_orders,
    a_page_of_many_items_is_found,
    an_item_comes_once_and_can_be_deleted,
    a_response_adds_its_items_when_it_completes,
    a_response_that_fails_adds_nothing,
    one_response_at_a_time_goes_on,
    of_many_that_start_at_once_one_does,
    a_response_that_read_an_older_state_is_refused,
    a_response_that_is_not_stored_leaves_its_items_only,
    a_branch_has_what_its_response_went_on_with,
    a_deleted_conversation_keeps_its_items_for_its_responses,
)
