"""`deskhand backup` under load, and `deskhand restore` elsewhere: everything reads the same. And archives that lie."""

import hashlib
import io
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import psycopg
import pytest

from ..conftest import Launch, Server
from ..postgres import PASSWORD, Cluster

SQLITE, POSTGRES = "sqlite", "postgres"


def _run(data_dir: Path, *arguments: str | Path, **settings: str) -> "subprocess.CompletedProcess[str]":
    environ = {k: v for k, v in os.environ.items() if not k.startswith("DESKHAND_")}
    environ |= {"DESKHAND_DATA_DIR": str(data_dir)} | {f"DESKHAND_{k.upper()}": v for k, v in settings.items()}
    command = [sys.executable, "-m", "deskhand", *map(str, arguments)]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=100)


def _done(data_dir: Path, *arguments: str | Path, **settings: str) -> str:
    ran = _run(data_dir, *arguments, **settings)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def _refused(data_dir: Path, *arguments: str | Path, **settings: str) -> str:
    ran = _run(data_dir, *arguments, **settings)
    assert ran.returncode == 1, ran.stdout
    assert "Traceback" not in ran.stderr
    return ran.stderr


def _upload(http: httpx2.Client, data: bytes) -> Any:
    return http.post("/v1/files", data={"purpose": "user_data"}, files={"file": ("x", data)}).json()


def _add_skill(http: httpx2.Client) -> Any:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("greet/SKILL.md", "---\nname: greet\ndescription: Greets.\n---\nSay hello.\n")
    return http.post("/v1/skills", files={"files": ("greet.zip", packed.getvalue(), "application/zip")}).json()


def _read(http: httpx2.Client, paths: list[str]) -> list[tuple[int, bytes]]:
    return [((answer := http.get(path)).status_code, answer.content) for path in paths]


@contextmanager
def _load(server: Server) -> Iterator[None]:
    """Writers that store responses, and store and delete files, as fast as they can."""
    stop, failures = threading.Event(), list[str]()

    def write() -> None:
        with server.http() as http:
            while not stop.is_set():
                answers = [http.post("/v1/responses", json={"model": "m", "input": "@@ say x"})]
                file = _upload(http, os.urandom(1000))
                answers.append(http.get(f"/v1/files/{file['id']}/content"))
                answers.append(http.delete(f"/v1/files/{file['id']}"))
                failures.extend(answer.text for answer in answers if answer.status_code != 200)

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures


@contextmanager
def _rows(server: Server, settings: dict[str, str]) -> Iterator[Any]:
    if url := settings["database_url"]:
        with psycopg.connect(url) as postgres:
            yield postgres
    else:
        with closing(sqlite3.connect(server.data_dir / "deskhand.sqlite")) as sqlite:
            yield sqlite


@pytest.fixture(params=[SQLITE, POSTGRES])
def databases(request: pytest.FixtureRequest) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """The settings of the server that is backed up, and of the one that is made of the backup."""
    if request.param == SQLITE:
        yield {"database_url": ""}, {"database_url": ""}
        return
    cluster: Cluster = request.getfixturevalue("postgres")
    names = [f"b_{uuid4().hex}" for _ in range(2)]
    yield {"database_url": cluster.create(names[0])}, {"database_url": cluster.create_empty(names[1])}
    for name in names:
        cluster.drop(name)


