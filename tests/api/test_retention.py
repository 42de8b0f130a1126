"""What goes with time goes entirely, what is deleted leaves no text behind, and what is not to be stored is not.

Time is moved in the database's rows, while no server has it open.
"""

import re
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from ..conftest import Launch, Server, upstream_process
from ..rows import all_bytes

SHELL: Any = {"type": "shell", "environment": {"type": "container_auto"}}
DAY = 86_400
LONG = 20_000
"""Characters that take several pages of the database."""


def _say(text: str = "hi", **fields: Any) -> dict[str, Any]:
    return {"model": "m", "input": f"@@ say {text}", **fields}


def _make(http: httpx2.Client, **fields: Any) -> str:
    made = http.post("/v1/responses", json=_say(**fields))
    assert made.status_code == 200, made.text
    return str(made.json()["id"])


def _stop(server: Server) -> None:
    server.process.terminate()
    server.process.wait(20)


def _change(server: Server, statement: str, *values: Any) -> None:
    with server.rows() as database:
        assert database.execute(statement, values).rowcount > 0


def _count(server: Server, query: str) -> int:
    with server.rows() as database:
        return int(database.execute(query).fetchone()[0])


def _aged(server: Server, *response_ids: str, days: float) -> None:
    for id_ in response_ids:
        _change(server, "update responses set created_at = created_at - ? where id = ?", int(days * DAY), id_)


def _eventually(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _missing(http: httpx2.Client, response_id: str) -> bool:
    return http.get(f"/v1/responses/{response_id}").status_code == 404


def test_old_responses_go_with_all_that_is_theirs(launch: Launch) -> None:
    server = launch(engine="none")
    with server.http() as http:
        old = [_make(http), _make(http, background=True, stream=False)]
        http.post("/v1/responses", json=_say(background=True, stream=True))
        streamed = str(_newest(server))
        young = _make(http)
        old.append(streamed)
        _eventually(lambda: all(http.get(f"/v1/responses/{id_}").json()["status"] == "completed" for id_ in old))
    _stop(server)
    assert _count(server, "select count(*) from events") > 0
    _aged(server, *old, days=30.01)
    _aged(server, young, days=29.9)
    with launch(engine="none").http() as http:
        _eventually(lambda: all(_missing(http, id_) for id_ in old))
        assert http.get(f"/v1/responses/{young}").status_code == 200
    for table, left in (
        ("responses", 1),
        ("items", 2),
        ("events", 0),
        (f"model_calls where response_id <> '{young}'", 0),
    ):
        assert _count(server, f"select count(*) from {table}") == left


def _newest(server: Server) -> str:
    with server.rows() as database:
        return str(database.execute("select id from responses order by seq desc limit 1").fetchone()[0])


def test_the_age_is_the_operators_and_0_is_for_ever(launch: Launch) -> None:
    server = launch(engine="none", response_retention_days="0.5")
    with server.http() as http:
        old, young = _make(http), _make(http)
    _stop(server)
    _aged(server, old, days=0.6)
    _aged(server, young, days=0.4)
    kept = launch(engine="none", response_retention_days="0")
    with kept.http() as http:
        time.sleep(1)
        assert not _missing(http, old)
    _stop(kept)
    with launch(engine="none", response_retention_days="0.5").http() as http:
        _eventually(lambda: _missing(http, old))
        assert not _missing(http, young)


def test_what_a_younger_response_continues_from_is_read_by_it_until_it_goes(launch: Launch) -> None:
    server = launch(engine="none")
    with server.http() as http:
        root = _make(http, text="root-of-all")
        middle = _make(http, text="middle", previous_response_id=root)
        leaf = _make(http, text="leaf", previous_response_id=middle)
        lone = _make(http, text="lone")
    _stop(server)
    _aged(server, root, middle, lone, days=31)
    server = launch(engine="none")
    with server.http() as http:
        _eventually(lambda: _missing(http, root) and _missing(http, middle) and _missing(http, lone))
        refused = http.post("/v1/responses", json=_say(previous_response_id=root))
        assert refused.status_code == 400
        assert not _missing(http, leaf)
        twig = _make(http, text="twig", previous_response_id=leaf)
    assert _count(server, "select count(*) from responses") == 4
    assert "root-of-all" in _texts(server)
    _stop(server)
    _aged(server, leaf, twig, days=31)
    with launch(engine="none").http() as http:
        _eventually(lambda: _missing(http, leaf) and _missing(http, twig))
    assert _count(server, "select count(*) from responses") == 0
    assert _count(server, "select count(*) from items") == 0


def _texts(server: Server) -> str:
    with server.rows() as database:
        return "".join(row[0] for row in database.execute("select body from items"))


def test_what_still_runs_is_never_too_old(launch: Launch) -> None:
    with upstream_process("--delay", "3") as slow:
        server = launch(upstream=slow, engine="none")
        with server.http() as http:
            made = http.post("/v1/responses", json=_say(background=True)).json()["id"]
            server.process.kill()
            server.process.wait()
        _aged(server, made, days=31)
        with launch(upstream=slow, engine="none").http() as http:
            time.sleep(1)
            assert http.get(f"/v1/responses/{made}").json()["status"] in {"queued", "in_progress"}


def test_a_backlog_of_thousands_goes_while_others_write(launch: Launch) -> None:
    server = launch(engine="none")
    with server.http() as http:
        kept = _make(http)
    _stop(server)
    with server.rows() as database:
        # A chain of 1000 that is as old as its end, and 1000 of their own.
        database.execute(
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < 2000)"
            " insert into responses (id, project_id, previous_id, created_at, status, body)"
            " select 'resp_old' || i, r.project_id, case when i between 2 and 1000 then 'resp_old' || (i - 1) end,"
            " r.created_at - 40 * 86400 + i, 'completed', r.body from n, responses r"
        )
        database.execute(
            "insert into items (response_id, side, position, item_id, type, body)"
            " select r.id, i.side, i.position, i.item_id, i.type, i.body from responses r, items i"
            " where r.id <> ? and i.response_id = ?",
            (kept, kept),
        )
    server = launch(engine="none")
    written = 0
    with server.http() as http:
        while _count(server, "select count(*) from responses where id like 'resp\\_old%' escape '\\'"):
            assert http.post("/v1/responses", json=_say()).status_code == 200
            written += 1
        assert not _missing(http, kept)
    assert written > 10


