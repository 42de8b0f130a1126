"""Long contexts: what is kept, what the upstream is sent afterwards, and who can open the item that stands for it."""

import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import openai
import pytest
from openai.types.responses import CompactedResponse, ResponseItem
from pydantic import TypeAdapter

from deskhand.testing.script import HAND_OVER
from deskhand.testing.upstream_faults import Faults, Status

from ..conftest import Launch
from .heard import Heard, listening
from .oracle import stream

Json = dict[str, Any]
STORED: TypeAdapter[Any] = TypeAdapter(ResponseItem)
HOSTED: Any = {"type": "shell", "environment": {"type": "container_auto"}}
BULK = "lorem ipsum dolor " * 400
AUTO: Json = {"context_management": [{"type": "compaction", "compact_threshold": 1000}]}
SECRET_A, SECRET_B = "a" * 32, "b" * 32


def user(text: str) -> Any:
    return {"role": "user", "content": text}


def assistant(text: str) -> Json:
    return {"role": "assistant", "content": text}


def kinds(response: Mapping[str, Any]) -> list[str]:
    return [item["type"] for item in response["output"]]


def compaction(response: Mapping[str, Any]) -> Json:
    (item,) = [item for item in response["output"] if item["type"] == "compaction"]
    return dict(item)


def plain(compacted: CompactedResponse) -> list[Any]:
    """The output as the SDK sends it back; its types do not know the user's messages that even OpenAI puts there."""
    return [item.to_dict(mode="json", warnings=False) for item in compacted.output]


def is_summary(body: Mapping[str, Any]) -> bool:
    return HAND_OVER in json.dumps(body)


def descriptions(body: Mapping[str, Any]) -> list[str]:
    """Those of the tools that were offered, in either dialect."""
    return [tool.get("function", tool)["description"] for tool in body["tools"]]


def answering(bodies: list[Mapping[str, Any]]) -> list[str]:
    """The requests that were not for a summary, as text."""
    return [json.dumps(body) for body in bodies if not is_summary(body)]


@pytest.fixture
def narrow(heard: Heard) -> Iterator[Heard]:
    """An upstream whose window has 3,000 tokens."""
    heard.upstream.faults = Faults(window=3000)
    yield heard
    heard.upstream.faults = Faults()


def long_ago(fact: str) -> list[Any]:
    """A conversation in which an answer, long ago, said something that matters."""
    return [user("What is it?"), assistant(f"It is REMEMBER({fact}). {BULK}"), user("And else?"), assistant("Nothing.")]


def test_a_context_over_the_threshold_is_compacted_in_the_same_stream(heard: Heard) -> None:
    before = len(heard.upstream.requests)
    given = [*long_ago("the key is 4711"), user("@@ say done")]
    events = stream(heard.http, {"model": "m", "input": given, **AUTO})
    of_item = [e["type"] for e in events if e.get("output_index") == 0]
    assert of_item == [
        "response.output_item.added",
        "response.compaction.compacting",
        "response.output_item.done",
    ]
    response = events[-1]["response"]
    assert kinds(response) == ["compaction", "message"]
    item = compaction(response)
    assert item["id"].startswith("cmp_")
    assert "4711" not in item["encrypted_content"]
    bodies = [seen.body for seen in heard.upstream.requests[before:]]
    assert [is_summary(body) for body in bodies] == [True, False]
    assert "tools" not in bodies[0]
    (sent,) = answering(bodies)
    assert "4711" in sent
    assert BULK[:200] not in sent
    # Both calls of the model are paid for: the first prompt alone had a few hundred tokens.
    assert response["usage"]["output_tokens"] == 10
    assert response["usage"]["input_tokens"] > 1500


def test_below_the_threshold_nothing_is_compacted(heard: Heard) -> None:
    response, bodies = heard.ask(input=[*long_ago("x")[2:], user("@@ say done")], **AUTO)
    assert kinds(response) == ["message"]
    assert len(bodies) == 1


