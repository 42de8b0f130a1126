"""Disks that are full, read-only or broken while the server runs: a clear 503, nothing half-written, and no restart.

The disks are real ones, mounted for the test and taken away afterwards. The kernel makes no disk read-only on which a
file is open for writing, as the database is. So the database that cannot be written is one that was made immutable
(`chattr +i`, which holds for open files too), and what is remounted read-only is the directory of the files' bytes.
"""

import io
import json
import os
import re
import shutil
import sqlite3
import subprocess
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from ..conftest import Launch, Server, upstream_process
from ..rows import sqlite_only

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts small disks, which only root may")
needs_ext4 = pytest.mark.skipif(
    not all(map(shutil.which, ("mkfs.ext4", "chattr"))), reason="needs mkfs.ext4 and chattr (Debian: e2fsprogs)"
)
TOLD_SECONDS = 25
"""More than the time between two looks at the storage."""
SHELL: Any = {"type": "shell", "environment": {"type": "container_auto"}}
ENDINGS = {"response.completed", "response.failed", "response.incomplete", "response.cancelled"}
BROKEN = "reports an error|read-only"

Ask = Callable[[httpx2.Client], httpx2.Response]


def _say(text: str = "hi", **fields: Any) -> dict[str, Any]:
    return {"model": "m", "input": f"@@ say {text}", **fields}


def _respond(**fields: Any) -> Ask:
    return lambda http: http.post("/v1/responses", json=_say("y" * 300_000, **fields))


def _keyed(http: httpx2.Client) -> httpx2.Response:
    return http.post("/v1/responses", json=_say(), headers={"idempotency-key": uuid4().hex})


def _upload(http: httpx2.Client) -> httpx2.Response:
    return http.post("/v1/files", data={"purpose": "user_data"}, files={"file": ("x", b"y" * 300_000)})


def _add_skill(http: httpx2.Client) -> httpx2.Response:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("greet/SKILL.md", "---\nname: greet\ndescription: Greets.\n---\nSay hello.\n" + "x" * 50_000)
    return http.post("/v1/skills", files={"files": ("greet.zip", packed.getvalue(), "application/zip")})


RECORDS: dict[str, Ask] = {
    "a response": _respond(),
    "a stream": _respond(stream=True),
    "a background response": _respond(background=True),
    "a background stream": _respond(background=True, stream=True),
    "a request with a key": _keyed,
}
BYTES: dict[str, Ask] = {"a file": _upload, "a skill": _add_skill}
WRITES = RECORDS | BYTES


def _run(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], check=True, capture_output=True)


@contextmanager
def _mounted(path: Path, *options: str | Path) -> Iterator[Path]:
    path.mkdir(parents=True, exist_ok=True)
    _run("mount", *options, path)
    try:
        yield path
    finally:
        _run("umount", "-l", path)


@contextmanager
def _ext4(path: Path) -> Iterator[Path]:
    image = path.with_name(f"{path.name}.img")
    with image.open("wb") as file:
        file.truncate(96 << 20)
    _run("mkfs.ext4", "-q", "-F", image)
    with _mounted(path, "-o", "loop", image):
        yield path


@contextmanager
def _full(disk: Path) -> Iterator[None]:
    # Its log could be written over for a while: emptied, it needs room for the next write.
    with closing(sqlite3.connect(disk / "deskhand.sqlite")) as database:
        database.execute("pragma wal_checkpoint(truncate)").fetchall()
    descriptor = os.open(disk / "filler", os.O_WRONLY | os.O_CREAT)
    with suppress(OSError):
        while os.write(descriptor, bytes(4096)):
            pass
    os.close(descriptor)
    try:
        yield
    finally:
        (disk / "filler").unlink()


@contextmanager
def _read_only(directory: Path) -> Iterator[None]:
    with _mounted(directory, "--bind", directory):
        _run("mount", "-o", "remount,bind,ro", directory)
        yield


@contextmanager
def _immutable(data: Path) -> Iterator[None]:
    files = [data / "deskhand.sqlite", data / "deskhand.sqlite-wal"]
    _run("chattr", "+i", *files)
    try:
        yield
    finally:
        _run("chattr", "-i", *files)


def _eventually(true: Callable[[], Any]) -> None:
    deadline = time.monotonic() + TOLD_SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _health(http: httpx2.Client) -> dict[str, Any]:
    answer = http.get("/health")
    assert answer.status_code == 200
    return dict(answer.json())


def _check_told(http: httpx2.Client, words: str) -> None:
    _eventually(lambda: _health(http)["status"] == "degraded")
    storage = _health(http)["storage"]
    assert storage["writable"] is False
    assert re.search(words, storage["trouble"])
    assert not re.search(r"(^|[\s'(])/", storage["trouble"]), "a path is told to whoever asks"


