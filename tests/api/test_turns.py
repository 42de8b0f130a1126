"""Turns of one response, in both dialects: what is run, what goes back to the client, and when it ends."""

from typing import Any

import pytest

from .heard import Heard
from .oracle import stream

Json = dict[str, Any]
SHELL: Json = {"type": "shell"}
HOSTED: Json = {"type": "shell", "environment": {"type": "container_auto"}}


def function(name: str) -> Json:
    return {"type": "function", "name": name, "parameters": {"type": "object", "properties": {}}}


def test_hosted_and_client_calls_of_one_turn(heard: Heard) -> None:
    script = "@@ shell echo hi > f; cat f\n@@& call a {}\n@@ shell cat f\n@@ say done"
    first, bodies = heard.ask(input=script, tools=[HOSTED, function("a")])
    assert [item["type"] for item in first["output"]] == ["shell_call", "function_call", "shell_call_output"]
    assert len(bodies) == 1
    answer = {"type": "function_call_output", "call_id": first["output"][1]["call_id"], "output": "7"}
    second, bodies = heard.ask(input=[answer], previous_response_id=first["id"], tools=[HOSTED, function("a")])
    assert all(said in str(bodies[0]) for said in ("hi\\n", "'7'"))
    assert second["output"][1]["output"][0]["stdout"] == "hi\n"
    assert second["output"][0]["environment"] == first["output"][0]["environment"]


def test_the_budget_of_output_tokens_is_shared_by_all_turns(heard: Heard) -> None:
    script = "\n".join(["@@ shell true"] * 9)
    response, bodies = heard.ask(input=script, tools=[HOSTED], max_output_tokens=18)
    assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    name = "max_tokens" if heard.dialect == "chat" else "max_output_tokens"
    least = 16 if heard.dialect == "responses" else 0
    assert [body[name] for body in bodies] == [max(least, 18 - 5 * turn) for turn in range(4)]
    assert response["usage"]["output_tokens"] == 20


def test_calls_beyond_max_tool_calls_are_ignored(heard: Heard) -> None:
    response, bodies = heard.ask(input="@@ shell echo 1\n@@& shell echo 2", tools=[HOSTED], max_tool_calls=1)
    assert [item["type"] for item in response["output"]] == ["shell_call", "shell_call_output", "message"]
    assert [len(body.get("tools") or ()) for body in bodies] == [1, 0]
    assert response["max_tool_calls"] == 1


@pytest.mark.parametrize(
    ("script", "tools"),
    [
        ("@@ think hmm there\n@@ say ok", []),
        ("@@ note first\n@@ call a {}", [function("a")]),
        ("@@ call c some text", [{"type": "custom", "name": "c"}]),
        ("@@ create a.txt <<E\nhello\nE", [{"type": "apply_patch"}]),
        ("@@ shell ls", [SHELL]),
        ("@@ shell ls", [{"type": "local_shell"}]),
        ("@@ shell echo hi; echo err >&2", [HOSTED]),
        ("@@ shell sleep 0.2; echo 1\n@@& shell echo 2\n@@ say done", [HOSTED]),
        ('@@ call shell {"commands": ["sleep 0.1; echo a", "echo b >&2"]}', [HOSTED]),
        ("@@ refuse no", []),
        ("@@ incomplete content_filter", []),
        ("@@ fail server_error boom", []),
        ("@@ call made_up {}", [function("a")]),
        ("@@ call apply_patch {}\n@@ say mended", [{"type": "apply_patch"}]),
    ],
)
def test_every_kind_of_stream_is_legal(heard: Heard, script: str, tools: list[Json]) -> None:
    events = stream(heard.http, {"model": "m", "input": script, "tools": tools})
    deltas: dict[tuple[str, int], str] = {}
    for event in events:
        stem, _, last = event["type"].rpartition(".")
        key = stem, event.get("output_index", 0)
        if last == "delta" and isinstance(event["delta"], str):
            deltas[key] = deltas.get(key, "") + event["delta"]
        elif last == "done" and key in deltas:
            whole = next(
                v for k, v in event.items() if k in {"text", "arguments", "input", "diff", "command", "refusal"}
            )
            assert deltas.pop(key) == whole
    assert not deltas


def test_an_unreadable_edit_is_answered_and_the_model_goes_on(heard: Heard) -> None:
    response, _ = heard.ask(input="@@ call apply_patch {}\n@@ say mended", tools=[{"type": "apply_patch"}])
    assert [item["type"] for item in response["output"]] == ["apply_patch_call", "apply_patch_call_output", "message"]


def test_a_failed_response_has_no_usage_of_its_own(heard: Heard) -> None:
    response, _ = heard.ask(input="@@ fail server_error boom")
    assert (response["status"], response["usage"]) == ("failed", None)
    assert response["error"]["code"] == "server_error"
