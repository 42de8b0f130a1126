"""What every `ResponseStore` and `EventLog` must do, as checks to run against an implementation.

A check takes a store that may hold other things already, and raises `AssertionError`. The stores of files,
containers and blobs are checked by `conformance_records`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from uuid import uuid4

import msgspec

from ..ports.log import EventLog
from ..ports.runs import Claim, Written
from ..ports.store import ResponseStore
from ..wire.events import Event
from ..wire.items import FunctionCall, Item, Message, OpaqueItem, ShellAction, ShellCall
from ..wire.parts import InputText, OutputText
from ..wire.response import IncompleteDetails, Response, ResponseError, Usage
from ..wire.tools import FunctionTool, OpaqueTool, ShellTool

ResponseCheck = Callable[[ResponseStore], Awaitable[None]]
LogCheck = Callable[[EventLog], Awaitable[None]]

CHAIN = 1000


def unique(prefix: str) -> str:
    """An id that no other check uses."""
    return f"{prefix}_{uuid4().hex}"


def asked(text: str) -> Message:
    """A user's message."""
    return Message(id=unique("msg"), role="user", content=(InputText(text=text),))


def said(text: str) -> Message:
    """A model's message."""
    return Message(id=unique("msg"), role="assistant", content=(OutputText(text=text),))


def begun(previous: Response | None = None) -> Response:
    """A response that runs, after `previous`."""
    return Response(
        id=unique("resp"), created_at=1, model="m", previous_response_id=None if previous is None else previous.id
    )


def ended(response: Response, output: Sequence[Item]) -> Response:
    """`response` when it has completed with `output`."""
    return msgspec.structs.replace(response, status="completed", completed_at=2, usage=Usage(1), output=list(output))


async def stored(
    store: ResponseStore,
    owner: str,
    *,
    after: Response | None = None,
    given: Item | None = None,
    out: Item | None = None,
) -> Response:
    """A completed response in `store`, with one item each side."""
    response, output = begun(after), [out or said("answer")]
    await store.create(owner, response, [given or asked("question")])
    done = ended(response, output)
    await store.finish(Claim(response.id), done, Written(dict(enumerate(output))))
    return done


async def items(store: ResponseStore, owner: str, response: Response) -> list[str]:
    """The ids of a chain."""
    return [item.id for item in await store.context(owner, response.id)]


async def a_response_reads_as_it_was_stored(store: ResponseStore) -> None:
    owner, given, out = unique("proj"), asked("q\0\u2028é😀"), said("")
    response = msgspec.structs.replace(
        begun(),
        metadata={"k": "v"},
        instructions=[{"type": "message", "x": None}],
        tools=[FunctionTool(name="f", parameters={"type": "object"}), ShellTool(), OpaqueTool({"type": "mcp", "n": 1})],
        reasoning={"effort": None, "summary": "auto"},
        temperature=0.5,
    )
    await store.create(owner, response, [given])
    assert await store.get(owner, response.id) == response
    assert await store.given(owner, response.id) == [given]
    done = msgspec.structs.replace(
        ended(response, [out]),
        status="failed",
        error=ResponseError("server_error", "it broke"),
        incomplete_details=IncompleteDetails("content_filter"),
    )
    await store.finish(Claim(done.id), done, Written({0: out}))
    assert await store.get(owner, response.id) == done


async def items_of_every_kind_read_as_they_were_stored(store: ResponseStore) -> None:
    owner, response = unique("proj"), begun()
    output: list[Item] = [
        FunctionCall(id=unique("fc"), call_id="c", name="f", arguments="{"),
        ShellCall(id=unique("sh"), call_id="d", action=ShellAction(commands=("ls",)), status="incomplete"),
        OpaqueItem({"type": "web_search_call", "id": unique("ws"), "action": None, "deep": [{"x": None}], "n": 10**30}),
        OpaqueItem({"type": "without_an_id"}),
        Message(
            id=unique("msg"), role="assistant", content=(OutputText(text="t", annotations=({"type": "a", "x": None},)),)
        ),
    ]
    await store.create(owner, response, [])
    await store.finish(Claim(response.id), ended(response, output), Written(dict(enumerate(output))))
    found = await store.get(owner, response.id)
    assert found is not None
    assert found.output == output
    assert await store.given(owner, response.id) == []
    for item in output:
        if item.id:
            assert await store.item(owner, item.id) == item


