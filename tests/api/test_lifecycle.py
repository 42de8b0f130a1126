"""Starting, stopping and bad days: signals, full disks, slow and vanished clients, deletes under running commands."""

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI
from openai.types.responses import Response

from ..conftest import KEY, Launch, Server, upstream_process
from ..rows import sqlite_only

SHELL: Any = {"type": "shell", "environment": {"type": "container_auto"}}
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")


def _connect(server: Server, *, receive_bytes: int | None = None) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    connection = socket.socket()
    if receive_bytes is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.settimeout(30)
    connection.connect((host, int(port)))
    return connection


def _ask(connection: socket.socket, body: dict[str, Any]) -> None:
    _send(connection, "/v1/responses", "application/json", json.dumps(body).encode())


def _send(connection: socket.socket, path: str, kind: str, data: bytes, *, length: int | None = None) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Type: {kind}\r\n"
    connection.sendall(f"{head}Content-Length: {length or len(data)}\r\n\r\n".encode() + data)


def _until(connection: socket.socket, words: bytes) -> bytes:
    read = bytearray()
    while words not in read[-(1 << 17) :]:
        if not (data := connection.recv(1 << 16)):
            break
        read += data
    return bytes(read)


def _shell(command: str) -> dict[str, Any]:
    return {"model": "m", "input": f"@@ shell {command}", "tools": [SHELL], "stream": True}


def _runs(server: Server) -> int:
    with server.http() as http:
        return int(http.get("/health").json()["runs"])


def _eventually(server: Server, runs: int) -> None:
    deadline = time.monotonic() + 10
    while _runs(server) != runs:
        assert time.monotonic() < deadline, f"{_runs(server)} runs are still under way"
        time.sleep(0.05)


def _serve(data_dir: Path, *options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "deskhand", "serve", "--port", "0", "--data-dir", str(data_dir), *options]
    environ = {k: v for k, v in os.environ.items() if not k.startswith("DESKHAND_")} | {"DESKHAND_ENGINE": "none"}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environ)


@contextmanager
def _disk(path: Path, options: str) -> Iterator[Path]:
    path.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_the_server_at_once(launch: Launch, sign: int) -> None:
    server = launch()
    with _connect(server) as connection:
        _ask(connection, _shell("echo begun; sleep 60"))
        _until(connection, b"begun")
        server.process.send_signal(sign)
        time.sleep(0.3)
        asked = time.monotonic()
        server.process.send_signal(sign)
        ending = _until(connection, b"event: response.failed")
        assert server.process.wait(20) == 0
    assert time.monotonic() - asked < 3, "the grace of the first signal went on"
    assert b"event: response.failed" in ending
    assert "Traceback" not in server.log.read_text()


def test_a_stop_does_not_wait_long_for_clients_that_neither_read_nor_write(launch: Launch) -> None:
    server = launch(engine="none")
    kind, part = (
        "multipart/form-data; boundary=B",
        b'--B\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n',
    )
    with _connect(server) as uploading, _connect(server, receive_bytes=4096) as deaf:
        _send(uploading, "/v1/files", kind, part + b"x" * 400_000, length=1_000_000)
        _ask(deaf, {"model": "m", "input": "@@ say " + "x" * 4_000_000, "stream": True, "store": False})
        incoming = server.data_dir / "blobs" / "incoming"
        while not (incoming.is_dir() and list(incoming.iterdir())):
            time.sleep(0.05)
        asked = time.monotonic()
        server.process.terminate()
        assert server.process.wait(20) == 0
    assert time.monotonic() - asked < 9.5, "docker stop would have killed it"
    assert "Traceback" not in server.log.read_text()
    assert list(incoming.iterdir()) == []


def test_a_stop_during_start_up_is_quiet(tmp_path: Path) -> None:
    for delay_s in (0.4, 0.7):
        process = _serve(tmp_path / "data")
        time.sleep(delay_s)
        process.terminate()
        _, said = process.communicate(timeout=20)
        assert process.returncode in {0, 130, -signal.SIGTERM}
        assert "Traceback" not in said


