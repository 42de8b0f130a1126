"""`kill -9` at any moment: nothing stored is lost, nothing is left over, and what was running is ended honestly."""

import json
import sqlite3
import threading
import time
from contextlib import closing
from typing import Any

from ..conftest import Launch, Server

SHELL: Any = {"type": "shell", "environment": {"type": "container_auto"}}


def begin(server: Server, script: str) -> str:
    """Start a run and return its id once its command is running."""
    started = threading.Event()
    ids: list[str] = []

    def follow() -> None:
        with server.http() as http:
            body = {"model": "m", "input": script, "tools": [SHELL], "stream": True}
            try:
                with http.stream("POST", "/v1/responses", json=body) as answer:
                    for line in answer.iter_lines():
                        if not line.startswith("data: "):
                            continue
                        event = json.loads(line.removeprefix("data: "))
                        if event["type"] == "response.created":
                            ids.append(event["response"]["id"])
                        if event["type"] == "response.shell_call_output_content.delta":
                            started.set()
            except Exception:
                return  # the server was killed: that is the test

    threading.Thread(target=follow, daemon=True).start()
    assert started.wait(30)
    return ids[0]


def test_a_run_that_was_killed_is_ended_honestly_and_its_computer_found_again(launch: Launch) -> None:
    first = launch()
    client = first.client()
    done = client.responses.create(model="m", input="@@ say kept")
    made = client.responses.create(model="m", input="@@ shell echo kept > f; sleep 1000 & echo $! > pid", tools=[SHELL])
    running = begin(first, "@@ shell echo begun; sleep 30; echo ended")
    first.process.kill()
    first.process.wait()

    client = launch().client()
    assert client.responses.retrieve(done.id).to_dict() == done.to_dict()
    killed = client.responses.retrieve(running)
    assert killed.status == "failed"
    assert killed.error is not None
    assert "stopped while this response was running" in killed.error.message
    output = next(item for item in killed.output if item.type == "shell_call_output")
    assert "interrupted" in output.output[0].stderr
    again = client.responses.create(
        model="m", input="@@ shell cat f; kill -0 $(cat pid) && echo lives", tools=[SHELL], previous_response_id=made.id
    )
    found = next(item for item in again.output if item.type == "shell_call_output")
    assert found.output[0].stdout == "kept\nlives\n"
    # The conversation that was cut off goes on.
    after = client.responses.create(model="m", input="@@ say on we go", previous_response_id=running)
    assert after.output_text == "on we go"


def test_every_response_that_was_answered_survives_kills(launch: Launch) -> None:
    answered: list[str] = []
    for _ in range(3):
        server = launch()
        stop = threading.Event()

        def ask(server: Server = server, stop: threading.Event = stop) -> None:
            client = server.client()
            while not stop.is_set():
                try:
                    answered.append(client.responses.create(model="m", input="@@ say x").id)
                except Exception:
                    return

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(1.5)
        server.process.kill()
        stop.set()
        for thread in threads:
            thread.join()
    last = launch()
    client = last.client()
    assert len(answered) > 30
    for response_id in answered:
        assert client.responses.retrieve(response_id).output_text == "x"
    with last.rows() as rows:
        unfinished = rows.execute("select count(*) from responses where status = 'in_progress'").fetchone()
        assert unfinished == (0,)
    database = last.data_dir / "deskhand.sqlite"
    if database.exists():
        with closing(sqlite3.connect(database)) as file:
            assert file.execute("pragma integrity_check").fetchone() == ("ok",)


def test_a_polite_stop_ends_runs_and_tells_their_clients(launch: Launch) -> None:
    server = launch()
    events: list[dict[str, Any]] = []
    begun = threading.Event()

    def follow() -> None:
        body = {"model": "m", "input": "@@ shell echo begun; sleep 60", "tools": [SHELL], "stream": True}
        with server.http() as http, http.stream("POST", "/v1/responses", json=body) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    events.append(json.loads(line.removeprefix("data: ")))
                    if events[-1]["type"] == "response.shell_call_output_content.delta":
                        begun.set()

    thread = threading.Thread(target=follow)
    thread.start()
    assert begun.wait(30)
    server.process.terminate()
    thread.join(30)
    assert server.process.wait(20) == 0
    assert events[-1]["type"] == "response.failed"
    assert "server was stopped" in events[-1]["response"]["error"]["message"]
