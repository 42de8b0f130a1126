"""The interactive terminal, through a real WebSocket."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx2
import pytest
from openai import OpenAI
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from ..conftest import KEY, Launch, Server
from .test_exec import run, until


@pytest.fixture
def container(client: OpenAI) -> str:
    return client.containers.create(name="pty").id


@contextmanager
def terminal(server: Server, container: str, query: str = "", key: str = KEY) -> Iterator[Connection]:
    url = f"{server.url.replace('http', 'ws')}/v1/containers/{container}/pty{query}"
    with connect(url, additional_headers={"authorization": f"Bearer {key}"}) as socket:
        yield socket


def printed(socket: Connection, wanted: Callable[[str], bool]) -> str:
    """What is printed until that is `wanted`."""
    seen = b""
    deadline = time.monotonic() + 20
    while not wanted(seen.decode(errors="replace")):
        try:
            message = socket.recv(timeout=max(0.01, deadline - time.monotonic()))
        except TimeoutError:
            raise AssertionError(f"only {seen!r} was printed") from None
        assert isinstance(message, bytes), message
        seen += message
    return seen.decode(errors="replace")


def the_end(socket: Connection) -> tuple[bytes, Any, int]:
    """What is printed until the end, the last message, and the closing code."""
    seen, last = b"", None
    while True:
        try:
            message = socket.recv(timeout=20)
        except ConnectionClosed as closed:
            return seen, last, closed.rcvd.code if closed.rcvd else 1006
        if isinstance(message, bytes):
            seen += message
        else:
            last = json.loads(message)


def test_a_shell_on_a_terminal(server: Server, container: str, http: httpx2.Client) -> None:
    with terminal(server, container, "?rows=30&columns=100") as socket:
        socket.send(b"stty size; tty; echo $TERM; [ -t 0 ] && echo inter''active\n")
        text = printed(socket, lambda text: "interactive" in text)
        assert "30 100" in text
        assert "/dev/pts/" in text
        assert "xterm-256color" in text
        socket.send(json.dumps({"type": "resize", "rows": 40, "columns": 120}))
        socket.send(b"stty size\n")
        printed(socket, lambda text: "40 120" in text)
        socket.send(b"sleep 1000\n")
        until(lambda: run(http, container, "pgrep -c sleep")["stdout"] == "1\n")
        socket.send(b"\x03")
        printed(socket, lambda text: "^C" in text)
        socket.send(b"echo interrup''ted $?\n")
        printed(socket, lambda text: "interrupted 130" in text)
        socket.send(b"sleep 1000 &\njobs\n")
        printed(socket, lambda text: "Running" in text)
        socket.send(b"exit 7\n")
        _, last, code = the_end(socket)
        assert (last, code) == ({"type": "exit", "exit_code": 7}, 1000)


def test_what_is_pasted_at_once_is_bounded(server: Server, container: str) -> None:
    with terminal(server, container) as socket:
        socket.send(bytes((1 << 20) + 1))
        _, last, code = the_end(socket)
        assert last["type"] == "error"
        assert code == 1009


def test_a_program_of_ones_own_and_all_of_its_output(server: Server, container: str) -> None:
    with terminal(server, container, "?command=stty%20-opost;%20seq%20200000;%20exit%203") as socket:
        seen, last, _ = the_end(socket)
    assert last == {"type": "exit", "exit_code": 3}
    assert seen == b"".join(b"%d\n" % number for number in range(1, 200001))


def test_what_is_pasted_arrives_whole(server: Server, container: str, http: httpx2.Client) -> None:
    pasted = bytes(range(32, 127)) * 20_000
    with terminal(
        server, container, "?command=stty%20raw%20-echo;%20echo%20ready;%20head%20-c%201900000%20>f"
    ) as socket:
        printed(socket, lambda text: "ready" in text)
        for at in range(0, len(pasted), 50_000):
            socket.send(pasted[at : at + 50_000])
        assert the_end(socket)[1] == {"type": "exit", "exit_code": 0}
    assert run(http, container, "sha256sum < f")["stdout"].split()[0] == hashlib.sha256(pasted).hexdigest()


def test_a_closed_connection_ends_all_that_was_started(server: Server, container: str, http: httpx2.Client) -> None:
    with terminal(server, container) as socket:
        socket.send(b"setsid -f sleep 1000; nohup sleep 1000 & sleep 1000 & echo star''ted\n")
        printed(socket, lambda text: "started" in text)
        until(lambda: run(http, container, "pgrep -c sleep")["stdout"] == "3\n")
    until(lambda: run(http, container, "pgrep -c sleep")["stdout"] == "0\n")


INJECTION = """
import fcntl, os, termios
print("terminals", sorted(os.listdir("/dev/pts")), os.ttyname(0))
try:
    fcntl.ioctl(0, termios.TIOCSTI, b"x")
    print("injected")
except OSError as exc:
    print("refused", exc.errno)
"""


def test_the_terminal_is_the_containers_own_and_takes_no_injected_input(
    server: Server, container: str, client: OpenAI
) -> None:
    client.containers.files.create(container, file=("inject.py", INJECTION.encode()))
    with terminal(server, container, "?command=python3%20inject.py;%20echo%20$(id%20-un)") as socket:
        seen = the_end(socket)[0].decode().splitlines()
    assert seen == ["terminals ['0', 'ptmx'] /dev/pts/0", "refused 1", "agent"]


def test_a_terminal_needs_a_key_and_a_container_of_ones_own(server: Server, container: str) -> None:
    for key, target, query, status in (
        ("sk-wrong", container, "", 401),
        (KEY, "cntr_none", "", 404),
        (KEY, container, "?rows=0", 400),
        (KEY, container, "?term=a%20b", 400),
    ):
        with pytest.raises(InvalidStatus) as refused, terminal(server, target, query, key):
            pass
        assert refused.value.response.status_code == status
        assert "error" in json.loads(refused.value.response.body or b"")
    with terminal(server, container, "?command=true") as socket:
        assert the_end(socket)[1] == {"type": "exit", "exit_code": 0}


def test_nonsense_from_the_client_closes_the_terminal(server: Server, container: str) -> None:
    for text in ("{", '{"type": "resize", "rows": 0, "columns": 1}', '{"type": "shout"}'):
        with terminal(server, container) as socket:
            socket.send(text)
            _, last, code = the_end(socket)
            assert (last["type"], code) == ("error", 1008)


def test_terminals_are_bounded(server: Server, container: str) -> None:
    with ExitStack() as stack:
        for _ in range(16):
            stack.enter_context(terminal(server, container, "?command=cat"))
        with pytest.raises(InvalidStatus) as refused, terminal(server, container):
            pass
        assert refused.value.response.status_code == 429


def test_a_deleted_container_ends_its_terminals(server: Server, container: str, client: OpenAI) -> None:
    with terminal(server, container, "?command=cat") as socket:
        client.containers.delete(container)
        _, last, code = the_end(socket)
        assert (last["type"], code) == ("error", 1011)


def test_a_stopping_server_closes_its_terminals(launch: Launch) -> None:
    server = launch()
    container = server.client().containers.create(name="stop").id
    with terminal(server, container, "?command=cat") as socket:
        server.process.terminate()
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=20)
    assert server.process.wait(20) == 0
