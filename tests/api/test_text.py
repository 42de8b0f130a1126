"""Responses without a computer: create, stream, chain, look up, delete."""

import json
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI
from openai.types.responses import Response
from pydantic import BaseModel

from ..conftest import Server
from .oracle import stream, types

WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def test_a_response_is_created_kept_and_deleted(client: OpenAI) -> None:
    raw = client.responses.with_raw_response.create(
        model="m", input="@@ say hello there", metadata={"k": "v"}, instructions="be nice"
    )
    assert raw.headers["x-request-id"].startswith("req_")
    response = raw.parse()
    assert (response.output_text, response.status) == ("hello there", "completed")
    assert response.id.startswith("resp_")
    assert response.output[0].id.startswith("msg_")  # type: ignore[union-attr]
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens > 0
    again = client.responses.retrieve(response.id)
    assert again.to_dict() == response.to_dict()
    (item,) = client.responses.input_items.list(response.id)
    assert item.to_dict()["content"] == [{"type": "input_text", "text": "@@ say hello there"}]
    client.responses.delete(response.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)


def test_every_field_and_default_is_echoed(client: OpenAI) -> None:
    wire = client.responses.create(model="m", input="@@ say x").to_dict()
    made = {name: wire.pop(name) for name in ("id", "created_at", "completed_at", "output", "usage", "tool_usage")}
    assert wire == {
        "access_programs": None,
        "background": False,
        "billing": {"payer": "developer"},
        "conversation": None,
        "error": None,
        "frequency_penalty": 0,
        "image": {"context_compression": "disabled"},
        "incomplete_details": None,
        "input_transformations": [],
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "metadata": {},
        "model": "m",
        "moderation": None,
        "object": "response",
        "parallel_tool_calls": True,
        "presence_penalty": 0,
        "previous_response_id": None,
        "prompt": None,
        "prompt_cache_diagnostics": None,
        "prompt_cache_key": None,
        "prompt_cache_options": {"mode": "implicit", "ttl": "30m"},
        "prompt_cache_retention": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": "default",
        "status": "completed",
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
        "user": None,
    }
    assert set(Response.model_fields) <= set(wire) | set(made)
    part = {"type": "output_text", "text": "x", "annotations": [], "logprobs": []}
    assert made["output"][0]["content"] == [part]  # type: ignore[index]
    Response.model_validate({**wire, **made}, strict=True)


def test_what_was_set_is_echoed(client: OpenAI) -> None:
    asked: dict[str, Any] = {
        "image": {"context_compression": "auto"},
        "access_programs": {"cyber": "standard"},
        "max_output_tokens": 64,
        "max_tool_calls": 3,
        "prompt_cache_key": "k",
        "prompt_cache_options": {"mode": "explicit", "prewarm": False},
        "prompt_cache_retention": "in-memory",
        "reasoning": {"effort": "low", "generate_summary": "auto", "context": "all_turns", "mode": "pro"},
        "safety_identifier": "s",
        "service_tier": "flex",
        "temperature": 0.5,
        "tools": [{"type": "custom", "name": "c"}, {**WEATHER, "description": "d"}],
        "top_logprobs": 2,
        "truncation": "auto",
        "user": "u",
    }
    wire = client.responses.create(model="m", input="@@ say x", extra_body=asked).to_dict()
    expected = asked | {
        "image": {"context_compression": "disabled"},
        "prompt_cache_options": {"mode": "explicit", "ttl": "30m"},
        "prompt_cache_retention": "in_memory",
        "reasoning": {"effort": "low", "summary": "auto", "context": "all_turns", "mode": "pro"},
        "service_tier": "default",
        "tools": [
            {"type": "custom", "name": "c", "description": None, "format": {"type": "text"}},
            # Without `strict`, what can be made strict is (API reference, "Tools", function).
            {
                **WEATHER,
                "description": "d",
                "strict": True,
                "parameters": {**WEATHER["parameters"], "additionalProperties": False},
            },
        ],
    }
    assert {name: wire[name] for name in expected} == expected