def test_what_was_backed_up_under_load_reads_the_same_elsewhere(
    launch: Launch, tmp_path: Path, databases: tuple[dict[str, str], dict[str, str]]
) -> None:
    here, there = databases
    archive = tmp_path / "all.tar"
    server = launch("one", engine="none", **here)
    with server.http() as http:
        first = http.post("/v1/responses", json={"model": "m", "input": "@@ say kept"}).json()
        body = {"model": "m", "input": "@@ say again", "previous_response_id": first["id"]}
        second = http.post("/v1/responses", json=body).json()
        files = [_upload(http, bytes([number]) * 100_000) for number in range(20)]
        skill = _add_skill(http)
        paths = [f"/v1/responses/{first['id']}", f"/v1/responses/{second['id']}"]
        paths += [f"/v1/responses/{second['id']}/input_items", f"/v1/skills/{skill['id']}/content"]
        paths += [f"/v1/files/{file['id']}/content" for file in files]
        before = _read(http, paths)
        with _load(server):
            said = _done(server.data_dir, "backup", archive, **here)
    assert re.search(r"the database and \d+ files", said)
    assert archive.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.glob(".*")] == []
    _done(tmp_path / "two", "restore", archive, **there)
    other = launch("two", engine="none", **there)
    with other.http() as http:
        assert {status for status, _ in before} == {200}
        assert _read(http, paths) == before
        body = {"model": "m", "input": "@@ say on", "previous_response_id": second["id"]}
        assert http.post("/v1/responses", json=body).status_code == 200
        for file in http.get("/v1/files?limit=10000").json()["data"]:
            assert http.get(f"/v1/files/{file['id']}/content").status_code == 200, "a file without its bytes"
    with _rows(other, there) as rows:
        named = {key for (key,) in rows.execute("SELECT blob FROM files")}
    assert {path.name for path in (other.data_dir / "blobs").glob("??/*")} == named
    for path in other.data_dir.iterdir():
        # Nothing is in the lock, and nothing of the engines was restored.
        assert path.name in {"lock", "sandboxes"} or path.stat().st_mode & 0o077 == 0, path


def test_keys_and_sealed_things_work_elsewhere(launch: Launch, tmp_path: Path) -> None:
    """Without a key in the variables, the one that was made belongs to the installation."""
    server = launch("one", engine="none", api_key="", database_url="")
    key = (server.data_dir / "api_key").read_text().strip()
    with server.http(key) as http:
        made = http.post("/v1/responses", json={"model": "m", "input": "@@ say x"}).json()
    archive = tmp_path / "all.tar"
    _done(server.data_dir, "backup", archive)
    _done(tmp_path / "two", "restore", archive)
    for name in ("api_key", "secret_key"):
        restored = tmp_path / "two" / name
        assert restored.read_bytes() == (server.data_dir / name).read_bytes()
        assert restored.stat().st_mode & 0o777 == 0o600
    with launch("two", engine="none", api_key="", database_url="").http(key) as http:
        assert http.get(f"/v1/responses/{made['id']}").json() == made


def test_bytes_that_were_lost_before_are_told(launch: Launch, tmp_path: Path) -> None:
    server = launch("one", engine="none", database_url="")
    with server.http() as http:
        _upload(http, b"lost")
        _upload(http, b"kept")
    digest = hashlib.sha256(b"lost").hexdigest()
    (server.data_dir / "blobs" / digest[:2] / digest).unlink()
    for command, place in (("backup", server.data_dir), ("restore", tmp_path / "two")):
        ran = _run(place, command, tmp_path / "all.tar")
        assert ran.returncode == 0
        assert "and 1 files" in ran.stdout
        assert "the bytes of 1 files" in ran.stderr


def test_nothing_is_overwritten(launch: Launch, tmp_path: Path) -> None:
    server = launch("one", engine="none", database_url="")
    archive = tmp_path / "all.tar"
    _done(server.data_dir, "backup", archive)
    before = archive.read_bytes()
    assert "is there already" in _refused(server.data_dir, "backup", archive)
    assert archive.read_bytes() == before
    assert "is not empty" in _refused(server.data_dir, "restore", archive)
    assert "no database at" in _refused(tmp_path / "none", "backup", tmp_path / "other.tar")
    assert not (tmp_path / "other.tar").exists()


