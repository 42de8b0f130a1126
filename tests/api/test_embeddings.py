"""Embeddings through the real SDK: the upstream's vectors, however they are asked for, and what it was asked."""

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from openai import APIStatusError, BadRequestError, NotFoundError, OpenAI

from deskhand.testing.upstream import Faults, Status
from deskhand.testing.upstream_embeddings import vector

from ..conftest import Launch
from .heard import Heard

Json = dict[str, Any]


@pytest.fixture(scope="module")
def sdk(heard: Heard) -> OpenAI:
    return heard.server.client()


@pytest.fixture(autouse=True)
def _no_faults(heard: Heard) -> Iterator[None]:
    yield
    heard.upstream.faults = Faults()


def close(one: list[float], other: list[float]) -> bool:
    """Whether two vectors are the same in single precision."""
    return len(one) == len(other) and all(math.isclose(a, b, rel_tol=1e-6) for a, b in zip(one, other, strict=True))


def test_vectors_of_texts(heard: Heard, sdk: OpenAI) -> None:
    texts = ["the cat sat", "a dog", "the cat ran"]
    found = sdk.embeddings.create(model="text-embedding-3-small", input=texts)
    assert found.model == "text-embedding-3-small"
    assert [one.index for one in found.data] == [0, 1, 2]
    assert all(close(one.embedding, vector(text)) for one, text in zip(found.data, texts, strict=True))
    assert found.usage.prompt_tokens == found.usage.total_tokens == 8
    assert heard.upstream.requests[-1].body == {"model": "scripted", "input": texts}
    assert heard.upstream.requests[-1].path == "/v1/embeddings"


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_both_encodings_say_the_same(heard: Heard, encoding: str) -> None:
    body = {"model": "m", "input": "the cat sat", "encoding_format": encoding, "dimensions": 8}
    found = heard.http.post("/v1/embeddings", json=body).json()
    [one] = found["data"]
    assert isinstance(one["embedding"], str if encoding == "base64" else list)
    sdk = heard.server.client()
    read = sdk.embeddings.create(**body)  # type: ignore[arg-type]
    if encoding == "float":
        assert close(read.data[0].embedding, vector("the cat sat", 8))
    decoded = sdk.embeddings.create(model="m", input="the cat sat", dimensions=8)
    assert close(decoded.data[0].embedding, vector("the cat sat", 8))


def test_many_texts_keep_their_order(heard: Heard, sdk: OpenAI) -> None:
    texts = [f"text number {number}" for number in range(300)]
    before = len(heard.upstream.requests)
    found = sdk.embeddings.create(model="m", input=texts)
    assert all(close(one.embedding, vector(text)) for one, text in zip(found.data, texts, strict=True))
    assert found.usage.total_tokens == 900
    assert len(heard.upstream.requests) - before == 5


def test_tokens_instead_of_texts(heard: Heard, sdk: OpenAI) -> None:
    assert close(sdk.embeddings.create(model="m", input=[1, 2, 3]).data[0].embedding, vector([1, 2, 3]))
    assert len(sdk.embeddings.create(model="m", input=[[1, 2], [3]]).data) == 2


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input": None}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": ["a", 1]}, "input[1]"),
        ({"input": [["a"]]}, "input[0]"),
        ({"input": [True]}, "input[0]"),
        ({"input": [-1]}, "input[0]"),
        ({"input": [{}]}, "input[0]"),
        ({"input": ["x"] * 2049}, "input"),
        ({"input": "x" * ((1 << 20) + 1)}, "input"),
        ({"input": ["x" * (1 << 20)] * 17}, "input"),
        ({"model": None}, "model"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": 10**9}, "dimensions"),
        ({"dimensions": "8"}, "dimensions"),
    ],
)
def test_what_is_wrong_is_named(heard: Heard, change: Json, param: str) -> None:
    before = len(heard.upstream.requests)
    answer = heard.http.post("/v1/embeddings", json={"model": "m", "input": "x", **change})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param
    assert len(heard.upstream.requests) == before


def test_deep_json_is_refused(heard: Heard) -> None:
    content = '{"model": "m", "input": ' + "[" * 500 + "]" * 500 + "}"
    assert heard.http.post("/v1/embeddings", content=content).status_code == 400


