"""What every stream must obey: the official SDK's types, numbering, order, and deltas that add up."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
UNTYPED = {
    "response.apply_patch_call_operation_diff.delta",
    "response.apply_patch_call_operation_diff.done",
}
"""Wire events that the real service sends and its SDK does not type."""
TERMINAL = {"response.completed", "response.failed", "response.incomplete"}


def stream(http: httpx2.Client, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of a streamed request, as plain JSON, checked."""
    with http.stream("POST", "/v1/responses", json={**body, "stream": True}) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        events = list(sse(response.iter_lines()))
    check(events)
    return events


def sse(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Server-sent events as their JSON; the `event:` line must repeat the type."""
    name = ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            event = json.loads(line.removeprefix("data: "))
            assert event["type"] == name
            yield event


def check(events: list[dict[str, Any]]) -> None:
    """Assert what holds for every stream."""
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    assert [event["type"] in TERMINAL for event in events] == [False] * (len(events) - 1) + [True]
    for event in events:
        if event["type"] not in UNTYPED and not (event["type"] == "error" and "error" in event):
            EVENT.validate_python(event)
    _check_items(events)


def _check_items(events: list[dict[str, Any]]) -> None:
    added = {e["output_index"]: e["item"] for e in events if e["type"] == "response.output_item.added"}
    done = {e["output_index"]: e["item"] for e in events if e["type"] == "response.output_item.done"}
    final = events[-1]["response"]["output"]
    assert list(added) == list(range(len(final)))
    assert sorted(done) == list(added)
    for index, item in enumerate(final):
        assert done[index] == item
        assert identity(added[index]) == identity(item)


def identity(item: dict[str, Any]) -> tuple[Any, ...]:
    """What may not change between an item's first and last appearance."""
    return item["type"], item["id"], item.get("call_id")


def types(events: list[dict[str, Any]]) -> list[str]:
    """The event types, runs of the same delta told once."""
    told: list[str] = []
    for event in events:
        if not (told and told[-1] == event["type"] and event["type"].endswith(".delta")):
            told.append(event["type"])
    return told


def normalised(response: dict[str, Any]) -> dict[str, Any]:
    """A response without what differs between two runs of the same script: ids and times."""
    names: dict[str, str] = {}

    def walk(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {k: walk(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [walk(v, key) for v in value]
        if key in {"created_at", "completed_at"}:
            return bool(value)
        if isinstance(value, str) and (key == "id" or key.endswith("_id")):
            return names.setdefault(value, f"{key}-{len(names)}")
        return value

    return dict(walk(response))
