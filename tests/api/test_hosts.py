"""Two servers with containers of their own, on one PostgreSQL: any of them serves, and one goes on for another."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI
from openai.types.responses import Response
from websockets.exceptions import InvalidStatus

from deskhand.api.forward import HOP

from ..conftest import Server, launched
from ..postgres import Cluster, cluster
from .oracle import TERMINAL, check
from .sockets import line, text
from .test_background import ended, once, read, until_command
from .test_pty import printed, terminal, the_end

Json = dict[str, Any]

SHELL: Any = {"type": "shell", "environment": {"type": "container_auto"}}
SECRET_KEY = "0123456789abcdef" * 2


@pytest.fixture(scope="module")
def database() -> Iterator[Cluster]:
    with cluster() as running:
        yield running


@pytest.fixture
def start(database: Cluster, tmp_path: Path, upstream_url: str) -> Iterator[Callable[[str], Server]]:
    """Starts the server of a host; starting again on the same host is a restart."""
    from contextlib import ExitStack

    name = f"hosts_{time.monotonic_ns()}"
    url = database.create(name)
    with ExitStack() as stack:

        def begin(host: str) -> Server:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            settings = {
                "database_url": url,
                "port": str(port),
                "advertise_url": f"http://127.0.0.1:{port}",
                "secret_key": SECRET_KEY,
                "warm_containers": "0",
            }
            return stack.enter_context(launched(tmp_path / host, upstream_url, **settings))

        yield begin
    database.drop(name)


def shell(client: OpenAI, script: str, **more: Any) -> Response:
    """A response whose commands run in a container."""
    response: Response = client.responses.create(model="m", input=script, **{"tools": [SHELL], **more})
    return response


def stdout(response: Response) -> str:
    """What the commands of a response have printed."""
    outputs = [item for item in response.output if item.type == "shell_call_output"]
    return "".join(part.stdout for item in outputs for part in item.output)


def container_of(response: Response) -> str:
    """The container of a response's commands."""
    environment = next(item for item in response.output if item.type == "shell_call").environment
    assert environment is not None
    return environment.container_id  # type: ignore[union-attr]


def running(server: Server) -> int:
    """How many responses a server is making."""
    with server.http() as http:
        return int(http.get("/health").json()["runs"])


def test_any_host_serves_any_response(start: Callable[[str], Server]) -> None:
    first, second = start("a"), start("b")
    plain = first.client().responses.create(model="m", input="@@ say kept")
    assert second.client().responses.retrieve(plain.id).to_dict() == plain.to_dict()
    on = second.client().responses.create(model="m", input="@@ say on", previous_response_id=plain.id)
    assert on.output_text == "on"
    # A stream is read while it grows, where the run is not.
    script = "@@ shell echo one; sleep 1; echo two\n@@ say done"
    begun = first.client().responses.create(model="m", input=script, tools=[SHELL], background=True, stream=True)
    response_id = next(iter(begun)).response.id  # type: ignore[union-attr]  # the first is response.created
    with second.http() as http:
        there = read(http, response_id)
    with first.http() as http:
        assert read(http, response_id) == there
    assert json.loads(there[-1])["type"] == "response.completed"
    # And one is cancelled where its run is not.
    long = shell(first.client(), "@@ shell echo begun; sleep 100", background=True)
    once(lambda: any(i.type == "shell_call_output" for i in first.client().responses.retrieve(long.id).output))
    assert second.client().responses.cancel(long.id).status == "cancelled"


def test_what_needs_a_container_goes_to_its_host(start: Callable[[str], Server]) -> None:
    first, second = start("a"), start("b")
    here, there = first.client(), second.client()
    made = shell(here, "@@ shell echo kept > f; cat f")
    container_id = container_of(made)
    # The conversation goes on in the same computer, whoever is asked: plain, streamed, and in the background.
    assert stdout(shell(there, "@@ shell cat f", previous_response_id=made.id)) == "kept\n"
    named: Any = {"type": "shell", "environment": {"type": "container_reference", "container_id": container_id}}
    streamed = there.responses.create(model="m", input="@@ shell cat f", tools=[named], stream=True)
    last = list(streamed)[-1]
    assert last.type == "response.completed"
    assert stdout(last.response) == "kept\n"
    later = shell(there, "@@ shell cat f", tools=[named], background=True)
    assert stdout(ended(there, later.id)) == "kept\n"
    # Files go both ways, to the byte.
    content = bytes(range(256)) * 1000
    file = there.containers.files.create(container_id, file=("data.bin", content))
    assert there.containers.files.content.retrieve(file.id, container_id=container_id).content == content
    assert [found.id for found in here.containers.files.list(container_id)] == [
        found.id for found in there.containers.files.list(container_id)
    ]
    assert {found.id for found in there.containers.list()} == {container_id}
    there.containers.delete(container_id)
    with pytest.raises(Exception, match="not found"):
        here.containers.retrieve(container_id)