def test_the_threshold_in_the_middle_of_a_tool_loop(heard: Heard) -> None:
    lines = "".join(f"@@ shell echo {n} >> f; head -c 2500 /dev/zero | tr '\\0' x\n" for n in range(4))
    script = f"{lines}@@ shell cat f\n@@ say over"
    response, bodies = heard.ask(input=script, tools=[HOSTED], **AUTO)
    assert response["status"] == "completed"
    assert "compaction" in kinds(response)
    calls = [item for item in response["output"] if item["type"] == "shell_call"]
    answered = [item for item in response["output"] if item["type"] == "shell_call_output"]
    assert [call["call_id"] for call in calls] == [output["call_id"] for output in answered]
    assert len({call["environment"]["container_id"] for call in calls}) == 1
    # Every command ran once, in one container, though the model forgot most of them on the way.
    assert answered[-1]["output"][0]["stdout"] == "0\n1\n2\n3\n"
    for sent in answering(bodies):
        assert len(sent) < 20_000

    second, _ = heard.ask(input="@@ shell cat f\n@@ say ok", previous_response_id=response["id"], tools=[HOSTED])
    assert second["output"][1]["output"][0]["stdout"] == "0\n1\n2\n3\n"
    at = max(i for i, kind in enumerate(kinds(response)) if kind == "compaction")
    dropped = [*response["output"][at:], user("@@ shell cat f\n@@ say ok")]
    third, _ = heard.ask(input=dropped, tools=[HOSTED], store=False)
    assert third["output"][1]["output"][0]["stdout"] == "0\n1\n2\n3\n"


def test_what_comes_before_a_compaction_is_not_sent_again(heard: Heard) -> None:
    given = [{"role": "developer", "content": "Be REMEMBER-able."}, *long_ago("4711"), user("@@ say done")]
    first, _ = heard.ask(input=given, **AUTO)
    ask = user("@@ say again")
    at = kinds(first).index("compaction")
    ways: dict[str, Json] = {
        "chained": {"input": [ask], "previous_response_id": first["id"]},
        "replayed whole": {"input": [*given, *first["output"], ask], "store": False},
        "replayed from the compaction": {"input": [*first["output"][at:], ask], "store": False},
    }
    sent = {way: answering(heard.ask(**body)[1]) for way, body in ways.items()}
    for way, said in sent.items():
        assert len(said) == 1, way
        assert "4711" in said[0], way
        assert "Be REMEMBER-able." in said[0], way
        assert said[0].count("And else?") == 1, way
        assert BULK[:200] not in said[0], way
    assert (
        len({json.dumps(json.loads(said[0]).get("input") or json.loads(said[0])["messages"]) for said in sent.values()})
        == 1
    )


def test_a_conversation_goes_on_from_its_compaction(heard: Heard) -> None:
    client = heard.server.client()
    conversation = client.conversations.create().id
    first, _ = heard.ask(input=[*long_ago("4711"), user("@@ say done")], conversation=conversation, **AUTO)
    assert kinds(first) == ["compaction", "message"]
    _, bodies = heard.ask(input="@@ say again", conversation=conversation)
    (sent,) = answering(bodies)
    assert "4711" in sent
    assert BULK[:200] not in sent
    # The conversation itself still has everything.
    listed = [item.type for item in client.conversations.items.list(conversation, limit=100)]
    assert listed.count("compaction") == 1
    assert listed.count("message") == 8


def test_a_message_that_a_client_puts_before_the_compaction_is_not_lost(heard: Heard) -> None:
    first, _ = heard.ask(input=[*long_ago("4711"), user("@@ say done")], **AUTO)
    later = {"role": "developer", "content": "The date is the 3rd."}
    _, bodies = heard.ask(input=[user("What is it?"), later, *first["output"], user("@@ say again")], store=False)
    (sent,) = answering(bodies)
    assert "The date is the 3rd." in sent
    assert sent.count("What is it?") == 1


def test_a_message_that_a_client_has_changed_is_read_as_it_is_now(heard: Heard) -> None:
    rule = {"type": "message", "id": "msg_rule", "role": "developer", "content": "Answer in Latin."}
    first, _ = heard.ask(input=[rule, *long_ago("4711"), user("@@ say done")], store=False, **AUTO)
    renewed = {**rule, "content": "Answer in Greek."}
    _, bodies = heard.ask(input=[renewed, *first["output"], user("@@ say again")], store=False)
    (sent,) = answering(bodies)
    assert "Greek" in sent
    assert "Latin" not in sent


