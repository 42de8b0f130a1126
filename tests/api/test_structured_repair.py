"""Forms of final texts and of strict arguments: kept to by models that nobody holds to them."""

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import OpenAI
from pydantic import BaseModel

from deskhand.engine.strict_schema import strict_complaint
from deskhand.testing.upstream_faults import Faults
from deskhand.tools.strictness import made_strict

from ..conftest import launched
from .heard import Heard, listening
from .oracle import stream

Json = dict[str, Any]
SCHEMA: Json = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
FORM: Json = {"format": {"type": "json_schema", "name": "person", "schema": SCHEMA, "strict": True}}
STRICT: Json = {"type": "function", "name": "f", "parameters": SCHEMA, "strict": True}
RIGHT = '{"name": "Ann", "age": 3}'


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture
def chat(heard: Heard) -> Heard:
    if heard.dialect != "chat":
        pytest.skip("servers of the Responses API see to these forms themselves")
    return heard


def texts(response: Json) -> list[str]:
    return [part["text"] for item in response["output"] if item["type"] == "message" for part in item["content"]]


def test_a_wrong_text_is_asked_for_again_and_never_shown(chat: Heard) -> None:
    script = f'@@ draft {{"name": "Ann"}}\n@@ json {RIGHT}'
    events = stream(chat.http, {"model": "m", "input": script, "text": FORM})
    response = events[-1]["response"]
    assert (response["status"], texts(response)) == ("completed", [RIGHT])
    assert "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta") == RIGHT
    asked = chat.upstream.requests[-1].body["messages"]
    assert [message["role"] for message in asked] == ["user", "assistant", "user"]
    assert '"age" is a required property' in asked[-1]["content"]
    assert response["usage"]["output_tokens"] == 10


def test_an_upstream_that_keeps_schemas_itself_is_shown_as_it_speaks(chat: Heard, tmp_path: Path) -> None:
    def said(http: httpx2.Client, text: str) -> tuple[str, str, int]:
        before = len(chat.upstream.requests)
        events = stream(http, {"model": "m", "input": f"@@ json {text}", "text": FORM})
        shown = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
        return shown, events[-1]["response"]["status"], len(chat.upstream.requests) - before

    trusted = {"upstream_structured_outputs": "true"}
    with launched(tmp_path / "data", chat.upstream.url, **trusted) as server, server.http() as http:
        assert said(http, RIGHT) == (RIGHT, "completed", 1)
        assert chat.upstream.requests[-1].body["response_format"]["json_schema"]["schema"] == SCHEMA
        assert said(http, '{"name": "Ann"}') == ('{"name": "Ann"}', "failed", 1)
    assert said(chat.http, '{"name": "Ann"}') == ("", "failed", 2), "what nobody vouches for is held back"


def test_the_official_sdk_parses_what_was_repaired(chat: Heard) -> None:
    client: OpenAI = chat.server.client()
    parsed = client.responses.parse(model="m", input=f"@@ draft not json\n@@ json {RIGHT}", text_format=Person)
    assert parsed.output_parsed == Person(name="Ann", age=3)
    with client.responses.stream(model="m", input=f"@@ draft nope\n@@ json {RIGHT}", text_format=Person) as stream:
        assert stream.get_final_response().output_parsed == Person(name="Ann", age=3)


def test_a_text_that_is_wrong_twice_fails_the_response(chat: Heard) -> None:
    client: OpenAI = chat.server.client()
    parsed = client.responses.parse(model="m", input='@@ json {"name": "Ann"}', text_format=Person)
    assert (parsed.status, parsed.output, parsed.output_parsed) == ("failed", [], None)
    assert parsed.error is not None
    assert '{"name": "Ann"}' in parsed.error.message
    assert parsed.usage is not None
    assert parsed.usage.output_tokens == 10


def test_objects_are_asked_for_again_as_well(chat: Heard) -> None:
    form = {"format": {"type": "json_object"}}
    response, bodies = chat.ask(input='@@ draft [1]\n@@ json {"a": 1}', text=form)
    assert (texts(response), len(bodies)) == (['{"a": 1}'], 2)


