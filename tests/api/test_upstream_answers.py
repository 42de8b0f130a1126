"""What the upstream says, as it reaches the client: log probabilities, its own items, refusals, usage."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from deskhand.testing.upstream import Faults, Status

from .heard import Heard
from .oracle import stream, types

Json = dict[str, Any]
TOO_LONG = Status(400, message="maximum context length is 10 tokens", error_code="context_length_exceeded")


@contextmanager
def saying(heard: Heard, faults: Faults) -> Iterator[None]:
    heard.upstream.requests.clear()
    heard.upstream.faults = faults
    try:
        yield
    finally:
        heard.upstream.faults = Faults()


def frames(*events: Json) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events) + b"data: [DONE]\n\n"


def chat(delta: Json, **choice: Any) -> Json:
    return {"id": "x", "choices": [{"index": 0, "delta": delta, "finish_reason": None, **choice}]}


def told(*items: Json, between: Callable[[int, Json], list[Json]] = lambda *_: []) -> bytes:
    """A Responses stream that tells `items` and ends."""
    events: list[Json] = []
    for index, item in enumerate(items):
        events.append({"type": "response.output_item.added", "output_index": index, "item": {**item, "content": []}})
        events += between(index, item)
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    response = {"id": "r", "object": "response", "status": "completed", "output": list(items), "usage": None}
    return frames(*events, {"type": "response.completed", "response": response})


def said(text: str, **fields: Any) -> Json:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [part], **fields}


def test_log_probabilities_are_shown_if_they_are_asked_for(heard: Heard) -> None:
    token = {"token": "hi", "bytes": [104, 105], "logprob": -0.5}
    whole = {**token, "top_logprobs": [token]}
    if heard.dialect == "chat":
        raw = frames(chat({"content": "hi"}, logprobs={"content": [whole]}), chat({}, finish_reason="stop"))
    else:
        delta = {"type": "response.output_text.delta", "item_id": "m", "output_index": 0, "content_index": 0}
        raw = told(said("hi"), between=lambda *_: [{**delta, "delta": "hi", "logprobs": [whole]}])
    with saying(heard, Faults(raw=raw)):
        body = {"model": "m", "input": "x", "top_logprobs": 1}
        plain = stream(heard.http, body)
        shown = stream(heard.http, {**body, "include": ["message.output_text.logprobs"]})
    for events, expected in ((plain, []), (shown, [whole])):
        found = [event["logprobs"] for event in events if "logprobs" in event]
        assert found == [expected, expected]
        assert events[-1]["response"]["output"][0]["content"][0]["logprobs"] == expected


def test_items_of_the_upstreams_own_are_passed_through(heard: Heard) -> None:
    if heard.dialect == "chat":
        pytest.skip("chat has no items")
    search = {
        "type": "web_search_call",
        "id": "ws_1",
        "status": "completed",
        "action": {"type": "search", "query": "q"},
    }
    note = {"type": "url_citation", "start_index": 0, "end_index": 1, "title": "t", "url": "http://x"}
    message = said("found", phase="final_answer")

    def between(index: int, item: Json) -> list[Json]:
        where = {"output_index": index, "item_id": item["id"]}
        if index == 0:
            return [{"type": f"response.web_search_call.{step}", **where} for step in ("in_progress", "completed")]
        where["content_index"] = 0
        return [
            {"type": "response.output_text.delta", **where, "delta": "found", "logprobs": []},
            {"type": "response.output_text.annotation.added", **where, "annotation_index": 0, "annotation": note},
        ]

    with saying(heard, Faults(raw=told(search, message, between=between))):
        events = stream(heard.http, {"model": "m", "input": "x", "tools": [{"type": "web_search"}]})
    assert types(events)[2:9] == [
        "response.output_item.added",
        "response.web_search_call.in_progress",
        "response.web_search_call.completed",
        "response.output_item.done",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
    ]
    first, second = events[-1]["response"]["output"]
    assert first == search
    assert (second["phase"], second["content"][0]["annotations"]) == ("final_answer", [note])
    # The chain gives the item back to the upstream as it came.
    _, (body,) = heard.ask(previous_response_id=events[-1]["response"]["id"])
    assert body["input"][1] == search


def test_truncation_leaves_out_the_oldest_turns(heard: Heard) -> None:
    old = [{"role": "user", "content": "old"}, {"role": "assistant", "content": "older"}]
    new = {"role": "user", "content": "@@ say short"}
    with saying(heard, Faults(statuses=[TOO_LONG])):
        response, bodies = heard.ask(input=[*old, new], truncation="auto", instructions="Stay.")
    assert response["output"][0]["content"][0]["text"] == "short"
    assert ["older" in json.dumps(body) for body in bodies] == [True, False]
    assert all("Stay." in json.dumps(body) for body in bodies)
    with saying(heard, Faults(statuses=[TOO_LONG])):
        failed, bodies = heard.ask(input=[*old, new])
    assert (failed["status"], failed["error"]["code"], len(bodies)) == ("failed", "invalid_prompt", 1)
    assert "maximum context length" in failed["error"]["message"]


def test_usage_of_all_turns_is_added_up(heard: Heard) -> None:
    chat_usage = {
        "prompt_tokens": 10,
        "completion_tokens": 4,
        "total_tokens": 14,
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    usage = {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 3},
        "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 14,
    }
    shell = {"type": "shell", "environment": {"type": "container_auto"}}
    with saying(heard, Faults(usage=chat_usage if heard.dialect == "chat" else usage)):
        response, bodies = heard.ask(input="@@ shell true\n@@ say ok", tools=[shell])
    assert len(bodies) == 2
    assert response["usage"] == {
        "input_tokens": 20,
        "input_tokens_details": {"cached_tokens": 6, "cache_write_tokens": 0},
        "output_tokens": 8,
        "output_tokens_details": {"reasoning_tokens": 4},
        "total_tokens": 28,
    }


def test_reasoning_is_a_summary_where_one_is_asked_for(heard: Heard) -> None:
    if heard.dialect == "responses":
        pytest.skip("servers of the Responses API make summaries themselves")
    tool = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}
    asked = {"reasoning": {"summary": "auto"}, "include": ["reasoning.encrypted_content"], "store": False}
    events = stream(heard.http, {"model": "m", "input": "@@ think hmm ok\n@@ call f {}", "tools": [tool], **asked})
    thought, call = events[-1]["response"]["output"]
    assert thought["summary"] == [{"type": "summary_text", "text": "hmm ok"}]
    assert not thought.get("content")
    deltas = [event["delta"] for event in events if event["type"] == "response.reasoning_summary_text.delta"]
    assert "".join(deltas) == "hmm ok"
    answer = {"type": "function_call_output", "call_id": call["call_id"], "output": "7"}
    for kept in (thought, {**thought, "encrypted_content": None}):
        _, (body,) = heard.ask(
            input=[{"role": "user", "content": "@@ say x"}, kept, call, answer], tools=[tool], **asked
        )
        assert body["messages"][1]["reasoning_content"] == "hmm ok", "the model reads it again between its calls"
    plain, _ = heard.ask(input="@@ think hmm ok\n@@ say x")
    assert (plain["output"][0]["summary"], plain["output"][0]["content"][0]["text"]) == ([], "hmm ok")
