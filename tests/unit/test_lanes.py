"""Which request of a connection runs next, and what a connection remembers."""

from collections import defaultdict, deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deskhand.core.errors import ApiError
from deskhand.engine.lane_cache import LaneCache
from deskhand.engine.lanes import MAX_IN_FLIGHT, MAX_LANES, MAX_WAITING, Asked, Lanes, read_lane
from deskhand.wire.codec import encode
from deskhand.wire.items import Item, Message
from deskhand.wire.parts import OutputText

LANES = st.one_of(st.none(), st.integers(0, MAX_LANES + 3).map(str))
STEPS = st.lists(st.one_of(st.tuples(st.just("put"), LANES), st.tuples(st.just("end"), LANES)), max_size=400)


@given(STEPS)
def test_lanes_run_in_order_and_no_more_than_may(steps: list[tuple[str, str | None]]) -> None:
    lanes = Lanes(max_waiting_size=1000)
    accepted: defaultdict[str | None, deque[Asked]] = defaultdict(deque)
    running: set[str | None] = set()
    named: set[str] = set()

    def start() -> None:
        while (asked := lanes.take()) is not None:
            assert asked.lane not in running
            assert accepted[asked.lane].popleft() is asked, "first come, first served"
            running.add(asked.lane)
        assert len(running) <= MAX_IN_FLIGHT
        idle = {lane for lane, waiting in accepted.items() if waiting} - running
        assert not idle or len(running) == MAX_IN_FLIGHT, "nothing waits that could run"

    for step, lane in steps:
        if step == "put":
            asked = Asked(lane, {}, 1)
            waiting = sum(map(len, accepted.values()))
            try:
                lanes.put(asked)
            except ApiError as exc:
                many = exc.code == "websocket_stream_limit_reached"
                assert (many and lane not in named and len(named) == MAX_LANES) or waiting == MAX_WAITING
            else:
                named |= {lane} - {None}  # type: ignore[arg-type]
                accepted[lane].append(asked)
                assert len(named) <= MAX_LANES
        elif lane in running:
            lanes.release(lane)
            running.remove(lane)
        start()
    while running:
        lane = running.pop()
        lanes.release(lane)
        start()
    assert lanes.idle
    assert not any(accepted.values()), "whatever was accepted ran"


def test_what_waits_has_a_size() -> None:
    lanes = Lanes(max_waiting_size=10)
    lanes.put(Asked(None, {}, 1000))
    assert lanes.take() is not None, "what runs at once does not wait"
    lanes.put(Asked(None, {}, 10))
    with pytest.raises(ApiError) as refused:
        lanes.put(Asked(None, {}, 1))
    assert (refused.value.status, refused.value.code) == (429, "rate_limit_exceeded")
    lanes.put(Asked("other", {}, 1000))
    lanes.release(None)
    assert [asked.size for asked in (lanes.take(), lanes.take()) if asked] == [10, 1000]


def test_a_refused_lane_does_not_count() -> None:
    lanes = Lanes(max_waiting_size=0)
    for number in range(MAX_IN_FLIGHT):
        lanes.put(Asked(f"busy{number}", {}, 1))
        assert lanes.take() is not None
    for number in range(100):
        with pytest.raises(ApiError, match="Too much waits"):
            lanes.put(Asked(f"refused{number}", {}, 1))


@pytest.mark.parametrize(
    ("fields", "lane"), [({}, None), ({"stream_id": None}, None), ({"stream_id": "a.B_1-"}, "a.B_1-")]
)
def test_a_lanes_name(fields: dict[str, Any], lane: str | None) -> None:
    assert read_lane(fields) == lane


def message(id_: str, size: int = 0) -> Item:
    return Message(id=id_, role="assistant", content=(OutputText(text="x" * size),))


def test_a_lane_remembers_its_latest_response() -> None:
    cache = LaneCache(1 << 20)
    cache.keep(None, "r1", [message("m1")])
    cache.keep("a", "r2", [message("m2")])
    cache.keep(None, "r3", [message("m1"), message("m3")])
    assert {id_: [item.id for item in items] for id_, items in cache.recent.items()} == {
        "r2": ["m2"],
        "r3": ["m1", "m3"],
    }
    cache.forget(None)
    assert set(cache.recent) == {"r2"}


def test_a_failure_evicts_only_what_its_own_lane_built_on() -> None:
    cache = LaneCache(1 << 20)
    cache.keep("a", "r1", [])
    cache.evict("b", "r1")
    cache.evict("a", None)
    cache.evict("a", "r0")
    assert set(cache.recent) == {"r1"}
    cache.evict("a", "r1")
    assert set(cache.recent) == set()


def test_the_oldest_goes_when_there_is_no_room() -> None:
    size = len(encode([message("m", 1000)]))
    cache = LaneCache(2 * size)
    for lane in ("a", "b", "c"):
        cache.keep(lane, f"r_{lane}", [message("m", 1000)])
    assert set(cache.recent) == {"r_b", "r_c"}
    cache.keep("b", "r_large", [message("m", 5000)])
    assert set(cache.recent) == {"r_c"}, "what is too large pushes nothing out, but takes the place of its lane's"
