"""When webhooks are tried again."""

from email.utils import formatdate

from hypothesis import given
from hypothesis import strategies as st

from deskhand.egress.post import PostFailed, Reply
from deskhand.engine.backoff import (
    FIRST_PAUSE_S,
    GIVEN_UP_AFTER_S,
    LONGEST_PAUSE_S,
    LONGEST_RETRY_AFTER_S,
    SPREAD,
    next_attempt,
    pause,
    retry_after_seconds,
)
from deskhand.engine.deliveries import settled
from deskhand.ports.webhooks import DeliveryRecord

CREATED = 1_800_000_000
randoms = st.floats(0, 1)


@given(st.lists(randoms, min_size=200, max_size=200), st.integers(0, 20))
def test_a_receiver_that_always_fails_is_tried_for_three_days_and_not_longer(
    spread: list[float], attempt_s: int
) -> None:
    now, moments = CREATED, [CREATED]
    for attempts, random in enumerate(spread, 1):
        now += attempt_s
        again = next_attempt(CREATED, attempts, now, random)
        if again is None:
            break
        assert again > moments[-1]
        assert again - now <= LONGEST_PAUSE_S * (1 + SPREAD)
        moments.append(now := max(now, again))
    else:
        raise AssertionError("it was never given up")
    assert moments[1] - CREATED <= FIRST_PAUSE_S * (1 + SPREAD) + attempt_s
    # No attempt begins while another is under way, which may end after the last moment.
    assert CREATED + GIVEN_UP_AFTER_S - attempt_s <= moments[-1] <= CREATED + GIVEN_UP_AFTER_S + attempt_s
    assert 15 <= len(moments) <= 30


@given(st.integers(1, 10**6), randoms)
def test_pauses_grow_up_to_a_bound(attempts: int, random: float) -> None:
    assert FIRST_PAUSE_S * (1 - SPREAD) <= pause(attempts, random) <= LONGEST_PAUSE_S * (1 + SPREAD)
    assert pause(attempts, random) <= pause(attempts + 1, random)


@given(st.integers(1, 10**6), st.integers(0, GIVEN_UP_AFTER_S), randoms, st.integers(0, 10**12))
def test_what_the_receiver_asks_for_is_waited_within_bounds(attempts: int, age: int, random: float, asked: int) -> None:
    now, end = CREATED + age, CREATED + GIVEN_UP_AFTER_S
    again = next_attempt(CREATED, attempts, now, random, asked)
    if age == GIVEN_UP_AFTER_S:
        assert again is None
        return
    assert again is not None
    assert min(now + min(asked, LONGEST_RETRY_AFTER_S), end) <= again <= end
    assert again <= now + max(LONGEST_RETRY_AFTER_S, LONGEST_PAUSE_S * (1 + SPREAD)) + 1
    assert again > now


def test_retry_after_is_seconds_or_a_date() -> None:
    assert retry_after_seconds("120", CREATED) == 120
    assert retry_after_seconds(" 9" + "9" * 40, CREATED) == LONGEST_RETRY_AFTER_S
    assert retry_after_seconds(formatdate(CREATED + 90, usegmt=True), CREATED) == 90
    assert retry_after_seconds(formatdate(CREATED - 90, usegmt=True), CREATED) == 0
    assert retry_after_seconds("Fri, 31 Dec 9999 23:59:59 -0900", CREATED) in {0, LONGEST_RETRY_AFTER_S}


@given(st.text(max_size=60))
def test_any_retry_after_is_read_without_harm(text: str) -> None:
    assert 0 <= retry_after_seconds(text, CREATED) <= LONGEST_RETRY_AFTER_S


def _settled(result: Reply | PostFailed, age: int = 0) -> tuple[str, int, str]:
    delivery = DeliveryRecord("wh", "p", "whe", "evt", "t", "{}", CREATED)
    outcome = settled(delivery, result, CREATED + age, 0.5)
    assert (outcome.state == "pending") == (outcome.next_attempt_at > CREATED + age)
    assert (outcome.state == "pending") == (outcome.finished_at == 0)
    return outcome.state, outcome.status_code, outcome.error


def test_only_a_success_is_one() -> None:
    for status in (200, 202, 204, 299):
        assert _settled(Reply(status)) == ("delivered", status, "")
    for status in (301, 302, 304, 307, 308):
        assert _settled(Reply(status)) == ("pending", status, f"it answered {status}; redirects are not followed")
    for status in (400, 401, 404, 429, 500, 503):
        assert _settled(Reply(status)) == ("pending", status, f"it answered {status}")
    assert _settled(Reply(410)) == ("failed", 410, "it answered 410")
    assert _settled(PostFailed("no answer")) == ("pending", 0, "no answer")
    assert _settled(PostFailed("no answer"), GIVEN_UP_AFTER_S) == ("failed", 0, "no answer")
    assert _settled(Reply(200), GIVEN_UP_AFTER_S) == ("delivered", 200, "")