def test_a_refusal_is_no_mistake(chat: Heard) -> None:
    response, bodies = chat.ask(input="@@ refuse no", text=FORM)
    assert (response["status"], len(bodies)) == ("completed", 1)
    assert response["output"][0]["content"][0]["type"] == "refusal"


def test_a_text_that_was_cut_off_is_shown_as_far_as_it_got(chat: Heard) -> None:
    response, bodies = chat.ask(input='@@ note {"na\n@@& incomplete max_output_tokens', text=FORM)
    assert (response["status"], texts(response), len(bodies)) == ("incomplete", ['{"na'], 1)


def test_a_remark_before_a_call_is_not_in_a_parsers_way(chat: Heard) -> None:
    plain: Json = {"type": "function", "name": "g", "parameters": {"type": "object", "properties": {}}}
    response, _ = chat.ask(input="@@ note let me look\n@@ call g {}", text=FORM, tools=[plain])
    assert [item["type"] for item in response["output"]] == ["function_call"]
    response, _ = chat.ask(input=f"@@ call g {{}}\n@@& note {RIGHT}", text=FORM, tools=[plain])
    assert (texts(response), len(response["output"])) == ([RIGHT], 2), "text that has the form is never lost"
    response, _ = chat.ask(input="@@ note let me look\n@@ call g {}", tools=[plain])
    assert [item["type"] for item in response["output"]] == ["message", "function_call"]


def test_no_tokens_are_spent_on_a_repair_that_there_are_none_for(chat: Heard) -> None:
    chat.upstream.faults = Faults(usage={"prompt_tokens": 1, "completion_tokens": 20, "total_tokens": 21})
    try:
        response, bodies = chat.ask(input=f"@@ draft no\n@@ json {RIGHT}", text=FORM, max_output_tokens=20)
    finally:
        chat.upstream.faults = Faults()
    assert (response["status"], len(bodies)) == ("failed", 1)
    response, bodies = chat.ask(input=f"@@ draft no\n@@ json {RIGHT}", text=FORM, max_output_tokens=50)
    assert (response["status"], bodies[1]["max_tokens"]) == ("completed", 45)


def test_arguments_of_a_strict_function_are_asked_for_again(chat: Heard) -> None:
    response, bodies = chat.ask(input=f'@@ call f {{"name": "Ann"}}\n@@ call f {RIGHT}', tools=[STRICT])
    assert [(item["name"], item["arguments"]) for item in response["output"]] == [("f", RIGHT)]
    assert bodies[0]["tools"][0]["function"]["strict"] is True
    *_, call, answer = bodies[1]["messages"]
    assert call["tool_calls"][0]["id"] == answer["tool_call_id"]
    assert '"age" is a required property' in answer["content"]


def test_what_the_model_thought_goes_back_with_its_wrong_call(chat: Heard) -> None:
    script = f'@@ think hmm\n@@ call f {{"name": "Ann"}}\n@@ call f {RIGHT}'
    response, bodies = chat.ask(input=script, tools=[STRICT])
    assert [item["type"] for item in response["output"]] == ["reasoning", "function_call"]
    assert bodies[1]["messages"][1]["reasoning_content"] == "hmm"


def test_arguments_that_are_wrong_twice_fail_the_response(chat: Heard) -> None:
    response, bodies = chat.ask(input='@@ call f {"age": 1}\n@@ call f {"age": 2}', tools=[STRICT])
    assert (response["status"], response["output"], len(bodies)) == ("failed", [], 2)
    assert "call of 'f'" in response["error"]["message"]


def test_arguments_of_other_functions_are_the_clients_to_judge(heard: Heard) -> None:
    response, bodies = heard.ask(input='@@ call f {"age": 1}', tools=[{**STRICT, "strict": False}])
    assert (response["output"][0]["arguments"], len(bodies)) == ('{"age": 1}', 1)