def test_tools_that_a_client_has_changed_are_offered_as_they_are_now(heard: Heard) -> None:
    def added(**described: str) -> Json:
        tools = [{"type": "function", "name": n, "description": d, "parameters": {}} for n, d in described.items()]
        return {"type": "additional_tools", "role": "developer", "tools": tools}

    first, _ = heard.ask(input=[added(one="before"), *long_ago("x"), user("@@ say done")], store=False, **AUTO)
    kept = [*first["output"], user("@@ say again")]
    for given, offered in (
        (kept, ["before"]),
        ([added(one="before"), *kept], ["before"]),
        ([added(one="after", two="new"), *kept], ["after", "new"]),
    ):
        _, bodies = heard.ask(input=given, store=False)
        assert descriptions(bodies[0]) == offered
    # Changed, compacted again, and changed back.
    second, _ = heard.ask(input=[added(one="after"), *kept, {"type": "compaction_trigger"}], store=False)
    _, bodies = heard.ask(input=[added(one="before"), *second["output"], user("@@ say again")], store=False)
    assert descriptions(bodies[0]) == ["before"]


def test_a_second_compaction_covers_the_first(heard: Heard) -> None:
    first, _ = heard.ask(input=[*long_ago("4711"), user("@@ say done")], **AUTO)
    more = [assistant(f"REMEMBER(4712) {BULK}"), user("@@ say again")]
    second, _ = heard.ask(input=[*first["output"], *more], store=False, **AUTO)
    newest = compaction(second)
    _, bodies = heard.ask(input=[newest, user("@@ say third")], store=False)
    (sent,) = answering(bodies)
    assert "4711" in sent
    assert "4712" in sent
    assert sent.count("compacted to this summary") == 1


def test_a_context_that_is_too_long_is_compacted_instead_of_refused(narrow: Heard) -> None:
    long = [*long_ago("4711"), assistant(BULK), user("@@ say done")]
    refused, _ = narrow.ask(input=long)
    assert (refused["status"], refused["error"]["code"]) == ("failed", "invalid_prompt")
    for threshold in ({}, {"compact_threshold": 100_000}):
        response, bodies = narrow.ask(input=long, context_management=[{"type": "compaction", **threshold}])
        assert response["status"] == "completed"
        assert kinds(response) == ["compaction", "message"]
        assert "4711" in answering(bodies)[-1]


def test_a_summary_that_is_itself_too_long_leaves_the_oldest_out(narrow: Heard) -> None:
    old = [assistant(f"REMEMBER(old{n}) {BULK}") for n in range(8)]
    given = [*old, assistant("REMEMBER(new)"), user("x"), user("@@ say done")]
    response, bodies = narrow.ask(input=given, context_management=[{"type": "compaction"}])
    assert response["status"] == "completed"
    assert kinds(response) == ["compaction", "message"]
    sent = answering(bodies)[-1]
    assert "REMEMBER(new)" in sent
    assert "old0" not in sent


def test_instructions_alone_over_the_threshold_compact_nothing(heard: Heard) -> None:
    response, bodies = heard.ask(instructions=BULK, **AUTO)
    assert kinds(response) == ["message"]
    assert len(bodies) == 1


def test_max_output_tokens_are_the_clients(heard: Heard) -> None:
    # The scripted model counts every answer as five tokens: with the summary there would be too few left.
    response, bodies = heard.ask(input=[*long_ago("x"), user("@@ say done")], max_output_tokens=16, **AUTO)
    assert response["status"] == "completed"
    cap = bodies[-1].get("max_tokens") or bodies[-1].get("max_output_tokens")
    assert cap == 16


def test_a_trigger_compacts_and_ends(heard: Heard) -> None:
    given = [*long_ago("4711"), user("@@ say never"), {"type": "compaction_trigger"}]
    response, bodies = heard.ask(input=given, store=False, tools=[HOSTED])
    assert (response["status"], kinds(response)) == ("completed", ["compaction"])
    assert all(is_summary(body) for body in bodies)
    _, bodies = heard.ask(input=[*response["output"], user("@@ say again")], store=False)
    assert "4711" in answering(bodies)[0]
    stored, _ = heard.ask(input=given)
    _, bodies = heard.ask(input="@@ say again", previous_response_id=stored["id"])
    assert "4711" in answering(bodies)[0]
    assert "compaction_trigger" not in answering(bodies)[0]
    status, error = heard.refused(input=[{"type": "compaction_trigger"}, user("x")])
    assert (status, error["param"]) == (400, "input[0]")