def test_the_events_of_a_text_stream(server: Server) -> None:
    with server.http() as http:
        events = stream(http, {"model": "m", "input": "@@ say one two three"})
    assert types(events) == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    text = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    assert text == "one two three" == events[-1]["response"]["output"][0]["content"][0]["text"]


def test_deltas_are_padded_unless_the_client_declines(server: Server) -> None:
    body = {"model": "m", "input": "@@ say one two"}
    with server.http() as http:
        padded = stream(http, body)
        bare = stream(http, {**body, "stream_options": {"include_obfuscation": False}})
    assert all("obfuscation" in e for e in padded if e["type"].endswith(".delta"))
    assert not any("obfuscation" in e for e in bare)


def test_the_sdks_stream_helper_follows(client: OpenAI) -> None:
    with client.responses.stream(model="m", input='@@ call get_weather {"city": "Rome"}', tools=[WEATHER]) as events:  # type: ignore[list-item]
        snapshots = [e.snapshot for e in events if e.type == "response.function_call_arguments.delta"]
        final = events.get_final_response()
    assert json.loads(snapshots[-1]) == {"city": "Rome"}
    assert final.output[-1].type == "function_call"


def test_a_function_call_goes_to_the_client_and_its_answer_to_the_model(client: OpenAI) -> None:
    script = '@@ call get_weather {"city": "A"}\n@@& call get_weather {"city": "B"}'
    first = client.responses.create(model="m", input=script, tools=[WEATHER])  # type: ignore[list-item]
    calls = [item for item in first.output if item.type == "function_call"]
    assert [json.loads(call.arguments)["city"] for call in calls] == ["A", "B"]
    answers: list[Any] = [
        {"type": "function_call_output", "call_id": c.call_id, "output": json.loads(c.arguments)["city"]} for c in calls
    ]
    second = client.responses.create(
        model="m",
        previous_response_id=first.id,
        tools=[WEATHER],  # type: ignore[list-item]
        input=answers,
    )
    assert second.output_text == "RESULT: A\nB"
    replayed: list[Any] = [{"role": "user", "content": script}, *[i.to_dict() for i in first.output], *answers]
    third = client.responses.create(model="m", store=False, tools=[WEATHER], input=replayed)  # type: ignore[list-item]
    assert third.output_text == "RESULT: A\nB"


def test_a_custom_tool_takes_free_text(client: OpenAI) -> None:
    tool: Any = {"type": "custom", "name": "sql", "description": "run sql"}
    first = client.responses.create(model="m", input="@@ call sql SELECT 1", tools=[tool])
    call = first.output[-1]
    assert call.type == "custom_tool_call"
    assert call.input == "SELECT 1"
    answer: Any = {"type": "custom_tool_call_output", "call_id": call.call_id, "output": "one"}
    second = client.responses.create(model="m", previous_response_id=first.id, tools=[tool], input=[answer])
    assert second.output_text == "RESULT: one"


def test_tools_that_the_client_runs_are_called_and_answered(client: OpenAI) -> None:
    shell: Any = {"type": "shell", "environment": {"type": "local"}}
    first = client.responses.create(model="m", input="@@ shell ls", tools=[shell])
    call = first.output[-1]
    assert call.type == "shell_call"
    assert call.action.commands == ["ls"]
    outcome = {"type": "exit", "exit_code": 0}
    answer: Any = {
        "type": "shell_call_output",
        "call_id": call.call_id,
        "output": [{"stdout": "f1\n", "stderr": "", "outcome": outcome}],
    }
    second = client.responses.create(model="m", previous_response_id=first.id, tools=[shell], input=[answer])
    assert "f1" in second.output_text


class Person(BaseModel):
    name: str
    age: int


def test_structured_output_is_parsed(client: OpenAI) -> None:
    response = client.responses.parse(model="m", input='@@ json {"name": "Ann", "age": 3}', text_format=Person)
    assert response.output_parsed == Person(name="Ann", age=3)