def test_what_keeps_a_server_from_starting_is_said_in_one_line(launch: Launch, tmp_path: Path) -> None:
    running = launch(engine="none")
    port = running.url.rsplit(":", 1)[1]
    in_use = _serve(tmp_path / "other", "--port", port).communicate(timeout=20)[1]
    assert "Address already in use. Choose another address with --host and --port." in in_use
    taken = _serve(running.data_dir).communicate(timeout=20)[1]
    assert "Another Deskhand server is using" in taken
    (tmp_path / "file").touch()
    no_folder = _serve(tmp_path / "file").communicate(timeout=20)[1]
    assert "cannot use the data directory" in no_folder
    assert all(words.count("\n") == 1 for words in (in_use, taken, no_folder))


@needs_root
@pytest.mark.parametrize(("options", "words"), [("ro", "Read-only file system"), ("size=16k", "disk")])
def test_a_disk_that_cannot_be_written_keeps_it_from_starting(tmp_path: Path, options: str, words: str) -> None:
    with _disk(tmp_path / "data", options) as data:
        process = _serve(data)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 1
    assert words in said
    assert said.count("\n") == 1


@needs_root
@sqlite_only
def test_a_full_disk_is_a_503_and_all_is_well_once_there_is_space(launch: Launch, tmp_path: Path) -> None:
    with upstream_process("--delay", "0.3") as slow, _disk(tmp_path / "data", "size=16m") as data:
        server = launch(upstream=slow, engine="none")
        large = {"model": "m", "input": "@@ say " + "y" * 300_000}
        with server.http() as http, _connect(server) as connection:
            before = http.post("/v1/responses", json={"model": "m", "input": "@@ say before"}).json()
            _ask(connection, {**large, "stream": True})
            id_ = re.search(r"resp_\w+", _until(connection, b"response.in_progress").decode())
            assert id_
            _fill(data)
            refused = http.post("/v1/responses", json=large)
            upload = http.post("/v1/files", data={"purpose": "user_data"}, files={"file": ("x", b"y" * 300_000)})
            assert [refused.status_code, upload.status_code] == [503, 503]
            assert [refused.headers["retry-after"], upload.headers["retry-after"]] == ["5", "5"]
            assert "full" in refused.json()["error"]["message"]
            assert http.get(f"/v1/responses/{before['id']}").json() == before
            assert b"event: response.failed" in _until(connection, b"event: response.failed")
            (data / "filler").unlink()
            assert http.post("/v1/responses", json={"model": "m", "input": "@@ say after"}).status_code == 200
            # What the client was told is stored as soon as it can be.
            late = _ended(server.client(), id_[0])
            assert late.status == "failed"
            assert late.error is not None
            assert "full" in late.error.message
        assert _runs(server) == 0


@needs_root
def test_a_full_disk_makes_no_container_and_lets_old_ones_go(launch: Launch, tmp_path: Path) -> None:
    with _disk(tmp_path / "data", "size=24m") as data:
        server = launch(container_disk_bytes="8000000", container_disk_inodes="500", warm_containers="0")
        with server.http() as http:
            kept = http.post("/v1/containers", json={"name": "kept"}).json()["id"]
            _fill(data)
            refused = http.post("/v1/containers", json={"name": "refused"})
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
            assert "space" in refused.json()["error"]["message"]
            (data / "filler").unlink()
            assert http.delete(f"/v1/containers/{kept}").status_code == 200
            assert http.post("/v1/containers", json={"name": "made"}).status_code == 200


def _fill(disk: Path) -> None:
    descriptor = os.open(disk / "filler", os.O_WRONLY | os.O_CREAT)
    with suppress(OSError):
        while os.write(descriptor, bytes(4096)):
            pass
    os.close(descriptor)


def _ended(client: OpenAI, response_id: str) -> Response:
    deadline = time.monotonic() + 10
    while (response := client.responses.retrieve(response_id)).status == "in_progress":
        assert time.monotonic() < deadline, "its ending was never stored"
        time.sleep(0.1)
    return response