def _check_well(http: httpx2.Client) -> None:
    _eventually(lambda: _health(http)["status"] == "ok")
    assert _health(http)["storage"] == {"writable": True, "trouble": None}


def _check_taken(http: httpx2.Client, writes: dict[str, Ask]) -> None:
    for name, ask in writes.items():
        answer = ask(http)
        assert answer.status_code == 200, (name, answer.text[:500])
    _eventually(lambda: _health(http)["runs"] == 0)


def _check_refused(http: httpx2.Client, writes: dict[str, Ask], words: str) -> None:
    for name, ask in writes.items():
        answer = ask(http)
        assert answer.status_code == 503, (name, answer.text[:500])
        assert answer.headers["retry-after"] == "5", name
        assert answer.headers["content-type"] == "application/json", name
        error = answer.json()["error"]
        assert error["code"] == "storage_unavailable", name
        assert re.search(words, error["message"]), (name, error["message"])


def _deletion(path: str) -> dict[str, Ask]:
    return {"a deletion": lambda http: http.delete(path)}


def _check_whole(server: Server, rounds: int) -> None:
    """After so many rounds of `WRITES`, and what one test keeps: nothing is missing, half there or left over."""
    with closing(sqlite3.connect(server.data_dir / "deskhand.sqlite")) as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
        status = database.execute("select status, count(*) from responses group by 1").fetchall()
        assert status == [("completed", len(RECORDS) * rounds + 1)]
        blobs = {row[0] for row in database.execute("select blob from files")}
        packed = {row[0] for row in database.execute("select blob from skill_versions")}
        assert database.execute("select count(*) from files").fetchone() == (rounds + 1,)
        assert database.execute("select count(*) from skills").fetchone() == (rounds,)
    assert {path.name for path in (server.data_dir / "blobs").rglob("*") if path.is_file()} == blobs
    assert {path.name for path in (server.data_dir / "skills").rglob("*") if path.is_file()} == packed
    assert "Traceback" not in server.log.read_text()


@sqlite_only
def test_a_full_disk_refuses_what_must_be_kept_and_takes_it_once_there_is_room(launch: Launch, tmp_path: Path) -> None:
    with _mounted(tmp_path / "data", "-t", "tmpfs", "-o", "size=48m", "tmpfs") as disk:
        server = launch(engine="none")
        with server.http() as http:
            _check_taken(http, WRITES)
            response, file = http.post("/v1/responses", json=_say("kept")).json(), _upload(http).json()
            path = f"/v1/responses/{response['id']}"
            with _full(disk):
                _check_refused(http, WRITES | _deletion(path), "full|No space")
                assert http.get(path).json() == response
                assert http.get(f"/v1/files/{file['id']}/content").content == b"y" * 300_000
                # What is not stored needs no room.
                assert http.post("/v1/responses", json=_say(store=False)).json()["status"] == "completed"
                _check_told(http, "full|No space")
            _check_taken(http, WRITES)
            _check_well(http)
        _check_whole(server, rounds=2)


@sqlite_only
@needs_ext4
def test_a_database_that_cannot_be_written_is_read_and_written_again_when_it_can(
    launch: Launch, tmp_path: Path
) -> None:
    with _ext4(tmp_path / "data") as disk:
        server = launch(engine="none")
        with server.http() as http:
            _check_taken(http, WRITES)
            response, file = http.post("/v1/responses", json=_say("kept")).json(), _upload(http).json()
            path = f"/v1/responses/{response['id']}"
            with _immutable(disk):
                _check_refused(http, WRITES | _deletion(path) | _deletion(f"/v1/files/{file['id']}"), BROKEN)
                assert http.get(path).json() == response
                assert http.get("/v1/files").json()["data"][0] == file
                assert http.post("/v1/responses", json=_say(store=False)).json()["status"] == "completed"
                _check_told(http, f"database.*({BROKEN})")
            _check_taken(http, WRITES)
            _check_well(http)
        _check_whole(server, rounds=2)


def test_a_read_only_directory_of_bytes_refuses_files_and_nothing_else(launch: Launch, tmp_path: Path) -> None:
    server = launch(engine="none")
    with server.http() as http:
        _check_taken(http, WRITES)
        response, file = http.post("/v1/responses", json=_say("kept")).json(), _upload(http).json()
        with _read_only(server.data_dir / "blobs"), _read_only(server.data_dir / "skills"):
            _check_refused(http, BYTES, "Read-only file system")
            assert http.get(f"/v1/files/{file['id']}/content").content == b"y" * 300_000
            assert http.post("/v1/responses", json=_say()).status_code == 200
            _check_told(http, "files cannot be written: Read-only file system")
        assert http.get(f"/v1/responses/{response['id']}").json() == response
        _check_taken(http, BYTES)
        _check_well(http)