def test_a_trigger_is_not_among_the_items(heard: Heard) -> None:
    """The SDK's types of stored items do not know it."""
    client = heard.server.client()
    conversation = client.conversations.create().id
    given = [*long_ago("4711"), user("x"), {"type": "compaction_trigger"}]
    response, _ = heard.ask(input=given, conversation=conversation)
    assert kinds(response) == ["compaction"]
    told = heard.http.get(f"/v1/responses/{response['id']}/input_items", params={"limit": 100}).json()["data"]
    kept = heard.http.get(f"/v1/conversations/{conversation}/items", params={"limit": 100}).json()["data"]
    assert [item["type"] for item in told] == ["message"] * 5
    assert [item["type"] for item in kept] == ["compaction", *["message"] * 5]
    for item in told:
        STORED.validate_python(item)


def test_a_trigger_keeps_a_call_that_waits_for_the_client(heard: Heard) -> None:
    call = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"x": 1}'}
    response, _ = heard.ask(input=[*long_ago("4711"), user("x"), call, {"type": "compaction_trigger"}])
    answer = {"type": "function_call_output", "call_id": "c1", "output": "the answer"}
    for body in (
        {"input": [*response["output"], answer, user("@@ say ok")]},
        {"input": [answer, user("@@ say ok")], "previous_response_id": response["id"]},
    ):
        _, bodies = heard.ask(**body)
        assert "the answer" in answering(bodies)[0]
        assert '{\\"x\\": 1}' in answering(bodies)[0]


def test_compact_by_itself_with_the_sdk(heard: Heard) -> None:
    client = heard.server.client()
    before = len(heard.upstream.requests)
    compacted = client.responses.compact(model="gpt-5.6", input=[*long_ago("4711"), user("Go on.")])
    assert compacted.object == "response.compaction"
    assert [item.type for item in compacted.output] == ["message", "message", "message", "compaction"]
    assert compacted.usage.total_tokens > 1500
    output = plain(compacted)
    assert [item["content"][0]["text"] for item in output[:-1]] == ["What is it?", "And else?", "Go on."]
    assert len(heard.upstream.requests) == before + 1
    _, bodies = heard.ask(input=[*output, user("@@ say ok")])
    (sent,) = answering(bodies)
    assert "4711" in sent
    assert sent.count("What is it?") == sent.count("Go on.") == 1
    assert heard.http.get(f"/v1/responses/{compacted.id}").status_code == 404

    first, _ = heard.ask(input=[*long_ago("4713"), user("@@ say ok")])
    chained = client.responses.compact(model="gpt-5.6", previous_response_id=first["id"])
    again = client.responses.compact(model="gpt-5.6", input=plain(chained))
    assert [item.type for item in again.output] == ["message", "message", "message", "compaction"]
    _, bodies = heard.ask(input=[plain(again)[-1], user("@@ say ok")])
    assert "4713" in answering(bodies)[0]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": "x"}, "model"),
        ({"model": "m"}, "input"),
        ({"model": "m", "input": "x", "stream": True}, "stream"),
        ({"model": "m", "input": "x", "tools": []}, "tools"),
        ({"model": "m", "previous_response_id": "resp_none"}, "previous_response_id"),
        ({"model": "m", "input": [{"type": "configuration_update"}]}, "input"),
    ],
)
def test_what_compact_refuses(http: httpx2.Client, body: Json, param: str) -> None:
    answer = http.post("/v1/responses/compact", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ([], "context_management"),
        ([{"type": "clearing"}], "context_management[0].type"),
        ([{"type": "compaction", "compact_threshold": 999}], "context_management[0].compact_threshold"),
        ([{"type": "compaction", "x": 1}], "context_management[0].x"),
    ],
)
def test_what_context_management_refuses(http: httpx2.Client, value: Any, param: str) -> None:
    answer = http.post("/v1/responses", json={"model": "m", "input": "x", "context_management": value})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_who_can_open_a_compaction(launch: Launch) -> None:
    rotated = f"{SECRET_B},{SECRET_A}"
    given = [*long_ago("4711"), user("@@ say done")]
    with launch(secret_key=SECRET_A).http() as http:
        made = http.post("/v1/responses", json={"model": "m", "input": given, **AUTO}).json()
        item = compaction(made)
        ask: Json = {"model": "m", "input": [user("x"), item, user("@@ say ok")]}
        assert http.post("/v1/responses", json=ask).status_code == 200
        for at in (0, 5, 40, len(item["encrypted_content"]) // 2, len(item["encrypted_content"]) - 1):
            changed = list(item["encrypted_content"])
            changed[at] = "A" if changed[at] != "A" else "B"
            body = {**ask, "input": [user("x"), {**item, "encrypted_content": "".join(changed)}, user("y")]}
            check_refused(http.post("/v1/responses", json=body), at=1)
            check_refused(http.post("/v1/responses/compact", json=body), at=1)
            check_refused(http.post("/v1/responses/input_tokens", json=body), at=1)
    with launch(data="other", secret_key=SECRET_B).http() as http:
        check_refused(http.post("/v1/responses", json=ask), at=1)
    with launch(data="third", secret_key=rotated).http() as http:
        assert http.post("/v1/responses", json=ask).status_code == 200


def test_a_compaction_survives_a_restart_and_new_keys(launch: Launch) -> None:
    given = [*long_ago("4711"), user("@@ say done")]
    first = launch(secret_key=SECRET_A)
    with first.http() as http:
        made = http.post("/v1/responses", json={"model": "m", "input": given, **AUTO}).json()
    first.process.terminate()
    first.process.wait(20)
    second = launch(secret_key=f"{SECRET_B},{SECRET_A}")
    ask = {"model": "m", "input": "@@ say ok", "previous_response_id": made["id"]}
    with second.http() as http:
        assert http.post("/v1/responses", json=ask).json()["status"] == "completed"
    second.process.terminate()
    second.process.wait(20)
    with launch(secret_key=SECRET_B).http() as http:
        answer = http.post("/v1/responses", json=ask)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "previous_response_id")


