"""Namespaces, tools that come with the input, and choices among tools, in both dialects."""

from typing import Any

import pytest

from .heard import Heard

Json = dict[str, Any]


def function(name: str) -> Json:
    return {"type": "function", "name": name, "parameters": {"type": "object", "properties": {}}}


def names(heard: Heard, body: Any) -> list[str]:
    tools = body.get("tools") or ()
    return [tool["function"]["name"] if heard.dialect == "chat" else tool["name"] for tool in tools]


GROUP: Json = {
    "type": "namespace",
    "name": "crm",
    "description": "customers",
    "tools": [function("get"), function("put")],
}


def test_the_official_sdk_reads_a_call_with_its_namespace(heard: Heard) -> None:
    client = heard.server.client()
    tools: Any = [GROUP, function("get")]
    first = client.responses.create(model="m", input="@@ call crm__get {}", tools=tools)
    call: Any = first.output[0]
    assert (call.type, call.namespace, call.name) == ("function_call", "crm", "get")
    answer: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "7"}
    second = client.responses.create(model="m", input=[answer], previous_response_id=first.id, tools=tools)
    assert second.output_text == "RESULT: 7"


def test_allowed_tools_are_all_that_is_offered(heard: Heard) -> None:
    tools = [function("a"), function("b"), GROUP]
    for mode in ("auto", "required"):
        choice = {"type": "allowed_tools", "mode": mode, "tools": [{"type": "function", "name": "b"}]}
        response, (body,) = heard.ask(input="@@ call b {}", tools=tools, tool_choice=choice)
        assert names(heard, body) == ["b"]
        assert body.get("tool_choice", "auto") == mode
        assert response["tool_choice"] == choice
        assert [tool["name"] for tool in response["tools"]] == ["a", "b", "crm"]
    member = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "put"}]}
    assert names(heard, heard.ask(tools=tools, tool_choice=member)[1][0]) == ["put"]
    group = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "namespace", "name": "crm"}]}
    assert names(heard, heard.ask(tools=tools, tool_choice=group)[1][0]) == ["get", "put"]


def test_allowed_tools_must_be_offered(heard: Heard) -> None:
    choice = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "c"}]}
    assert heard.refused(tools=[function("a")], tool_choice=choice)[1]["param"] == "tool_choice"


def test_an_item_brings_a_namespace_for_the_rest_of_the_conversation(heard: Heard) -> None:
    added = {"type": "additional_tools", "role": "developer", "tools": [GROUP]}
    first, (body,) = heard.ask(input=[added, {"role": "user", "content": "@@ call get {}"}])
    assert names(heard, body) == ["get", "put"]
    answer = {"type": "function_call_output", "call_id": first["output"][0]["call_id"], "output": "7"}
    second, (body,) = heard.ask(input=[answer], previous_response_id=first["id"])
    assert names(heard, body) == ["get", "put"]
    assert second["output"][-1]["content"][0]["text"] == "RESULT: 7"


@pytest.mark.parametrize("spelled", [{"id": "at_1"}, {}, {"role": "system"}, {"unheard_of": [1]}])
def test_added_tools_in_every_spelling(heard: Heard, spelled: Json) -> None:
    added = {"type": "additional_tools", "role": "developer", "tools": [function("x")], **spelled}
    _, (body,) = heard.ask(input=[added, {"role": "user", "content": "@@ say ok"}])
    assert names(heard, body) == ["x"]
