"""Requests that Schemathesis makes up from our own OpenAPI document, and from what OpenAI's SDK knows of its API.

None is a 5xx, and every answer is as described. What it sends is right in form and mostly meaningless, or wrong in one
place. `make contract` tries many more of them.
"""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from deskhand.api.operations import OPERATIONS, Operation

from ..conftest import KEY, Server, launched
from ..coverage import SURFACE, bare
from ..sdk_contract import document

EXAMPLES = int(os.environ.get("DESKHAND_TEST_EXAMPLES", "4"))
CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance]
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
def theirs(contract_server: Server) -> schemathesis.BaseSchema:
    schema = schemathesis.openapi.from_dict(document(OPERATIONS))
    schema.config.update(base_url=contract_server.url)
    return schema


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


def shared() -> Iterator[Operation]:
    """Every operation of OpenAI's that there is here."""
    theirs = {bare(endpoint) for group in json.loads(SURFACE.read_text())["endpoints"].values() for endpoint in group}
    for (method, path), operation in OPERATIONS.items():
        if bare(f"{method} {path}") in theirs:
            yield operation


def named(part: Operation | GenerationMode) -> str:
    return f"{part.method} {part.path}" if isinstance(part, Operation) else part.value


@pytest.mark.parametrize(("operation", "mode"), list(cases()), ids=named)
@pytest.mark.filterwarnings("ignore")  # of what Schemathesis is built on
def test_no_request_breaks_the_contract(
    described: schemathesis.BaseSchema, ids: Ids, operation: Operation, mode: GenerationMode
) -> None:
    made_up = described[operation.path][operation.method].as_strategy(generation_mode=mode)
    keeps_to(made_up, [*CHECKS, status_code_conformance], there(ids, operation))


@pytest.mark.parametrize("operation", list(shared()), ids=named)
@pytest.mark.filterwarnings("ignore")  # of what Schemathesis is built on
def test_no_request_that_the_sdk_can_make_breaks_its_contract(
    theirs: schemathesis.BaseSchema, ids: Ids, operation: Operation
) -> None:
    made_up = theirs[operation.path][operation.method].as_strategy(generation_mode=GenerationMode.POSITIVE)
    keeps_to(made_up, CHECKS, there(ids, operation))


def there(ids: Ids, operation: Operation) -> Mapping[str, str]:
    """What leads to something that is there, if the path takes it and it shall stay."""
    if "{id}" not in operation.path or operation.method == "DELETE":
        return {}
    return ids.get(operation.path.removeprefix("/v1/").split("/")[0], {})


def keeps_to(made_up: SearchStrategy["schemathesis.Case[Any]"], checks: list[Any], known: Mapping[str, str]) -> None:
    """Try requests as they were made up, and with the parameters that are `known`."""
    headers = {"authorization": f"Bearer {KEY}"}

    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(case=made_up)
    def try_it(case: "schemathesis.Case[Any]") -> None:
        case.call_and_validate(headers=headers, checks=checks, timeout=30)
        if known:
            case.path_parameters = {**case.path_parameters, **known}
            case.call_and_validate(headers=headers, checks=checks, timeout=30)

    try_it()
