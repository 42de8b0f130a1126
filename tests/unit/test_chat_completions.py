"""Chat completions: the pure parts."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deskhand.core.chat_fold import LONGEST, ChatFold, chunks_of
from deskhand.core.errors import ApiError, UpstreamError
from deskhand.engine.chat_in import model_request, read_chat
from deskhand.engine.chat_out import StopAt
from deskhand.engine.embeddings import read_inputs
from deskhand.models.chat_tools import FreeTextCalls, lowered
from deskhand.models.free_text import wrap
from deskhand.ports.model import PromptCall, PromptMessage, PromptOutput, PromptReasoning

Json = dict[str, Any]

texts = st.text(max_size=40)
calls = st.lists(
    st.builds(
        lambda id_, name, arguments: {
            "id": id_,
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        },
        st.text(min_size=1, max_size=8),
        st.text(min_size=1, max_size=8),
        texts,
    ),
    max_size=3,
)


def refusal(read: Callable[[], object]) -> ApiError | None:
    """What a request is refused with, if it is."""
    try:
        read()
    except ApiError as exc:
        return exc
    return None


def whole(content: str | None, called: list[Json], **more: Any) -> Json:
    message: Json = {"role": "assistant", "content": content, "refusal": None, "annotations": [], **more}
    if called:
        message["tool_calls"] = called
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls" if called else "stop"}
    return {"id": "c", "object": "chat.completion", "choices": [choice], "usage": {"total_tokens": 3}}


def folded(chunks: list[Json]) -> Json:
    fold = ChatFold()
    for chunk in chunks:
        fold.feed(chunk)
    return fold.completion()


@given(st.none() | st.text(min_size=1, max_size=40), calls, texts.filter(bool))
def test_a_completion_that_is_taken_apart_is_put_together_again(
    content: str | None, called: list[Json], thought: str
) -> None:
    completion = whole(content, called, reasoning_content=thought)
    assert folded(chunks_of(completion, usage=True)) == completion


@given(st.data())
def test_a_completion_is_the_same_however_it_is_cut(data: st.DataObject) -> None:
    text, arguments = data.draw(texts), data.draw(texts)
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, 40), max_size=6))), 1000]
    pieces = [(text[a:b], arguments[a:b]) for a, b in zip(cuts, cuts[1:], strict=False)]
    chunks: list[Json] = [{"choices": [{"delta": {"tool_calls": [_piece(0, "", id="x", name="f")]}}]}]
    for said, argued in pieces:
        chunks.append({"choices": [{"delta": {"content": said, "tool_calls": [_piece(0, argued)]}}]})
    message = folded(chunks)["choices"][0]["message"]
    assert message["content"] == text
    assert message["tool_calls"] == [_called("f", arguments)]


def _piece(at: int, arguments: str, **begun: str) -> Json:
    function: Json = {"arguments": arguments} | ({"name": begun["name"]} if begun else {})
    return {"index": at, "function": function} | ({"id": begun["id"], "type": "function"} if begun else {})


def _called(name: str, arguments: str) -> Json:
    return {"id": "x", "type": "function", "function": {"name": name, "arguments": arguments}}


def test_a_completion_does_not_grow_for_ever() -> None:
    fold = ChatFold()
    chunk = {"choices": [{"delta": {"content": "x" * (1 << 20)}}]}
    for _ in range(LONGEST // (1 << 20)):
        fold.feed(chunk)
    with pytest.raises(UpstreamError, match="longer than"):
        fold.feed(chunk)


@pytest.mark.parametrize(
    "chunk",
    [
        {},
        {"choices": None},
        {"choices": [{}]},
        {"choices": [{"delta": 7, "logprobs": 7}]},
        {"choices": [{"delta": {"content": 7, "tool_calls": [7, {"index": "x", "function": 7}], "annotations": 7}}]},
        {"choices": [{"delta": {"function_call": {"name": None}}}]},
    ],
)
def test_odd_chunks_do_no_harm(chunk: Json) -> None:
    assert folded([chunk])["choices"][0]["message"]["role"] == "assistant"


@given(st.lists(st.text(alphabet="ab", max_size=6), max_size=8), st.lists(st.text("ab", min_size=1, max_size=4)))
def test_a_text_ends_before_the_first_stop(pieces: list[str], stops: list[str]) -> None:
    stop = StopAt(stops)
    shown = "".join(stop.feed(piece) for piece in pieces) + stop.rest()
    text = "".join(pieces)
    ends = [at for one in stops if (at := text.find(one)) >= 0]
    # A later, longer stop may begin before a shorter one that is found first; nothing of either may show.
    assert text.startswith(shown)
    assert not any(one in shown for one in stops)
    assert stop.found == bool(ends)
    assert ends or shown == text


NOTE = {"type": "custom", "custom": {"name": "note", "format": {"type": "grammar", "grammar": {"definition": "x"}}}}


@given(st.text(max_size=60), st.lists(st.integers(1, 80), max_size=5))
def test_free_text_survives_its_function_however_it_is_cut(text: str, cuts: list[int]) -> None:
    body, names = lowered({"messages": [], "tools": [NOTE]})
    assert names == {"note"}
    assert body["tools"][0]["function"]["parameters"]["required"] == ["input"]
    arguments = wrap(text)
    places = [0, *sorted(cuts), len(arguments) + 100]
    raised = FreeTextCalls(names)
    begun = {"index": 0, "id": "x", "type": "function", "function": {"name": "note", "arguments": ""}}
    pieces = [_piece(0, arguments[a:b]) for a, b in zip(places, places[1:], strict=False)]
    documents: list[Json] = [{"choices": [{"delta": {"tool_calls": [piece]}}]} for piece in [begun, *pieces]]
    documents.append({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]})
    [call] = folded([raised.raised(document) for document in documents])["choices"][0]["message"]["tool_calls"]
    assert call == {"id": "x", "type": "custom", "custom": {"name": "note", "input": text}}


def test_calls_of_functions_stay_what_they_are() -> None:
    raised = FreeTextCalls(frozenset({"note"}))
    document = whole(None, [_called("f", "{}"), _called("note", '{"input": "hi"}')])
    called = raised.raised(document)["choices"][0]["message"]["tool_calls"]
    assert called[0] == _called("f", "{}")
    assert called[1]["custom"] == {"name": "note", "input": "hi"}


def test_the_history_as_a_prompt() -> None:
    said = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "u"}]},
        {
            "role": "assistant",
            "content": "a",
            "reasoning_content": "hm",
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"id": "2", "type": "custom", "custom": {"name": "note", "input": "t"}},
            ],
        },
        {
            "role": "tool",
            "tool_call_id": "1",
            "content": [{"type": "text", "text": "o"}, {"type": "text", "text": "p"}],
        },
        {"role": "tool", "tool_call_id": "2", "content": "q"},
        {"role": "assistant", "function_call": {"name": "old", "arguments": "{}"}},
        {"role": "function", "name": "old", "content": "r"},
        {"role": "function", "name": "never_called", "content": "r"},
    ]
    request = model_request(read_chat({"model": "m", "messages": said}), "up", foreign_tools=False)
    prompt = list(request.prompt)
    assert [type(entry) for entry in prompt] == [
        PromptMessage,
        PromptMessage,
        PromptReasoning,
        PromptMessage,
        PromptCall,
        PromptCall,
        PromptOutput,
        PromptOutput,
        PromptCall,
        PromptOutput,
    ]
    assert prompt[6] == PromptOutput("1", "op")
    assert prompt[7] == PromptOutput("2", "q", free_text=True)
    assert prompt[9] == PromptOutput("call_5", "r")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 300) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = ("messages", "tools", "tool_choice", "functions", "function_call", "response_format", "stop", "modalities", "n")


@given(st.dictionaries(st.sampled_from(NAMES), json_values))
def test_whatever_is_sent_is_read_or_refused(fields: Json) -> None:
    body = json.loads(json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}], **fields}))

    def read() -> None:
        request = read_chat(body)
        model_request(request, "up", foreign_tools=True)
        lowered(request.body)

    refused = refusal(read)
    assert refused is None or (refused.status == 400 and refused.param)


@given(json_values)
def test_whatever_is_embedded_is_texts_or_tokens(value: Any) -> None:
    if not isinstance(value, (str, list)) or not value:
        return
    refused = refusal(lambda: read_inputs(value))
    assert refused is None or (refused.param or "").startswith("input")
    assert refused or all(isinstance(one, (str, list)) and one for one in read_inputs(value))