def test_an_upstream_without_embeddings(heard: Heard, sdk: OpenAI) -> None:
    before = len(heard.upstream.requests)
    heard.upstream.faults = Faults(statuses=[Status(404)] * (before + 1))
    with pytest.raises(NotFoundError, match="No upstream serves embeddings") as caught:
        sdk.embeddings.create(model="m", input="x")
    assert caught.value.code == "model_not_found"
    assert len(heard.upstream.requests) == before + 1


def test_the_offline_model_has_none(launch: Launch) -> None:
    client = launch(upstream=None).client()
    with pytest.raises(NotFoundError, match="No upstream serves embeddings"):
        client.embeddings.create(model="demo", input="x")


def test_a_failure_that_passes_is_tried_again(heard: Heard, sdk: OpenAI) -> None:
    done = [Status(200)] * len(heard.upstream.requests)
    heard.upstream.faults = Faults(statuses=[*done, Status(503)])
    assert close(sdk.embeddings.create(model="m", input="x").data[0].embedding, vector("x"))


@pytest.mark.parametrize("status", [400, 401, 500])
def test_a_failure_that_stays_is_told(heard: Heard, sdk: OpenAI, status: int) -> None:
    heard.upstream.faults = Faults(statuses=[Status(status, message="no vectors")] * (len(heard.upstream.requests) + 3))
    with pytest.raises(APIStatusError, match="no vectors") as caught:
        sdk.embeddings.create(model="m", input="x")
    assert caught.value.status_code == (400 if status == 400 else 502)


@pytest.mark.parametrize(
    "answer",
    [
        {"data": []},
        {"data": [{"embedding": [1.0]}, {"embedding": [1.0]}]},
        {"data": [{"embedding": []}]},
        {"data": [{"embedding": [1.0] * 20_000}]},
        {"data": [{"embedding": "not base64!"}]},
        {"data": [{"embedding": ["one"]}]},
        {"data": [{"embedding": [1e300]}]},
        {"data": {"embedding": 7}},
        {"error": {"message": "broken"}},
        [1],
    ],
)
def test_an_upstream_that_sends_something_else(heard: Heard, sdk: OpenAI, answer: Any) -> None:
    heard.upstream.faults = Faults(raw=json.dumps(answer).encode(), raw_type="application/json")
    with pytest.raises(APIStatusError) as caught:
        sdk.embeddings.create(model="m", input="x")
    assert caught.value.status_code == 502


def test_an_upstream_that_answers_in_base64(heard: Heard, sdk: OpenAI) -> None:
    answer = {"data": [{"embedding": "AACAPwAAAEA=", "index": 0}]}
    heard.upstream.faults = Faults(raw=json.dumps(answer).encode(), raw_type="application/json")
    assert sdk.embeddings.create(model="m", input="x").data[0].embedding == [1.0, 2.0]


def test_a_model_that_makes_no_vectors_of_the_size_that_was_asked_for(heard: Heard, sdk: OpenAI) -> None:
    """Many servers leave `dimensions` out of account; a client's column has a size."""
    heard.upstream.faults = Faults(raw=b'{"data": [{"embedding": [1.0, 2.0]}]}', raw_type="application/json")
    with pytest.raises(BadRequestError, match="2 dimensions only") as caught:
        sdk.embeddings.create(model="m", input="x", dimensions=1)
    assert caught.value.param == "dimensions"
    assert sdk.embeddings.create(model="m", input="x", dimensions=2).data[0].embedding == [1.0, 2.0]


def test_vectors_of_different_lengths_are_refused(heard: Heard, sdk: OpenAI) -> None:
    answer = {"data": [{"embedding": [1.0]}, {"embedding": [1.0, 2.0]}]}
    heard.upstream.faults = Faults(raw=json.dumps(answer).encode(), raw_type="application/json")
    with pytest.raises(APIStatusError, match="different lengths"):
        sdk.embeddings.create(model="m", input=["x", "y"])
    with pytest.raises(BadRequestError):
        sdk.embeddings.create(model="m", input=[])
