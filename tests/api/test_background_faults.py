"""What goes wrong around runs: deleted under their readers, rows that cannot be read, kills in the middle of a call."""

import json
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import NotFoundError, OpenAI, RateLimitError

from deskhand.core.fold import fold
from deskhand.store.rows import stored_event
from deskhand.testing.upstream import Faults

from ..conftest import Launch, Server, launched
from ..rows import all_bytes
from .heard import listening
from .test_background import SHELL, data_of, ended, once, read

PYTHON: Any = {"type": "code_interpreter", "container": {"type": "auto"}}
PATCH: Any = {"type": "apply_patch", "environment": {"type": "container_auto"}}
FUNCTION: Any = {
    "type": "function",
    "name": "tool",
    "parameters": {"type": "object", "properties": {"a": {"type": "string"}}},
}
LONG = "x y z " * 60


def killed_at(server: Server, mark: bytes, **body: Any) -> list[bytes]:
    """Start a resumable run and kill its server at the first event with `mark`; the events that were read."""
    seen: list[bytes] = []
    fields = {"model": "m", "background": True, "stream": True, **body}
    with server.http() as http, http.stream("POST", "/v1/responses", json=fields) as answer:
        for data in data_of(answer):
            seen.append(data)
            if mark in data:
                break
        else:
            raise AssertionError(f"nothing with {mark!r}")
    time.sleep(0.5)
    server.process.kill()
    server.process.wait()
    return seen


def whole(server: Server, seen: list[bytes]) -> dict[str, Any]:
    """The response of a run that was killed, once it has ended; its stream is held against what was seen of it."""
    response_id = json.loads(seen[0])["response"]["id"]
    ended(server.client(), response_id)
    with server.http() as http:
        everything = read(http, response_id)
        response: dict[str, Any] = http.get(f"/v1/responses/{response_id}").json()
    assert everything[: len(seen)] == seen
    events = [stored_event(data.decode()) for data in everything]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.terminal for event in events].count(True) == 1
    assert json.loads(everything[-1])["response"] == response
    assert fold(events) == events[-1].fields["response"]
    return response


@pytest.mark.parametrize("background", [False, True])
def test_deleting_a_run_ends_it_and_the_streams_of_its_readers(
    client: OpenAI, http: httpx2.Client, background: bool
) -> None:
    body = {"model": "m", "input": "@@ shell echo begun; sleep 100", "tools": [SHELL], "stream": True}
    with http.stream("POST", "/v1/responses", json={**body, "background": background}, timeout=20) as answer:
        events = (json.loads(data) for data in data_of(answer))
        response_id = next(events)["response"]["id"]
        next(event for event in events if event["type"] == "response.shell_call_output_content.delta")
        client.responses.delete(response_id)
        *_, last = events
    assert last["type"] == "response.incomplete"
    assert last["response"]["status"] == "cancelled"
    with pytest.raises(NotFoundError):
        client.responses.cancel(response_id)


def test_a_row_that_cannot_be_read_stops_nobody_else(launch: Launch) -> None:
    first = launch()
    client = first.client()
    other, unreadable, good = (
        client.responses.create(model="m", input="@@ shell sleep 5\n@@ say good", tools=[SHELL], background=True).id
        for _ in range(3)
    )
    once(lambda: all(client.responses.retrieve(id_).output for id_ in (other, unreadable, good)))
    first.process.kill()
    first.process.wait()
    with first.rows() as rows:
        # As a newer or an older version may leave them.
        rows.execute("UPDATE responses SET request = ? WHERE id = ?", ('{"model": 5}', other))
        rows.execute("UPDATE items SET body = ? WHERE response_id = ?", ("[]", unreadable))
    second = launch().client()
    assert ended(second, good).output_text == "good"
    failed = ended(second, other)
    assert failed.status == "failed"
    assert second.responses.create(model="m", input="@@ say ok", background=True).status == "queued"


@pytest.mark.parametrize(
    ("script", "tool"),
    [(f'@@ call tool {{"a": "{LONG}"}}', FUNCTION), (f"@@ shell echo ran >> ran; echo {LONG}", SHELL)],
)
def test_a_half_made_call_is_asked_for_again(tmp_path: Path, script: str, tool: Any) -> None:
    with listening() as upstream:
        upstream.faults = Faults(delay_s=0.2)
        with launched(tmp_path / "data", upstream.url) as first:
            body = {"input": f"{script}\n@@ shell cat ran\n@@ say done", "tools": [tool]}
            seen = killed_at(first, b".delta", **body)
        upstream.faults = Faults()
        before = len(upstream.requests)
        with launched(tmp_path / "data", upstream.url) as second:
            done = whole(second, seen)
            half, made, *_ = (item for item in done["output"] if item["type"].endswith("_call"))
            assert [half["status"], made["status"]] == ["incomplete", "completed"]
            # The model knows nothing of what it did not say to the end.
            assert [message["role"] for message in upstream.requests[before].body["messages"]] == ["user"]
            if tool is SHELL:
                _, shown = (item for item in done["output"] if item["type"] == "shell_call_output")
                assert shown["output"][0]["stdout"] == "ran\n"
                return
            answer: Any = {"type": "function_call_output", "call_id": made["call_id"], "output": "ok"}
            client = second.client()
            after = client.responses.create(model="m", previous_response_id=done["id"], input=[answer])
            assert after.status == "completed"