def test_what_comes_over_a_socket_goes_there_too(start: Callable[[str], Server]) -> None:
    first, second = start("a"), start("b")
    made = shell(first.client(), "@@ shell echo kept > f; cat f")
    named = {"type": "shell", "environment": {"type": "container_reference", "container_id": container_of(made)}}

    def printed(response: Json) -> list[str]:
        outputs = [item for item in response["output"] if item["type"] == "shell_call_output"]
        return [part["stdout"] for item in outputs for part in item["output"]]

    with line(second) as socket:
        # On the default lane a stored chain, on another one what only this connection knows, also of local responses.
        on = socket.ask("@@ shell cat f", tools=[SHELL], previous_response_id=made.id)
        assert (printed(on), on["previous_response_id"]) == (["kept\n"], made.id)
        assert second.client().responses.retrieve(on["id"]).id == on["id"]
        own: Json = {"store": False, "stream_id": "own"}
        told = socket.ask("@@ say REMEMBER(4711)", **own)
        for _ in range(2):
            socket.create("@@ shell cat f", tools=[named], previous_response_id=told["id"], **own)
            events = socket.until(*TERMINAL, "error", lane="own")
            check([{key: value for key, value in event.items() if key != "stream_id"} for event in events])
            told = events[-1]["response"]
            assert printed(told) == ["kept\n"]
        last = socket.ask("@@ say on", previous_response_id=told["id"], **own)
        assert (text(last), last["previous_response_id"]) == ("on", told["id"])
        assert socket.refused("@@ shell true", tools=[named], previous_response_id="resp_unknown")[0] == 400
        socket.create("@@ shell echo begun; sleep 100", tools=[named])
        socket.until("response.output_item.added")
        assert running(first) == 1
    once(lambda: running(first) == 0)


def test_a_terminal_is_opened_there(start: Callable[[str], Server]) -> None:
    first, second = start("a"), start("b")
    container_id = first.client().containers.create(name="c").id
    with terminal(second, container_id, "?rows=7&columns=31") as socket:
        socket.send(b"stty size; tty | cut -c-8\n")
        assert "7 31" in printed(socket, lambda seen: "/dev/pts" in seen)
        socket.send('{"type": "resize", "rows": 8, "columns": 32}')
        socket.send(b"stty size\n")
        printed(socket, lambda seen: "8 32" in seen)
        socket.send(b"exit 3\n")
        _, last, code = the_end(socket)
        assert (last, code) == ({"type": "exit", "exit_code": 3}, 1000)
    with pytest.raises(InvalidStatus, match="400"), terminal(second, container_id, "?rows=0"):
        pass
    with terminal(second, container_id, "?command=sleep%20300") as socket:
        once(lambda: commands(first, container_id) == ["sleep"])
    once(lambda: commands(first, container_id) == [])
    with terminal(second, container_id, "?command=echo%20ready;%20sleep%20300") as socket:
        printed(socket, lambda seen: "ready" in seen)
        first.process.kill()
        assert the_end(socket)[2] == 1011, "a client is told when the host has died"
    first.process.wait()


def commands(server: Server, container_id: str) -> list[str]:
    """The programs that run in a container, but for the one that looks."""
    with server.http() as http:
        script = "for p in /proc/[0-9]*/comm; do cat $p; done | grep -x sleep"
        ran = http.post(f"/v1/containers/{container_id}/exec", json={"command": script})
        return str(ran.json()["stdout"]).split()


def test_a_request_is_passed_on_once(start: Callable[[str], Server]) -> None:
    first, second = start("a"), start("b")
    container_id = first.client().containers.create(name="c").id
    with second.http() as http:
        assert http.get(f"/v1/containers/{container_id}").status_code == 200
        refused = http.get(f"/v1/containers/{container_id}", headers={HOP: "1"})
        assert refused.status_code == 503
        assert "another host" in refused.json()["error"]["message"]
        assert refused.headers["retry-after"]
    # A key is checked where the request arrives, and no container is found by another one's.
    with second.http(key="sk-wrong") as http:
        assert http.get(f"/v1/containers/{container_id}").status_code == 401


def test_a_run_goes_on_where_its_host_has_died(start: Callable[[str], Server]) -> None:
    first, second = start("a"), start("b")
    script = "@@ shell echo ran > ran; sleep 60\n@@ shell echo after; cat ran\n@@ say done"
    body = {"model": "m", "input": script, "tools": [SHELL], "background": True, "stream": True}
    seen = until_command(first, body)
    once(lambda: [c.status for c in second.client().containers.list()] == ["running"])
    first.process.kill()
    first.process.wait()
    response_id = json.loads(seen[0])["response"]["id"]
    done = ended(second.client(), response_id)
    assert done.status == "completed", done.error
    outputs = [item for item in done.output if item.type == "shell_call_output"]
    assert "interrupted" in outputs[0].output[0].stderr
    # Its computer was on the host that died: the new one is empty, and works.
    assert "after" in outputs[1].output[0].stdout
    assert "ran\n" not in outputs[1].output[0].stdout
    with second.http() as http:
        everything = read(http, response_id)
    assert everything[: len(seen)] == seen
    assert [json.loads(data)["sequence_number"] for data in everything] == list(range(len(everything)))
    # What the dead host had is given up, and it cleans up after itself when it comes back.
    again = start("a")
    assert stdout(shell(again.client(), "@@ shell echo alive")) == "alive\n"


def test_a_container_of_a_dead_host_has_expired(start: Callable[[str], Server]) -> None:
    first, second = start("a"), start("b")
    lost = first.client().containers.create(name="lost").id
    made = shell(first.client(), "@@ shell echo kept > f")
    first.process.kill()
    first.process.wait()
    there = second.client()
    with second.http() as http:
        # Until its silence is noticed, a client is told to try again.
        once(lambda: http.get(f"/v1/containers/{lost}").status_code == 200)
    assert there.containers.retrieve(lost).status == "expired"
    # The conversation is usable, in a new computer.
    assert stdout(shell(there, "@@ shell cat f || echo none", previous_response_id=made.id)) == "none\n"
