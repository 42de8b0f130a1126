"""Bounded output: head, marker, tail; never more than the cap; nothing lost below it."""

import re

from hypothesis import given
from hypothesis import strategies as st

from deskhand.core.bounds import BoundedOutput, marker

STREAM = st.sampled_from(["stdout", "stderr"])
WRITES = st.lists(st.tuples(STREAM, st.text(alphabet="aé漢😀\n", max_size=40)), max_size=30)


def shown(writes: list[tuple[str, str]], cap: int) -> dict[str, str]:
    bounds = BoundedOutput(cap)
    text = {"stdout": "", "stderr": ""}
    for stream, piece in writes:
        if head := bounds.add(stream, piece):
            text[head.stream] += head.text
    for rest in bounds.rest():
        text[rest.stream] += rest.text
    return text


def printed(writes: list[tuple[str, str]], stream: str) -> str:
    return "".join(piece for where, piece in writes if where == stream)


@given(WRITES)
def test_output_within_the_cap_is_kept_whole(writes: list[tuple[str, str]]) -> None:
    text = shown(writes, cap=sum(len(piece) for _, piece in writes))
    assert text == {stream: printed(writes, stream) for stream in text}


@given(WRITES, st.integers(0, 50))
def test_what_is_kept_never_exceeds_the_cap(writes: list[tuple[str, str]], cap: int) -> None:
    kept = sum(len(re.sub(r"\n\.\.\. \d+ chars truncated \.\.\.\n", "", t)) for t in shown(writes, cap).values())
    assert kept <= cap


@given(st.text(alphabet="aé漢😀", max_size=200), st.integers(0, 60), st.integers(1, 7))
def test_a_single_stream_keeps_its_true_head_and_tail(text: str, cap: int, step: int) -> None:
    writes = [("stdout", text[i : i + step]) for i in range(0, len(text), step)]
    kept = shown(writes, cap)["stdout"]
    if len(text) <= cap:
        assert kept == text
        return
    head, tail = cap - cap // 2, cap // 2
    assert kept == text[:head] + marker(len(text) - cap) + text[len(text) - tail :]


def test_skipped_characters_are_counted_and_what_follows_is_the_tail() -> None:
    bounds = BoundedOutput(10)
    head = bounds.add("stdout", "abcdefgh")
    assert head is not None
    assert head.text == "abcde"
    bounds.skip("stdout", 100)
    bounds.add("stdout", "vwxyz")
    assert [piece.text for piece in bounds.rest()] == [marker(103) + "vwxyz"]
