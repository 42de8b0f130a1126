"""The `mcp` tool: real servers over both transports, through the official SDK."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from ..conftest import Launch, Server
from ..rows import all_bytes
from .heard import listening
from .mcp_servers import PNG, Running, both, calculator, serving
from .oracle import stream, types

LISTED = [
    "response.output_item.added",
    "response.mcp_list_tools.in_progress",
    "response.mcp_list_tools.completed",
    "response.output_item.done",
]
ADD = '@@ mcp add {"a": 20, "b": 22}'


@pytest.fixture(scope="module")
def remote() -> Iterator[Running]:
    with serving(both(calculator())) as running:
        yield running


@pytest.fixture(scope="module")
def allowing(upstream_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that may call the tests' own host."""
    from ..conftest import launched

    data = tmp_path_factory.mktemp("mcp") / "data"
    with launched(data, upstream_url, allow_private_hosts="127.0.0.1", log_level="debug") as running:
        yield running


@pytest.fixture(scope="module")
def caller(allowing: Server) -> Iterator[OpenAI]:
    with allowing.client() as client:
        yield client


def tool(remote: Running, **more: Any) -> Any:
    return {
        "type": "mcp",
        "server_label": "calc",
        "server_url": remote.url,
        "require_approval": "never",
        **more,
    }


def kinds(response: Any) -> list[str]:
    return [item.type for item in response.output]


def only(response: Any, kind: str) -> Any:
    (found,) = [item for item in response.output if item.type == kind]
    return found


def refused(caller: OpenAI, **fields: Any) -> openai.BadRequestError:
    tools: Any = [fields]
    with pytest.raises(openai.BadRequestError) as caught:
        caller.responses.create(model="m", input="hi", tools=tools)
    return caught.value


@pytest.mark.parametrize("path", ["/mcp", "/sse"])
def test_a_tool_is_listed_called_and_answers(caller: OpenAI, remote: Running, path: str) -> None:
    response = caller.responses.create(
        model="m", input=ADD, tools=[tool(remote, server_url=remote.origin + path, server_description="Sums")]
    )
    assert kinds(response) == ["mcp_list_tools", "mcp_call", "message"]
    listing = only(response, "mcp_list_tools")
    assert listing.server_label == "calc"
    assert listing.id.startswith("mcpl_")
    by_name = {one.name: one for one in listing.tools}
    assert set(by_name) == {"add", "delete", "broken", "draw", "wait"}
    assert by_name["add"].input_schema["required"] == ["a", "b"]
    assert by_name["add"].annotations == {"read_only": True}
    assert by_name["delete"].annotations == {"read_only": False}
    assert by_name["broken"].description == "", "clients refuse null"
    call = only(response, "mcp_call")
    assert call.id.startswith("mcp_")
    assert (call.status, call.name, call.server_label) == ("completed", "add", "calc")
    assert json.loads(call.arguments) == {"a": 20, "b": 22}
    assert (call.output, call.error, call.approval_request_id) == ("42", None, None)
    assert "42" in response.output_text, "the model did not read what the tool answered"


def test_an_upstream_gets_the_tool_itself_if_it_calls_servers(launch: Launch, remote: Running, tmp_path: Path) -> None:
    spec = tool(remote, headers={"X-Key": "HEADERSECRET"})
    with listening() as upstream:
        server = launch(upstream=upstream.url, upstream_api="responses", allow_private_hosts="127.0.0.1")
        here = server.client().responses.create(model="m", input=ADD, tools=[spec])
        assert (kinds(here), only(here, "mcp_call").output) == (["mcp_list_tools", "mcp_call", "message"], "42")
        assert {one["type"] for seen in upstream.requests for one in seen.body["tools"]} == {"function"}
        remote.heard.requests.clear()
        config = tmp_path / "deskhand.toml"
        config.write_text(f'[[upstreams]]\nurl = "{upstream.url}"\napi = "responses"\ncalls_mcp_servers = true\n')
        server = launch("native", upstream=None, config=str(config), model_aliases="*=scripted")
        choice = {"type": "mcp", "server_label": "calc", "name": "add"}
        there = server.client().responses.create(model="m", input="@@ say ok", tools=[spec], tool_choice=choice)  # type: ignore[call-overload]
        assert (upstream.requests[-1].body["tools"], upstream.requests[-1].body["tool_choice"]) == ([spec], choice)
        assert (remote.heard.requests, "HEADERSECRET" in there.to_json()) == ([], False)
        with pytest.raises(openai.BadRequestError):
            server.client().responses.create(
                model="m", input="x", tools=[spec], tool_choice={**choice, "server_label": "y"}
            )  # type: ignore[call-overload]