def test_a_computer_and_its_snapshots_outlive_the_response(launch: Launch) -> None:
    server = launch()
    with server.http() as http:
        ran = http.post(
            "/v1/responses", json={"model": "m", "input": "@@ shell echo kept > f", "tools": [SHELL]}
        ).json()
        container = re.findall(r"cntr_\w+", str(ran))[0]
        path = f"/v1/containers/{container}"
        _eventually(lambda: bool(http.get(f"{path}/snapshots").json()["data"]))
    _stop(server)
    assert _count(server, "select count(*) from response_snapshots") == 1
    _aged(server, ran["id"], days=31)
    with launch().http() as http:
        _eventually(lambda: _missing(http, ran["id"]))
        assert _count(server, "select count(*) from response_snapshots") == 0
        assert len(http.get(f"{path}/snapshots").json()["data"]) == 1
        found = http.post(f"{path}/exec", json={"command": "cat f"})
        assert "kept" in found.text


def test_deleting_leaves_no_text_in_the_database(launch: Launch) -> None:
    server = launch(engine="none")
    kept, short, long = (f"canary{uuid4().hex}" for _ in range(3))
    with server.http() as http:
        _make(http, text=kept, metadata={"of": kept})
        one = _make(http, text=short, metadata={"of": short}, instructions=short)
        many = _make(http, text=long + "x" * LONG + long, background=True)
        _eventually(lambda: http.get(f"/v1/responses/{many}").json()["status"] == "completed")
        assert _traces(server, kept, short, long) == {kept, short, long}
        for id_ in (one, many):
            assert http.delete(f"/v1/responses/{id_}").status_code == 200
        # As the retention job does each minute.
        if (server.data_dir / "deskhand.sqlite").exists():
            with closing(sqlite3.connect(server.data_dir / "deskhand.sqlite")) as database:
                assert database.execute("pragma wal_checkpoint(truncate)").fetchone()[0] == 0
        assert _traces(server, kept, short, long) == {kept}


def test_expiry_leaves_no_text_in_the_database(launch: Launch) -> None:
    server = launch(engine="none")
    kept, long = (f"canary{uuid4().hex}" for _ in range(2))
    with server.http() as http:
        _make(http, text=kept)
        old = _make(http, text=long + "x" * LONG + long)
    _stop(server)
    assert _traces(server, kept, long) == {kept, long}
    _aged(server, old, days=31)
    # The job empties the log itself, with the server running.
    with launch(engine="none").http():
        _eventually(lambda: _traces(server, kept, long) == {kept})


