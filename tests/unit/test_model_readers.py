"""What servers get wrong or spell in their own way, chunk by chunk."""

import json
from typing import Any

import pytest

from deskhand.core.drafts import Closed, Opened, Progress
from deskhand.core.errors import ContextTooLong, UpstreamError
from deskhand.models.chat_reader import ChatReader, usage_of
from deskhand.models.failures import from_status
from deskhand.models.responses_reader import ResponsesReader
from deskhand.ports.model import (
    Foreign,
    MessagePhase,
    ModelChunk,
    ModelEnd,
    ReasoningDelta,
    ReasoningSealed,
    TextAnnotation,
    TextDelta,
)
from deskhand.testing.conformance_model import put_together
from deskhand.wire.items import OpaqueItem
from deskhand.wire.response import InputTokensDetails, OutputTokensDetails, Usage

Json = dict[str, Any]


def chat(*chunks: Json, done: bool = True) -> list[ModelChunk]:
    reader = ChatReader("x", None, functions=["f", "get"], free_text=["note"], mint_id=lambda: "minted")
    found = [chunk for sent in chunks for chunk in reader.feed(json.dumps(sent).encode())]
    if done:
        reader.feed(b"[DONE]")
    return [*found, *reader.finish()]


def delta(finish: str | None = None, **fields: Any) -> Json:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def responses(*events: Json) -> list[ModelChunk]:
    reader = ResponsesReader("x", None)
    return [*(c for event in events for c in reader.feed(json.dumps(event).encode())), *reader.finish()]


def test_nulls_and_unknown_fields_are_nothing() -> None:
    nulls = dict.fromkeys(["content", "refusal", "tool_calls", "reasoning_content", "audio", "annotations"])
    assert chat(delta(**nulls), {"choices": None, "usage": None}, {"choices": []}, delta("stop", content="a")) == [
        TextDelta("a"),
        ModelEnd("stop"),
    ]


def test_whole_calls_without_ids_get_ids_and_empty_arguments_an_object() -> None:
    whole = {"function": {"name": "f", "arguments": {"a": 1}}}
    heard = put_together(chat(delta(tool_calls=[whole]), delta("tool_calls")))
    assert (heard.calls, heard.ids) == ([("f", '{"a":1}')], ["minted"])
    heard = put_together(chat(delta(tool_calls=[{"index": 0, "id": "c", "function": {"name": "f"}}])))
    assert heard.calls == [("f", "{}")]


def test_a_name_repeated_with_every_delta_is_one_name() -> None:
    pieces = [{"index": 0, "id": "c", "function": {"name": "get", "arguments": part}} for part in ("", '{"a"', ": 1}")]
    assert put_together(chat(*(delta(tool_calls=[piece]) for piece in pieces))).calls == [("get", '{"a": 1}')]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_by_any_name(field: str) -> None:
    assert chat(delta(**{field: "hm"}))[0] == ReasoningDelta("hm")


def test_reasoning_named_twice_is_said_once() -> None:
    assert chat(delta(reasoning="hm", reasoning_content="hm", reasoning_details=[{"text": "hm"}]))[0:-1] == [
        ReasoningDelta("hm")
    ]


def test_content_in_parts() -> None:
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "so"}]
    assert chat(delta(content=parts))[:-1] == [ReasoningDelta("hm"), TextDelta("so")]


def test_logprobs_and_citations() -> None:
    token = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [{"token": "b", "logprob": -1.0}]}
    cited = {"type": "url_citation", "url_citation": {"url": "https://a", "title": "A"}}
    sent = delta(content="a", annotations=[cited])
    sent["choices"][0]["logprobs"] = {"content": [token]}
    text, annotation, _ = chat(sent)
    top = {"token": "b", "bytes": [98], "logprob": -1.0}
    assert text == TextDelta("a", ({"token": "a", "bytes": [97], "logprob": -0.5, "top_logprobs": [top]},))
    assert annotation == TextAnnotation({"type": "url_citation", "url": "https://a", "title": "A"})


