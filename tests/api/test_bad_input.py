"""Bad input is a 4xx in OpenAI's error shape with the right `param` and `code`; nothing is stored, never a 500."""

from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ..conftest import Launch, Server

TEXT = {"model": "m", "input": "@@ say x"}
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c", "output": "x"}


def error_of(answer: httpx2.Response) -> dict[str, Any]:
    assert answer.headers["x-request-id"].startswith("req_")
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return dict(error)


@pytest.mark.parametrize(
    ("body", "status", "param", "code"),
    [
        ({"input": "x"}, 400, "model", "missing_required_parameter"),
        ({"model": "m"}, 400, "input", "missing_required_parameter"),
        ({**TEXT, "surprise": 1}, 400, "surprise", "unknown_parameter"),
        ({**TEXT, "temperature": "hot"}, 400, "temperature", "invalid_type"),
        ({**TEXT, "max_output_tokens": 1}, 400, "max_output_tokens", "integer_below_min_value"),
        ({**TEXT, "previous_response_id": "resp_nope"}, 400, "previous_response_id", "previous_response_not_found"),
        (
            {**TEXT, "previous_response_id": "resp_x", "conversation": "conv_x"},
            400,
            "previous_response_id",
            "mutually_exclusive_parameters",
        ),
        ({**TEXT, "stream_options": {"include_obfuscation": False}}, 400, "stream_options", "invalid_value"),
        ({"model": "m", "input": [OUTPUT]}, 400, "input", None),
        ({"model": "m", "input": [CALL]}, 400, "input", None),
        ({"model": "m", "input": [{"type": "item_reference", "id": "msg_nope"}]}, 404, "input[0].id", None),
        ({"model": "m", "input": [{"role": "user", "content": [{"type": "input_text"}]}]}, 400, None, None),
        (
            {"model": "m", "input": [{"role": "user", "content": [{"type": "input_image", "file_id": "file-nope"}]}]},
            404,
            "input[0].content[0].file_id",
            None,
        ),
        ({**TEXT, "tools": [{"type": "function"}]}, 400, "tools[0].name", "missing_required_parameter"),
        (
            {**TEXT, "tools": [{"type": "function", "name": "f"}, {"type": "function", "name": "f"}]},
            400,
            "tools[1].name",
            "invalid_value",
        ),
        ({**TEXT, "tool_choice": {"type": "function", "name": "f"}}, 400, "tool_choice", "invalid_value"),
        ({**TEXT, "tool_choice": "perhaps"}, 400, "tool_choice", "invalid_value"),
        (
            {**TEXT, "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "odd"}}}},
            400,
            "text.format.schema",
            "invalid_json_schema",
        ),
        (
            {**TEXT, "tools": [{"type": "shell", "environment": {"type": "container_auto", "memory_limit": "64g"}}]},
            400,
            "tools[0].environment.memory_limit",
            "invalid_value",
        ),
        (
            {**TEXT, "tools": [{"type": "shell", "environment": {"type": "container_auto", "file_ids": ["file-no"]}}]},
            404,
            "tools[0].environment.file_ids[0]",
            None,
        ),
        (
            {
                **TEXT,
                "tools": [{"type": "shell", "environment": {"type": "container_reference", "container_id": "no"}}],
            },
            404,
            None,
            None,
        ),
    ],
)
def test_a_bad_request_is_refused(
    http: httpx2.Client, body: dict[str, Any], status: int, param: str | None, code: str | None
) -> None:
    answer = http.post("/v1/responses", json=body)
    error = error_of(answer)
    assert answer.status_code == status, error
    if param is not None:
        assert error["param"] == param
    if code is not None:
        assert error["code"] == code


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"model": "m", "input": "\xff"}', b"[" * 100_000]
)
def test_a_body_that_is_not_a_json_object_is_refused(http: httpx2.Client, content: bytes) -> None:
    answer = http.post("/v1/responses", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    error_of(answer)


def test_an_oversized_body_is_refused(launch: Launch) -> None:
    with launch(max_body_bytes="1000").http() as http:
        assert http.post("/v1/responses", json=TEXT).status_code == 200
        declared = http.post("/v1/responses", json={**TEXT, "instructions": "x" * 2000})
        assert declared.status_code == 413
        error_of(declared)

        def chunks() -> Any:
            yield b'{"model": "m", "input": "'
            yield from [b"x" * 500] * 10

        chunked = http.post("/v1/responses", content=chunks())
        assert chunked.status_code == 413


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/responses/resp_nope"),
        ("DELETE", "/v1/responses/resp_nope"),
        ("POST", "/v1/responses/resp_nope/cancel"),
        ("GET", "/v1/responses/resp_nope/input_items"),
        ("GET", "/v1/containers/cntr_nope"),
        ("DELETE", "/v1/containers/cntr_nope"),
        ("GET", "/v1/containers/cntr_nope/files"),
        ("GET", "/v1/containers/cntr_nope/files/cfile_nope"),
        ("GET", "/v1/containers/cntr_nope/files/cfile_nope/content"),
        ("DELETE", "/v1/containers/cntr_nope/files/cfile_nope"),
        ("GET", "/v1/files/file-nope"),
        ("GET", "/v1/files/file-nope/content"),
        ("DELETE", "/v1/files/file-nope"),
        ("GET", "/v1/nothing/here"),
        ("GET", "/nothing"),
        ("GET", "/v1/containers/..%2f..%2fetc/files"),
    ],
)
def test_what_is_not_there_is_a_404(http: httpx2.Client, method: str, path: str) -> None:
    answer = http.request(method, path)
    assert answer.status_code == 404
    error_of(answer)


@pytest.mark.parametrize(
    ("query", "param"),
    [("limit=0", "limit"), ("limit=101", "limit"), ("limit=x", "limit"), ("order=up", "order"), ("after=no", None)],
)
def test_bad_pages_are_refused(http: httpx2.Client, query: str, param: str | None) -> None:
    answer = http.get(f"/v1/containers?{query}")
    assert answer.status_code in {400, 404}
    error = error_of(answer)
    if param is not None:
        assert error["param"] == param


def test_a_refused_request_stores_nothing(launch: Launch) -> None:
    server = launch()
    with server.http() as http:
        for body in ({**TEXT, "surprise": 1}, {"model": "m", "input": [CALL]}, {"model": "m"}):
            assert http.post("/v1/responses", json=body).status_code == 400
    import sqlite3

    with sqlite3.connect(server.data_dir / "deskhand.sqlite") as database:
        assert database.execute("select count(*) from responses").fetchone() == (0,)
    database.close()


def test_the_method_must_fit(http: httpx2.Client) -> None:
    answer = http.put("/v1/responses")
    assert answer.status_code == 405
    error_of(answer)


def test_a_websocket_upgrade_is_answered_426(http: httpx2.Client) -> None:
    headers = {
        "connection": "upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    answer = http.get("/v1/responses", headers=headers)
    assert answer.status_code == 426
    error_of(answer)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)
FIELDS = ["input", "tools", "tool_choice", "text", "reasoning", "metadata", "include", "stream", "previous_response_id"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=3), st.sampled_from(["message", "shell_call", "x", None])
)
def test_no_body_is_answered_with_a_5xx(server: Server, body: dict[str, Any], kind: str | None) -> None:
    body = {"model": "m", "input": "@@ say x", **body}
    if isinstance(body["input"], dict):
        body["input"] = [{"type": kind, **body["input"]}]
    with server.http() as http, http.stream("POST", "/v1/responses", json=body) as answer:
        answer.read()
        assert answer.status_code < 500
        if answer.status_code >= 400:
            error_of(answer)