def test_the_events_of_a_call(allowing: Server, remote: Running) -> None:
    with allowing.http() as http:
        events = stream(http, {"model": "m", "input": ADD, "tools": [tool(remote)]})
    assert types(events)[:12] == [
        "response.created",
        "response.in_progress",
        *LISTED,
        "response.output_item.added",
        "response.mcp_call.in_progress",
        "response.mcp_call_arguments.delta",
        "response.mcp_call_arguments.done",
        "response.mcp_call.completed",
        "response.output_item.done",
    ]
    assert events[2]["item"]["tools"] == []
    assert events[6]["item"]["arguments"] == ""
    assert events[6]["item"]["output"] is None
    done = next(event for event in events if event["type"] == "response.mcp_call_arguments.done")
    deltas = [event["delta"] for event in events if event["type"] == "response.mcp_call_arguments.delta"]
    assert "".join(deltas) == done["arguments"]


def test_the_sdk_streams_a_call(caller: OpenAI, remote: Running) -> None:
    with caller.responses.stream(model="m", input=ADD, tools=[tool(remote)]) as streamed:
        for _ in streamed:
            pass
        response = streamed.get_final_response()
    assert only(response, "mcp_call").output == "42"


def test_a_listing_in_the_context_is_not_asked_for_again(caller: OpenAI, remote: Running) -> None:
    first = caller.responses.create(model="m", input=ADD, tools=[tool(remote)])
    chained = caller.responses.create(model="m", input=ADD, tools=[tool(remote)], previous_response_id=first.id)
    assert kinds(chained) == ["mcp_call", "message"]
    replayed: Any = [*(item.to_dict() for item in first.output), {"role": "user", "content": ADD}]
    again = caller.responses.create(model="m", input=replayed, tools=[tool(remote)], store=False)
    assert kinds(again) == ["mcp_call", "message"]
    conversation = caller.conversations.create()
    for expected in (["mcp_list_tools", "mcp_call", "message"], ["mcp_call", "message"]):
        said = caller.responses.create(model="m", input=ADD, tools=[tool(remote)], conversation=conversation.id)
        assert kinds(said) == expected


def test_a_listing_of_another_server_does_not_count(caller: OpenAI, remote: Running) -> None:
    first = caller.responses.create(model="m", input=ADD, tools=[tool(remote)])
    both_of_them = [tool(remote), tool(remote, server_label="other")]
    second = caller.responses.create(model="m", input="hi", tools=both_of_them, previous_response_id=first.id)
    assert only(second, "mcp_list_tools").server_label == "other"


def test_tools_of_two_servers_have_names_of_their_own(caller: OpenAI, remote: Running) -> None:
    tools = [tool(remote), tool(remote, server_label="other")]
    script = '@@ call other__add {"a": 1, "b": 2}\n@@ call calc__add {"a": 3, "b": 4}'
    response = caller.responses.create(model="m", input=script, tools=tools)
    calls = [item for item in response.output if item.type == "mcp_call"]
    assert [(call.server_label, call.output) for call in calls] == [("other", "3"), ("calc", "7")]


def test_calls_of_a_turn_run_at_the_same_time(caller: OpenAI, remote: Running) -> None:
    script = '@@ mcp wait {"seconds": 0.5}\n@@& mcp wait {"seconds": 0.5}\n@@& mcp wait {"seconds": 0.5}'
    response = caller.responses.create(model="m", input=script, tools=[tool(remote)])
    outputs = [item.output for item in response.output if item.type == "mcp_call"]
    assert outputs == ["AT ONCE 3"] * 3


@pytest.mark.parametrize(
    ("allowed", "names"),
    [
        (["add", "delete"], {"add", "delete"}),
        ({"tool_names": ["add", "nothing"]}, {"add"}),
        ({"read_only": True}, {"add"}),
        ({"read_only": False, "tool_names": ["add", "delete"]}, {"delete"}),
        ({}, {"add", "delete", "broken", "draw", "wait"}),
        ([], set()),
    ],
)
def test_allowed_tools(caller: OpenAI, remote: Running, allowed: Any, names: set[str]) -> None:
    response = caller.responses.create(model="m", input="hi", tools=[tool(remote, allowed_tools=allowed)])
    assert {one.name for one in only(response, "mcp_list_tools").tools} == names
    assert response.tools[0].to_dict()["allowed_tools"] == allowed