def test_another_project_cannot_open_it(tmp_path: Any, upstream_url: str) -> None:
    config = tmp_path / "deskhand.toml"
    config.write_text('[[keys]]\nkey = "sk-one"\nproject = "one"\n[[keys]]\nkey = "sk-two"\nproject = "two"\n')
    from ..conftest import launched

    with launched(tmp_path / "data", upstream_url, config=str(config)) as server:
        one, two = server.client("sk-one"), server.client("sk-two")
        made = one.responses.compact(model="gpt-5.6", input=[*long_ago("4711"), user("x")])
        ask: Any = [plain(made)[-1], user("@@ say ok")]
        assert one.responses.create(model="gpt-5.6", input=ask).status == "completed"
        with pytest.raises(openai.BadRequestError) as caught:
            two.responses.create(model="gpt-5.6", input=ask)
        assert caught.value.param == "input[0].encrypted_content"
        first = one.responses.create(model="m", input="x").id
        assert one.responses.input_tokens.count(previous_response_id=first).input_tokens > 0
        assert one.responses.compact(model="gpt-5.6", previous_response_id=first).output
        with pytest.raises(openai.BadRequestError, match="not found"):
            two.responses.input_tokens.count(previous_response_id=first)
        with pytest.raises(openai.BadRequestError, match="not found"):
            two.responses.compact(model="gpt-5.6", previous_response_id=first)


def test_a_background_run_is_compacted_too(heard: Heard) -> None:
    given = [*long_ago("4711"), user("@@ say done")]
    response, _ = heard.ask(input=given, background=True, **AUTO)
    deadline = time.monotonic() + 30
    while response["status"] in {"queued", "in_progress"} and time.monotonic() < deadline:
        time.sleep(0.05)
        response = heard.http.get(f"/v1/responses/{response['id']}").json()
    assert kinds(response) == ["compaction", "message"]