async def saved_items_replace_earlier_states(store: ResponseStore) -> None:
    owner, response = unique("proj"), begun()
    await store.create(owner, response, [])
    first = said("first")
    await store.save(
        Claim(response.id), Written({0: msgspec.structs.replace(first, status="in_progress"), 1: said("second")})
    )
    await store.save(Claim(response.id), Written({0: first}))
    await store.save(Claim(response.id), Written({}))
    found = await store.get(owner, response.id)
    assert found is not None
    assert found.output[0] == first
    assert len(found.output) == 2
    assert found.status == "in_progress"
    third = said("third")
    await store.finish(Claim(response.id), ended(response, [*found.output, third]), Written({2: third}))
    assert await store.get(owner, response.id) == ended(response, [*found.output, third])


async def another_owner_finds_nothing(store: ResponseStore) -> None:
    owner, other = unique("proj"), unique("proj")
    given, out = asked("secret"), said("secret")
    response = await stored(store, owner, given=given, out=out)
    assert await store.get(other, response.id) is None
    assert await store.given(other, response.id) is None
    assert await store.context(other, response.id) == []
    assert await store.item(other, given.id) is None
    assert await store.item(other, out.id) is None
    assert not await store.delete(other, response.id)
    assert await store.get(owner, response.id) == response
    thief = await stored(store, other, after=response)
    assert len(await items(store, other, thief)) == 2
    assert await store.delete(owner, response.id)
    assert await store.context(owner, response.id) == [], "a stranger's response keeps nothing alive"


async def unknown_ids_are_not_found(store: ResponseStore) -> None:
    owner = unique("proj")
    for id_ in ("resp_none", "", "\0", "\ud800", "x" * 10_000, "' OR 1=1 --"):
        assert await store.get(owner, id_) is None
        assert await store.given(owner, id_) is None
        assert await store.context(owner, id_) == []
        assert await store.item(owner, id_ or "\0") is None
        assert not await store.delete(owner, id_)


async def a_chain_reads_oldest_first(store: ResponseStore) -> None:
    owner = unique("proj")
    given = [asked(str(n)) for n in range(3)]
    out = [said(str(n)) for n in range(3)]
    last: Response | None = None
    for question, answer in zip(given, out, strict=True):
        last = await stored(store, owner, after=last, given=question, out=answer)
    assert last is not None
    expected: list[Item] = [item for both in zip(given, out, strict=True) for item in both]
    assert list(await store.context(owner, last.id)) == expected
    assert await store.given(owner, last.id) == [given[2]]


async def a_long_chain_reads_whole(store: ResponseStore) -> None:
    owner, chain = unique("proj"), [begun()]
    for _ in range(CHAIN - 1):
        chain.append(begun(chain[-1]))
    given = [asked(str(n)) for n in range(CHAIN)]
    await asyncio.gather(*(store.create(owner, response, [item]) for response, item in zip(chain, given, strict=True)))
    assert await items(store, owner, chain[-1]) == [item.id for item in given]
    assert await items(store, owner, chain[9]) == [item.id for item in given[:10]]


async def branches_share_their_past_only(store: ResponseStore) -> None:
    owner = unique("proj")
    root = await stored(store, owner)
    left = await stored(store, owner, after=root)
    right = await stored(store, owner, after=root)
    past = await items(store, owner, root)
    assert len(past) == 2
    for branch in (left, right):
        assert (await items(store, owner, branch))[:2] == past
        assert len(await items(store, owner, branch)) == 4
    assert (await items(store, owner, left))[2:] != (await items(store, owner, right))[2:]


async def a_deleted_response_is_gone(store: ResponseStore) -> None:
    owner, given, out = unique("proj"), asked("q"), said("a")
    response = await stored(store, owner, given=given, out=out)
    assert await store.delete(owner, response.id)
    assert not await store.delete(owner, response.id)
    assert await store.get(owner, response.id) is None
    assert await store.given(owner, response.id) is None
    assert await store.item(owner, given.id) is None
    assert await store.item(owner, out.id) is None
    assert await store.context(owner, response.id) == []


