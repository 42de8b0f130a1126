"""However a server cuts its answer into reads, deltas and vendor spellings, the model says the same."""

import itertools
import json
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deskhand.models.chat_reader import ChatReader
from deskhand.models.free_text import Unwrapper, wrap
from deskhand.models.http import Reader
from deskhand.models.responses_reader import ResponsesReader
from deskhand.models.sse import EventSplitter, EventTooLong
from deskhand.ports.model import ModelChunk
from deskhand.testing import upstream_chat, upstream_responses
from deskhand.testing.conformance_model import Heard, put_together
from deskhand.testing.script import Action, Call, Say, Think
from deskhand.testing.upstream_faults import CallStyle, Faults, ReasoningStyle

FREE = 'say "hi"\n\\t {"x": [1]} naïve 日本 🙂 \\'
ACTIONS: list[Action] = [
    Think("hm, let me think"),
    Say("Here you are: naïve 日本"),
    Call("get_weather", '{"city": "Zürich \\"ZH\\"", "days": [1, 2]}'),
    Call("note", FREE, free_text=True),
    Call("get", "{}"),
]
ASKED: dict[str, Any] = {"model": "m", "stream_options": {"include_usage": True}}
CALL_STYLES: list[CallStyle] = ["openai", "whole", "id_each_time", "no_index", "same_index", "no_id", "object"]
REASONING_STYLES: list[ReasoningStyle] = ["reasoning_content", "reasoning", "reasoning_details", "thinking", "parts"]


def chat_reader() -> ChatReader:
    numbers = itertools.count()
    return ChatReader(
        "x", None, functions=["get_weather", "get"], free_text=["note"], mint_id=lambda: f"call_{next(numbers)}"
    )


def responses_reader() -> ResponsesReader:
    return ResponsesReader("x", None)


def body(events: Iterable[dict[str, Any]], line_end: str = "\n") -> bytes:
    frames = [f"data: {json.dumps(event, ensure_ascii=False)}{line_end * 2}" for event in events]
    return "".join([": hello" + line_end * 2, *frames, f"data: [DONE]{line_end * 2}"]).encode()


def read(reader: Reader[ModelChunk], data: bytes, cuts: Sequence[int]) -> Heard:
    places = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    splitter = EventSplitter()
    chunks: list[ModelChunk] = []
    payloads = [p for start, end in itertools.pairwise(places) for p in splitter.feed(data[start:end])]
    for payload in [*payloads, *splitter.finish()]:
        chunks += reader.feed(payload)
    return put_together([*chunks, *reader.finish()])


def assert_said(heard: Heard) -> None:
    assert heard.reasoning == "hm, let me think"
    assert heard.text == "Here you are: naïve 日本"
    assert [name for name, _ in heard.calls] == ["get_weather", "note", "get"]
    assert json.loads(heard.calls[0][1]) == {"city": 'Zürich "ZH"', "days": [1, 2]}
    assert heard.calls[1][1] == FREE
    assert json.loads(heard.calls[2][1]) == {}
    assert heard.end is not None
    assert heard.end.reason == "stop"


@given(
    cuts=st.lists(st.integers(0, 20_000), max_size=40),
    size=st.integers(1, 30),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    reasoning=st.sampled_from(REASONING_STYLES),
)
@settings(max_examples=60, deadline=None)
def test_any_cut_of_a_chat_stream_says_the_same(
    cuts: list[int], size: int, line_end: str, reasoning: ReasoningStyle
) -> None:
    events = upstream_chat.stream(ACTIONS, ASKED, Faults(argument_size=size, reasoning=reasoning))
    assert_said(read(chat_reader(), body(events, line_end), cuts))


@given(cuts=st.lists(st.integers(0, 20_000), max_size=40), size=st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_any_cut_of_a_responses_stream_says_the_same(cuts: list[int], size: int) -> None:
    events = upstream_responses.stream(ACTIONS, ASKED, Faults(argument_size=size))
    assert_said(read(responses_reader(), body(events), cuts))


@pytest.mark.parametrize("style", CALL_STYLES)
@pytest.mark.parametrize("size", [1, 16, 1000])
def test_every_way_to_send_calls_says_the_same(style: CallStyle, size: int) -> None:
    events = upstream_chat.stream(ACTIONS, ASKED, Faults(argument_size=size, calls=style))
    assert_said(read(chat_reader(), body(events), []))


def test_a_name_in_pieces_is_put_together() -> None:
    actions: list[Action] = [Call("get_weather", '{"a": 1}')]
    for faults in (Faults(calls="split_name"), Faults(calls="split_name", argument_size=1)):
        events = upstream_chat.stream(actions, ASKED, faults)
        assert read(chat_reader(), body(events), []).calls == [("get_weather", '{"a": 1}')]


@given(text=st.text(max_size=200), cuts=st.lists(st.integers(0, 2000), max_size=30), ascii_only=st.booleans())
@settings(max_examples=150, deadline=None)
def test_free_text_survives_any_cut(text: str, cuts: list[int], ascii_only: bool) -> None:
    text = text.encode("utf-8", "replace").decode()
    arguments = json.dumps({"input": text}) if ascii_only else wrap(text)
    assert unwrapped(arguments, cuts) == text


@given(said=st.text(alphabet='{}"input:\\ud83de00 \n', max_size=60), cuts=st.lists(st.integers(0, 60), max_size=10))
@settings(max_examples=150, deadline=None)
def test_malformed_free_text_does_not_depend_on_cuts(said: str, cuts: list[int]) -> None:
    assert unwrapped(said, cuts) == unwrapped(said, [])
    assert unwrapped(f'{{"input": "{said}', cuts) == unwrapped(f'{{"input": "{said}', [])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("ls -la", "ls -la"),
        ('{"text": "other key"}', "other key"),
        ('"just a string"', "just a string"),
        ('{"a": 1, "input": "later"}', "later"),
        ('{"input": "cut o', "cut o"),
        ('{"input": "bad \\d escape"}', "bad \\d escape"),
        ('{"input": 7}', '{"input": 7}'),
        ("{}", ""),
        ("", ""),
    ],
)
def test_odd_free_text_is_read_as_well_as_it_can_be(arguments: str, text: str) -> None:
    assert unwrapped(arguments, range(len(arguments))) == text


def test_unwrapping_is_linear() -> None:
    arguments = wrap("x\n" * 200_000)
    assert unwrapped(arguments, range(0, len(arguments), 4)) == "x\n" * 200_000


def test_an_endless_event_is_refused() -> None:
    for chunk in (b"data: " + b"x" * 600, b"data: " + b"x" * 300 + b"\n"):
        splitter = EventSplitter(longest=1000)
        splitter.feed(chunk)
        with pytest.raises(EventTooLong):
            splitter.feed(chunk * 9)


def test_lines_of_one_event_are_joined() -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"\xef\xbb\xbfevent: x\nid: 1\ndata: a\ndata:b\n\n: ping\n\ndata\n\n") == [b"a\nb"]
    assert splitter.feed(b"data: last") == []
    assert splitter.finish() == [b"last"]


def unwrapped(arguments: str, cuts: Iterable[int]) -> str:
    unwrapper = Unwrapper()
    places = [0, *sorted({cut for cut in cuts if 0 < cut < len(arguments)}), len(arguments)]
    pieces = [arguments[start:end] for start, end in itertools.pairwise(places)]
    return "".join([*(unwrapper.feed(piece) for piece in pieces), unwrapper.finish()])
