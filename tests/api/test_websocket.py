"""Responses over a WebSocket: lanes, what a connection remembers, and what clients do wrong."""

import asyncio
import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.lib.responses_websocket import AsyncResponsesWebSocketSession, ResponsesWebSocketLimits
from openai.types.responses import ResponsesServerEvent
from pydantic import TypeAdapter
from websockets.exceptions import ConnectionClosed, InvalidStatus

from ..conftest import KEY, Launch, Server
from .heard import Heard
from .oracle import EVENT, check, normalised, stream, types
from .sockets import Json, Line, line, text
from .test_exec import run, until

SERVER_EVENT: TypeAdapter[Any] = TypeAdapter(ResponsesServerEvent)
SHELL: Json = {"type": "shell", "environment": {"type": "container_auto"}}
WEATHER: Json = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
FAILS = "@@ fail server_error no"
ENDS = ("response.completed", "response.failed", "response.incomplete", "error")


@pytest.fixture
def container(client: OpenAI) -> str:
    return client.containers.create(name="websocket").id


@pytest.fixture
def here(server: Server) -> Iterator[Line]:
    with line(server) as connection:
        yield connection


def inside(container: str) -> list[Json]:
    return [{"type": "shell", "environment": {"type": "container_reference", "container_id": container}}]


def narrow(server: Server) -> socket.socket:
    """A connection of which the kernel keeps little for who does not read."""
    host, port = server.url.removeprefix("http://").split(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((host, int(port)))
    return connection


def waits(name: str) -> str:
    return f"while [ ! -e {name} ]; do sleep 0.02; done"


def answer(call_id: str, output: str) -> list[Json]:
    return [{"type": "function_call_output", "call_id": call_id, "output": output}]


# Whole turns


# The SDK (3.52) calls websockets as this version of it would rather not be called.
@pytest.mark.filterwarnings("ignore:connect:DeprecationWarning")
def test_the_sdk_runs_a_turn_with_a_command(client: OpenAI) -> None:
    with client.responses.connect() as connection:
        connection.response.create(model="m", input="@@ shell echo $((6*7))", tools=[SHELL])  # type: ignore[list-item]
        events: list[Any] = []
        while not events or events[-1].type not in ENDS:
            events.append(connection.recv())
    assert events[-1].type == "response.completed"
    assert [item.type for item in events[-1].response.output] == ["shell_call", "shell_call_output", "message"]
    assert "42" in events[-1].response.output_text
    assert client.responses.retrieve(events[-1].response.id).output_text == events[-1].response.output_text


def test_the_sdks_session_uses_lanes(server: Server) -> None:
    limits = ResponsesWebSocketLimits(
        max_lanes=4, max_events_per_lane=500, max_events=2000, max_bytes_per_lane=1 << 24, max_bytes=1 << 25
    )

    async def turns() -> list[str]:
        async with (
            AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY) as client,
            client.responses.connect() as connection,
            AsyncResponsesWebSocketSession(connection, limits=limits) as session,
        ):
            a, b = session.lane("a"), session.lane("b")
            tools: Any = [WEATHER]
            await a.send(
                {
                    "type": "response.create",
                    "model": "m",
                    "store": False,
                    "tools": tools,
                    "input": '@@ call get_weather {"city": "Oslo"}',
                }
            )
            await b.send({"type": "response.create", "model": "m", "input": "@@ say b"})
            first: Any = await a.get_final_response()
            call = first.output[-1]
            output: Any = answer(call.call_id, "7C")
            await a.send(
                {
                    "type": "response.create",
                    "model": "m",
                    "store": False,
                    "previous_response_id": first.id,
                    "tools": tools,
                    "input": output,
                }
            )
            return [(await lane.get_final_response()).output_text for lane in (a, b)]

    assert asyncio.run(turns()) == ["RESULT: 7C", "b"]


