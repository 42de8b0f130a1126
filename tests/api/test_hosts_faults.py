"""Several hosts while something is away: the database, a process, or the client of a request that was passed on."""

import json
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

from ..conftest import Server
from ..postgres import Cluster
from .test_background import data_of, ended, once
from .test_hosts import SHELL, database, shell, start, stdout

__all__ = ["database", "start"]


def test_who_could_not_be_seen_is_not_taken_for_dead(start: Callable[[str], Server], database: Cluster) -> None:
    first, second = start("a"), start("b")
    made = [shell(host.client(), "@@ shell echo kept > f") for host in (first, second)]
    script = "@@ shell echo ran >> ran; echo begun; sleep 14; cat ran\n@@ say done"
    runs = [begun(host, script) for host in (first, second)]
    database.stop()
    time.sleep(10)
    database.start()
    # Each of a server's connections is tried again once a second.
    with first.http() as here, second.http() as there:
        once(lambda: {http.get(f"/v1/responses/{runs[0]}").status_code for http in [here, there] * 4} == {200})
    for run in runs:
        done = ended(first.client(), run)
        assert done.status == "completed", done.error
        assert stdout(done) == "begun\nran\n"
        assert "interrupted" not in done.to_json()
    for host, kept in zip((first, second), made, strict=True):
        assert stdout(shell(host.client(), "@@ shell cat f", previous_response_id=kept.id)) == "kept\n"


def test_whoever_waits_for_a_run_that_was_taken_over_is_told(start: Callable[[str], Server]) -> None:
    first, second = start("a"), start("b")
    body = {"model": "m", "input": "@@ shell echo one; sleep 12; echo two\n@@ say x", "tools": [SHELL], "stream": True}
    with first.http() as http, http.stream("POST", "/v1/responses", json=body) as answer:
        events = (json.loads(data) for data in data_of(answer))
        response_id = next(events)["response"]["id"]
        next(event for event in events if event["type"] == "response.shell_call_output_content.delta")
        first.process.send_signal(signal.SIGSTOP)
        try:
            assert ended(second.client(), response_id).status == "failed"
        finally:
            first.process.send_signal(signal.SIGCONT)
        *_, last = events
    assert last["type"] == "response.failed"


def test_a_run_that_was_passed_on_ends_with_its_client(start: Callable[[str], Server]) -> None:
    first, second = start("a"), start("b")
    made = shell(first.client(), "@@ shell echo kept > f")
    body = {
        "model": "m",
        "input": "@@ shell echo begun; sleep 60",
        "tools": [SHELL],
        "previous_response_id": made.id,
        "stream": True,
    }
    with second.http() as http, http.stream("POST", "/v1/responses", json=body) as answer:
        events = (json.loads(data) for data in data_of(answer))
        response_id = next(events)["response"]["id"]
        next(event for event in events if event["type"] == "response.shell_call_output_content.delta")
    assert ended(first.client(), response_id, 20).status == "cancelled"


def test_a_request_is_passed_on_as_it_came(start: Callable[[str], Server]) -> None:
    first, second = start("a"), start("b")
    container_id = first.client().containers.create(name="c").id
    for path in ("files/%2e%2e", "files/..%2f..", "files/x%2Fy", "files/%2e%2e%2f%2e%2e%2fresponses"):
        target = f"/v1/containers/{container_id}/{path}"
        assert raw(first, f"GET {target}") == raw(second, f"GET {target}")


def begun(server: Server, script: str) -> str:
    """The id of a background run whose first command has begun."""
    body = {"model": "m", "input": script, "tools": [SHELL], "background": True, "stream": True}
    with server.http() as http, http.stream("POST", "/v1/responses", json=body) as answer:
        events = (json.loads(data) for data in data_of(answer))
        response_id: str = next(events)["response"]["id"]
        next(event for event in events if event["type"] == "response.shell_call_output_content.delta")
    return response_id


def raw(server: Server, line: str) -> tuple[int, Any]:
    """Status and body of a request whose path no client would send."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 20) as sock:
        head = f"{line} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-test\r\nconnection: close\r\n\r\n"
        sock.sendall(head.encode())
        data = b"".join(iter(lambda: sock.recv(65536), b""))
    start_line, _, body = data.partition(b"\r\n\r\n")
    return int(start_line.split()[1]), json.loads(body[body.index(b"{") : body.rindex(b"}") + 1])
