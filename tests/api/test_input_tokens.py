"""Counting the tokens of a request before it is made: against what the upstream then reports."""

from typing import Any

import httpx2
import openai
import pytest

from .heard import Heard

Json = dict[str, Any]
HOSTED: Json = {"type": "shell", "environment": {"type": "container_auto"}}
PNG = "data:image/png;base64,iVBORw0KGgo="
TEXT = "The quick brown fox jumps over the lazy dog. "


def function(name: str) -> Json:
    described = {"x": {"type": "string", "description": TEXT * 20}}
    return {"type": "function", "name": name, "parameters": {"type": "object", "properties": described}}


def count(heard: Heard, **body: Any) -> int:
    counted = heard.server.client().responses.input_tokens.count(**body)
    assert counted.object == "response.input_tokens"
    return counted.input_tokens


def test_the_count_is_near_what_the_upstream_reports(heard: Heard) -> None:
    body: Json = {
        "model": "gpt-5.6",
        "instructions": TEXT * 10,
        "input": [{"role": "user", "content": TEXT * 100}, {"role": "user", "content": "@@ say ok"}],
        "tools": [function("a"), HOSTED],
    }
    before = len(heard.upstream.requests)
    counted = count(heard, **body)
    assert len(heard.upstream.requests) == before
    response, _ = heard.ask(**body)
    reported = response["usage"]["input_tokens"]
    # Others have asked this upstream before, and what it reported of theirs is learnt from as well.
    assert reported / 2 < counted < reported * 2
    # What was reported is learnt from: the longer it serves a model, the nearer it counts.
    for _ in range(12):
        heard.ask(**body)
    assert abs(count(heard, **body) - reported) < 0.1 * reported


def test_everything_that_the_model_would_read_counts(heard: Heard) -> None:
    bare = count(heard, model="gpt-5.6", input="hello")
    assert 1 <= bare < 100
    image = [{"role": "user", "content": [{"type": "input_image", "image_url": PNG, "detail": "auto"}]}]
    low = [{"role": "user", "content": [{"type": "input_image", "image_url": PNG, "detail": "low"}]}]
    assert count(heard, model="gpt-5.6", input=image) > 765 > count(heard, model="gpt-5.6", input=low) > 85
    for more in ({"instructions": TEXT * 50}, {"tools": [function("a")]}, {"tools": [HOSTED]}):
        assert count(heard, model="gpt-5.6", input="hello", **more) > bare + 100
    first, _ = heard.ask(input=[{"role": "user", "content": TEXT * 100}, {"role": "user", "content": "@@ say ok"}])
    chained = count(heard, model="gpt-5.6", input="hello", previous_response_id=first["id"])
    assert chained > bare + 400
    assert count(heard, model="gpt-5.6") < bare
    assert count(heard, input="hello") > 1


def test_counting_makes_no_container(heard: Heard) -> None:
    client = heard.server.client()
    before = {container.id for container in client.containers.list(limit=100)}
    count(heard, model="gpt-5.6", input="hello", tools=[HOSTED])
    assert {container.id for container in client.containers.list(limit=100)} == before


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"model": "m", "input": "x", "stream": True}, 400, "stream"),
        ({"model": "m", "previous_response_id": "resp_none"}, 400, "previous_response_id"),
        ({"model": "m", "input": [{"type": "message"}]}, 400, "input[0].role"),
        ({"model": "m", "input": "x", "tools": [{"type": "function"}]}, 400, "tools[0].name"),
        ({"model": "m", "input": "x", "tool_choice": "never"}, 400, "tool_choice"),
    ],
)
def test_what_it_refuses(http: httpx2.Client, body: Json, status: int, param: str) -> None:
    answer = http.post("/v1/responses/input_tokens", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)


def test_it_needs_a_key(heard: Heard) -> None:
    with pytest.raises(openai.AuthenticationError):
        heard.server.client("sk-wrong").responses.input_tokens.count(model="gpt-5.6", input="x")