@pytest.mark.parametrize("lane", [None, "a.B_c-1"])
@pytest.mark.parametrize(
    "body",
    [
        {"input": "@@ think hm\n@@ say one two three"},
        {"input": '@@ call get_weather {"city": "Oslo"}', "tools": [WEATHER]},
        {"input": "@@ fail server_error no"},
        {"input": "@@ python print(6*7)", "tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]},
    ],
    ids=["text", "call", "failure", "python"],
)
def test_the_events_are_those_of_a_stream(server: Server, here: Line, body: Json, lane: str | None) -> None:
    body = {**body, "model": "m", "stream_options": {"include_obfuscation": False}}
    with server.http() as http:
        streamed = stream(http, body)
    here.create(**body, stream=True, background=False, **({"stream_id": lane} if lane else {}))
    events = [here.receive()]
    while not events[-1]["type"].startswith(("response.completed", "response.failed")):
        events.append(here.receive())
    for event in events:
        SERVER_EVENT.validate_python(event)
        assert event.pop("stream_id", None) == lane
    check(events)
    assert normalised({"events": events}) == normalised({"events": streamed})


def test_deltas_are_padded_unless_asked_otherwise(here: Line) -> None:
    def padded(**body: Any) -> set[bool]:
        here.create("@@ say one two three four", **body)
        return {"obfuscation" in event for event in here.until(*ENDS) if event["type"].endswith(".delta")}

    assert padded() == {True}
    assert padded(stream_options={"include_obfuscation": False}) == {False}


# Lanes


def test_lanes_run_at_once_and_a_lane_in_order(here: Line, container: str) -> None:
    tools = inside(container)
    here.create(f"@@ shell {waits('go')}; [ -e late ] || echo alone", stream_id="a", tools=tools)
    here.create("@@ shell touch late; echo second", stream_id="a", tools=tools)
    here.create("@@ shell touch go", tools=tools)  # the lane `a` would wait forever if this one waited for it
    ends: list[Json] = []
    events: list[Json] = []
    while len(ends) < 3:
        events.append(here.receive())
        if events[-1]["type"] in ENDS:
            ends.append(events[-1])
    assert [event["type"] for event in ends] == ["response.completed"] * 3
    first, second = (event["response"] for event in ends if event.get("stream_id") == "a")
    assert "alone" in text(first)
    assert "second" in text(second)
    lane = [event for event in events if event.get("stream_id") == "a"]
    created = next(i for i, event in enumerate(lane) if event.get("response", {}).get("id") == second["id"])
    assert lane[created - 1]["type"] == "response.completed", "the second began when the first had been told"
    assert [event["sequence_number"] for event in lane[created:]] == list(range(len(lane) - created))


def test_sixteen_run_and_the_next_waits(here: Line, container: str, http: httpx2.Client) -> None:
    tools = inside(container)
    for number in range(16):
        here.create(f"@@ shell {waits(f'go{number}')}", stream_id=f"l{number}", tools=tools)
    here.create("@@ shell touch seventeenth", stream_id="l16", tools=tools)
    begun: list[str] = []
    while len(begun) < 16:
        event = here.receive()
        if event["type"] == "response.in_progress":
            begun.append(event["stream_id"])
    assert sorted(begun) == sorted(f"l{number}" for number in range(16))
    assert run(http, container, "ls seventeenth; touch go0")["stdout"] == ""
    assert here.until(*ENDS, "response.created", lane="l0")[-1]["type"] == "response.completed"
    assert here.ending("l16")["status"] == "completed"
    run(http, container, "touch go{1..15}")
    ends = 0
    while ends < 15:
        ends += here.receive()["type"] == "response.completed"


def test_a_connection_has_so_many_lanes(here: Line) -> None:
    for number in range(32):
        assert here.ask(stream_id=f"l{number}", generate=False)["status"] == "completed"
    status, error = here.refused(stream_id="l32")
    assert (status, error["code"], error["param"]) == (400, "websocket_stream_limit_reached", "stream_id")
    assert here.ask(stream_id="l31")["status"] == "completed"
    assert here.ask()["status"] == "completed"


@pytest.mark.parametrize("stream_id", ["", "x" * 257, "a b", "ä", "a\n", 5, ["a"]])
def test_a_lanes_name_must_be_one(here: Line, stream_id: Any) -> None:
    here.create(stream_id=stream_id)
    status, error = here.refusal()
    assert (status, error["code"], error["param"]) == (400, "invalid_stream_id", "stream_id")
    assert set(error) == {"type", "code", "message", "param"}
    assert here.ask(stream_id="x" * 256)["status"] == "completed"
    assert here.ask(stream_id=None)["status"] == "completed"


def test_what_waits_is_bounded(here: Line, container: str, http: httpx2.Client) -> None:
    here.create(f"@@ shell {waits('go')}", tools=inside(container))
    here.until("response.in_progress")
    for _ in range(64):
        here.create(generate=False)
    here.create(generate=False)
    event = here.until("error", *ENDS)[-1]
    assert (event["type"], event["status"], event["error"]["code"]) == ("error", 429, "rate_limit_exceeded")
    assert here.ask(stream_id="other", generate=False)["status"] == "completed", "what need not wait may come"
    run(http, container, "touch go")
    assert [here.ending()["status"] for _ in range(65)] == ["completed"] * 65


# What a connection remembers


def test_what_is_not_stored_is_continued_on_its_connection(heard: Heard) -> None:
    tools, seen = [WEATHER], heard.upstream.requests
    with line(heard.server) as here:
        first = here.ask('@@ call get_weather {"city": "Oslo"}', store=False, tools=tools, instructions="Be kind.")
        call = first["output"][-1]
        output = answer(call["call_id"], "7C")
        second = here.ask(output, store=False, tools=tools, previous_response_id=first["id"])
        assert text(second) == "RESULT: 7C"
        third = here.ask("@@ say bye", store=False, tools=tools, previous_response_id=second["id"])
        assert (text(third), third["previous_response_id"]) == ("bye", second["id"])
    chained = seen[-1].body
    whole = [
        {"role": "user", "content": '@@ call get_weather {"city": "Oslo"}'},
        *first["output"],
        *output,
        *second["output"],
        {"role": "user", "content": "@@ say bye"},
    ]
    (fresh,) = heard.ask(input=whole, store=False, tools=tools, stream=None)[1]
    assert chained["model"] == fresh["model"]
    name = "messages" if heard.dialect == "chat" else "input"
    assert normalised({"sent": chained[name]}) == normalised({"sent": fresh[name]})
    assert len(chained[name]) == 5
    for response in (first, second, third):
        assert heard.http.get(f"/v1/responses/{response['id']}").status_code == 404


def test_another_connection_does_not_know_it(server: Server) -> None:
    with line(server) as here, line(server) as there:
        response = here.ask(store=False)
        status, error = there.refused(previous_response_id=response["id"])
        assert (status, error) == (
            400,
            {
                "type": "invalid_request_error",
                "code": "previous_response_not_found",
                "message": f"Previous response with id '{response['id']}' not found.",
                "param": "previous_response_id",
            },
        )
        assert here.ask(previous_response_id=response["id"])["status"] == "completed"
        stored = here.ask()
        assert there.ask(previous_response_id=stored["id"])["status"] == "completed"


def test_only_the_latest_of_a_lane_is_known(here: Line) -> None:
    first = here.ask(store=False)
    forked = here.ask(store=False, previous_response_id=first["id"], stream_id="fork")
    second = here.ask(store=False, previous_response_id=first["id"])
    assert here.refused(previous_response_id=first["id"])[1]["code"] == "previous_response_not_found"
    assert here.ask(previous_response_id=forked["id"])["status"] == "completed"
    assert here.refused(previous_response_id=second["id"])[1]["code"] == "previous_response_not_found"


@pytest.mark.parametrize(
    "bad",
    [
        {"input": answer("call_unknown", "x")},
        {"temperature": 5},
        {"input": FAILS},
        {"model": None},
    ],
    ids=["no such call", "bad field", "the model fails", "no model"],
)
def test_a_failed_continuation_evicts_its_parent(here: Line, bad: Json) -> None:
    def fails(**body: Any) -> None:
        here.create(**{"store": False, **bad, **body})
        assert here.until(*ENDS, lane=body.get("stream_id"))[-1]["type"] == "error"
        if bad.get("input") == FAILS:
            here.until("response.failed", lane=body.get("stream_id"))

    parent = here.ask(store=False)
    fails()
    fails(previous_response_id=parent["id"], stream_id="other")
    again = here.ask(store=False, previous_response_id=parent["id"])
    assert again["status"] == "completed", "neither another chain nor another lane evicts it"
    fails(previous_response_id=again["id"])
    assert here.refused(store=False, previous_response_id=again["id"])[1]["code"] == "previous_response_not_found"
    assert here.ask(store=False)["status"] == "completed"


def test_a_stored_parent_is_not_lost_by_a_failure(here: Line) -> None:
    parent = here.ask()
    here.refused(temperature=5, previous_response_id=parent["id"])
    assert here.ask(previous_response_id=parent["id"])["status"] == "completed"


def test_the_conversations_container_is_used_again(here: Line) -> None:
    first = here.ask("@@ shell echo kept > f", store=False, tools=[SHELL])
    second = here.ask("@@ shell cat f", store=False, tools=[SHELL], previous_response_id=first["id"])
    assert "kept" in text(second)
    assert second["tools"] == first["tools"]


def test_another_projects_response_does_not_exist(launch: Launch, tmp_path: Path) -> None:
    config = tmp_path / "deskhand.toml"
    config.write_text(
        '[[keys]]\nkey = "sk-a"\nproject = "proj_a"\n[[keys]]\nkey = "sk-b"\nproject = "proj_b"\n'
        '[[keys]]\nkey = "sk-a2"\nproject = "proj_a"\n'
    )
    projects = launch(config=str(config), api_key="")
    with line(projects, "sk-a") as a, line(projects, "sk-a2") as a2, line(projects, "sk-b") as b:
        response = a.ask()
        assert b.refused(previous_response_id=response["id"])[1]["code"] == "previous_response_not_found"
        assert a2.ask(previous_response_id=response["id"])["status"] == "completed"


# Warm-up


@pytest.mark.parametrize("store", [True, False])
@pytest.mark.parametrize("asks", [{"generate": False}, {"prompt_cache_options": {"prewarm": True}}])
def test_a_warm_up_says_nothing_and_is_continued(heard: Heard, store: bool, asks: Json) -> None:
    before = len(heard.upstream.requests)
    with line(heard.server) as here:
        here.create([{"role": "developer", "content": "Be kind."}], tools=[WEATHER, SHELL], store=store, **asks)
        events = here.until(*ENDS)
        assert types(events) == ["response.created", "response.in_progress", "response.completed"]
        warm = events[-1]["response"]
        EVENT.validate_python(events[-1])
        assert (warm["output"], warm["usage"]["total_tokens"]) == ([], 0)
        assert [tool["type"] for tool in warm["tools"]] == ["function", "shell"]
        assert len(heard.upstream.requests) == before
        response = here.ask("@@ say hello", previous_response_id=warm["id"], tools=[WEATHER], store=store)
    assert text(response) == "hello"
    (seen,) = heard.upstream.requests[before:]
    sent = seen.body["messages" if heard.dialect == "chat" else "input"]
    assert [entry["role"] for entry in sent] == ["system" if heard.dialect == "chat" else "developer", "user"]
    assert "Be kind." in json.dumps(sent[0])
    assert heard.http.get(f"/v1/responses/{warm['id']}").status_code == (200 if store else 404)


def test_a_warm_up_is_checked_as_any_request(here: Line) -> None:
    assert here.refused(generate=False, tools=[{"type": "function"}])[1]["param"] == "tools[0].name"
    assert here.refused(generate="no")[1]["param"] == "generate"
    assert here.ask(None, generate=False, instructions="Be kind.")["status"] == "completed"


def test_a_warm_up_makes_no_container(here: Line, client: OpenAI) -> None:
    before = {container.id for container in client.containers.list(limit=100)}
    warm = here.ask(generate=False, tools=[SHELL])
    assert warm["tools"][0]["environment"]["type"] == "container_auto"
    assert {container.id for container in client.containers.list(limit=100)} == before
    response = here.ask("@@ shell echo 42", tools=[SHELL], previous_response_id=warm["id"])
    assert "42" in text(response)


# Steering


def test_steering_is_refused_by_its_own_event(here: Line) -> None:
    response = here.ask()
    here.send({"type": "response.steer", "previous_response_id": response["id"], "input": "@@ say other"})
    event = here.receive()
    SERVER_EVENT.validate_python(event)
    assert event["type"] == "response.steer.failed"
    assert event["error"]["code"] == "steering_not_supported"
    assert event["steer"] == {"previous_response_id": response["id"], "input": "@@ say other"}
    here.send({"type": "response.steer", "input": "x"})
    assert here.refusal()[1]["param"] == "previous_response_id"
    here.send({"type": "response.steer", "previous_response_id": 1, "input": "x"})
    assert here.refusal()[1]["param"] == "previous_response_id"
    here.send({"type": "response.steer", "previous_response_id": response["id"], "input": {"role": "user"}})
    assert here.refusal()[1]["param"] == "input"


# Keys and ends


@pytest.mark.parametrize("key", ["sk-wrong", ""])
def test_a_connection_needs_a_key(server: Server, key: str) -> None:
    with pytest.raises(InvalidStatus) as refused, line(server, key):
        pass
    assert refused.value.response.status_code == 401
    assert json.loads(refused.value.response.body or b"")["error"]["type"] == "invalid_request_error"
    with line(server) as connection:
        assert connection.ask()["status"] == "completed"


def test_a_plain_get_is_not_allowed(http: httpx2.Client) -> None:
    refused = http.get("/v1/responses")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


def test_a_project_has_so_many_connections(launch: Launch) -> None:
    server = launch(max_websockets="1")
    with line(server) as first:
        with pytest.raises(InvalidStatus) as refused, line(server):
            pass
        error = json.loads(refused.value.response.body or b"")["error"]
        assert (refused.value.response.status_code, error["code"]) == (429, "websocket_connection_limit_reached")
        assert first.ask()["status"] == "completed"

    def again() -> bool:
        try:
            with line(server) as later:
                return bool(later.ask()["status"] == "completed")
        except InvalidStatus:
            return False

    until(again)


def test_an_old_connection_ends_what_it_runs_and_closes(launch: Launch) -> None:
    server = launch(websocket_seconds="1")
    container = server.client().containers.create(name="old").id
    with line(server) as here, server.http() as http:
        here.create(f"@@ shell {waits('go')}; echo whole", stream_id="a", tools=inside(container))
        here.until("response.in_progress", lane="a")
        ending = "response.completed"
        while ending != "error":
            here.create(generate=False, stream_id="b")
            ending = (last := here.until(*ENDS, lane="b")[-1])["type"]
        assert last["error"]["code"] == "websocket_connection_limit_reached"
        run(http, container, "touch go")
        assert "whole" in text(here.ending("a"))
        status, error = here.refusal()
        assert (status, error["code"]) == (400, "websocket_connection_limit_reached")
        assert here.closed()[0] == 1000


def test_a_client_that_vanishes_ends_its_commands(server: Server, container: str, http: httpx2.Client) -> None:
    with line(server) as here:
        for lane in ("a", "b"):
            here.create("@@ shell sleep 1000", stream_id=lane, tools=inside(container))
        here.create("@@ shell touch never", stream_id="a", tools=inside(container))
        until(lambda: run(http, container, "pgrep -xc sleep")["stdout"] == "2\n")
        here.socket.socket.close()
    until(lambda: run(http, container, "pgrep -xc sleep")["stdout"] == "0\n")
    assert run(http, container, "ls never")["stdout"] == ""


def test_a_shutdown_is_told_before_it_closes(launch: Launch) -> None:
    server = launch()
    with line(server) as here, line(server) as idle:
        here.create("@@ shell sleep 1000", stream_id="a", tools=[SHELL])
        here.until("response.shell_call_command.done", lane="a")
        server.process.send_signal(signal.SIGTERM)
        events = here.until("response.failed", lane="a")
        assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
        assert here.closed()[0] == 1012
        assert idle.closed()[0] == 1012
    server.process.wait(20)
    assert "Traceback" not in server.log.read_text()


def test_who_does_not_read_does_not_hold_up_a_shutdown(launch: Launch) -> None:
    server = launch(command_output_characters="1000000")
    with line(server, max_queue=1, sock=narrow(server)) as slow, line(server) as here:
        for lane in "abcd":
            slow.create("@@ shell seq 300000", tools=[SHELL], stream_id=lane)
        assert here.ask()["status"] == "completed"
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
    assert "Traceback" not in server.log.read_text()


# Hostile clients


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x00\xff", "invalid_type"),
        (b'{"type": "response.create"}', "invalid_type"),
        ("", "invalid_json"),
        ("{", "invalid_json"),
        ("[" * 100_000, "invalid_json"),
        ('{"type":' + '{"a":' * 100_000, "invalid_json"),
        ("[1]", "invalid_type"),
        ('"response.create"', "invalid_type"),
        ("{}", "missing_required_parameter"),
        ('{"type": null}', "missing_required_parameter"),
        ('{"type": "response.cancel"}', "invalid_value"),
        ('{"type": ["response.create"]}', "invalid_value"),
    ],
)
def test_a_bad_message_is_answered_and_no_more(here: Line, frame: str | bytes, code: str) -> None:
    here.socket.send(frame)
    status, error = here.refusal()
    assert (status, error["code"]) == (400, code)
    assert here.ask()["status"] == "completed"