def test_usage_by_any_name() -> None:
    given = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": None}
    assert usage_of(given) == Usage(9, output_tokens=4, total_tokens=13)
    details = {"prompt_tokens_details": {"cached_tokens": 3}, "completion_tokens_details": {"reasoning_tokens": 2}}
    expected = Usage(9, InputTokensDetails(3), 4, OutputTokensDetails(2), 13)
    assert usage_of({**given, **details}) == expected
    assert usage_of({**given, "prompt_cache_hit_tokens": 3, "reasoning_tokens": 2}) == expected
    groq = {"choices": [], "x_groq": {"usage": given}}
    assert chat(delta("stop"), groq)[-1] == ModelEnd("stop", Usage(9, output_tokens=4, total_tokens=13))


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("length", "length"),
        ("max_tokens", "length"),
        ("content_filter", "content_filter"),
        ("SAFETY", "content_filter"),
    ],
)
def test_finish_reasons(finish: str, reason: str) -> None:
    assert chat(delta(content="a"), delta(finish), delta(None))[-1] == ModelEnd(reason)  # type: ignore[arg-type]  # a table


@pytest.mark.parametrize(
    "error",
    [
        {"error": {"message": "on fire", "code": 500}},
        {"error": "on fire"},
        {"object": "error", "message": "on fire", "code": 500},
        {"error": {"code": "server_error", "message": "on fire", "metadata": {"raw": "x"}}, "choices": []},
    ],
)
def test_errors_inside_a_stream(error: Json) -> None:
    with pytest.raises(UpstreamError, match="on fire") as caught:
        chat(error)
    assert caught.value.code == "server_error"


def test_a_stream_cut_off_is_an_error_and_one_without_done_is_not() -> None:
    with pytest.raises(UpstreamError, match="middle"):
        chat(delta(content="a"), done=False)
    assert chat(delta("stop", content="a"), done=False)[-1] == ModelEnd("stop")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, '{"error": {"message": "m", "code": "context_length_exceeded"}}'),
        (400, '{"object": "error", "message": "This model\'s maximum context length is 4096 tokens."}'),
        (400, '{"error": {"code": 400, "message": "the request exceeds", "type": "exceed_context_size_error"}}'),
        (500, '{"error": {"message": "the request exceeds the available context size. try increasing it"}}'),
        (400, '{"error": "the input length exceeds the context length"}'),
        (400, "Trying to keep the first 9000 tokens when context the overflows. context length is too small"),
    ],
)
def test_too_long_in_every_vendors_words(status: int, body: str) -> None:
    assert isinstance(from_status("x", status, {}, body.encode(), None), ContextTooLong)


def test_items_that_the_upstream_ran_pass_unchanged() -> None:
    item = {"id": "ws_1", "type": "web_search_call", "status": "in_progress"}
    done = {**item, "status": "completed", "action": {"type": "search", "query": "q"}}
    found = responses(
        {"type": "response.output_item.added", "output_index": 0, "item": item, "sequence_number": 1},
        {"type": "response.web_search_call.searching", "output_index": 0, "item_id": "ws_1", "x": 1},
        {"type": "response.output_item.done", "output_index": 0, "item": done},
        {"type": "response.completed", "response": {"status": "completed", "output": [done]}},
    )
    assert found == [
        Foreign(Opened(OpaqueItem(item))),
        Foreign(Progress("ws_1", "response.web_search_call.searching", {"x": 1})),
        Foreign(Closed(OpaqueItem(done))),
        ModelEnd("stop"),
    ]


def test_phases_and_seals() -> None:
    sealed = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "whole"}
    message = {"id": "msg_1", "type": "message", "content": [], "phase": "final_answer"}
    found = responses(
        {"type": "response.output_item.added", "output_index": 0, "item": {**sealed, "encrypted_content": "part"}},
        {"type": "response.output_item.done", "output_index": 0, "item": sealed},
        {"type": "response.output_item.added", "output_index": 1, "item": message},
        {"type": "response.output_text.delta", "output_index": 1, "item_id": "msg_1", "delta": "a"},
        {"type": "response.incomplete", "response": {"incomplete_details": {"reason": "x"}, "status": "incomplete"}},
    )
    assert found == [ReasoningSealed("whole"), MessagePhase("final_answer"), TextDelta("a"), ModelEnd("length")]


@pytest.mark.parametrize(
    "event",
    [
        {"type": "error", "error": {"type": "x", "code": "rate_limit_exceeded", "message": "slow down"}},
        {"type": "error", "code": "rate_limit_exceeded", "message": "slow down", "param": None},
        {
            "type": "response.failed",
            "response": {"status": "failed", "error": {"code": "rate_limit_exceeded", "message": "slow down"}},
        },
    ],
)
def test_failures_of_a_response(event: Json) -> None:
    with pytest.raises(UpstreamError, match="slow down") as caught:
        responses(event)
    assert caught.value.code == "rate_limit_exceeded"