def test_a_compacted_run_goes_on_after_its_process_died(launch: Launch) -> None:
    bulk = "head -c 2500 /dev/zero | tr '\\0' x"
    lines = "".join(f"@@ shell echo {n} >> f; {bulk}\n" for n in range(4))
    script = f"REMEMBER(4711)\n{lines}@@ shell echo 4 >> f; sleep 60\n@@ shell cat f\n@@ say over"
    with listening() as upstream:
        first = launch(upstream=upstream.url)
        client = first.client()
        begun: Any = client.responses.create(model="m", input=script, background=True, tools=[HOSTED], **AUTO)
        running = client.responses.retrieve(begun.id)
        deadline = time.monotonic() + 60
        while len([item for item in running.output if item.type == "shell_call"]) < 5:
            assert time.monotonic() < deadline, running.output
            time.sleep(0.05)
            running = client.responses.retrieve(begun.id)
        assert "compaction" in [item.type for item in running.output]
        first.process.kill()
        first.process.wait()
        before = len(upstream.requests)
        with launch(upstream=upstream.url).http() as http:
            deadline = time.monotonic() + 60
            while (done := http.get(f"/v1/responses/{begun.id}").json())["status"] == "in_progress":
                assert time.monotonic() < deadline
                time.sleep(0.05)
        assert done["status"] == "completed", done
        outputs = [item for item in done["output"] if item["type"] == "shell_call_output"]
        # The last is open before it starts: the kill may have come between the two. None has run twice.
        assert outputs[-1]["output"][0]["stdout"] in {"0\n1\n2\n3\n", "0\n1\n2\n3\n4\n"}
        assert "interrupted" in outputs[4]["output"][0]["stderr"]
        sent = answering([seen.body for seen in upstream.requests[before:]])
        assert all("4711" in said and len(said) < 12_000 for said in sent)
        # The summaries before and after the crash are paid for.
        answers = [seen for seen in upstream.requests if not is_summary(seen.body)]
        assert done["usage"]["output_tokens"] >= 5 * (len(answers) + 1)


def test_a_trigger_is_heeded_after_a_crash(launch: Launch) -> None:
    given = [*long_ago("4711"), user("@@ say never"), {"type": "compaction_trigger"}]
    with listening() as upstream:
        upstream.faults = Faults(silent_after=1)
        first = launch(upstream=upstream.url)
        with first.http() as http:
            begun = http.post("/v1/responses", json={"model": "m", "input": given, "background": True}).json()
        deadline = time.monotonic() + 30
        while not upstream.requests:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        first.process.kill()
        first.process.wait()
        upstream.faults = Faults()
        with launch(upstream=upstream.url).http() as http:
            deadline = time.monotonic() + 60
            while (done := http.get(f"/v1/responses/{begun['id']}").json())["status"] in {"queued", "in_progress"}:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        assert set(kinds(done)) == {"compaction"}
        assert done["output"][-1]["encrypted_content"]
        assert all(is_summary(seen.body) for seen in upstream.requests)


def test_what_cannot_be_compacted_now_is_told(launch: Launch) -> None:
    body = {"model": "m", "input": [*long_ago("x"), user("y")]}
    with (
        listening() as upstream,
        launch(upstream=upstream.url, max_concurrent_runs="1", max_run_seconds="3").http() as http,
        ThreadPoolExecutor(1) as threads,
    ):
        upstream.faults = Faults(statuses=[Status(429, retry_after="77")])
        answer = http.post("/v1/responses/compact", json=body)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "77")
        upstream.faults = Faults(silent_after=1)
        first = threads.submit(http.post, "/v1/responses/compact", json=body)
        deadline = time.monotonic() + 30
        while len(upstream.requests) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        answer = http.post("/v1/responses/compact", json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        answer = first.result()
        assert answer.status_code == 502
        assert "max_run_seconds" in answer.json()["error"]["message"]


def test_a_compaction_ends_when_its_client_goes_away(launch: Launch) -> None:
    body = {"model": "m", "input": [*long_ago("x"), user("y")]}
    with listening() as upstream, launch(upstream=upstream.url).http() as http:
        upstream.faults = Faults(silent_after=1)
        with pytest.raises(httpx2.ReadTimeout):
            http.post("/v1/responses/compact", json=body, timeout=1)
        deadline = time.monotonic() + 30
        while not upstream.disconnected.is_set():
            assert time.monotonic() < deadline, "the model goes on though nobody waits for it"
            time.sleep(0.02)
        upstream.faults = Faults()
        assert http.post("/v1/responses/compact", json=body).status_code == 200


def check_refused(answer: httpx2.Response, *, at: int) -> None:
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "invalid_encrypted_content")
    assert error["param"] == f"input[{at}].encrypted_content"
    assert f"input[{at}]" in error["message"]