@pytest.mark.parametrize(
    ("body", "param"),
    [({"input": None}, "input"), ({"nonsense": 1}, "nonsense"), ({"model": ""}, "model"), ({"tools": 5}, "tools")],
)
def test_a_bad_request_is_answered_on_its_lane(here: Line, body: Json, param: str) -> None:
    here.create(**{"input": "x", "stream_id": "a", **body})
    status, error = here.refusal("a")
    assert (status, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert here.ask(stream_id="a")["status"] == "completed"


def test_deep_json_in_a_request_is_refused(here: Line) -> None:
    depth = 600
    here.socket.send(
        '{"type":"response.create","model":"m","input":[{"type":"unheard","x":' + "[" * depth + "]" * depth + "}]}"
    )
    event = here.until(*ENDS)[-1]
    assert event["type"] in {"error", "response.completed"}
    assert here.ask()["status"] == "completed"


def test_a_flood_of_bad_messages_is_cut_off(server: Server) -> None:
    with line(server) as here:
        try:
            for _ in range(1000):
                here.socket.send("x")
        except ConnectionClosed:
            pass
        assert here.closed()[0] == 1008
    with line(server) as here:
        for _ in range(3):
            for _ in range(99):
                here.socket.send("x")
            for _ in range(99):
                here.refusal()
            assert here.ask(generate=False)["status"] == "completed"


def test_a_message_may_be_as_large_as_a_body(launch: Launch) -> None:
    server = launch(max_body_bytes="3000000")
    with line(server) as here:
        assert here.ask("@@ say ok\n" + "x" * 2_900_000)["status"] == "completed"
        try:
            here.create("x" * 3_000_000)
        except ConnectionClosed:
            pass
        assert here.closed()[0] == 1009
    with line(server) as here:
        assert here.ask()["status"] == "completed"


def test_fragments_are_bounded_together(launch: Launch) -> None:
    server = launch(max_body_bytes="1000000")
    with line(server) as here:
        here.socket.send(['{"type":"response.create","model":"m",', '"input":"@@ say ok"}'])
        assert here.ending()["status"] == "completed"
        try:
            here.socket.send("x" * 60_000 for _ in range(20))
        except ConnectionClosed:
            pass
        assert here.closed()[0] == 1009


def test_text_that_is_not_utf8_closes_the_connection(server: Server) -> None:
    with line(server) as here:
        here.socket.send(b'{"type": "\xff"}', text=True)
        assert here.closed()[0] == 1007
    with line(server) as here:
        assert here.ask()["status"] == "completed"


def test_compression_is_declined(server: Server) -> None:
    with line(server, compression="deflate") as here:
        assert "permessage-deflate" in here.socket.request.headers["Sec-WebSocket-Extensions"]  # type: ignore[union-attr]
        assert here.socket.protocol.extensions == []
        assert here.ask()["status"] == "completed"


def test_who_does_not_read_holds_up_nobody_else(launch: Launch) -> None:
    server = launch(command_output_characters="1000000")
    with line(server, max_queue=1, sock=narrow(server)) as slow, line(server) as here:
        for lane in "abcd":
            slow.create("@@ shell seq 300000", tools=[SHELL], stream_id=lane)
            slow.create("@@ say later", stream_id=lane)
        for _ in range(20):
            assert here.ask()["status"] == "completed"
        ends = size = 0
        while ends < 8:
            event = slow.receive()
            ends += event["type"] == "response.completed"
            if event["type"] == "response.shell_call_output_content.delta":
                size += len(event["delta"]["stdout"])
    assert size > 4_000_000
