"""Requests that Schemathesis makes up from our own OpenAPI document: none is a 5xx, and every answer is as described.

What it sends is right in form and mostly meaningless, or wrong in one place. `make contract` tries many more of them.
"""

import os
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from deskhand.api.operations import OPERATIONS, Operation

from ..conftest import KEY, Server, launched

EXAMPLES = int(os.environ.get("DESKHAND_TEST_EXAMPLES", "4"))
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
FOLDER = {"files[]": ("s/SKILL.md", b"---\nname: s\ndescription: d\n---\n", "text/markdown")}

Ids = Mapping[str, Mapping[str, str]]
"""The parameters of paths that lead to things that are there, by the name of the collection."""


@pytest.fixture(scope="module")
def contract_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the built-in model, as what it makes of nonsense costs nothing."""
    data = tmp_path_factory.mktemp("contract") / "data"
    with launched(data, None, model_aliases="*=demo", websocket_seconds="30") as running:
        yield running


@pytest.fixture(scope="module")
def described(contract_server: Server) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_url(f"{contract_server.url}/openapi.json")


@pytest.fixture(scope="module")
def ids(contract_server: Server) -> Ids:
    """One thing of each kind."""
    with contract_server.http() as http:

        def made(path: str, **body: object) -> str:
            answer = http.post(f"/v1/{path}", json=body)
            assert answer.status_code == 200, answer.text
            return str(answer.json()["id"])

        response = made("responses", model="m", input="hello", background=True, stream=False)
        container = made("containers", name="c")
        file = http.post("/v1/files", files={"file": ("a.txt", b"a")}, data={"purpose": "user_data"}).json()["id"]
        skill = http.post("/v1/skills", files=FOLDER).json()["id"]
        conversation = made("conversations", items=[{"role": "user", "content": "hi"}])
        (item,) = http.get(f"/v1/conversations/{conversation}/items").json()["data"]
        chat = made("chat/completions", model="m", messages=[{"role": "user", "content": "hi"}], store=True)
        span = {"object": "trace.span", "id": "span_1", "trace_id": "trace_1", "span_data": {"response_id": response}}
        assert http.post("/v1/traces/ingest", json={"data": [span]}).status_code == 200
        return {
            "responses": {"id": response},
            "containers": {"id": container, "file_id": made(f"containers/{container}/files", file_id=file)},
            "files": {"id": file},
            "uploads": {
                "id": made("uploads", filename="u", purpose="user_data", bytes=1, mime_type="text/plain"),
            },
            "skills": {"id": skill, "version": "1"},
            "conversations": {"id": conversation, "item_id": str(item["id"])},
            "chat": {"id": chat},
            "traces": {"id": "trace_1"},
            "vector_stores": {"id": made("vector_stores", name="v"), "file_id": file},
            "models": {"id": "demo"},
        }


def cases() -> Iterator[tuple[Operation, GenerationMode]]:
    """Every operation, asked well and wrongly, if there is anything to ask wrongly."""
    for operation in OPERATIONS.values():
        yield operation, GenerationMode.POSITIVE
        if operation.bodies or operation.query or "{" in operation.path:
            yield operation, GenerationMode.NEGATIVE


def named(part: Operation | GenerationMode) -> str:
    return f"{part.method} {part.path}" if isinstance(part, Operation) else part.value


@pytest.mark.parametrize(("operation", "mode"), list(cases()), ids=named)
@pytest.mark.filterwarnings("ignore")  # of what Schemathesis is built on
def test_no_request_breaks_the_contract(
    described: schemathesis.BaseSchema, ids: Ids, operation: Operation, mode: GenerationMode
) -> None:
    there = ids.get(operation.path.removeprefix("/v1/").split("/")[0], {})
    headers = {"authorization": f"Bearer {KEY}"}

    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(case=described[operation.path][operation.method].as_strategy(generation_mode=mode))
    def try_it(case: "schemathesis.Case[Any]") -> None:
        case.call_and_validate(headers=headers, checks=CHECKS, timeout=30)
        if there and "{id}" in operation.path and operation.method != "DELETE":
            case.path_parameters = {**case.path_parameters, **there}
            case.call_and_validate(headers=headers, checks=CHECKS, timeout=30)

    try_it()
