"""Conversations: their items, the responses that go on with them, and who may when."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import BadRequestError, NotFoundError, OpenAI
from openai.types.conversations import ConversationItem
from pydantic import TypeAdapter

from ..conftest import Launch, Server
from ..rows import all_bytes
from .heard import Heard
from .oracle import stream
from .test_background import data_of, ended, once

Json = dict[str, Any]
ITEM: TypeAdapter[Any] = TypeAdapter(ConversationItem)
SHELL: Any = {"type": "shell", "environment": {"type": "container_auto"}}
LOCKED = "Another process is currently operating on this conversation. Please retry in a few seconds."
TURNS = 50


def user(text: str) -> Any:
    return {"role": "user", "content": text}


def texts(client: OpenAI, conversation_id: str) -> list[str]:
    """What is said in a conversation, oldest first."""
    items: Iterator[Any] = iter(client.conversations.items.list(conversation_id, order="asc", limit=100))
    return [item.content[0].text if item.type == "message" else item.type for item in items]


def everything(http: httpx2.Client, conversation_id: str) -> list[Json]:
    """Every item of a conversation as it is on the wire, oldest first."""
    items: list[Json] = []
    query: Json = {"order": "asc", "limit": 100}
    while True:
        page = http.get(f"/v1/conversations/{conversation_id}/items", params=query).json()
        items += page["data"]
        if not page["has_more"]:
            return items
        query["after"] = page["last_id"]


def refusal(doing: Callable[[], object]) -> tuple[str | None, str | None]:
    """Code and parameter of a 400."""
    with pytest.raises(BadRequestError) as told:
        doing()
    return told.value.code, told.value.param


def locked(doing: Callable[[], object]) -> bool:
    """Whether something is refused because a response goes on with the conversation."""
    with pytest.raises(BadRequestError) as told:
        doing()
    body: Any = told.value.body
    return (told.value.code, told.value.param, body["message"]) == ("conversation_locked", "conversation", LOCKED)


def test_a_conversation_from_its_beginning_to_its_end(client: OpenAI) -> None:
    made = client.conversations.create(items=[user("one"), user("two")], metadata={"topic": "demo"})
    assert made.id.startswith("conv_")
    assert (made.object, made.metadata) == ("conversation", {"topic": "demo"})
    assert client.conversations.retrieve(made.id) == made
    changed = client.conversations.update(made.id, metadata={"topic": "other"})
    assert changed == client.conversations.retrieve(made.id) == made.model_copy(update={"metadata": {"topic": "other"}})
    added = client.conversations.items.create(made.id, items=[user("three"), {"role": "assistant", "content": "four"}])
    assert added.object == "list"
    assert not added.has_more
    assert [added.first_id, added.last_id] == [item.id for item in added.data]
    items: list[Any] = list(client.conversations.items.list(made.id))
    assert [item.content[0].text for item in items] == ["four", "three", "two", "one"]
    assert {item.status for item in items} == {"completed"}
    assert client.conversations.items.retrieve(items[1].id, conversation_id=made.id) == items[1]
    assert client.conversations.items.delete(items[1].id, conversation_id=made.id) == changed
    assert texts(client, made.id) == ["one", "two", "four"]
    gone = client.conversations.delete(made.id)
    assert (gone.id, gone.object, gone.deleted) == (made.id, "conversation.deleted", True)
    for absent in (
        lambda: client.conversations.retrieve(made.id),
        lambda: client.conversations.delete(made.id),
        lambda: client.conversations.items.list(made.id),
        lambda: client.conversations.items.retrieve(items[0].id, conversation_id=made.id),
        lambda: client.responses.create(model="m", input="@@ say x", conversation=made.id),
    ):
        with pytest.raises(NotFoundError):
            absent()


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages(client: OpenAI, order: Any) -> None:
    made = client.conversations.create(items=[user(str(n)) for n in range(7)])
    first = client.conversations.items.list(made.id, limit=3, order=order)
    assert len(first.data) == 3
    assert first.has_more
    assert first.last_id == first.data[-1].id
    messages: list[Any] = list(first)
    said = [item.content[0].text for item in messages]
    assert said == [str(n) for n in (range(7) if order == "asc" else range(6, -1, -1))]


EVERY_TYPE: list[Json] = [
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]},
    {"type": "message", "role": "developer", "content": "b"},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "c", "annotations": []}]},
    {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": "x"},
    {"type": "custom_tool_call", "call_id": "c2", "name": "f", "input": "x"},
    {"type": "custom_tool_call_output", "call_id": "c2", "output": "x"},
    {"type": "shell_call", "call_id": "c3", "action": {"commands": ["ls"]}},
    {
        "type": "shell_call_output",
        "call_id": "c3",
        "output": [{"stdout": "x", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}],
    },
    {
        "type": "local_shell_call",
        "id": "lsh_1",
        "call_id": "c4",
        "action": {"type": "exec", "command": ["ls"], "env": {}},
    },
    {"type": "local_shell_call_output", "id": "lsh_1", "output": "x"},
    {"type": "apply_patch_call", "call_id": "c5", "operation": {"type": "create_file", "path": "p", "diff": "+x"}},
    {"type": "apply_patch_call_output", "call_id": "c5", "status": "completed"},
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "x"}]},
    {"type": "code_interpreter_call", "container_id": "cntr_x", "code": "1", "outputs": [], "status": "completed"},
    {"type": "file_search_call", "queries": ["q"], "status": "completed", "results": None},
    {"type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "q"}},
    {"type": "image_generation_call", "status": "completed", "result": "aGk="},
    {
        "type": "computer_call",
        "call_id": "c6",
        "pending_safety_checks": [],
        "status": "completed",
        "action": {"type": "wait"},
    },
    {
        "type": "computer_call_output",
        "call_id": "c6",
        "output": {"type": "computer_screenshot", "image_url": "data:,"},
        "status": "completed",
    },
    {"type": "mcp_list_tools", "server_label": "s", "tools": []},
    {"type": "mcp_call", "server_label": "s", "name": "n", "arguments": "{}", "output": "x"},
    {"type": "mcp_approval_request", "server_label": "s", "name": "n", "arguments": "{}"},
    {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True},
    {"type": "tool_search_call", "arguments": {}, "call_id": None, "execution": "server", "status": "completed"},
    {"type": "tool_search_output", "tools": [], "call_id": None, "execution": "server", "status": "completed"},
    {"type": "program", "call_id": "c7", "code": "1", "fingerprint": "x"},
    {"type": "program_output", "call_id": "c7", "result": "1", "status": "completed"},
    {"type": "of_tomorrow", "x": None, "deep": [{"y": 1}]},
]


def test_items_of_every_type(client: OpenAI, http: httpx2.Client) -> None:
    made = client.conversations.create()
    added: list[Json] = []
    for start in range(0, len(EVERY_TYPE), 20):
        answer = http.post(f"/v1/conversations/{made.id}/items", json={"items": EVERY_TYPE[start : start + 20]})
        assert answer.status_code == 200, answer.text
        added += answer.json()["data"]
    assert [item["type"] for item in added] == [item["type"] for item in EVERY_TYPE]
    assert len({item["id"] for item in added}) == len(added)
    assert everything(http, made.id) == added
    for item in added:
        found = http.get(f"/v1/conversations/{made.id}/items/{item['id']}").json()
        assert found == item
        if item["type"] != "of_tomorrow":
            ITEM.validate_python(item)
    assert added[-1] == EVERY_TYPE[-1] | {"id": added[-1]["id"]}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "param", "code"),
    [
        ("POST", "", {"items": [user("x")] * 21}, 400, "items", "array_above_max_length"),
        ("POST", "", {"items": user("x")}, 400, "items", "invalid_type"),
        ("POST", "", {"items": ["x"]}, 400, "items[0]", "invalid_type"),
        ("POST", "", {"items": [user("x"), {"type": "compaction_trigger"}]}, 400, "items[1]", "invalid_value"),
        ("POST", "", {"surprise": 1}, 400, "surprise", "unknown_parameter"),
        ("POST", "", {"metadata": {"k": 1}}, 400, "metadata", "invalid_type"),
        ("POST", "", {"metadata": {"k": "x" * 513}}, 400, "metadata", "string_above_max_length"),
        ("POST", "", {"metadata": {str(n): "x" for n in range(17)}}, 400, "metadata", "array_above_max_length"),
        ("POST", "", {"items": [{"type": "item_reference", "id": "msg_nope"}]}, 404, "items[0].id", None),
        ("POST", "/{id}", {}, 400, "metadata", "missing_required_parameter"),
        ("POST", "/{id}/items", {}, 400, "items", "missing_required_parameter"),
        ("POST", "/{id}/items", {"items": [user("x")] * 21}, 400, "items", "array_above_max_length"),
        ("POST", "/{id}/items", {"items": [{"type": "message", "role": "user"}]}, 400, "items[0].content", "*"),
        ("POST", "/{id}/items", {"items": [{"type": "function_call"}]}, 400, "items[0].call_id", "*"),
        ("POST", "/{id}/items", {"items": [{**user("x"), "id": "msg_there"}]}, 400, "items", None),
        ("POST", "/{id}/items", {"items": [{**user("x"), "id": "msg_a"}] * 2}, 400, "items", None),
        (
            "POST",
            "/{id}/items",
            {"items": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-nope"}]}]},
            404,
            "items[0].content[0].file_id",
            None,
        ),
        ("POST", "/{id}/items?include[]=surprise", {"items": []}, 400, "include[0]", "invalid_value"),
        ("GET", "/{id}/items?limit=0", None, 400, "limit", "integer_below_min_value"),
        ("GET", "/{id}/items?limit=101", None, 400, "limit", "integer_above_max_value"),
        ("GET", "/{id}/items?order=up", None, 400, "order", "invalid_value"),
        ("GET", "/{id}/items?after=msg_nope", None, 404, "after", None),
        ("GET", "/{id}/items/msg_nope", None, 404, None, None),
        ("DELETE", "/{id}/items/msg_nope", None, 404, None, None),
        ("GET", "/conv_nope", None, 404, None, None),
        ("POST", "/conv_nope", {"metadata": {}}, 404, None, None),
        ("DELETE", "/conv_nope", None, 404, None, None),
        ("POST", "/conv_nope/items", {"items": []}, 404, None, None),
        ("GET", "/conv_nope/items", None, 404, None, None),
        ("GET", "/conv_nope/items/msg_there", None, 404, None, None),
        ("DELETE", "/conv_nope/items/msg_there", None, 404, None, None),
    ],
)
def test_a_bad_request_is_refused(
    http: httpx2.Client, method: str, path: str, body: Json | None, status: int, param: str | None, code: str | None
) -> None:
    there = [{**user("x"), "id": "msg_there"}]
    made = http.post("/v1/conversations", json={"items": there}).json()
    answer = http.request(method, "/v1/conversations" + path.replace("{id}", made["id"]), json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (status, param), answer.text
    assert code == "*" or error["code"] == code
    assert [item["id"] for item in everything(http, made["id"])] == ["msg_there"]


def test_responses_go_on_with_a_conversation(client: OpenAI) -> None:
    made = client.conversations.create(items=[user("context")])
    first = client.responses.create(model="m", input="@@ say one", conversation=made.id)
    assert first.conversation is not None
    assert first.conversation.id == made.id
    assert client.responses.retrieve(first.id) == first
    second = client.responses.create(model="m", input="@@ say two", conversation={"id": made.id}, store=False)
    assert second.conversation == first.conversation
    assert texts(client, made.id) == ["context", "@@ say one", "one", "@@ say two", "two"]
    with pytest.raises(NotFoundError):
        client.responses.retrieve(second.id)
    # The items of a response are the same wherever they are read.
    assert client.conversations.items.retrieve(first.output[0].id or "", conversation_id=made.id).to_dict() == (
        first.output[0].to_dict()
    )
    client.conversations.items.create(made.id, items=[user("@@ say three")])
    third = client.responses.create(model="m", conversation=made.id)
    assert third.output_text == "three"
    failed = client.responses.create(model="m", input="@@ fail server_error boom", conversation=made.id)
    assert failed.status == "failed"
    cut = client.responses.create(model="m", input="@@ incomplete max_output_tokens", conversation=made.id)
    assert cut.status == "incomplete"
    half: list[Any] = list(cut.output)
    expected = ["@@ say three", "three", "@@ incomplete max_output_tokens", *(item.content[0].text for item in half)]
    assert texts(client, made.id)[5:] == expected


def test_what_cannot_be(client: OpenAI, http: httpx2.Client) -> None:
    made = client.conversations.create(items=[user("x")])
    answered = client.responses.create(model="m", input="@@ say x")

    def ask(**body: Any) -> Callable[[], object]:
        return lambda: client.responses.create(**{"model": "m", "input": "@@ say x", **body})

    both = ask(conversation=made.id, previous_response_id=answered.id)
    assert refusal(both) == ("mutually_exclusive_parameters", "previous_response_id")
    counted: Any = {"model": "m", "conversation": made.id, "previous_response_id": answered.id}
    assert refusal(lambda: client.responses.input_tokens.count(**counted))[0] == "mutually_exclusive_parameters"
    there = client.conversations.items.list(made.id).data[0].id
    assert refusal(ask(conversation=made.id, input=[{**user("y"), "id": there}])) == (None, "input")
    empty = client.conversations.create()
    assert refusal(ask(conversation=empty.id, input=[])) == ("missing_required_parameter", "input")
    assert refusal(ask(conversation={"surprise": 1}))[1] in {"conversation", "conversation.id"}
    with pytest.raises(NotFoundError):
        ask(conversation="conv_nope")()
    assert texts(client, made.id) == ["x"]


def test_tokens_of_a_conversation_are_counted_also_while_it_is_locked(client: OpenAI) -> None:
    made = client.conversations.create(items=[user(" ".join(f"word{n}" for n in range(100)))])

    def count(**body: Any) -> int:
        return client.responses.input_tokens.count(**{"model": "m", "input": "@@ say x", **body}).input_tokens

    # Estimates follow what the upstream reports, so that they are compared and not known.
    assert count(conversation=made.id) > 2 * count()
    client.responses.create(
        model="m", input="@@ shell sleep 100", tools=[SHELL], conversation=made.id, background=True, metadata={"k": "v"}
    )
    assert count(conversation={"id": made.id}) > 2 * count()
    with pytest.raises(NotFoundError):
        count(conversation="conv_nope")


def test_a_stream_names_the_conversation_and_ends_when_it_is_free(client: OpenAI, http: httpx2.Client) -> None:
    made = client.conversations.create()
    for number in range(5):
        body = {"model": "m", "input": f"@@ say {number}", "conversation": made.id}
        events = stream(http, body)
        named = [event["response"]["conversation"] for event in events if "response" in event]
        assert named == [{"id": made.id}] * len(named)
        assert len(everything(http, made.id)) == 2 * number + 2
    with client.responses.stream(model="m", input="@@ say sdk", conversation=made.id) as helper:
        final = helper.get_final_response()
    assert final.conversation is not None
    assert texts(client, made.id)[-1] == "sdk"


def test_one_response_at_a_time(client: OpenAI, http: httpx2.Client) -> None:
    made = client.conversations.create(items=[user("x")])
    item_id = str(client.conversations.items.list(made.id).data[0].id)
    body = {"model": "m", "input": "@@ shell sleep 100", "tools": [SHELL], "conversation": made.id, "stream": True}
    with http.stream("POST", "/v1/responses", json=body) as answer:
        events = data_of(answer)
        running = json.loads(next(events))["response"]["id"]
        for attempt in (
            lambda: client.responses.create(model="m", input="@@ say x", conversation=made.id),
            lambda: client.responses.create(model="m", input="@@ say x", conversation=made.id, background=True),
            lambda: client.responses.create(model="m", input="@@ say x", conversation=made.id, store=False),
            lambda: client.conversations.items.create(made.id, items=[user("y")]),
            lambda: client.conversations.items.delete(item_id, conversation_id=made.id),
            lambda: client.conversations.delete(made.id),
        ):
            assert locked(attempt)
        assert client.conversations.update(made.id, metadata={"k": "v"}).metadata == {"k": "v"}
        assert texts(client, made.id) == ["x"]
    # The client has gone: the response is cancelled, adds nothing, and the conversation is free.
    assert ended(client, running).status == "cancelled"
    after = client.responses.create(model="m", input="@@ say free", conversation=made.id)
    assert texts(client, made.id) == ["x", "@@ say free", after.output_text]


@pytest.mark.parametrize("wanted", ["completed", "cancelled"])
def test_in_the_background(client: OpenAI, wanted: str) -> None:
    made = client.conversations.create()
    begun = client.responses.create(
        model="m", input="@@ shell sleep 2\n@@ say done", tools=[SHELL], conversation=made.id, background=True
    )
    assert locked(lambda: client.responses.create(model="m", input="@@ say x", conversation=made.id))
    if wanted == "cancelled":
        client.responses.cancel(begun.id)
    done = ended(client, begun.id)
    assert done.status == wanted
    assert done.conversation is not None
    added = [item.id for item in client.conversations.items.list(made.id, order="asc")]
    assert added[1:] == ([item.id for item in done.output] if wanted == "completed" else [])
    assert client.responses.create(model="m", input="@@ say x", conversation=made.id).output_text == "x"


def test_a_chain_of_many_turns_sends_each_item_once(heard: Heard) -> None:
    conversation = heard.http.post("/v1/conversations", json={}).json()["id"]
    previous: str | None = None
    told = "messages" if heard.dialect == "chat" else "input"
    for number in range(TURNS):
        ask = f"@@ say answer {number}"
        _, (by_conversation,) = heard.ask(input=ask, conversation=conversation, instructions="be brief")
        response, (by_chain,) = heard.ask(input=ask, previous_response_id=previous, instructions="be brief")
        assert by_chain[told] == by_conversation[told]
        previous = response["id"]
    said = json.dumps(by_conversation[told])
    for number in range(TURNS):
        assert said.count(f'"@@ say answer {number}"') == 1
        assert said.count(f'"answer {number}"') == (number < TURNS - 1)
    # What a fresh request with everything in its input would send: the same, to the last field.
    items = everything(heard.http, conversation)
    assert len(items) == 2 * TURNS
    _, (fresh,) = heard.ask(input=items[:-1], instructions="be brief")
    assert fresh == by_conversation
    # Instructions are not inherited.
    _, (bare,) = heard.ask(conversation=conversation)
    assert "be brief" not in json.dumps(bare)


def test_tools_and_their_computer_carry_on(heard: Heard) -> None:
    conversation = heard.http.post("/v1/conversations", json={}).json()["id"]
    script = "@@ think hm\n@@ shell echo kept > f\n@@ say stored"
    first, _ = heard.ask(input=script, tools=[SHELL], conversation=conversation)
    second, bodies = heard.ask(input="@@ shell cat f", tools=[SHELL], conversation=conversation)
    assert first["status"] == second["status"] == "completed"
    output = next(item for item in second["output"] if item["type"] == "shell_call_output")
    assert output["output"][0]["stdout"] == "kept\n"
    items = everything(heard.http, conversation)
    own = {item["id"] for item in second["output"]}
    _, fresh = heard.ask(input=[item for item in items if item["id"] not in own], tools=[SHELL])
    assert fresh[0] == bodies[0]


def test_a_branch_hears_what_its_response_went_on_with(heard: Heard) -> None:
    conversation = heard.http.post("/v1/conversations", json={"items": [user("root")]}).json()["id"]
    turns = [heard.ask(input=f"@@ say turn {n}", conversation=conversation)[0] for n in range(3)]
    items = everything(heard.http, conversation)
    for number, turn in enumerate(turns):
        branch, (body,) = heard.ask(input="@@ say branch", previous_response_id=turn["id"])
        assert branch["conversation"] is None
        _, (fresh,) = heard.ask(input=[*items[: 1 + 2 * (number + 1)], user("@@ say branch")])
        assert body == fresh
    assert everything(heard.http, conversation) == items
    # Deleting the conversation deletes no response, and nothing that its responses went on with.
    _, (before,) = heard.ask(input="@@ say after", previous_response_id=turns[1]["id"])
    assert heard.http.delete(f"/v1/conversations/{conversation}").status_code == 200
    assert heard.http.get(f"/v1/responses/{turns[1]['id']}").json() == turns[1]
    assert len(heard.http.get(f"/v1/responses/{turns[1]['id']}/input_items").json()["data"]) == 1
    _, (after,) = heard.ask(input="@@ say after", previous_response_id=turns[1]["id"])
    assert after == before
    assert heard.refused(conversation=conversation)[0] == 404


def test_deleted_items_are_not_sent(heard: Heard) -> None:
    conversation = heard.http.post("/v1/conversations", json={"items": [user("plain"), user("wrong")]}).json()["id"]
    wrong = everything(heard.http, conversation)[1]["id"]
    assert heard.http.delete(f"/v1/conversations/{conversation}/items/{wrong}").json()["id"] == conversation
    _, (body,) = heard.ask(conversation=conversation)
    assert "plain" in str(body)
    assert "wrong" not in str(body)


def test_calls_of_the_client_are_answered_in_the_input_or_as_items(heard: Heard) -> None:
    tools = [{"type": "function", "name": "a", "parameters": {"type": "object", "properties": {}}}]
    conversation = heard.http.post("/v1/conversations", json={}).json()["id"]
    for result, by_input in (("first-result", True), ("second-result", False)):
        asked, _ = heard.ask(input="@@ call a {}", tools=tools, conversation=conversation)
        status, error = heard.refused(tools=tools, conversation=conversation)
        assert (status, error["message"].startswith("No tool output found")) == (400, True)
        output = {"type": "function_call_output", "call_id": asked["output"][0]["call_id"], "output": result}
        if by_input:
            response, bodies = heard.ask(input=[output], tools=tools, conversation=conversation)
        else:
            heard.http.post(f"/v1/conversations/{conversation}/items", json={"items": [output]})
            response, bodies = heard.ask(input=[], tools=tools, conversation=conversation)
        assert result in response["output"][0]["content"][0]["text"]
        assert json.dumps(bodies[0]).count(result) == 1


def test_a_local_shell_call_is_answered_by_its_id(heard: Heard) -> None:
    tools = [{"type": "local_shell"}]
    conversation = heard.http.post("/v1/conversations", json={}).json()["id"]
    for by_input in (True, False):
        asked, _ = heard.ask(input="@@ shell ls", tools=tools, conversation=conversation)
        call = asked["output"][0]
        output = {"type": "local_shell_call_output", "id": call["id"], "output": f"files-{by_input}"}
        if by_input:
            response, _ = heard.ask(input=[output], tools=tools, conversation=conversation)
        else:
            added = heard.http.post(f"/v1/conversations/{conversation}/items", json={"items": [output]}).json()
            assert added["data"][0]["id"] != call["id"]
            response, _ = heard.ask(input=[], tools=tools, conversation=conversation)
        assert f"files-{by_input}" in response["output"][0]["content"][0]["text"]
    ids = [item["id"] for item in everything(heard.http, conversation)]
    assert len(set(ids)) == len(ids)


def test_references_find_items_of_conversations(heard: Heard) -> None:
    item = {**user("the-secret-word"), "id": "msg_referenced"}
    first = heard.http.post("/v1/conversations", json={"items": [item]}).json()["id"]
    reference = {"type": "item_reference", "id": "msg_referenced"}
    _, (body,) = heard.ask(input=[reference, user("@@ say x")])
    assert "the-secret-word" in str(body)
    second = heard.http.post("/v1/conversations", json={"items": [reference]}).json()["id"]
    assert everything(heard.http, second) == everything(heard.http, first)
    # One that is there already is not said twice.
    _, (body,) = heard.ask(input=[reference, user("@@ say x")], conversation=second)
    assert str(body).count("the-secret-word") == 1


def test_include_shows_what_it_names(client: OpenAI) -> None:
    made = client.conversations.create()
    tool: Any = {"type": "code_interpreter", "container": {"type": "auto"}}
    client.responses.create(model="m", input="@@ python print(6 * 7)", tools=[tool], conversation=made.id)
    (call,) = [item for item in client.conversations.items.list(made.id) if item.type == "code_interpreter_call"]
    assert call.outputs is None
    for shown in (
        client.conversations.items.retrieve(
            call.id, conversation_id=made.id, include=["code_interpreter_call.outputs"]
        ),
        *client.conversations.items.list(made.id, include=["code_interpreter_call.outputs"]),
    ):
        if shown.type == "code_interpreter_call":
            assert "42" in str(shown.outputs)


def test_a_file_that_is_added_as_an_item_is_put_in_the_computer(client: OpenAI) -> None:
    made = client.conversations.create()
    client.responses.create(model="m", input="@@ shell ls", tools=[SHELL], conversation=made.id)
    upload = client.files.create(file=("late.txt", b"late content"), purpose="user_data")
    attached: Any = {"role": "user", "content": [{"type": "input_file", "file_id": upload.id}]}
    client.conversations.items.create(made.id, items=[attached])
    # The first asks for nothing to be run, so the second must still find one copy of it.
    client.responses.create(model="m", input="@@ say seen", tools=[SHELL], conversation=made.id)
    done = client.responses.create(model="m", input="@@ shell ls; cat late.txt", tools=[SHELL], conversation=made.id)
    output: Any = next(item for item in done.output if item.type == "shell_call_output")
    assert output.output[0].stdout == "late.txt\nlate content"


def test_another_projects_conversation_does_not_exist(launch: Launch, tmp_path: Path) -> None:
    config = tmp_path / "deskhand.toml"
    config.write_text(
        '[[keys]]\nkey = "sk-a"\nproject = "proj_a"\n[[keys]]\nkey = "sk-a2"\nproject = "proj_a"\n'
        '[[keys]]\nkey = "sk-b"\nproject = "proj_b"\n'
    )
    server = launch(config=str(config), api_key="")
    a, a2, b = server.client("sk-a"), server.client("sk-a2"), server.client("sk-b")
    made = a.conversations.create(items=[user("x")])
    item_id = str(a2.conversations.items.list(made.id).data[0].id)
    named: Any = [{"type": "item_reference", "id": item_id}]
    for attempt in (
        lambda: b.conversations.retrieve(made.id),
        lambda: b.conversations.update(made.id, metadata={}),
        lambda: b.conversations.delete(made.id),
        lambda: b.conversations.items.list(made.id),
        lambda: b.conversations.items.create(made.id, items=[user("y")]),
        lambda: b.conversations.items.retrieve(item_id, conversation_id=made.id),
        lambda: b.conversations.items.delete(item_id, conversation_id=made.id),
        lambda: b.responses.create(model="m", input="@@ say x", conversation=made.id),
        lambda: b.responses.create(model="m", input=named),
        lambda: b.conversations.create(items=named),
    ):
        with pytest.raises(NotFoundError):
            attempt()
    assert a2.responses.create(model="m", input="@@ say x", conversation=made.id).status == "completed"
    assert texts(a, made.id) == ["x", "@@ say x", "x"]


@pytest.mark.parametrize("kept", [True, False])
def test_a_run_that_was_killed_adds_nothing_and_lets_go(launch: Launch, kept: bool) -> None:
    first = launch()
    made = first.client().conversations.create(items=[user("before")])
    script = "@@ shell echo begun; sleep 100"
    body = {"model": "m", "input": script, "tools": [SHELL], "conversation": made.id, "stream": True, "store": kept}
    with first.http() as http, http.stream("POST", "/v1/responses", json=body) as answer:
        for data in data_of(answer):
            if json.loads(data)["type"] == "response.shell_call_output_content.delta":
                break
        first.process.kill()
        first.process.wait()

    second = launch()
    client = second.client()

    def free() -> bool:
        # What it was told says whether it ended; a conversation that is not free yet changes nothing.
        try:
            client.conversations.items.create(made.id, items=[])
        except BadRequestError as error:
            return error.code != "conversation_locked"
        return True

    once(free)
    assert client.responses.create(model="m", input="@@ say after", conversation=made.id).status == "completed"
    assert texts(client, made.id) == ["before", "@@ say after", "after"]


def test_a_background_run_that_was_killed_goes_on_and_adds_everything(launch: Launch) -> None:
    first = launch()
    made = first.client().conversations.create(items=[user("before")])
    begun = first.client().responses.create(
        model="m",
        input="@@ shell echo begun; sleep 100\n@@ say went on",
        tools=[SHELL],
        conversation=made.id,
        background=True,
    )
    client = first.client()
    once(lambda: any(item.type == "shell_call_output" for item in client.responses.retrieve(begun.id).output))
    first.process.kill()
    first.process.wait()

    client = launch().client()
    done = ended(client, begun.id)
    assert done.status == "completed"
    assert done.output_text == "went on"
    said = texts(client, made.id)
    assert said[0] == "before"
    assert said[2:] == ["shell_call", "shell_call_output", "went on"]


def test_what_is_not_stored_leaves_nothing_on_disk(launch: Launch) -> None:
    server: Server = launch()
    client = server.client()
    made = client.conversations.create()
    done = client.responses.create(
        model="m", input="@@ say x", conversation=made.id, store=False, instructions="a-word-to-look-for"
    )
    server.process.terminate()
    server.process.wait()
    stored = all_bytes(server.data_dir)
    assert made.id.encode() in stored
    assert done.id.encode() not in stored
    assert b"a-word-to-look-for" not in stored