def test_a_tool_that_is_not_allowed_is_not_offered(caller: OpenAI, remote: Running) -> None:
    script = '@@ mcp delete {"what": "all"}'
    allowed = caller.responses.create(model="m", input=script, tools=[tool(remote)])
    assert only(allowed, "mcp_call").output == "DELETED all"
    narrow = caller.responses.create(
        model="m", input=script, tools=[tool(remote, allowed_tools=["add"])], previous_response_id=allowed.id
    )
    assert kinds(narrow) == ["message"], "a listing in the context does not widen what this request allows"


@pytest.mark.parametrize(
    ("approval", "asks"),
    [
        (None, {"add", "delete"}),
        ("always", {"add", "delete"}),
        ("never", set()),
        ({"never": {"tool_names": ["add"]}}, {"delete"}),
        ({"never": {"read_only": True}}, {"delete"}),
        ({"always": {"tool_names": ["delete"]}, "never": {"tool_names": ["add", "delete"]}}, {"delete"}),
        ({"always": {"tool_names": ["add"]}}, {"add", "delete"}),
        ({"never": {}}, {"add", "delete"}),
    ],
)
def test_which_calls_need_approval(caller: OpenAI, remote: Running, approval: Any, asks: set[str]) -> None:
    asked = set()
    for name, arguments in (("add", '{"a": 1, "b": 2}'), ("delete", '{"what": "x"}')):
        spec = tool(remote, require_approval=approval)
        response = caller.responses.create(model="m", input=f"@@ mcp {name} {arguments}", tools=[spec])
        if kinds(response) == ["mcp_list_tools", "mcp_approval_request"]:
            asked.add(name)
        else:
            assert only(response, "mcp_call").status == "completed"
    assert asked == asks


def test_an_approved_call_runs(caller: OpenAI, allowing: Server, remote: Running) -> None:
    spec = tool(remote, require_approval="always")
    asking = caller.responses.create(model="m", input=ADD, tools=[spec])
    assert asking.status == "completed"
    request = only(asking, "mcp_approval_request")
    assert request.id.startswith("mcpr_")
    assert (request.name, request.server_label, json.loads(request.arguments)) == ("add", "calc", {"a": 20, "b": 22})
    body = {
        "model": "m",
        "previous_response_id": asking.id,
        "tools": [spec],
        "input": [{"type": "mcp_approval_response", "approval_request_id": request.id, "approve": True}],
    }
    with allowing.http() as http:
        events = stream(http, body)
    response = events[-1]["response"]
    assert [item["type"] for item in response["output"]] == ["mcp_call", "message"]
    call = response["output"][0]
    assert (call["approval_request_id"], call["output"], call["status"]) == (request.id, "42", "completed")
    assert types(events)[2:8] == [
        "response.output_item.added",
        "response.mcp_call.in_progress",
        "response.mcp_call_arguments.delta",
        "response.mcp_call_arguments.done",
        "response.mcp_call.completed",
        "response.output_item.done",
    ]
    later = caller.responses.create(model="m", input="and now?", tools=[spec], previous_response_id=response["id"])
    assert kinds(later) == ["message"], "an approval counts once"


def test_approval_in_replayed_items_and_in_a_conversation(caller: OpenAI, remote: Running) -> None:
    spec = tool(remote, require_approval="always")
    first = caller.responses.create(model="m", input=ADD, tools=[spec], store=False)
    request = only(first, "mcp_approval_request")
    answer = {"type": "mcp_approval_response", "approval_request_id": request.id, "approve": True}
    items: Any = [{"role": "user", "content": ADD}, *(item.to_dict() for item in first.output), answer]
    replayed = caller.responses.create(model="m", input=items, tools=[spec], store=False)
    assert only(replayed, "mcp_call").output == "42"
    conversation = caller.conversations.create().id
    asked = caller.responses.create(model="m", input=ADD, tools=[spec], conversation=conversation)
    given: Any = [answer | {"approval_request_id": only(asked, "mcp_approval_request").id}]
    response = caller.responses.create(model="m", input=given, tools=[spec], conversation=conversation)
    assert only(response, "mcp_call").output == "42"


