"""Tools that the model has to find: by this server, or by the client."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import ResponseOutputItem
from pydantic import TypeAdapter

from deskhand.tools.tool_search import Hidden, found, merged

from .heard import Heard
from .oracle import stream

Json = dict[str, Any]
ITEM: TypeAdapter[Any] = TypeAdapter(ResponseOutputItem)
SEARCH: Json = {"type": "tool_search"}
BY_CLIENT: Json = {
    "type": "tool_search",
    "execution": "client",
    "description": "Look for tools.",
    "parameters": {"type": "object", "properties": {"goal": {"type": "string"}}, "required": ["goal"]},
}


def function(name: str, description: str = "", *, defer: bool = True) -> Json:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    made = {"type": "function", "name": name, "description": description, "parameters": parameters, "strict": False}
    return made | ({"defer_loading": True} if defer else {})


WEATHER = function("get_weather", "Weather of a city")
STOCKS = function("get_stocks", "Prices of shares")
CRM: Json = {
    "type": "namespace",
    "name": "crm",
    "description": "Customers",
    "tools": [function("find_customer"), function("ping", defer=False)],
}


def names(heard: Heard, body: Any) -> list[str]:
    return [tool["function"]["name"] if heard.dialect == "chat" else tool["name"] for tool in body.get("tools") or ()]


def search_text(heard: Heard, body: Any) -> str:
    tools = [tool["function"] if heard.dialect == "chat" else tool for tool in body["tools"]]
    return str(next(tool["description"] for tool in tools if tool["name"] == "tool_search"))


def test_what_is_found_is_offered_and_can_be_called(heard: Heard) -> None:
    tools = [SEARCH, WEATHER, STOCKS, CRM]
    script = '@@ call tool_search {"paths": ["get_weather"]}\n@@ call get_weather {"city": "Oslo"}'
    before = len(heard.upstream.requests)
    events = stream(heard.http, {"model": "m", "input": script, "tools": tools})
    bodies = [seen.body for seen in heard.upstream.requests[before:]]
    response = events[-1]["response"]
    for item in response["output"]:
        ITEM.validate_python(item)
    search, output, call = response["output"]
    assert (search["type"], search["execution"], search["call_id"]) == ("tool_search_call", "server", None)
    assert search["arguments"] == {"paths": ["get_weather"]}
    assert (output["type"], output["execution"], output["call_id"]) == ("tool_search_output", "server", None)
    assert output["tools"] == [WEATHER]
    assert (call["name"], call["namespace"], call["arguments"]) == ("get_weather", "get_weather", '{"city": "Oslo"}')
    assert names(heard, bodies[0]) == ["tool_search", "ping"]
    assert all(
        word in search_text(heard, bodies[0]) for word in ("get_weather", "Prices of shares", "crm.find_customer")
    )
    assert names(heard, bodies[1]) == ["tool_search", "get_weather", "ping"]
    answer = {"type": "function_call_output", "call_id": call["call_id"], "output": "fog"}
    later, (body,) = heard.ask(input=[answer], previous_response_id=response["id"], tools=tools)
    assert "get_weather" in names(heard, body)
    assert "get_stocks" not in names(heard, body)
    assert later["output"][-1]["content"][0]["text"].endswith("fog")


def test_a_conversation_that_the_client_keeps(heard: Heard) -> None:
    tools = [SEARCH, WEATHER]
    asked = {"role": "user", "content": '@@ call tool_search {"query": "weather"}\n@@ call get_weather {}\n@@ say ok'}
    first, _ = heard.ask(input=[asked], tools=tools, store=False)
    call = first["output"][-1]
    answer = {"type": "function_call_output", "call_id": call["call_id"], "output": "fog"}
    for kept in (first["output"], [{k: v for k, v in item.items() if k != "id"} for item in first["output"]]):
        second, (body,) = heard.ask(input=[asked, *kept, answer], tools=tools, store=False)
        assert second["output"][-1]["content"][0]["text"] == "ok"
        assert "get_weather" in names(heard, body)
        assert "interrupted" not in str(body)


def test_a_namespace_is_found_as_one(heard: Heard) -> None:
    response, bodies = heard.ask(
        input='@@ call tool_search {"paths": ["crm"]}\n@@ call find_customer {}', tools=[SEARCH, CRM]
    )
    _, output, call = response["output"]
    assert [(tool["name"], [one["name"] for one in tool["tools"]]) for tool in output["tools"]] == [
        ("crm", ["find_customer"])
    ]
    assert (call["namespace"], call["name"]) == ("crm", "find_customer")
    assert names(heard, bodies[1]) == ["tool_search", "find_customer", "ping"]


def test_a_search_that_finds_nothing_says_so(heard: Heard) -> None:
    response, bodies = heard.ask(input='@@ call tool_search {"query": "zebra"}', tools=[SEARCH, WEATHER])
    assert response["output"][1]["tools"] == []
    assert response["output"][-1]["content"][0]["text"] == "RESULT: No tool was found."
    assert names(heard, bodies[1]) == ["tool_search"]


def test_the_client_looks_for_tools(heard: Heard) -> None:
    script = '@@ call tool_search {"goal": "weather"}\n@@ call get_weather {}\n@@ say done'
    first, (body,) = heard.ask(input=script, tools=[BY_CLIENT, STOCKS])
    assert names(heard, body) == ["tool_search"]
    (call,) = first["output"]
    ITEM.validate_python(call)
    assert (call["type"], call["execution"], call["arguments"]) == ("tool_search_call", "client", {"goal": "weather"})
    assert heard.refused(input="more", previous_response_id=first["id"])[0] == 400, "it waits for its output"
    output = {"type": "tool_search_output", "call_id": call["call_id"], "execution": "client", "tools": [WEATHER]}
    second, (body,) = heard.ask(input=[output], previous_response_id=first["id"], tools=[BY_CLIENT, STOCKS])
    assert names(heard, body) == ["tool_search", "get_weather"]
    assert second["output"][0]["name"] == "get_weather"
    answer = {"type": "function_call_output", "call_id": second["output"][0]["call_id"], "output": "fog"}
    third, (body,) = heard.ask(input=[answer], previous_response_id=second["id"], tools=[BY_CLIENT])
    assert "get_weather" in names(heard, body), "it stays for the rest of the conversation"
    assert third["output"][-1]["content"][0]["text"] == "done"


def test_a_tool_that_must_be_called_need_not_be_found(heard: Heard) -> None:
    choice = {"type": "function", "name": "get_weather"}
    _, (body,) = heard.ask(input="@@ call get_weather {}", tools=[SEARCH, WEATHER, STOCKS], tool_choice=choice)
    assert names(heard, body) == ["tool_search", "get_weather"]


def test_without_a_search_nothing_is_hidden(heard: Heard) -> None:
    _, (body,) = heard.ask(tools=[WEATHER])
    assert names(heard, body) == ["get_weather"]


def test_an_output_without_its_search_is_refused(heard: Heard) -> None:
    output = {"type": "tool_search_output", "call_id": "call_none", "execution": "client", "tools": []}
    assert heard.refused(input=[output])[0] == 400


_TOOLS = [
    Hidden("a", "alpha one", {"type": "function", "name": "a"}),
    Hidden("n.b", "beta one", {"type": "namespace", "name": "n", "tools": [{"name": "b"}]}),
    Hidden("n.c", "gamma", {"type": "namespace", "name": "n", "tools": [{"name": "c"}]}),
]


@pytest.mark.parametrize(
    ("arguments", "paths"),
    [
        ({"paths": ["A"]}, ["a"]),
        ({"paths": ["n"]}, ["n.b", "n.c"]),
        ({"paths": ["n__c"]}, ["n.c"]),
        ({"query": "one beta"}, ["n.b", "a"]),
        ({"paths": ["gamma"]}, ["n.c"]),
        ({"paths": "a", "query": 3}, []),
        ({}, []),
    ],
)
def test_what_a_search_finds(arguments: Json, paths: list[str]) -> None:
    assert [tool.path for tool in found(_TOOLS, arguments)] == paths


@given(st.lists(st.sampled_from(_TOOLS), unique_by=lambda tool: tool.path))
def test_merging_keeps_every_tool_once(tools: list[Hidden]) -> None:
    made = merged(tools)
    flat = [one["name"] for tool in made for one in tool.get("tools", [tool])]
    assert sorted(flat) == sorted(tool.path.rpartition(".")[2] for tool in tools)
    assert len([tool for tool in made if tool.get("type") == "namespace"]) <= 1


@pytest.mark.timeout(30, method="signal")
def test_a_large_namespace_is_found_as_one_in_a_moment() -> None:
    members = [{"type": "function", "name": f"f{n}"} for n in range(50_000)]
    hidden = [Hidden(f"n.{one['name']}", "", {"type": "namespace", "name": "n", "tools": [one]}) for one in members]
    assert merged(found(hidden, {"paths": ["n"]})) == [{"type": "namespace", "name": "n", "tools": members}]
    assert hidden[0].fields["tools"] == members[:1], "what is hidden stays as it is"
