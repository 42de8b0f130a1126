"""A database or an S3 store that goes away under a running server and comes back: a clear 503 meanwhile, nothing
half-written, and no restart. `test_storage_faults` does the same with disks.
"""

import io
import json
import re
import time
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import psycopg
import pytest

from ..conftest import Launch, upstream_process
from ..postgres import PASSWORD, SAFE, Cluster
from ..postgres import cluster as new_cluster
from ..s3 import ACCESS_KEY, SECRET_KEY, Wire, create_bucket, s3_process

TOLD_SECONDS = 25
ENDINGS = {"response.completed", "response.failed", "response.incomplete", "response.cancelled"}


@pytest.fixture(scope="module")
def own() -> Iterator[Cluster]:
    """A PostgreSQL that tests may stop and kill."""
    with new_cluster(SAFE) as running:
        yield running


def _eventually(true: Callable[[], Any]) -> None:
    deadline = time.monotonic() + TOLD_SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _say(text: str = "hi", **fields: Any) -> dict[str, Any]:
    return {"model": "m", "input": f"@@ say {text}", **fields}


def _upload(http: httpx2.Client, data: bytes = b"y" * 300_000) -> httpx2.Response:
    return http.post("/v1/files", data={"purpose": "user_data"}, files={"file": ("x", data)})


def _add_skill(http: httpx2.Client) -> httpx2.Response:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("greet/SKILL.md", "---\nname: greet\ndescription: Greets.\n---\nSay hello.\n")
    return http.post("/v1/skills", files={"files": ("greet.zip", packed.getvalue(), "application/zip")})


def _check_refused(answer: httpx2.Response, words: str, *secrets: str) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.headers["retry-after"] == "5"
    error = answer.json()["error"]
    assert error["code"] == "storage_unavailable"
    assert re.search(words, error["message"]), error["message"]
    for secret in secrets:
        assert secret not in answer.text


def _events(answer: httpx2.Response) -> list[dict[str, Any]]:
    lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
    return [json.loads(line.removeprefix("data: ")) for line in lines if line != "data: [DONE]"]


def test_a_database_that_is_gone_for_a_while(launch: Launch, own: Cluster) -> None:
    server = launch(engine="none", database_url=own.create("gone_for_a_while"))
    assert not list(server.data_dir.glob("*.sqlite"))
    with server.http() as http:
        kept = http.post("/v1/responses", json=_say("kept")).json()
        own.stop()
        try:
            words = "database server cannot be reached|connection to the database was lost"
            bodies: list[dict[str, Any]] = [
                {},
                {"stream": True},
                {"background": True},
                {"background": True, "stream": True},
            ]
            for fields in bodies:
                _check_refused(http.post("/v1/responses", json=_say(**fields)), words, PASSWORD, str(own.port))
            _check_refused(http.get(f"/v1/responses/{kept['id']}"), words, PASSWORD)
            _check_refused(http.delete(f"/v1/responses/{kept['id']}"), words, PASSWORD)
            _check_refused(_upload(http), words, PASSWORD)
            # What is not stored needs no database.
            assert http.post("/v1/responses", json=_say(store=False)).json()["status"] == "completed"
            _eventually(lambda: http.get("/health").json()["status"] == "degraded")
            trouble = http.get("/health").json()["storage"]["trouble"]
            assert "database" in trouble
            assert PASSWORD not in trouble
            assert str(own.port) not in trouble
        finally:
            own.start()
        _eventually(lambda: http.get("/health").json()["status"] == "ok")
        assert http.get(f"/v1/responses/{kept['id']}").json() == kept
        for fields in bodies[::2]:
            assert http.post("/v1/responses", json=_say(**fields)).status_code == 200
        assert _upload(http).status_code == 200
        _eventually(lambda: http.get("/health").json()["runs"] == 0)
    with psycopg.connect(own.url("gone_for_a_while")) as rows:
        assert rows.execute("select status, count(*) from responses group by 1").fetchall() == [("completed", 3)]
        assert rows.execute("select count(*) from files").fetchone() == (1,)
    log = server.log.read_text()
    assert PASSWORD not in log
    assert "request.crashed" not in log
    assert {path.name for path in (server.data_dir / "blobs").rglob("*") if path.is_file()} == {
        path.name for path in (server.data_dir / "blobs").glob("??/*")
    }


@pytest.mark.parametrize("end", ["stop", "crash"])
@pytest.mark.parametrize("background", [False, True])
def test_a_stream_over_a_restart_of_the_database_has_no_gap_and_one_end(
    launch: Launch, own: Cluster, end: str, background: bool
) -> None:
    name = f"restart_{end}_{background}".lower()
    with upstream_process("--delay", "1") as slow:
        server = launch(upstream=slow, engine="none", database_url=own.create(name))
        script = "@@ note first\n@@ say " + "y" * 100_000
        body = {"model": "m", "input": script, "stream": True, "background": background}
        with server.http() as http:
            with http.stream("POST", "/v1/responses", json=body) as answer:
                assert answer.status_code == 200
                getattr(own, end)()
                own.start()
                events = _events(answer)
            assert [event["sequence_number"] for event in events] == list(range(len(events)))
            assert [event["type"] for event in events if event["type"] in ENDINGS] == ["response.completed"]
            stored = http.get(f"/v1/responses/{events[-1]['response']['id']}").json()
            assert stored["output"] == events[-1]["response"]["output"]
            if background:
                url = f"/v1/responses/{stored['id']}?stream=true&starting_after=-1"
                with http.stream("GET", url) as again:
                    assert _events(again) == events


@pytest.fixture(scope="module")
def s3_port() -> Iterator[int]:
    with s3_process() as port:
        yield port


def test_files_and_skills_in_s3(launch: Launch, s3_port: int) -> None:
    create_bucket(s3_port, "kept")
    wire = Wire(s3_port)
    server = launch(
        engine="none",
        blob_url="s3://kept/prefix",
        s3_endpoint=f"http://127.0.0.1:{wire.port}",
        s3_region="us-east-1",
        s3_access_key=ACCESS_KEY,
        s3_secret_key=SECRET_KEY,
    )
    with server.http() as http:
        file, skill = _upload(http).json(), _add_skill(http).json()
        content = f"/v1/files/{file['id']}/content"
        assert http.get(content).content == b"y" * 300_000
        packed = http.get(f"/v1/skills/{skill['id']}/content").content
        assert zipfile.is_zipfile(io.BytesIO(packed))
        wire.cut()
        for answer in (_upload(http), _add_skill(http), http.get(content)):
            _check_refused(answer, "S3 store does not take or give", SECRET_KEY, ACCESS_KEY, str(wire.port))
        # Responses need no S3.
        assert http.post("/v1/responses", json=_say()).json()["status"] == "completed"
        _eventually(lambda: "S3 store" in (http.get("/health").json()["storage"]["trouble"] or ""))
        wire.mend()
        _eventually(lambda: http.get("/health").json()["status"] == "ok")
        assert http.get(content).content == b"y" * 300_000
        assert _upload(http).status_code == 200
        assert len(http.get("/v1/files").json()["data"]) == 2
        assert http.delete(f"/v1/files/{file['id']}").status_code == 200
        assert http.get(content).status_code == 404
    assert not [path for name in ("blobs", "skills") for path in (server.data_dir / name).rglob("*") if path.is_file()]
    assert SECRET_KEY not in server.log.read_text()
    assert "Traceback" not in server.log.read_text()
    wire.cut()