def test_a_server_of_the_responses_api_is_trusted_and_then_checked(heard: Heard) -> None:
    if heard.dialect == "chat":
        pytest.skip("see above")
    response, bodies = heard.ask(input=f"@@ draft no\n@@ json {RIGHT}", text=FORM)
    assert (response["status"], len(bodies)) == ("failed", 1)


def test_strict_is_the_default_where_the_schema_allows_it(heard: Heard) -> None:
    lenient = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "object", "properties": {}}}}
    free = {"type": "object", "properties": {"any": {"type": "object"}}}
    tools = [
        {"type": "function", "name": "f", "parameters": lenient},
        {"type": "function", "name": "g", "parameters": free},
    ]
    response, (body,) = heard.ask(input="@@ say ok", tools=tools)
    made, kept = response["tools"]
    assert (made["strict"], made["parameters"]["required"]) == (True, ["a", "b"])
    assert made["parameters"]["additionalProperties"] is False
    assert made["parameters"]["properties"]["b"]["additionalProperties"] is False
    assert (kept["strict"], kept["parameters"]) == (False, free)
    told = body["tools"][0].get("function", body["tools"][0])
    assert (told["strict"], told["parameters"]) == (True, made["parameters"])


def test_an_upstream_that_does_not_know_strict_is_not_sent_it(tmp_path: Path) -> None:
    with (
        listening() as upstream,
        launched(tmp_path / "data", upstream.url, upstream_api="chat") as server,
        server.http() as http,
    ):
        heard = Heard(server, upstream, "chat", http)
        upstream.faults = Faults(rejects=["strict"])
        response, bodies = heard.ask(input="@@ say ok", tools=[STRICT])
        assert response["status"] == "completed"
        assert ["strict" in body["tools"][0]["function"] for body in bodies] == [True, False]


@pytest.mark.parametrize(
    "schema",
    [
        {
            "type": "object",
            "properties": {"a": {"type": "array", "items": {"type": "object", "properties": {"b": {}}}}},
        },
        {"type": "object", "$defs": {"n": {"type": "object", "properties": {"m": {"$ref": "#/$defs/n"}}}}},
        {"type": "object", "properties": {"a": {"anyOf": [{"type": "null"}, {"type": "object", "properties": {}}]}}},
        {"type": "object"},
    ],
)
def test_what_is_made_strict_is_strict(schema: Json) -> None:
    made = made_strict(schema)
    assert made is not None
    assert strict_complaint(made) == ""
    assert made_strict(made) == made


_SCHEMA = st.recursive(
    st.sampled_from([{"type": "string"}, {"type": "integer", "minimum": 1}, {"enum": [1, None]}, {"type": "object"}]),
    lambda inner: st.one_of(
        st.fixed_dictionaries(
            {"type": st.just("object"), "properties": st.dictionaries(st.text(max_size=3), inner, max_size=3)},
            optional={"required": st.just([]), "additionalProperties": st.booleans(), "not": inner},
        ),
        st.builds(lambda items: {"type": "array", "items": items}, inner),
        st.builds(lambda one, other: {"anyOf": [one, other]}, inner, inner),
    ),
    max_leaves=8,
)


@given(_SCHEMA)
def test_a_schema_is_made_strict_or_stays(schema: Json) -> None:
    made = made_strict(schema)
    if made is None:
        assert strict_complaint(schema) != "" or "not" in json.dumps(schema)
    else:
        assert strict_complaint(made) == ""
        assert made.get("properties", {}).keys() == schema.get("properties", {}).keys()


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "object"}}},
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"type": "object", "additionalProperties": True},
        {"type": "object", "properties": {"a": {"oneOf": [{"type": "string"}]}}},
        {"type": "object", "properties": {"a": True}},
        {"type": "object", "anyOf": []},
        {"type": "string"},
        {},
    ],
)
def test_what_cannot_be_made_strict_stays(schema: Json) -> None:
    assert made_strict(schema) is None
