"""What the server takes from an agent that runs a cell, and what it does not."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deskhand.ports.sandbox import Cell, Dropped, Output, Picture
from deskhand.sandboxes.protocol import (
    MAX_WISHES,
    PNG,
    CellTranscript,
    Ended,
    Expired,
    Finished,
    Lost,
    Pong,
    ProtocolError,
    Reply,
    Wanted,
    cell_frame,
    parse_reply,
)

CELL = Cell("1", 1.0, head_bytes=10, tail_bytes=10, images=2, image_bytes=30)


@pytest.mark.parametrize(
    ("kind", "payload", "reply"),
    [
        (b"N", b"\0", Wanted(again=False)),
        (b"N", b"\1", Wanted(again=True)),
        (b"I", PNG + b"x", Picture(PNG + b"x")),
        (b"F", b"\0", Finished("completed")),
        (b"F", b"\2", Finished("interrupted")),
        (b"L", b"\0\3\0\0", Lost("ended", 3, 0, "")),
        (b"L", b"\3\0\0\2", Lost("not started", 0, 0, "memory")),
    ],
)
def test_honest_words_are_understood(kind: bytes, payload: bytes, reply: Reply) -> None:
    assert parse_reply(kind[0], payload) == reply


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (b"N", b""),
        (b"I", b""),
        (b"I", b"<svg onload=alert(1)>"),
        (b"F", b"\3"),
        (b"F", b""),
        (b"L", b"\4\0\0\0"),
        (b"L", b"\0\0\x41\0"),
        (b"L", b"\0\0\0\4"),
        (b"L", b"\0\0\0"),
    ],
)
def test_words_out_of_form_are_refused(kind: bytes, payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_reply(kind[0], payload)


@pytest.mark.parametrize(
    "replies",
    [
        [Output("stdout", b"x" * 21)],
        [Dropped("stdout", 1, 1), Dropped("stdout", 1, 1)],
        [Picture(PNG)] * 3,
        [Picture(PNG + b"x" * 23)],
        [Wanted(again=False)] * (MAX_WISHES + 1),
        [Pong()],
        [Ended(0, 0, "")],
        [Expired()],
    ],
)
def test_more_than_was_asked_for_and_other_things_are_refused(replies: list[Reply]) -> None:
    transcript = CellTranscript(CELL)
    for reply in replies[:-1]:
        assert transcript.admit(reply) == reply
    with pytest.raises(ProtocolError):
        transcript.admit(replies[-1])


@given(st.integers(0, 255), st.binary(max_size=64))
def test_whatever_bytes_come_are_a_reply_or_an_error(kind: int, payload: bytes) -> None:
    try:
        reply = parse_reply(kind, payload)
    except ProtocolError:
        return
    assert reply is not None


@given(st.text())
def test_any_code_can_be_sent(code: str) -> None:
    frame = cell_frame(Cell(code, 1.5, 1, 2, 3, 4))
    size, kind = struct.unpack_from(">IB", frame)
    assert (size, kind) == (len(frame) - 5, ord("Y"))
    assert struct.unpack_from(">dQQII", frame, 5) == (1.5, 1, 2, 3, 4)
    assert frame.endswith(code.encode("utf-8", "surrogateescape"))