def test_text_that_does_not_match_its_schema_fails_the_response(client: OpenAI) -> None:
    form: Any = {"format": {"type": "json_schema", "name": "person", "schema": Person.model_json_schema()}}
    response = client.responses.create(model="m", input='@@ json {"name": "Ann"}', text=form)
    assert response.status == "failed"
    assert response.error is not None
    assert '"age" is a required property' in response.error.message
    wrong = client.responses.create(model="m", input="@@ say not json", text={"format": {"type": "json_object"}})
    assert wrong.status == "failed"


def test_reasoning_is_shown(client: OpenAI) -> None:
    response = client.responses.create(
        model="m", input="@@ think hmm\n@@ say done", reasoning={"effort": "low", "summary": "auto"}
    )
    assert [item.type for item in response.output] == ["reasoning", "message"]
    assert "hmm" in json.dumps(response.output[0].to_dict())
    assert response.reasoning is not None
    assert response.reasoning.effort == "low"


def test_a_chain_remembers_and_instructions_are_not_inherited(client: OpenAI) -> None:
    script = '@@ call get_weather {"city": "A"}\n@@ say the script of the first message goes on'
    first = client.responses.create(model="m", input=script, tools=[WEATHER], instructions="old")  # type: ignore[list-item]
    call = first.output[-1]
    assert call.type == "function_call"
    answer: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "7"}
    second = client.responses.create(model="m", input=[answer], previous_response_id=first.id)
    assert second.output_text == "the script of the first message goes on"
    assert second.previous_response_id == first.id
    assert second.instructions is None
    (only,) = client.responses.input_items.list(second.id)
    assert only.type == "function_call_output"


def test_items_can_be_named_instead_of_sent(client: OpenAI) -> None:
    first = client.responses.create(model="m", input="@@ say remember me")
    reference: Any = [{"type": "item_reference", "id": first.output[0].id}, {"role": "user", "content": "@@ say ok"}]
    assert client.responses.create(model="m", input=reference).output_text == "ok"


def test_store_false_leaves_nothing(client: OpenAI) -> None:
    response = client.responses.create(model="m", input="@@ say secret", store=False)
    assert response.to_dict()["store"] is False
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)
    with pytest.raises(openai.BadRequestError) as raised:
        client.responses.create(model="m", input="x", previous_response_id=response.id)
    assert raised.value.code == "previous_response_not_found"


def test_refused_cut_off_and_failed_responses_say_so(client: OpenAI) -> None:
    refused: Any = client.responses.create(model="m", input="@@ refuse no way")
    assert refused.output[0].content[0].refusal == "no way"
    cut = client.responses.create(model="m", input="@@ incomplete max_output_tokens")
    assert cut.status == "incomplete"
    assert cut.incomplete_details is not None
    assert cut.incomplete_details.reason == "max_output_tokens"
    failed = client.responses.create(model="m", input="@@ fail server_error boom")
    assert failed.status == "failed"
    assert failed.error is not None
    assert failed.error.code == "server_error"
    assert client.responses.retrieve(failed.id).status == "failed"


def test_models_are_listed(client: OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert "scripted" in names
    assert client.models.retrieve("scripted").id == "scripted"


def test_input_items_are_paged(client: OpenAI) -> None:
    given: Any = [{"role": "user", "content": f"n{n}"} for n in range(5)] + [{"role": "user", "content": "@@ say x"}]
    response = client.responses.create(model="m", input=given)
    newest_first = [json.dumps(i.to_dict()) for i in client.responses.input_items.list(response.id, limit=2)]
    oldest_first = [json.dumps(i.to_dict()) for i in client.responses.input_items.list(response.id, order="asc")]
    assert len(newest_first) == 6
    assert newest_first == oldest_first[::-1]
    assert "n0" in oldest_first[0]


def test_a_frame_is_one_line_for_whatever_splits_lines(http: httpx2.Client) -> None:
    text = "a\x85b\u2028c\u2029d"
    body = {"model": "m", "input": f"@@ say {text}", "stream": True}
    with http.stream("POST", "/v1/responses", json=body) as answer:
        raw = answer.read().decode()
    frames = [json.loads(line.removeprefix("data: ")) for line in raw.splitlines() if line.startswith("data: ")]
    said = [frame["text"] for frame in frames if frame["type"] == "response.output_text.done"]
    assert said == [text]