async def a_deleted_response_stays_in_the_context_of_later_ones(store: ResponseStore) -> None:
    owner, given = unique("proj"), asked("q")
    root = await stored(store, owner, given=given)
    middle = await stored(store, owner, after=root)
    left = await stored(store, owner, after=middle)
    right = await stored(store, owner, after=middle)
    whole = await items(store, owner, right)
    for response in (root, middle):
        assert await store.delete(owner, response.id)
        assert not await store.delete(owner, response.id)
        assert await store.get(owner, response.id) is None
        assert await store.given(owner, response.id) is None
    assert await store.item(owner, given.id) is None
    assert await store.delete(owner, left.id)
    assert await items(store, owner, right) == whole, "the other branch still needs its past"
    assert await store.delete(owner, right.id)
    for response in (root, middle, left, right):
        assert await store.context(owner, response.id) == [], "the last descendant takes everything with it"


async def deleting_stops_at_what_is_not_deleted(store: ResponseStore) -> None:
    owner = unique("proj")
    root = await stored(store, owner)
    middle = await stored(store, owner, after=root)
    leaf = await stored(store, owner, after=middle)
    assert await store.delete(owner, middle.id)
    assert await store.delete(owner, leaf.id)
    assert await store.context(owner, middle.id) == []
    assert await store.get(owner, root.id) == root
    assert len(await items(store, owner, root)) == 2


async def a_run_may_outlive_its_response(store: ResponseStore) -> None:
    owner, response, out = unique("proj"), begun(), said("late")
    await store.create(owner, response, [])
    assert await store.delete(owner, response.id)
    await store.save(Claim(response.id), Written({0: out}))
    await store.finish(Claim(response.id), ended(response, [out]), Written({0: out}))
    assert await store.get(owner, response.id) is None
    assert await store.item(owner, out.id) is None


async def an_item_sent_again_is_found_in_its_newest_state(store: ResponseStore) -> None:
    owner, item = unique("proj"), said("old")
    newer = msgspec.structs.replace(item, status="incomplete")
    first = await stored(store, owner, out=item)
    second = await stored(store, owner, after=first, given=newer)
    assert await store.item(owner, item.id) == newer
    assert await store.delete(owner, second.id)
    assert await store.item(owner, item.id) == item


RESPONSE_CHECKS: Sequence[ResponseCheck] = (
    a_response_reads_as_it_was_stored,
    items_of_every_kind_read_as_they_were_stored,
    saved_items_replace_earlier_states,
    another_owner_finds_nothing,
    unknown_ids_are_not_found,
    a_chain_reads_oldest_first,
    a_long_chain_reads_whole,
    branches_share_their_past_only,
    a_deleted_response_is_gone,
    a_deleted_response_stays_in_the_context_of_later_ones,
    deleting_stops_at_what_is_not_deleted,
    a_run_may_outlive_its_response,
    an_item_sent_again_is_found_in_its_newest_state,
)


def numbered(first: int, count: int) -> list[Event]:
    """Events that end nothing."""
    return [Event("response.output_text.delta", first + n, {"delta": "x"}) for n in range(count)]


async def read(log: EventLog, after: int = -1) -> list[int]:
    """The numbers that a reader sees until the end."""
    return [event.sequence_number async for batch in log.tail(after=after) for event in batch]


async def readers_see_every_event_once_and_in_order(log: EventLog) -> None:
    await log.append(numbered(0, 10))
    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(read(log, after)) for after in (-1, 4, 9, 25)]
        for first in range(10, 100, 2):
            await log.append(numbered(first, 2))
            if first % 3:
                await asyncio.sleep(0)
        await log.append([Event("response.completed", 100, {})])
    assert [task.result() for task in readers] == [list(range(n, 101)) for n in (0, 5, 10, 26)]
    assert await read(log) == list(range(101))
    assert await read(log, 100) == []


async def the_last_event_is_waited_for(log: EventLog) -> None:
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(log.last()) for _ in range(3)]
        await log.append([])
        await log.append(numbered(0, 3))
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        await log.append([*numbered(3, 1), Event("response.failed", 4, {})])
    assert {task.result().sequence_number for task in waiting} == {4}
    assert (await log.last()).terminal


async def a_reader_that_goes_away_disturbs_no_one(log: EventLog) -> None:
    async with asyncio.TaskGroup() as group:
        leaving, staying = group.create_task(read(log)), group.create_task(read(log))
        await asyncio.sleep(0)
        leaving.cancel()
        await log.append([*numbered(0, 2), Event("response.incomplete", 2, {})])
    assert leaving.cancelled()
    assert staying.result() == [0, 1, 2]


LOG_CHECKS: Sequence[LogCheck] = (
    readers_see_every_event_once_and_in_order,
    the_last_event_is_waited_for,
    a_reader_that_goes_away_disturbs_no_one,
)