def test_a_database_that_has_something_is_not_restored_into(launch: Launch, tmp_path: Path, postgres: Cluster) -> None:
    url, archive = postgres.create(f"b_{uuid4().hex}"), tmp_path / "all.tar"
    server = launch("one", engine="none", database_url=url)
    _done(server.data_dir, "backup", archive, database_url=url)
    said = _refused(tmp_path / "two", "restore", archive, database_url=url)
    assert "has tables" in said
    assert PASSWORD not in said
    assert "DESKHAND_DATABASE_URL" in _refused(tmp_path / "two", "restore", archive)
    _check_untouched(tmp_path / "two")


def test_without_pg_dump_the_operator_is_told_what_to_do(tmp_path: Path, postgres: Cluster) -> None:
    url, nothing = postgres.create(f"b_{uuid4().hex}"), tmp_path / "bin"
    nothing.mkdir()
    environ = {"PATH": str(nothing), "DESKHAND_DATABASE_URL": url, "DESKHAND_DATA_DIR": str(tmp_path / "data")}
    command = [sys.executable, "-m", "deskhand", "backup", str(tmp_path / "all.tar")]
    ran = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=100)
    assert ran.returncode == 1
    assert "postgresql-client" in ran.stderr
    assert not list(tmp_path.glob("*.tar*"))


def _check_untouched(data_dir: Path) -> None:
    assert {path.name for path in data_dir.iterdir()} <= {"lock"} if data_dir.exists() else True


