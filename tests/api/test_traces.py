"""Traces of clients: taken in as the Agents SDK sends them, found by the response that they belong to."""

from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import OpenAI

from ..conftest import Launch

Json = dict[str, Any]

DEEP = '{"data":[{"object":"trace","id":"t","metadata":' + '{"a":' * 100_000 + "1" + "}" * 100_000 + "}]}"


def told(http: httpx2.Client, *entries: Json) -> httpx2.Response:
    return http.post("/v1/traces/ingest", json={"data": entries}, headers={"openai-beta": "traces=v1"})


def trace(id_: str, **more: Any) -> Json:
    """As openai-agents 0.24 sends it."""
    return {
        "object": "trace",
        "id": id_,
        "workflow_name": "Agent workflow",
        "group_id": None,
        "metadata": None,
        **more,
    }


def span(trace_id: str, id_: str, parent: str | None, data: Json) -> Json:
    """As openai-agents 0.24 sends it."""
    return {
        "object": "trace.span",
        "id": id_,
        "trace_id": trace_id,
        "parent_id": parent,
        "started_at": "2026-11-21T10:00:00.000000+00:00",
        "ended_at": "2026-11-21T10:00:01.000000+00:00",
        "span_data": data,
        "error": None,
    }


def test_a_trace_is_found_by_the_response_that_it_tells_of(client: OpenAI, http: httpx2.Client) -> None:
    response = client.responses.create(model="m", input="@@ say hello")
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    agent = {"type": "agent", "name": "A", "handoffs": [], "tools": ["shell"], "output_type": "str"}
    answer = told(
        http,
        # The SDK sends spans as they end, so the inner one and even the trace may come in any order.
        span("trace_a", "span_2", "span_1", {"type": "response", "response_id": response.id, "usage": usage}),
        span("trace_a", "span_1", None, agent),
        trace("trace_a", group_id="thread-1", metadata={"customer": "7"}),
        trace("trace_b"),
    )
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"object": "trace.ingest", "traces": 2, "spans": 2, "ignored": 0}

    by_response = http.get("/v1/traces", params={"response_id": response.id}).json()
    by_group = http.get("/v1/traces", params={"group_id": "thread-1"}).json()
    assert [found["id"] for found in by_response["data"]] == ["trace_a"]
    assert by_response == by_group
    one = http.get("/v1/traces/trace_a").json()
    assert one == by_response["data"][0]
    assert (one["workflow_name"], one["metadata"]) == ("Agent workflow", {"customer": "7"})

    spans = http.get("/v1/traces/trace_a/spans").json()
    assert [(found["id"], found["parent_id"], found["response_id"]) for found in spans["data"]] == [
        ("span_2", "span_1", response.id),
        ("span_1", None, None),
    ]
    assert spans["data"][0]["span_data"]["usage"] == usage
    assert [found["id"] for found in http.get("/v1/traces", params={"limit": 100}).json()["data"]][-2:] == [
        "trace_b",
        "trace_a",
    ]

    assert http.delete("/v1/traces/trace_a").json() == {"id": "trace_a", "object": "trace.deleted", "deleted": True}
    assert http.get("/v1/traces/trace_a").status_code == 404
    assert http.get("/v1/traces/trace_a/spans").status_code == 404
    assert http.delete("/v1/traces/trace_a").status_code == 404


def test_nothing_is_kept_of_a_batch_that_is_refused(http: httpx2.Client) -> None:
    answer = told(http, trace("trace_refused"), {"object": "trace.span", "id": "span_1"})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "data[1].trace_id"
    assert http.get("/v1/traces/trace_refused").status_code == 404
    assert told(http, trace("trace_refused")).status_code == 200
    assert http.get("/v1/traces/trace_refused").status_code == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ("{}", "data"),
        ('{"data": 1}', "data"),
        ('{"data": [1]}', "data[0]"),
        ('{"data": [' + ",".join(['{"object":"trace","id":"t"}'] * 2001) + "]}", "data"),
        (DEEP, None),
    ],
)
def test_what_is_no_batch_is_a_400(http: httpx2.Client, body: str, param: str | None) -> None:
    answer = http.post("/v1/traces/ingest", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert told(http).status_code == 200


def test_another_projects_traces_do_not_exist(launch: Launch, tmp_path: Path) -> None:
    config = tmp_path / "deskhand.toml"
    config.write_text('[[keys]]\nkey = "sk-a"\nproject = "proj_a"\n[[keys]]\nkey = "sk-b"\nproject = "proj_b"\n')
    server = launch(config=str(config), api_key="", engine="none")
    with server.http("sk-a") as a, server.http("sk-b") as b:
        response = {"type": "response", "response_id": "resp_1"}
        assert told(a, trace("trace_1"), span("trace_1", "span_1", None, response)).status_code == 200
        assert a.get("/v1/traces", params={"response_id": "resp_1"}).json()["data"] != []
        assert b.get("/v1/traces", params={"response_id": "resp_1"}).json()["data"] == []
        for path in ("/v1/traces/trace_1", "/v1/traces/trace_1/spans"):
            assert (a.get(path).status_code, b.get(path).status_code) == (200, 404)
        assert b.delete("/v1/traces/trace_1").status_code == 404
        assert told(b, trace("trace_1", workflow_name="B")).status_code == 200
        assert a.get("/v1/traces/trace_1").json()["workflow_name"] == "Agent workflow"
