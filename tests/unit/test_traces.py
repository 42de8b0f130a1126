"""What is read from a batch of traces."""

from typing import Any

import pytest

from deskhand.core.errors import ApiError
from deskhand.engine.traces import MOST_BYTES, read_batch
from deskhand.wire.codec import encode

Json = dict[str, Any]
TRACE: Json = {"object": "trace", "id": "trace_1", "workflow_name": "w", "group_id": "g", "metadata": {"a": 1}}
SPAN: Json = {
    "object": "trace.span",
    "id": "span_1",
    "trace_id": "trace_1",
    "parent_id": None,
    "started_at": "2026-01-01T00:00:00Z",
    "span_data": {"type": "response", "response_id": "resp_1", "usage": {"input_tokens": 1}},
}


def test_traces_and_spans_are_told_apart_and_kinds_to_come_are_ignored() -> None:
    batch = read_batch([TRACE, SPAN, {"object": "trace.score", "id": "x"}], 7)
    assert [(trace.id, trace.group_id, trace.created_at, trace.body) for trace in batch.traces] == [
        ("trace_1", "g", 7, TRACE)
    ]
    assert [(span.trace_id, span.response_id, span.body) for span in batch.spans] == [("trace_1", "resp_1", SPAN)]
    assert batch.ignored == 1


@pytest.mark.parametrize(
    ("entry", "param"),
    [
        ({"object": "trace"}, "data[1].id"),
        ({"id": "trace_1"}, "data[1].object"),
        ({"object": "trace", "id": 5}, "data[1].id"),
        ({"object": "trace", "id": ""}, "data[1].id"),
        ({"object": "trace.span", "id": "span_1"}, "data[1].trace_id"),
        ({**SPAN, "span_data": "text"}, "data[1].span_data"),
        ({**TRACE, "id": "x" * 257}, "data[1].id"),
    ],
)
def test_an_entry_that_cannot_be_kept_is_named(entry: Json, param: str) -> None:
    with pytest.raises(ApiError) as raised:
        read_batch([TRACE, entry], 0)
    assert (raised.value.status, raised.value.param) == (400, param)


def test_what_a_large_span_worked_on_is_left_out_and_what_it_is_stays() -> None:
    large = {**SPAN, "span_data": {**SPAN["span_data"], "input": "x" * MOST_BYTES}}
    span = read_batch([large], 0).spans[0]
    assert span.body == {**SPAN, "span_data": {**SPAN["span_data"], "truncated": True}}
    assert span.response_id == "resp_1"


@pytest.mark.parametrize("field", ["metadata", "error", "x" * 99, "span_data"])
def test_no_field_makes_what_is_kept_large(field: str) -> None:
    value = {"type": "x" * MOST_BYTES, "usage": ["x" * MOST_BYTES]}
    span = read_batch([{**SPAN, field: value}], 0).spans[0]
    trace = read_batch([{**TRACE, field: value}], 0).traces[0]
    assert len(encode(span.body)) <= MOST_BYTES
    assert len(encode(trace.body)) <= MOST_BYTES