def _events(http: httpx2.Client, body: dict[str, Any], begun: threading.Event) -> list[dict[str, Any]]:
    with http.stream("POST", "/v1/responses", json=body) as answer:
        assert answer.status_code == 200
        begun.set()
        lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


@sqlite_only
@needs_ext4
@pytest.mark.parametrize("background", [False, True], ids=["foreground", "background"])
def test_a_stream_whose_disk_fails_in_the_middle_has_one_ending_which_is_stored(
    launch: Launch, tmp_path: Path, background: bool
) -> None:
    begun, body = threading.Event(), _say("y" * 300_000, stream=True, background=background)
    with upstream_process("--delay", "0.3") as slow, _ext4(tmp_path / "data") as disk:
        server = launch(upstream=slow, engine="none")
        with server.http() as http, server.http() as other, ThreadPoolExecutor(1) as pool:
            reading = pool.submit(_events, http, body, begun)
            assert begun.wait(20)
            with _immutable(disk):
                if background:
                    # Nobody's connection depends on it: it waits for the disk.
                    time.sleep(5)
                    assert _health(other)["runs"] == 1
                    assert not reading.done()
                else:
                    reading.result(TOLD_SECONDS)
            events = reading.result(TOLD_SECONDS)
            assert [event["sequence_number"] for event in events] == list(range(len(events)))
            (ending,) = [event for event in events if event["type"] in ENDINGS]
            assert events[-1] == ending
            told = ending["response"]
            path = f"/v1/responses/{told['id']}"
            _eventually(lambda: other.get(path).json()["status"] == told["status"])
            assert other.get(path).json()["output"] == told["output"]
            if background:
                assert told["status"] == "completed"
            else:
                assert told["status"] == "failed"
                assert re.search(BROKEN, told["error"]["message"])
            _check_taken(other, RECORDS)
            _check_well(other)


@sqlite_only
@needs_ext4
def test_every_background_run_ends_that_was_begun_while_the_disk_came_and_went(launch: Launch, tmp_path: Path) -> None:
    with _ext4(tmp_path / "data") as disk:
        server = launch(engine="none")
        over = threading.Event()

        def begin_many(_: int) -> list[str]:
            made = []
            with server.http() as http:
                while not over.is_set():
                    answer = http.post("/v1/responses", json=_say(background=True))
                    assert answer.status_code in {200, 503}, answer.text
                    made += [answer.json()["id"]] if answer.status_code == 200 else []
            return made

        with ThreadPoolExecutor(4) as pool, server.http() as http:
            beginning = [pool.submit(begin_many, n) for n in range(4)]
            for _ in range(10):
                time.sleep(0.2)
                with _immutable(disk):
                    time.sleep(0.2)
            over.set()
            begun = [id_ for future in beginning for id_ in future.result()]
            assert len(begun) > 50
            _eventually(lambda: _health(http)["runs"] == 0)
            _eventually(lambda: {http.get(f"/v1/responses/{id_}").json()["status"] for id_ in begun} == {"completed"})
        with closing(sqlite3.connect(disk / "deskhand.sqlite")) as database:
            assert database.execute("select count(*) from responses").fetchone() == (len(begun),)


@sqlite_only
def test_a_full_disk_under_a_container_is_told_and_the_server_goes_on(launch: Launch, tmp_path: Path) -> None:
    with _mounted(tmp_path / "data", "-t", "tmpfs", "-o", "size=64m", "tmpfs") as disk:
        server = launch(container_disk_bytes="8000000", container_disk_inodes="500", warm_containers="0")
        with server.http() as http:
            run = {"model": "m", "input": "@@ shell echo well", "tools": [SHELL]}
            assert "well" in http.post("/v1/responses", json=run).text
            container = http.post("/v1/containers", json={"name": "kept"}).json()["id"]
            path = f"/v1/containers/{container}"
            writes: dict[str, Ask] = {
                "a container": lambda http: http.post("/v1/containers", json={"name": "refused"}),
                "a snapshot": lambda http: http.post(f"{path}/snapshots", json={"name": "refused"}),
                "a response": lambda http: http.post("/v1/responses", json=run),
            }
            for name, ask in writes.items():
                # Filled anew for each, as the server itself gives room back now and then.
                with _full(disk):
                    answer = ask(http)
                assert answer.status_code == 503, (name, answer.text)
                assert answer.headers["retry-after"] == "5", name
                assert re.search("full|space", answer.json()["error"]["message"]), (name, answer.text)
            assert "well" in http.post("/v1/responses", json=run).text
            for name, ask in writes.items():
                assert ask(http).status_code == 200, name