# What an archive may do to who restores it.


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive with a file in it, and its parts beside it."""
    root = tmp_path_factory.mktemp("good")
    data = root / "data"
    data.mkdir()
    code = (
        "import asyncio, sys; from pathlib import Path; from deskhand.store.sqlite import SqliteDatabase\n"
        "from deskhand.store.files import SqlFiles; from deskhand.store.blobs import DiskBlobs\n"
        "from deskhand.ports.store import FileRecord\n"
        "async def main(data):\n"
        "    async def chunks():\n        yield b'content'\n"
        "    async with SqliteDatabase.open(data / 'deskhand.sqlite') as database:\n"
        "        blob = await DiskBlobs(data / 'blobs').put(chunks(), max_bytes=10)\n"
        "        await SqlFiles(database).add(FileRecord('file_1', 'p', 'x', 7, 'user_data', 1, None, blob.key))\n"
        "asyncio.run(main(Path(sys.argv[1])))"
    )
    subprocess.run([sys.executable, "-c", code, str(data)], check=True)
    (data / "secret_key").write_text("f" * 64)
    _done(data, "backup", root / "all.tar")
    with tarfile.open(root / "all.tar") as archive:
        archive.extractall(root / "parts", filter="data")
    return root


Entry = tuple[tarfile.TarInfo, bytes]


def _entries(good: Path) -> list[Entry]:
    with tarfile.open(good / "all.tar") as archive:
        return [(entry, archive.extractfile(entry).read()) for entry in archive]  # type: ignore[union-attr]


def _written(path: Path, entries: list[Entry]) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for entry, data in entries:
            if entry.isreg():
                entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def _named(name: str, data: bytes = b"x", **fields: Any) -> Entry:
    entry = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(entry, field, value)
    return entry, data


def test_the_control_is_restored(good: Path, tmp_path: Path) -> None:
    archive = _written(tmp_path / "a.tar", _entries(good))
    assert "and 1 files" in _done(tmp_path / "data", "restore", archive)
    digest = hashlib.sha256(b"content").hexdigest()
    assert (tmp_path / "data" / "blobs" / digest[:2] / digest).read_bytes() == b"content"
    with closing(sqlite3.connect(tmp_path / "data" / "deskhand.sqlite")) as database:
        assert database.execute("SELECT id FROM files").fetchall() == [("file_1",)]


HOSTILE: dict[str, Entry] = {
    "a path upwards": _named("../escaped"),
    "a path upwards from a folder": _named("blobs/../../escaped"),
    "an absolute path": _named("/tmp/deskhand-escaped"),
    "a key that is none": _named("keys/authorized_keys"),
    "a key with a path": _named("keys/../../escaped"),
    "a large key": _named("keys/api_key", b"x" * 100_000),
    "bytes under another name": _named(f"blobs/{'0' * 64}", b"other"),
    "a link": _named("keys/api_key", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "a hard link": _named("keys/api_key", b"", type=tarfile.LNKTYPE, linkname="/etc/passwd"),
    "a directory": _named("blobs", b"", type=tarfile.DIRTYPE),
    "a device": _named("database", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
    "a fifo": _named("keys/api_key", b"", type=tarfile.FIFOTYPE),
    "the staging directory": _named(".restoring/x"),
    "a huge header": _named("x" * 3_000_000),
    "a strange name": _named("blobs/\u202e\n\x1b[31m"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_no_backup_has_is_refused_and_nothing_stays(good: Path, tmp_path: Path, name: str) -> None:
    first, *rest = _entries(good)
    archive = _written(tmp_path / "a.tar", [first, HOSTILE[name], *rest])
    said = _refused(tmp_path / "data", "restore", archive)
    assert "\x1b" not in said
    assert "nothing was restored" in said
    _check_untouched(tmp_path / "data")
    assert not (tmp_path / "escaped").exists()
    assert not Path("/tmp/deskhand-escaped").exists()


def _changed(name: str, change: Callable[[bytes], bytes]) -> Callable[[list[Entry]], list[Entry]]:
    def apply(entries: list[Entry]) -> list[Entry]:
        return [(entry, change(data) if entry.name == name else data) for entry, data in entries]

    return apply


DAMAGED: dict[str, tuple[Callable[[list[Entry]], list[Entry]], str]] = {
    "without its end": (lambda entries: entries[:-1], "cut off"),
    "without its begin": (lambda entries: entries[1:], "not a backup"),
    "without its database": (lambda entries: [e for e in entries if e[0].name != "database"], "not whole"),
    "without its bytes": (lambda entries: [e for e in entries if "blobs/" not in e[0].name], "not whole"),
    "with something twice": (lambda entries: [*entries[:2], *entries[1:]], "exists|damaged"),
    "of a newer version": (
        _changed("backup.json", lambda data: json.dumps({**json.loads(data), "format": 99}).encode()),
        "newer version",
    ),
    "with other JSON": (_changed("backup.json", lambda _: b"[]"), "not a backup"),
    "with a cut database": (_changed("database", lambda data: data[:5000]), "damaged|cannot be read"),
    "with no database": (_changed("database", lambda _: b"hello " * 1000), "cannot be read"),
    "with an empty database": (_changed("database", lambda _: b""), "cannot be read"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_backup_is_refused_and_nothing_stays(good: Path, tmp_path: Path, name: str) -> None:
    change, words = DAMAGED[name]
    said = _refused(tmp_path / "data", "restore", _written(tmp_path / "a.tar", change(_entries(good))))
    assert re.search(words, said), said
    _check_untouched(tmp_path / "data")


def test_what_is_cut_anywhere_is_refused(good: Path, tmp_path: Path) -> None:
    whole = (good / "all.tar").read_bytes()
    for size in (0, 1, 511, 512, 700, 2048, len(whole) // 2, len(whole) - 10240 - 600):
        (tmp_path / "a.tar").write_bytes(whole[:size])
        _refused(tmp_path / "data", "restore", tmp_path / "a.tar")
        _check_untouched(tmp_path / "data")


def test_an_entry_larger_than_the_disk_is_refused_before_it_is_written(good: Path, tmp_path: Path) -> None:
    first, *_ = _entries(good)
    archive = _written(tmp_path / "a.tar", [first])
    entry = tarfile.TarInfo("database")
    entry.size = shutil.disk_usage(tmp_path).free * 2
    content = archive.read_bytes()
    archive.write_bytes(content[: content.index(bytes(1024), 512)].ljust(1024, b"\0") + entry.tobuf())
    said = _refused(tmp_path / "data", "restore", archive)
    assert re.search("no room|damaged|cut off", said), said