@pytest.mark.parametrize("fields", [{}, {"stream": True}], ids=["plain", "streamed"])
def test_an_unstored_response_leaves_nothing_on_the_disk(launch: Launch, fields: dict[str, Any]) -> None:
    server = launch()
    canaries = {name: f"canary{uuid4().hex}" for name in ("asked", "told", "ran", "meta", "name")}

    def ask(store: bool) -> dict[str, Any]:
        called = f"@@ shell printf '%s%s' {canaries['ran'][:20]} {canaries['ran'][20:]}"
        script = f"{canaries['asked']}\n{called}\n@@ say {canaries['told']}"
        about = {"metadata": {"m": canaries["meta"]}, "instructions": canaries["name"]}
        return {"model": "m", "input": script, "tools": [SHELL], "store": store, **about, **fields}

    with server.http() as http:
        told = http.post("/v1/responses", json=ask(False)).text
        assert all(canary in told for canary in canaries.values() if canary != canaries["asked"])
        time.sleep(0.5)
        assert _traces(server, *canaries.values()) == set()
    _stop(server)
    assert _traces(server, *canaries.values()) == set()
    with launch().http() as http:
        http.post("/v1/responses", json=ask(True))
        assert _traces(server, *canaries.values()) == set(canaries.values())


def test_what_an_unstored_response_was_told_to_run_is_on_the_disk_of_its_container_only(server: Server) -> None:
    canary = f"canary{uuid4().hex}"
    with server.http() as http:
        body = {"model": "m", "input": f"@@ shell echo {canary} > f; sync", "tools": [SHELL], "store": False}
        assert http.post("/v1/responses", json=body).json()["status"] == "completed"
    assert _traces(server, canary) == set()


def _traces(server: Server, *canaries: str) -> set[str]:
    """Those that the database or any file has, but for the disks of containers, which are theirs."""
    stored = all_bytes(server.data_dir)
    found = {canary for canary in canaries if canary.encode() in stored}
    for path in server.data_dir.rglob("*"):
        if path.is_file() and "sandboxes" not in path.relative_to(server.data_dir).parts:
            content = path.read_bytes()
            found |= {canary for canary in canaries if canary.encode() in content}
    return found


def _upload(http: httpx2.Client, content: bytes, **fields: Any) -> httpx2.Response:
    return http.post("/v1/files", data={"purpose": "user_data", **fields}, files={"file": ("x", content)})


def _expiring(seconds: Any) -> dict[str, Any]:
    return {"expires_after[anchor]": "created_at", "expires_after[seconds]": str(seconds)}


@pytest.mark.parametrize("seconds", [3600, 2_592_000])
def test_a_file_says_when_it_expires(http: httpx2.Client, seconds: int) -> None:
    made = _upload(http, b"x", **_expiring(seconds)).json()
    assert made["expires_at"] == made["created_at"] + seconds
    assert http.get(f"/v1/files/{made['id']}").json() == made


@pytest.mark.parametrize("seconds", [3599, 2_592_001, -1, "1e4", "", "x", "9" * 5000, "²"])
def test_a_file_lives_an_hour_at_least_and_thirty_days_at_most(http: httpx2.Client, seconds: Any) -> None:
    refused = _upload(http, b"x", **_expiring(seconds))
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "expires_after[seconds]"
    anchor = _upload(http, b"x", **_expiring(3600) | {"expires_after[anchor]": "last_active_at"})
    assert anchor.json()["error"]["param"] == "expires_after[anchor]"
    alone = _upload(http, b"x", **{"expires_after[anchor]": "created_at"})
    assert alone.json()["error"]["param"] == "expires_after[seconds]", "it would stay for ever"


def test_expired_and_deleted_files_lose_their_bytes_unless_another_file_has_the_same(launch: Launch) -> None:
    server = launch(engine="none")
    alone, shared, dropped = (f"canary{uuid4().hex}" for _ in range(3))
    with server.http() as http:
        expiring = [_upload(http, text.encode() * 100, **_expiring(3600)).json()["id"] for text in (alone, shared)]
        twin = _upload(http, shared.encode() * 100).json()["id"]
        lost = _upload(http, dropped.encode() * 100).json()["id"]
        assert _traces(server, alone, shared, dropped) == {alone, shared, dropped}
        assert http.delete(f"/v1/files/{lost}").status_code == 200
        assert _traces(server, alone, shared, dropped) == {alone, shared}
    _stop(server)
    _change(server, "update files set expires_at = 1 where expires_at is not null")
    with launch(engine="none").http() as http:
        _eventually(lambda: _traces(server, alone, shared) == {shared})
        assert [http.get(f"/v1/files/{id_}").status_code for id_ in expiring] == [404, 404]
        assert http.get(f"/v1/files/{twin}/content").content == shared.encode() * 100
        assert http.delete(f"/v1/files/{twin}").status_code == 200
        assert _traces(server, shared) == set()
    assert _files_left(server.data_dir / "blobs") == []


def _files_left(blobs: Path) -> list[Path]:
    return [path for path in blobs.rglob("*") if path.is_file()]
