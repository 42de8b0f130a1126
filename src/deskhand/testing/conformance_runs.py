"""What every `RunStore` must do beside its `ResponseStore`, as checks to run against an implementation.

A check takes both, which may hold other things already, and raises `AssertionError`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from ..core.drafts import Closed, Opened, Progress
from ..core.turn import Turn
from ..core.writer import ResponseWriter
from ..ports.runs import Claim, ClaimLost, Held, ModelCall, Orphan, Plan, QueueFull, RunStore, Seat, Stretch, Written
from ..ports.store import ResponseStore
from ..wire.events import Event
from ..wire.items import Message
from ..wire.request import CreateResponse
from ..wire.response import Response, Usage
from .conformance_store import asked, begun, ended, said, unique

RunCheck = Callable[[ResponseStore, RunStore], Awaitable[None]]

EVERY = 10_000


async def queued(store: ResponseStore, owner: str, process: str = "") -> Response:
    """A background response that waits for `process`."""
    response = msgspec.structs.replace(begun(), status="queued", background=True)
    plan = Plan(process, CreateResponse(model="m", background=True), streamed=True)
    await store.create(owner, response, [asked("question")], plan)
    return response


async def orphan_of(runs: RunStore, response: Response) -> Orphan | None:
    """The response among the orphans."""
    return next((found for found in await runs.orphans(EVERY) if found.response_id == response.id), None)


async def what_a_living_process_runs_is_no_orphan(store: ResponseStore, runs: RunStore) -> None:
    owner, process, host = unique("proj"), unique("process"), unique("host")
    await runs.add_process(Seat(process, host))
    response = await queued(store, owner, process)
    assert await orphan_of(runs, response) is None
    await runs.remove_process(process)
    assert await orphan_of(runs, response) == Orphan(owner, response.id, 1, waits=True)
    await runs.beat(Seat(process, host))
    assert await orphan_of(runs, response) is None
    # A host has one process at a time.
    await runs.add_process(Seat(unique("process"), host))
    assert await orphan_of(runs, response) is not None


async def what_has_ended_is_no_orphan(store: ResponseStore, runs: RunStore) -> None:
    response = await queued(store, unique("proj"))
    assert await orphan_of(runs, response) is not None
    assert not await runs.is_over(response.id)
    await store.finish(Claim(response.id), ended(response, []), Written())
    assert await orphan_of(runs, response) is None
    assert await runs.is_over(response.id)
    assert await runs.is_over("resp_unknown")


async def one_process_takes_an_orphan(store: ResponseStore, runs: RunStore) -> None:
    owner, first, second = unique("proj"), unique("process"), unique("process")
    for process in (first, second):
        await runs.add_process(Seat(process, unique("host")))
    response = await queued(store, owner)
    orphan = await orphan_of(runs, response)
    assert orphan is not None
    claim = await runs.take(orphan, first)
    assert claim == Claim(response.id, 2)
    assert await runs.take(orphan, second) is None
    assert await runs.held(first) == {response.id: Held(owner, 2, cancelling=False)}
    found = await store.get(owner, response.id)
    assert found is not None
    assert found.status == "in_progress"
    await runs.give_back(claim)
    assert (await orphan_of(runs, response)) == Orphan(owner, response.id, 2, waits=True)


async def a_lost_claim_writes_nothing(store: ResponseStore, runs: RunStore) -> None:
    owner = unique("proj")
    response = await queued(store, owner)
    orphan = await orphan_of(runs, response)
    assert orphan is not None
    claim = await runs.take(orphan, unique("process"))
    assert claim is not None
    late = [
        store.save(Claim(response.id), Written({0: said("late")})),
        store.finish(Claim(response.id), ended(response, []), Written()),
    ]
    for outcome in await asyncio.gather(*late, return_exceptions=True):
        assert isinstance(outcome, ClaimLost)
    await runs.give_back(Claim(response.id))
    found = await store.get(owner, response.id)
    assert found is not None
    assert (found.status, found.output) == ("in_progress", [])
    await store.save(claim, Written({0: said("in time")}))
    found = await store.get(owner, response.id)
    assert found is not None
    assert len(found.output) == 1


async def events_are_read_from_any_number(store: ResponseStore, runs: RunStore) -> None:
    owner = unique("proj")
    response = await queued(store, owner)
    writer, message = ResponseWriter(response), said("x")
    delta = Progress(message.id, "response.output_text.delta", {"delta": "x", "content_index": 0})
    events = writer.start()
    events += [writer.write(draft) for draft in (Opened(message), delta, Closed(message))]
    await store.save(Claim(response.id), Written({0: message}, events[:4]))
    last = writer.finish("completed", completed_at=2, usage=Usage(1))
    await store.finish(Claim(response.id), writer.response, Written(events=[*events[4:], *last]))
    events += last
    for after in range(-1, len(events) + 1):
        assert list((await runs.events(response.id, after=after, limit=EVERY)).events) == events[after + 1 :]
    assert await runs.events(response.id, after=1, limit=2) == Stretch(events[2:4], more=True)
    assert await runs.is_streamed(owner, response.id)
    assert not await runs.is_streamed(unique("proj"), response.id)
    await store.delete(owner, response.id)
    assert await runs.events(response.id, after=-1, limit=EVERY) == Stretch([])


async def what_was_interrupted_is_found_whole(store: ResponseStore, runs: RunStore) -> None:
    owner, process = unique("proj"), unique("process")
    response = await queued(store, owner, process)
    writer = ResponseWriter(response)
    whole, half = said("whole"), Message(id=unique("msg"), role="assistant", content=(), status="in_progress")
    events = writer.start()
    events += [writer.write(draft) for draft in (Opened(whole), Closed(whole), Opened(half))]
    call = ModelCall(Turn("stop", ignored=1, called=True), 1, Usage(input_tokens=3, total_tokens=3))
    await runs.begin(Claim(response.id))
    await store.save(Claim(response.id), Written({0: whole, 1: half}, events, [call]))
    await store.save(Claim(response.id), Written(calls=[ModelCall(Turn("length"), 2, None)]))
    found = await runs.interrupted(Claim(response.id))
    assert found is not None
    assert found.response == msgspec.structs.replace(response, status="in_progress", output=[whole, half])
    assert found.request == CreateResponse(model="m", background=True)
    assert [item.type for item in found.given] == ["message"]
    assert list(found.calls) == [call, ModelCall(Turn("length"), 2, None)]
    assert {index: list(said_of) for index, said_of in found.open.items()} == {1: events[-1:]}
    assert found.next_sequence == len(events)
    assert (found.streamed, found.cancelling) == (True, False)
    assert await runs.interrupted(Claim(response.id, 2)) is None


async def only_its_owner_cancels(store: ResponseStore, runs: RunStore) -> None:
    owner, process = unique("proj"), unique("process")
    await runs.add_process(Seat(process, unique("host")))
    response = await queued(store, owner, process)
    await runs.cancel(unique("proj"), response.id)
    assert await runs.held(process) == {response.id: Held(owner, 1, cancelling=False)}
    await runs.cancel(owner, response.id)
    assert await runs.held(process) == {response.id: Held(owner, 1, cancelling=True)}
    await runs.remove_process(process)
    # It needs no room to be ended.
    assert await orphan_of(runs, response) == Orphan(owner, response.id, 1, waits=False)


async def a_process_is_seen_to_live(_: ResponseStore, runs: RunStore) -> None:
    process, host = unique("process"), unique("host")
    await runs.add_process(Seat(process, host))
    before = (await runs.beats())[process]
    assert await runs.beat(Seat(process, host))
    assert (await runs.beats())[process] > before
    await runs.remove_process(process)
    assert process not in await runs.beats()
    assert not await runs.beat(Seat(process, host))
    assert process in await runs.beats()


async def a_response_can_be_left_to_a_host(store: ResponseStore, runs: RunStore) -> None:
    owner, seat = unique("proj"), Seat(unique("process"), unique("host"), "http://there:1")
    assert await runs.url_of(seat.host) is None
    await runs.add_process(seat)
    assert await runs.url_of(seat.host) == seat.url
    response = await queued(store, owner)
    await runs.assign(Claim(response.id, 7), seat.host)
    assert await runs.held(seat.process) == {}
    await runs.assign(Claim(response.id), seat.host)
    assert await runs.held(seat.process) == {response.id: Held(owner, 1, cancelling=False)}
    await runs.assign(Claim(response.id), unique("host"))
    assert await orphan_of(runs, response) is not None


async def projects_take_turns(store: ResponseStore, runs: RunStore) -> None:
    many, few, process = unique("proj"), unique("proj"), unique("process")
    await runs.add_process(Seat(process, unique("host")))
    running = await queued(store, many, process)
    first, second = [await queued(store, many) for _ in range(2)]
    late, later = [await queued(store, few) for _ in range(2)]
    names = {it.id: name for name, it in {"first": first, "second": second, "late": late, "later": later}.items()}
    order = [names[found.response_id] for found in await runs.orphans(EVERY) if found.response_id in names]
    # The second project's first comes before the other's second, which one that runs is ahead of already.
    assert order == ["late", "first", "later", "second"]
    assert running.id not in {found.response_id for found in await runs.orphans(EVERY)}


async def a_queue_has_so_many_places(store: ResponseStore, runs: RunStore) -> None:
    owner, plan = unique("proj"), Plan(places=2)
    responses = [msgspec.structs.replace(begun(), status="queued", background=True) for _ in range(4)]
    for response in responses[:2]:
        await store.create(owner, response, [], plan)
    assert await runs.any_waits()
    try:
        await store.create(owner, responses[2], [], plan)
    except QueueFull:
        pass
    else:
        raise AssertionError("a third one waits")
    assert await store.get(owner, responses[2].id) is None
    await store.create(unique("proj"), responses[2], [], plan)
    await store.finish(Claim(responses[0].id), ended(responses[0], []), Written())
    await store.create(owner, responses[3], [], plan)


async def long_events_are_read_a_few_at_once(store: ResponseStore, runs: RunStore) -> None:
    response = await queued(store, unique("proj"))
    writer, message = ResponseWriter(response), said("x")
    events = [*writer.start(), writer.write(Opened(message))]
    for letter in "abcde":
        fields = {"delta": letter * 500_000, "content_index": 0}
        events.append(writer.write(Progress(message.id, "response.output_text.delta", fields)))
    await store.save(Claim(response.id), Written({0: message}, events))
    read: list[Event] = []
    more, pieces = True, 0
    while more:
        found = await runs.events(response.id, after=len(read) - 1, limit=EVERY)
        assert found.events
        assert sum(len(str(event.fields.get("delta"))) for event in found.events) <= 1 << 20
        read += found.events
        more, pieces = found.more, pieces + 1
    assert read == events
    assert pieces > 1


async def what_is_stored_a_second_time_is_there_once(store: ResponseStore, runs: RunStore) -> None:
    response = await queued(store, unique("proj"))
    writer, message = ResponseWriter(response), said("x")
    events = [*writer.start(), writer.write(Opened(message)), writer.write(Closed(message))]
    written = Written({0: message}, events, [ModelCall(Turn(), 1, Usage(1))])
    for _ in range(2):
        await store.save(Claim(response.id), written)
    found = await runs.interrupted(Claim(response.id))
    assert found is not None
    assert (len(found.calls), found.next_sequence) == (1, len(events))
    last = Written(events=writer.finish("completed", completed_at=2))
    for _ in range(2):
        await store.finish(Claim(response.id), writer.response, last)
    stored = await runs.events(response.id, after=-1, limit=EVERY)
    assert len(stored.events) == len(events) + len(last.events)


RUN_CHECKS: Sequence[RunCheck] = (
    projects_take_turns,
    a_queue_has_so_many_places,
    what_is_stored_a_second_time_is_there_once,
    long_events_are_read_a_few_at_once,
    what_a_living_process_runs_is_no_orphan,
    what_has_ended_is_no_orphan,
    one_process_takes_an_orphan,
    a_lost_claim_writes_nothing,
    events_are_read_from_any_number,
    what_was_interrupted_is_found_whole,
    only_its_owner_cancels,
    a_process_is_seen_to_live,
    a_response_can_be_left_to_a_host,
)
