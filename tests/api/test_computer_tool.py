"""A computer that the client runs: actions go out, screenshots come in."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import ResponseComputerToolCall

from deskhand.tools.computer import ComputerTool, prompt_call
from deskhand.wire.items import ComputerCall

from .heard import Heard
from .oracle import stream

Json = dict[str, Any]
COMPUTER: Json = {"type": "computer"}
PREVIEW: Json = {"type": "computer_use_preview", "display_width": 800, "display_height": 600, "environment": "browser"}
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5Er"
    "kJggg=="
)
CLICK: Json = {"type": "click", "button": "left", "x": 3, "y": 4}


@pytest.fixture
def chat(heard: Heard) -> Heard:
    if heard.dialect != "chat":
        pytest.skip("servers of the Responses API have the tool themselves")
    return heard


def answered(call: Json, **fields: Any) -> Json:
    shot = {"type": "computer_screenshot", "image_url": PIXEL}
    return {"type": "computer_call_output", "call_id": call["call_id"], "output": shot, **fields}


def test_actions_go_to_the_client_and_its_screenshot_to_the_model(chat: Heard) -> None:
    script = f"@@ computer {json.dumps([CLICK, {'type': 'screenshot'}])}\n@@ say seen"
    events = stream(chat.http, {"model": "m", "input": script, "tools": [COMPUTER]})
    first = events[-1]["response"]
    (call,) = first["output"]
    ResponseComputerToolCall.model_validate(call, strict=True)
    assert (call["type"], call["status"], call["pending_safety_checks"]) == ("computer_call", "completed", [])
    assert call["actions"] == [CLICK, {"type": "screenshot"}]
    assert "action" not in call
    checks = [{"id": "sc_1", "code": "malicious_instructions", "message": "m"}]
    given = answered(call, acknowledged_safety_checks=checks)
    second, (body,) = chat.ask(input=[given], previous_response_id=first["id"], tools=[COMPUTER])
    assert second["output"][-1]["content"][0]["text"] == "seen"
    *_, made, told, shown = body["messages"]
    assert made["tool_calls"][0]["function"]["name"] == "computer"
    assert (told["role"], told["tool_call_id"]) == ("tool", made["tool_calls"][0]["id"])
    assert shown["content"][-1] == {"type": "image_url", "image_url": {"url": PIXEL}}
    items = chat.http.get(f"/v1/responses/{second['id']}/input_items").json()["data"]
    assert items[0]["acknowledged_safety_checks"] == checks


def test_the_preview_tool_has_one_action_and_a_screen(chat: Heard) -> None:
    script = f"@@ computer {json.dumps([CLICK])}\n@@ say ok"
    first, (body,) = chat.ask(input=script, tools=[PREVIEW], truncation="auto")
    assert first["output"][0]["action"] == CLICK
    assert "actions" not in first["output"][0]
    assert "800 by 600" in body["tools"][0]["function"]["description"]
    second, (body,) = chat.ask(input=[*first["output"], answered(first["output"][0])], tools=[PREVIEW])
    assert second["status"] == "completed"
    assert PIXEL in str(body)


def test_a_screenshot_can_be_a_file(chat: Heard, tmp_path: Path) -> None:
    client = chat.server.client()
    path = tmp_path / "shot.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))
    file = client.files.create(file=path, purpose="vision")
    first, _ = chat.ask(input=f"@@ computer {json.dumps([CLICK])}\n@@ say ok", tools=[COMPUTER])
    shot = {"type": "computer_screenshot", "file_id": file.id, "detail": "original"}
    given = {**answered(first["output"][0]), "output": shot}
    _, (body,) = chat.ask(input=[given], previous_response_id=first["id"], tools=[COMPUTER])
    assert body["messages"][-1]["content"][-1]["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
    lost = {**given, "output": {**shot, "file_id": "file-none"}}
    status, error = chat.refused(input=[lost], previous_response_id=first["id"], tools=[COMPUTER])
    assert (status, error["param"]) == (404, "input[0].output.file_id")
    empty = {**given, "output": {"type": "computer_screenshot"}}
    assert chat.refused(input=[empty], previous_response_id=first["id"], tools=[COMPUTER])[0] == 400


def test_actions_that_make_no_sense_are_asked_for_again(chat: Heard) -> None:
    script = f'@@ computer [{{"type": "fly"}}]\n@@ computer {json.dumps([CLICK])}'
    response, bodies = chat.ask(input=script, tools=[COMPUTER])
    assert ([call["actions"] for call in response["output"]], len(bodies)) == ([[CLICK]], 2)


def test_a_call_waits_for_its_screenshot(chat: Heard) -> None:
    first, _ = chat.ask(input=f"@@ computer {json.dumps([CLICK])}", tools=[COMPUTER])
    status, error = chat.refused(input="go on", previous_response_id=first["id"], tools=[COMPUTER])
    assert (status, error["message"].startswith("No tool output found for computer call")) == (400, True)


def test_the_tool_can_be_chosen(chat: Heard) -> None:
    for choice in ("computer", "computer_use", "computer_use_preview"):
        tool = PREVIEW if choice == "computer_use_preview" else COMPUTER
        if choice == "computer_use":
            tool = PREVIEW
        _, (body,) = chat.ask(input=f"@@ computer {json.dumps([CLICK])}", tools=[tool], tool_choice={"type": choice})
        assert body["tool_choice"]["function"]["name"] == tool["type"]


def test_a_server_of_the_responses_api_gets_it_as_it_is(heard: Heard) -> None:
    if heard.dialect == "chat":
        pytest.skip("see above")
    call = {"type": "computer_call", "id": "cu_1", "call_id": "c1", "actions": [CLICK], "pending_safety_checks": []}
    call["status"] = "completed"
    given = answered(call)
    choice = {"type": "computer"}
    _, (body,) = heard.ask(input=["@@", call, given][1:], tools=[COMPUTER], tool_choice=choice)
    assert (body["tools"], body["tool_choice"]) == ([COMPUTER], choice)
    sent = {item["type"]: item for item in body["input"]}
    assert sent["computer_call"]["actions"] == [CLICK]
    assert sent["computer_call_output"]["output"] == given["output"]


_PLACE = st.integers(-5, 5000)
_KEYS = st.lists(st.text(max_size=5), max_size=3)
_ACTION = st.one_of(
    st.fixed_dictionaries({"type": st.just("move"), "x": _PLACE, "y": _PLACE}, optional={"keys": _KEYS}),
    st.fixed_dictionaries({"type": st.just("type"), "text": st.text()}),
    st.fixed_dictionaries({"type": st.just("keypress"), "keys": _KEYS}),
    st.fixed_dictionaries({"type": st.sampled_from(["wait", "screenshot"])}),
)


@given(st.lists(_ACTION, min_size=1), st.integers(1, 50))
def test_a_call_is_read_as_it_is_said_and_said_as_it_is_read(actions: list[Json], size: int) -> None:
    reader = ComputerTool(COMPUTER).read("c1", lambda prefix: f"{prefix}_1")
    text = json.dumps({"actions": actions})
    for start in range(0, len(text), size):
        assert reader.feed(text[start : start + size]) == []
    drafts: Any = reader.end("completed")
    item = drafts[-1].item
    assert isinstance(item, ComputerCall)
    assert item.actions == actions
    assert json.loads(prompt_call(item).arguments) == {"actions": actions}
