"""Bad input is a 4xx in OpenAI's error shape with the right `param` and `code`; nothing is stored, never a 500."""

import json
import socket
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deskhand.wire.request import CreateResponse

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
            {
                **TEXT,
                "text": {"format": {"type": "json_schema", "name": "n", "schema": {"$ref": "file:///etc/passwd"}}},
            },
            400,
            "text.format.schema",
            "invalid_json_schema",
        ),
        (
            {**TEXT, "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}]},
            400,
            "tools[0].parameters",
            "invalid_function_parameters",
        ),
        (
            {**TEXT, "tools": [{"type": "function", "name": "f", "parameters": {"type": "odd"}}]},
            400,
            "tools[0].parameters",
            "invalid_function_parameters",
        ),
        ({**TEXT, "service_tier": "gold"}, 400, "service_tier", "invalid_value"),
        ({**TEXT, "moderation": {"model": "m"}}, 400, "moderation", "unsupported_parameter"),
        ({**TEXT, "include": ["everything"]}, 400, "include[0]", "invalid_value"),
        ({**TEXT, "metadata": {"k": 1}}, 400, "metadata", "invalid_type"),
        ({**TEXT, "background": True, "store": False}, 400, "background", "invalid_value"),
        (
            {"model": "m", "input": [{"role": "user", "content": [{"type": "input_image", "image_url": "ftp://x"}]}]},
            400,
            "input[0].content[0].image_url",
            "invalid_value",
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


def test_a_body_of_very_many_values_is_refused(http: httpx2.Client) -> None:
    def asked(piece: bytes, size: int) -> httpx2.Response:
        body = b'{"model": "m", "input": "hi", "stop": [' + piece * (size // len(piece)) + b"1]}"
        return http.post("/v1/responses", content=body, headers={"content-type": "application/json"})

    read = asked(b'"' + b"a" * 1000 + b'",', 24 << 20)
    assert (read.status_code, error_of(read)["param"]) == (400, "stop"), "it was read, and is none"
    refused = asked(b"[],", 24 << 20)
    assert refused.status_code == 413
    assert "more than 8000000 values" in refused.text


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
    with server.rows() as rows:
        assert rows.execute("select count(*) from responses").fetchone() == (0,)


def test_the_method_must_fit(http: httpx2.Client) -> None:
    answer = http.put("/v1/responses")
    assert answer.status_code == 405
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


def test_a_schema_cannot_make_the_server_read_or_call(http: httpx2.Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.3)
        schema = {"$ref": f"http://127.0.0.1:{listener.getsockname()[1]}/schema.json"}
        form = {"type": "json_schema", "name": "n", "schema": schema}
        assert http.post("/v1/responses", json={**TEXT, "text": {"format": form}}).status_code == 400
        with pytest.raises(TimeoutError):
            listener.accept()


@pytest.mark.parametrize(
    "wrong",
    [
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-nope"}]}]},
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_data": "data:,x"}]}]},
        {"tools": [{"type": "function", "name": "f"}, {"type": "function", "name": "f"}]},
    ],
)
def test_a_refused_request_puts_nothing_in_the_container(http: httpx2.Client, wrong: dict[str, Any]) -> None:
    container = http.post("/v1/containers", json={"name": "n"}).json()["id"]
    shell = {"type": "shell", "environment": {"type": "container_reference", "container_id": container}}
    good = {"type": "input_file", "filename": "good.txt", "file_data": "data:text/plain;base64,aGk="}
    body = {
        "model": "m",
        "input": [{"role": "user", "content": [good]}, *wrong.get("input", [])],
        "tools": [shell, *wrong.get("tools", [])],
    }
    assert http.post("/v1/responses", json=body).status_code in {400, 404}
    assert http.get(f"/v1/containers/{container}/files").json()["data"] == []


@pytest.mark.parametrize("depth", [400, 600, 900, 5000])
@pytest.mark.parametrize(
    "body",
    [
        {"tools": [{"type": "weird", "x": "DEEP"}]},
        {"tools": [{"type": "shell", "environment": {"type": "local", "skills": [{"x": "DEEP"}]}}]},
        {"tools": [{"type": "function", "name": "f", "parameters": {"type": "object", "x": "DEEP"}}]},
        {"input": [{"type": "weird", "x": "DEEP"}, {"role": "user", "content": "@@ say x"}]},
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "x", "annotations": "DEEP"}]}]},
    ],
)
def test_deep_nesting_is_served_or_refused(http: httpx2.Client, body: dict[str, Any], depth: int) -> None:
    deep = '{"a":' * depth + "1" + "}" * depth
    answer = http.post("/v1/responses", content=json.dumps({**TEXT, **body}).replace('"DEEP"', deep))
    assert answer.status_code in {200, 400}
    if answer.status_code == 200:
        assert answer.json()["status"] == "completed"


def test_the_wrong_method_is_told_the_right_ones(http: httpx2.Client) -> None:
    answer = http.put("/v1/files/file-x")
    assert answer.status_code == 405
    assert {"GET", "DELETE"} <= set(answer.headers["allow"].split(", "))
    assert http.head("/v1/models").status_code == 200


def test_nulls_stand_for_what_is_left_out(http: httpx2.Client) -> None:
    optional = [name for name in CreateResponse.__struct_fields__ if name not in {"model", "input"}]
    answer = http.post("/v1/responses", json={**TEXT, **dict.fromkeys(optional)})
    assert answer.status_code == 200, answer.text
    tools = [
        {"type": "function", "name": "f", "description": None, "parameters": None, "strict": None},
        {"type": "custom", "name": "c", "description": None, "format": None, "allowed_callers": None},
        {"type": "shell", "environment": {"type": "local", "skills": None}},
    ]
    nested = {"text": {"format": None, "verbosity": None}, "reasoning": {"effort": None}, "tools": tools}
    answer = http.post("/v1/responses", json={**TEXT, **nested})
    assert answer.status_code == 200, answer.text
    auto = {"type": "container_auto", "file_ids": None, "memory_limit": None, "network_policy": None, "skills": None}
    answer = http.post("/v1/responses", json={**TEXT, "tools": [{"type": "shell", "environment": auto}]})
    assert answer.status_code == 200, answer.text


def test_bodies_that_sdks_send_without_need_are_ignored(http: httpx2.Client) -> None:
    created = http.post("/v1/responses", json=TEXT).json()["id"]
    headers = {"content-type": "application/json", "accept": "*/*", "x-stainless-lang": "python"}
    cancelled = http.post(f"/v1/responses/{created}/cancel", headers=headers)
    assert cancelled.json()["error"]["message"] == "Cannot cancel a synchronous response."
    deleted = http.request("DELETE", f"/v1/responses/{created}", headers=headers)
    assert deleted.json() == {"id": created, "object": "response", "deleted": True}
