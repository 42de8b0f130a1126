"""Commands in a container without a model."""

import json
import threading
import time
from typing import Any

import httpx2
import pytest
from openai import OpenAI


@pytest.fixture
def container(client: OpenAI) -> str:
    return client.containers.create(name="exec").id


def run(http: httpx2.Client, container: str, command: Any, **body: Any) -> Any:
    answer = http.post(f"/v1/containers/{container}/exec", json={"command": command, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_text_runs_in_bash_and_words_run_as_they_are(http: httpx2.Client, container: str) -> None:
    assert run(http, container, "echo $((6*7)); echo err >&2; exit 3") == {
        "object": "container.exec",
        "container_id": container,
        "stdout": "42\n",
        "stderr": "err\n",
        "outcome": {"type": "exit", "exit_code": 3},
    }
    assert run(http, container, ["printf", "%s|", "a b", "$HOME"])["stdout"] == "a b|$HOME|"
    assert run(http, container, "pwd; id -un; echo $GIVEN", env={"GIVEN": "yes"})["stdout"] == "/mnt/data\nagent\nyes\n"
    assert run(http, container, ["no-such-program"])["outcome"] == {"type": "exit", "exit_code": 127}


def test_a_deadline_and_a_cap_hold(http: httpx2.Client, container: str) -> None:
    late = run(http, container, "echo begun; setsid -f sleep 1000; sleep 1000", timeout_ms=500)
    assert (late["outcome"], late["stdout"]) == ({"type": "timeout"}, "begun\n")
    assert run(http, container, "pgrep -c sleep")["stdout"] == "0\n"
    endless = run(http, container, "echo hi", timeout_ms=10**400, max_output_length=10**400)
    assert (endless["outcome"], endless["stdout"]) == ({"type": "exit", "exit_code": 0}, "hi\n")
    long = run(http, container, "seq 100000", max_output_length=1000)["stdout"]
    assert long.startswith("1\n2\n")
    assert long.endswith("99999\n100000\n")
    assert len(long) < 1200


def test_output_is_streamed_while_the_command_runs(http: httpx2.Client, container: str) -> None:
    body = {"command": "echo a; while [ ! -e go ]; do sleep 0.02; done; echo b >&2; exit 4", "stream": True}
    seen: list[Any] = []
    with http.stream("POST", f"/v1/containers/{container}/exec", json=body) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            if line.startswith("data: "):
                seen.append(json.loads(line[6:]))
                if len(seen) == 1:  # it could not be there if the whole output was waited for
                    run(http, container, "touch go")
    assert seen == [
        {"type": "container.exec.output", "stream": "stdout", "delta": "a\n"},
        {"type": "container.exec.output", "stream": "stderr", "delta": "b\n"},
        {"type": "container.exec.done", "outcome": {"type": "exit", "exit_code": 4}},
    ]


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_ends_its_command(stream: bool, http: httpx2.Client, container: str) -> None:
    where = f"/v1/containers/{container}/exec"
    body = {"command": "touch begun; sleep 1000", "stream": stream}

    def ask_and_leave() -> None:
        with httpx2.Client(base_url=http.base_url, headers=http.headers, timeout=2) as impatient:
            with pytest.raises(httpx2.ReadTimeout):
                impatient.post(where, json=body)

    leaving = threading.Thread(target=ask_and_leave)
    leaving.start()
    until(lambda: run(http, container, "ls; pgrep -c sleep")["stdout"] == "begun\n1\n")
    leaving.join()
    until(lambda: run(http, container, "pgrep -c sleep")["stdout"] == "0\n")


def until(holds: Any) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_cannot_run_is_refused(http: httpx2.Client, container: str) -> None:
    for body, param in (
        ({}, "command"),
        ({"command": []}, "command"),
        ({"command": "a\0b"}, "command"),
        ({"command": "true", "env": {"A=B": "c"}}, "env"),
        ({"command": "true", "env": {"A": "\0"}}, "env"),
        ({"command": "true", "timeout_ms": 0}, "timeout_ms"),
        ({"command": "true", "user": "root"}, "user"),
    ):
        answer = http.post(f"/v1/containers/{container}/exec", json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
    assert http.post("/v1/containers/cntr_none/exec", json={"command": "true"}).status_code == 404
    without_key = httpx2.post(f"{http.base_url}/v1/containers/{container}/exec", json={"command": "true"})
    assert without_key.status_code == 401
    assert run(http, container, "echo still here")["stdout"] == "still here\n"