def test_a_denied_call_is_not_made(caller: OpenAI, remote: Running) -> None:
    spec = tool(remote, require_approval="always")
    asking = caller.responses.create(model="m", input='@@ mcp delete {"what": "x"}', tools=[spec])
    request = only(asking, "mcp_approval_request")
    answer: Any = [
        {
            "type": "mcp_approval_response",
            "approval_request_id": request.id,
            "approve": False,
            "reason": "too dangerous",
        }
    ]
    response = caller.responses.create(model="m", input=answer, tools=[spec], previous_response_id=asking.id)
    assert kinds(response) == ["message"]
    assert "not approved" in response.output_text
    assert "too dangerous" in response.output_text, "the model did not read the reason"


def test_approvals_are_paired(caller: OpenAI, remote: Running) -> None:
    spec = tool(remote, require_approval="always")
    asking = caller.responses.create(model="m", input=ADD, tools=[spec])
    request = only(asking, "mcp_approval_request")
    answer: Any = {"type": "mcp_approval_response", "approval_request_id": request.id, "approve": True}
    for wrong in ([answer, answer], [answer | {"approval_request_id": "mcpr_nobody"}]):
        with pytest.raises(openai.BadRequestError, match="approval request"):
            caller.responses.create(model="m", input=wrong, tools=[spec], previous_response_id=asking.id)
    fine = caller.responses.create(model="m", input=[answer], tools=[spec], previous_response_id=asking.id)
    assert only(fine, "mcp_call").output == "42"


def test_an_approved_call_of_a_tool_that_is_gone_fails(caller: OpenAI, remote: Running) -> None:
    asking = caller.responses.create(model="m", input=ADD, tools=[tool(remote, require_approval="always")])
    request = only(asking, "mcp_approval_request")
    answer: Any = [{"type": "mcp_approval_response", "approval_request_id": request.id, "approve": True}]
    spec = tool(remote, require_approval="always", allowed_tools=["delete"])
    response = caller.responses.create(model="m", input=answer, tools=[spec], previous_response_id=asking.id)
    call = only(response, "mcp_call")
    assert (call.status, call.error.type) == ("failed", "mcp_protocol_error")


def test_a_tool_that_fails_says_so_to_the_model(caller: OpenAI, remote: Running) -> None:
    response = caller.responses.create(model="m", input="@@ mcp broken {}", tools=[tool(remote)])
    call = only(response, "mcp_call")
    assert (call.status, call.output) == ("failed", None)
    assert call.error.type == "mcp_tool_execution_error"
    assert "broken" in call.error.content[0]["text"]
    assert response.status == "completed"
    assert "The tool failed" in response.output_text


def test_pictures_reach_the_model(caller: OpenAI, remote: Running) -> None:
    response = caller.responses.create(model="m", input="@@ mcp draw {}", tools=[tool(remote)])
    call = only(response, "mcp_call")
    assert json.loads(call.output) == [
        {"type": "text", "text": "a red dot:"},
        {"type": "image", "data": PNG, "mimeType": "image/png"},
    ]
    assert "a red dot:" in response.output_text
    assert PNG not in response.output_text, "the model got the picture as text"


@pytest.mark.parametrize("choice", [{"name": "add"}, {}])
def test_tool_choice(caller: OpenAI, remote: Running, choice: dict[str, str]) -> None:
    spec = tool(remote, allowed_tools=["add"])
    other: Any = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}
    forced: Any = {"type": "mcp", "server_label": "calc", **choice}
    response = caller.responses.create(model="m", input=ADD, tools=[other, spec], tool_choice=forced)
    assert only(response, "mcp_call").output == "42"
    with pytest.raises(openai.BadRequestError, match="not found in 'tools'"):
        caller.responses.create(model="m", input=ADD, tools=[spec], tool_choice=forced | {"server_label": "nobody"})
    nothing: Any = forced | {"name": "nothing"}
    failed = caller.responses.create(model="m", input=ADD, tools=[spec], tool_choice=nothing)
    assert failed.status == "failed"
    assert failed.error is not None
    assert "nothing" in failed.error.message