def test_a_run_goes_on_though_what_it_continues_was_deleted(launch: Launch) -> None:
    first = launch()
    client = first.client()
    before = client.responses.create(model="m", input="@@ say before")
    script = "@@ shell echo ran; sleep 30\n@@ say on"
    more: Any = {"tools": [SHELL], "background": True, "previous_response_id": before.id}
    run = client.responses.create(model="m", input=script, **more)
    once(lambda: client.responses.retrieve(run.id).output != [])
    client.responses.delete(before.id)
    first.process.kill()
    first.process.wait()
    assert ended(launch().client(), run.id).output_text == "on"


def test_a_cell_that_was_interrupted_says_so_and_is_not_run_again(launch: Launch) -> None:
    cell = "import time\nopen('ran', 'a').write('x')\ntime.sleep(30)"
    script = f"@@ python <<EOF\n{cell}\nEOF\n@@ shell cat ran\n@@ python print(7)\n@@ say done"
    seen = killed_at(launch(), b"code_interpreter_call.interpreting", input=script, tools=[SHELL, PYTHON])
    done = whole(launch(), seen)
    interrupted, _, shown, works, said = done["output"]
    assert [interrupted["status"], works["status"]] == ["incomplete", "completed"]
    assert shown["output"][0]["stdout"] in {"x", ""}
    assert said["content"][0]["text"] == "done"


def test_who_waits_is_not_overtaken(launch: Launch) -> None:
    client = launch(max_background_runs="1").client()
    first = client.responses.create(model="m", input="@@ shell sleep 2", tools=[SHELL], background=True)
    waiting = client.responses.create(model="m", input="@@ say waited", background=True)
    ended(client, first.id)
    overtaking = client.responses.create(model="m", input="@@ shell sleep 60", tools=[SHELL], background=True)
    assert ended(client, waiting.id, 20).output_text == "waited"
    client.responses.cancel(overtaking.id)


def test_one_project_cannot_fill_the_queue(launch: Launch, tmp_path: Path) -> None:
    config = tmp_path / "deskhand.toml"
    keys = (f'[[keys]]\nkey = "sk-{name}"\nproject = "proj_{name}"\n' for name in "ab")
    config.write_text("".join(keys))
    server = launch(config=str(config), api_key="", max_background_runs="2", max_queued_runs="3")
    a, b = server.client("sk-a"), server.client("sk-b")
    running = [start(a, "@@ shell sleep 60") for _ in range(2)]
    greedy = [start(a, "@@ say a") for _ in range(3)]
    with pytest.raises(RateLimitError, match="waiting to run"):
        start(a, "@@ say a")
    modest = start(b, "@@ shell sleep 2\n@@ say b")
    a.responses.cancel(running[0])
    once(lambda: b.responses.retrieve(modest).status == "in_progress")
    assert {a.responses.retrieve(id_).status for id_ in greedy} == {"queued"}
    assert ended(b, modest).output_text == "b"
    assert [ended(a, id_).status for id_ in greedy] == ["completed"] * 3


def start(client: OpenAI, script: str) -> str:
    """The id of a new background response."""
    return client.responses.create(model="m", input=script, tools=[SHELL], background=True).id


def test_no_secret_is_stored_with_a_run_that_may_be_taken_up(tmp_path: Path) -> None:
    secret = "s3cr3t-0f-a-cl13nt"
    mcp: Any = {
        "type": "mcp",
        "server_label": "s",
        "server_url": "https://mcp.example/",
        "authorization": f"{secret}-1",
        "headers": {"x-key": f"{secret}-2"},
    }
    with listening() as upstream:
        upstream.faults = Faults(delay_s=0.3)
        config = tmp_path / "deskhand.toml"
        config.write_text(f'[[upstreams]]\nurl = "{upstream.url}"\napi = "responses"\ncalls_mcp_servers = true\n')
        settings = {"config": str(config), "model_aliases": "*=scripted"}
        with launched(tmp_path / "data", None, **settings) as server:
            fields = {
                "input": [
                    {"type": "additional_tools", "role": "developer", "tools": [{**mcp, "server_label": "t"}]},
                    {"role": "user", "content": f"@@ say {LONG}"},
                ],
                "tools": [mcp],
            }
            seen = killed_at(server, b".delta", **fields)
            assert secret.encode() not in all_bytes(server.data_dir)
        upstream.faults = Faults()
        with launched(tmp_path / "data", None, **settings) as again:
            assert whole(again, seen)["status"] == "completed"
            assert secret.encode() not in all_bytes(again.data_dir)
        first, second = (request.body["tools"][0] for request in upstream.requests)
        assert first == second
        assert (first["authorization"], first["headers"]) == (mcp["authorization"], mcp["headers"])
