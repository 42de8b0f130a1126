"""The OpenAPI document: of every route that is served, and true of what is answered."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from jsonschema_rs import Draft202012Validator, meta
from openai import OpenAI

from deskhand.api.openapi import UNDESCRIBED
from deskhand.api.operations import OPERATIONS

from ..conftest import Server

Json = dict[str, Any]


@pytest.fixture(scope="module")
def document(http: httpx2.Client) -> Json:
    found: Json = http.get("/openapi.json").json()
    return found


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def test_every_route_is_described_and_nothing_else(document: Json) -> None:
    undescribed = [f"{method} {path}" for method, path, said in operations(document) if UNDESCRIBED in said]
    assert undescribed == [], "routes without an entry in api/operations.py"
    served = {(method, path) for method, path, _ in operations(document)}
    assert set(OPERATIONS) - served == set(), "entries in api/operations.py of routes that are not served"


def test_the_document_needs_no_key_and_is_the_same_under_v1(server: Server, http: httpx2.Client) -> None:
    with server.http(key=None) as anonymous:
        answer = anonymous.get("/openapi.json")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        assert anonymous.get("/v1/openapi.json").status_code == 401
    assert http.get("/v1/openapi.json").content == answer.content


def test_its_schemas_are_schemas_and_its_references_lead_somewhere(document: Json) -> None:
    for schema in document["components"]["schemas"].values():
        meta.validate(schema)
    known = {f"#/components/{kind}/{name}" for kind, named in document["components"].items() for name in named}
    assert set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(document))) <= known


def test_operations_have_ids_of_their_own_and_name_what_is_in_their_paths(document: Json) -> None:
    ids = [said["operationId"] for _, _, said in operations(document)]
    assert len(ids) == len(set(ids))
    for _, path, said in operations(document):
        in_path = [parameter["name"] for parameter in said["parameters"] if parameter["in"] == "path"]
        assert in_path == re.findall(r"\{(\w+)\}", path)


def test_what_is_answered_is_as_described(document: Json, client: OpenAI, http: httpx2.Client) -> None:
    """A response with tools and items of many kinds. Many more requests are tried by test_contract."""
    opaque = {"type": "web_search"}
    made = client.responses.create(
        model="m",
        input=[{"role": "user", "content": "@@ think hm\n@@ shell echo hi\n@@ say done"}],
        tools=[{"type": "shell", "environment": {"type": "container_auto"}}, opaque],  # type: ignore[list-item]
        metadata={"a": "b"},
    )
    root = {"$ref": "#/components/schemas/Response", "components": document["components"]}
    validator = Draft202012Validator(root)
    answer = http.get(f"/v1/responses/{made.id}").json()
    validator.validate(answer)
    assert not validator.is_valid({name: value for name, value in answer.items() if name != "usage"})
    assert not validator.is_valid({**answer, "output": [{"id": "without a type"}]})
    assert not validator.is_valid({**answer, "status": "done"})


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/assistants", "/v1/fine_tuning/jobs", "/v1/responses/x/y", "/v1/"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PUT"])
def test_an_unknown_path_is_openais_404(http: httpx2.Client, method: str, path: str) -> None:
    answer = http.request(method, path)
    assert answer.status_code == 404
    assert answer.json() == {
        "error": {
            "message": f"Invalid URL ({method} {path})",
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        }
    }