def test_allowed_tools_of_a_choice(caller: OpenAI, remote: Running) -> None:
    choice: Any = {
        "type": "allowed_tools",
        "mode": "auto",
        "tools": [{"type": "mcp", "server_label": "calc", "name": "delete"}],
    }
    response = caller.responses.create(model="m", input=ADD, tools=[tool(remote)], tool_choice=choice)
    assert kinds(response) == ["mcp_list_tools", "message"]
    assert "calc__delete" in response.output_text, "the script says which tools were offered"
    assert "calc__add" not in response.output_text


def test_max_tool_calls(caller: OpenAI, remote: Running) -> None:
    response = caller.responses.create(model="m", input=f"{ADD}\n{ADD}", tools=[tool(remote)], max_tool_calls=1)
    assert kinds(response).count("mcp_call") == 1


def test_secrets_are_sent_and_neither_kept_nor_shown(caller: OpenAI, allowing: Server, remote: Running) -> None:
    spec = tool(
        remote,
        server_url=f"{remote.url}?key=QUERYSECRET",
        authorization="TOKENSECRET",
        headers={"X-Key": "HEADERSECRET"},
    )
    remote.heard.requests.clear()
    response = caller.responses.create(model="m", input=ADD, tools=[spec])
    assert only(response, "mcp_call").output == "42"
    assert remote.heard.headers("authorization") == {"Bearer TOKENSECRET"}
    assert remote.heard.headers("x-key") == {"HEADERSECRET"}
    keyed = tool(remote, server_label="other", server_url=f"{remote.url}?key=QUERYSECRET", allowed_tools=["add"])
    caller.responses.create(model="m", input="hi", tools=[keyed], background=True)
    background = caller.responses.create(model="m", input=ADD, tools=[spec], background=True)
    while background.status in ("queued", "in_progress"):
        background = caller.responses.retrieve(background.id)
    assert only(background, "mcp_call").output == "42", "a run in the background has its credentials"
    for shown in (response, background, caller.responses.retrieve(response.id)):
        (echoed,) = shown.tools
        assert echoed.to_dict() == {
            "type": "mcp",
            "server_label": "calc",
            "server_url": f"{remote.origin}/",
            "server_description": None,
            "require_approval": "never",
            "allowed_tools": None,
            "headers": None,
        }
    brings: Any = {"type": "additional_tools", "role": "developer", "tools": [{**spec, "server_label": "brought"}]}
    brought = caller.responses.create(model="m", input=[brings, {"role": "user", "content": ADD}])
    assert only(brought, "mcp_call").output == "42", "what an item brings is used as it came"
    files = [path for path in allowing.data_dir.rglob("*") if path.is_file()]
    kept = all_bytes(allowing.data_dir) + b"".join(path.read_bytes() for path in [*files, allowing.log])
    assert response.id.encode() in kept, "the search finds what is kept"
    for secret in (b"TOKENSECRET", b"HEADERSECRET", b"QUERYSECRET"):
        assert secret not in kept


def test_what_a_request_may_not_say(caller: OpenAI, remote: Running) -> None:
    connector = refused(caller, type="mcp", server_label="x", connector_id="connector_gmail")
    assert "connector_id" in str(connector)
    assert refused(caller, type="mcp", server_label="x").param == "tools[0].server_url"
    assert refused(caller, type="mcp", server_url=remote.url).param == "tools[0].server_label"
    for url in ("ftp://host/x", "http://user:pw@host/", "http://host/#x", "not a url"):
        found = refused(caller, **tool(remote, server_url=url))
        assert found.param == "tools[0].server_url"
    for headers in ({"Host": "x"}, {"Content-Length": "5"}, {"X": "a\r\nY: b"}):
        found = refused(caller, **tool(remote, headers=headers))
        assert found.param == "tools[0].headers"
    with pytest.raises(openai.BadRequestError, match="labelled"):
        caller.responses.create(model="m", input="hi", tools=[tool(remote), tool(remote)])


def test_the_operator_says_which_hosts(launch: Launch, remote: Running) -> None:
    server = launch("hosts", allow_private_hosts="127.0.0.1", mcp_allowed_hosts="mcp.example.com,*.trusted.example")
    denied = refused(server.client(), **tool(remote))
    assert "mcp_allowed_hosts" in str(denied)
    assert denied.param == "tools[0].server_url"
    one = launch("one", allow_private_hosts="127.0.0.1", mcp_allowed_hosts="127.0.0.1")
    assert only(one.client().responses.create(model="m", input=ADD, tools=[tool(remote)]), "mcp_call").output == "42"