def test_a_client_that_does_not_read_costs_no_more_than_its_run(launch: Launch) -> None:
    server = launch(command_max_output_characters="2000000")
    call = json.dumps({"commands": ["yes | tr -d '\\n' | head -c 3000000"] * 2, "max_output_length": 1_000_000})
    with _connect(server, receive_bytes=4096) as deaf, server.http() as http:
        _ask(deaf, {"model": "m", "input": f"@@ call shell {call}", "tools": [SHELL], "stream": True})
        before = _resident_bytes(server)
        _eventually(server, runs=1)
        _eventually(server, runs=0)
        assert http.post("/v1/responses", json={"model": "m", "input": "@@ say hi"}).status_code == 200
        # Two outputs of a million characters, in events, in items and in prompts.
        assert _resident_bytes(server) - before < 80_000_000
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        read = _until(deaf, b"event: response.completed")
    assert read.count(b"event: response.shell_call_output_content.done") == 2


def _resident_bytes(server: Server) -> int:
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def test_the_kernel_watches_for_clients_that_vanished_without_a_word(server: Server) -> None:
    with _connect(server) as connection:
        port = connection.getsockname()[1]
        time.sleep(0.1)
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        (timer,) = [row[5] for row in rows if int(row[2].partition(":")[2], 16) == port]
    # The second kind of timer of proc_net_tcp is keep-alive.
    assert timer.startswith("02:")


def test_the_soft_limit_of_open_files_does_not_limit_connections(launch: Launch) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        server = launch(engine="none")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with ExitStack() as stack:
        for _ in range(400):
            stack.enter_context(_connect(server))
        assert _runs(server) == 0


def test_streams_whose_clients_vanish_end_their_runs(launch: Launch) -> None:
    with upstream_process("--delay", "0.3") as slow:
        server = launch(upstream=slow, engine="none")
        with ExitStack() as stack:
            for _ in range(100):
                connection = stack.enter_context(_connect(server))
                _ask(connection, {"model": "m", "input": "@@ say hi", "stream": True})
            _eventually(server, runs=100)
        _eventually(server, runs=0)
    with server.rows() as rows:
        assert rows.execute("select status, count(*) from responses group by 1").fetchall() == [("cancelled", 100)]


def test_a_response_deleted_while_it_runs_is_gone_and_its_stream_goes_on(server: Server) -> None:
    with server.http() as http, _connect(server) as connection:
        _ask(connection, _shell("echo begun; sleep 0.5; echo over"))
        id_ = re.search(r"resp_\w+", _until(connection, b"output_content.delta").decode())
        assert id_
        path = f"/v1/responses/{id_[0]}"
        assert http.delete(path).json()["deleted"] is True
        assert b"over" in _until(connection, b"event: response.completed")
        assert http.get(path).status_code == 404
        continued = http.post("/v1/responses", json={"model": "m", "input": "x", "previous_response_id": id_[0]})
        assert continued.status_code == 400
        assert "not found" in continued.json()["error"]["message"]


def test_a_container_deleted_under_a_command_ends_the_command_and_not_the_run(server: Server) -> None:
    with server.http() as http, _connect(server) as connection:
        _ask(connection, _shell("echo begun; sleep 60"))
        id_ = re.search(r"cntr_\w+", _until(connection, b"output_content.delta").decode())
        assert id_
        assert http.delete(f"/v1/containers/{id_[0]}").status_code == 200
        asked = time.monotonic()
        ending = _until(connection, b"event: response.completed")
        assert time.monotonic() - asked < 5
        assert b"The container was deleted" in ending


def test_runs_share_a_container(server: Server) -> None:
    client = server.client()
    container = client.containers.create(name="shared")
    tool: Any = {"type": "shell", "environment": {"type": "container_reference", "container_id": container.id}}

    def add(n: int) -> str | None:
        script = f"@@ shell echo {n} >> all; sleep 0.3; true"
        return client.responses.create(model="m", input=script, tools=[tool]).status

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(add, range(6))) == {"completed"}
    told = client.responses.create(model="m", input="@@ shell sort all | tr -d '\\n'", tools=[tool])
    assert "012345" in told.output_text
    client.containers.delete(container.id)
