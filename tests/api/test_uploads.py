"""Files that are uploaded in parts, through the official SDK."""

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import BadRequestError, NotFoundError, OpenAI

from ..conftest import Server, launched

OTHER = "sk-other"
HOUR = 3600


@pytest.fixture(scope="module")
def server(upstream_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with two projects, which takes small files only, and larger ones in parts."""
    folder = tmp_path_factory.mktemp("uploads")
    config = folder / "deskhand.toml"
    config.write_text(
        "max_file_bytes = 1000\nmax_upload_bytes = 2000000\n"
        f'keys = [{{key = "sk-test", project = "a"}}, {{key = "{OTHER}", project = "b"}}]\n'
    )
    with launched(folder / "data", upstream_url, config=str(config)) as running:
        yield running


def begin(client: OpenAI, size: int, **fields: Any) -> Any:
    asked = {"filename": "a.bin", "purpose": "user_data", "mime_type": "application/octet-stream", **fields}
    return client.uploads.create(bytes=size, **asked)


def blobs(data_dir: Path) -> list[str]:
    """The keys of all bytes that are kept."""
    return sorted(path.name for path in (data_dir / "blobs").glob("??/*"))


def test_a_file_in_chunks_by_the_helper_of_the_sdk(client: OpenAI, server: Server, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4000
    file = tmp_path / "large.bin"
    file.write_bytes(content)
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    before = blobs(server.data_dir)
    upload = client.uploads.upload_file_chunked(
        file=file, mime_type="application/octet-stream", purpose="user_data", part_size=300_000, md5=md5
    )
    assert upload.status == "completed"
    assert upload.file is not None
    assert (upload.file.bytes, upload.file.filename, upload.file.purpose) == (len(content), "large.bin", "user_data")
    assert client.files.content(upload.file.id).read() == content
    assert client.files.retrieve(upload.file.id).to_dict() == upload.file.to_dict()
    added = set(blobs(server.data_dir)) - set(before)
    assert added == {hashlib.sha256(content).hexdigest()}, "the bytes of the parts are gone"
    client.files.delete(upload.file.id)
    assert blobs(server.data_dir) == before


def test_an_upload_is_what_the_reference_says(client: OpenAI, http: httpx2.Client) -> None:
    body = {"filename": "a.txt", "purpose": "assistants", "bytes": 3, "mime_type": "text/plain"}
    upload = http.post("/v1/uploads", json=body).json()
    assert upload["id"].startswith("upload_")
    assert upload["expires_at"] - upload["created_at"] == HOUR
    assert {name: upload[name] for name in ("object", "status", "bytes", "filename", "purpose", "file")} == {
        "object": "upload",
        "status": "pending",
        "bytes": 3,
        "filename": "a.txt",
        "purpose": "assistants",
        "file": None,
    }
    part = client.uploads.parts.create(upload["id"], data=b"abc")
    assert (part.object, part.upload_id, part.id[:5]) == ("upload.part", upload["id"], "part_")
    done = client.uploads.complete(upload["id"], part_ids=[part.id])
    assert done.status == "completed"
    assert done.file is not None
    assert done.file.expires_at is None


def test_parts_sent_at_the_same_time_are_put_in_the_order_asked_for(client: OpenAI) -> None:
    pieces = [bytes([65 + n]) * (n + 1) for n in range(12)]
    upload = begin(client, sum(map(len, pieces)))
    with ThreadPoolExecutor(6) as pool:
        ids = list(pool.map(lambda piece: client.uploads.parts.create(upload.id, data=piece).id, pieces))
    done = client.uploads.complete(upload.id, part_ids=list(reversed(ids)))
    assert done.file is not None
    assert client.files.content(done.file.id).read() == b"".join(reversed(pieces))


def test_parts_that_are_sent_again_and_not_named_are_forgotten(client: OpenAI, server: Server) -> None:
    before = blobs(server.data_dir)
    upload = begin(client, 4)
    client.uploads.parts.create(upload.id, data=b"lost")
    part = client.uploads.parts.create(upload.id, data=b"kept")
    done = client.uploads.complete(upload.id, part_ids=[part.id])
    assert done.file is not None
    assert client.files.content(done.file.id).read() == b"kept"
    assert set(blobs(server.data_dir)) - set(before) == {hashlib.sha256(b"kept").hexdigest()}


def test_a_part_with_the_bytes_of_a_file_leaves_the_file_alone(client: OpenAI) -> None:
    file = client.files.create(file=("same.txt", b"same bytes"), purpose="user_data")
    upload = begin(client, 10)
    client.uploads.parts.create(upload.id, data=b"same bytes")
    client.uploads.cancel(upload.id)
    assert client.files.content(file.id).read() == b"same bytes"
    another = begin(client, 10)
    part = client.uploads.parts.create(another.id, data=b"same bytes")
    client.files.delete(file.id)
    done = client.uploads.complete(another.id, part_ids=[part.id])
    assert done.file is not None
    assert client.files.content(done.file.id).read() == b"same bytes"


def test_a_cancelled_upload_takes_nothing_more(client: OpenAI, server: Server) -> None:
    before = blobs(server.data_dir)
    upload = begin(client, 3)
    part = client.uploads.parts.create(upload.id, data=b"abd")
    assert blobs(server.data_dir) != before
    assert client.uploads.cancel(upload.id).status == "cancelled"
    assert blobs(server.data_dir) == before
    for again in (
        lambda: client.uploads.parts.create(upload.id, data=b"x"),
        lambda: client.uploads.complete(upload.id, part_ids=[part.id]),
        lambda: client.uploads.cancel(upload.id),
    ):
        with pytest.raises(BadRequestError, match="is cancelled"):
            again()
    assert blobs(server.data_dir) == before


def test_what_does_not_add_up_is_refused_and_may_be_mended(client: OpenAI) -> None:
    upload = begin(client, 6)
    first, second = (client.uploads.parts.create(upload.id, data=data).id for data in (b"abc", b"def"))
    with pytest.raises(BadRequestError, match="have 3 bytes together; the upload was created for 6"):
        client.uploads.complete(upload.id, part_ids=[first])
    with pytest.raises(BadRequestError, match="more than once"):
        client.uploads.complete(upload.id, part_ids=[first, first])
    with pytest.raises(BadRequestError, match="has no part 'part_other'") as unknown:
        client.uploads.complete(upload.id, part_ids=[first, "part_other"])
    assert unknown.value.param == "part_ids[1]"
    with pytest.raises(BadRequestError, match="MD5") as wrong:
        client.uploads.complete(upload.id, part_ids=[first, second], md5="0" * 32)
    assert wrong.value.param == "md5"
    done = client.uploads.complete(upload.id, part_ids=[first, second])
    assert done.status == "completed"
    with pytest.raises(BadRequestError, match="is completed"):
        client.uploads.complete(upload.id, part_ids=[first, second])


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"bytes": -1}, "bytes"),
        ({"bytes": 2_000_001}, "bytes"),
        ({"bytes": 1 << 70}, "bytes"),
        ({"bytes": "many"}, "bytes"),
        ({"purpose": "fun"}, "purpose"),
        ({"filename": ""}, "filename"),
        ({"filename": ".."}, "filename"),
        ({"mime_type": None}, "mime_type"),
        ({"expires_after": {"anchor": "created_at", "seconds": 3599}}, "expires_after.seconds"),
        ({"expires_after": {"anchor": "now", "seconds": 3600}}, "expires_after.anchor"),
    ],
)
def test_bad_requests_name_what_is_wrong(http: httpx2.Client, fields: dict[str, Any], param: str) -> None:
    body = {"filename": "a.txt", "purpose": "user_data", "bytes": 3, "mime_type": "text/plain"}
    assert http.post("/v1/uploads", json=body).status_code == 200
    answer = http.post("/v1/uploads", json=body | fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_more_bytes_than_were_announced_do_not_pile_up(client: OpenAI) -> None:
    upload = begin(client, 1)
    large = bytes(16 << 20)
    for _ in range(4):
        client.uploads.parts.create(upload.id, data=large)
    with pytest.raises(BadRequestError, match="no room for this part"):
        client.uploads.parts.create(upload.id, data=large)
    client.uploads.cancel(upload.id)


def test_uploads_of_another_project_are_not_there(client: OpenAI, server: Server) -> None:
    upload = begin(client, 3)
    other = server.client(OTHER)
    for reach in (
        lambda: other.uploads.parts.create(upload.id, data=b"abc"),
        lambda: other.uploads.complete(upload.id, part_ids=[]),
        lambda: other.uploads.cancel(upload.id),
    ):
        with pytest.raises(NotFoundError):
            reach()
    assert client.uploads.cancel(upload.id).status == "cancelled"


def test_one_of_many_that_complete_at_once_makes_a_file(client: OpenAI, http: httpx2.Client) -> None:
    upload = begin(client, 300_000)
    part = client.uploads.parts.create(upload.id, data=b"r" * 300_000)
    started, statuses = threading.Barrier(6), []

    def complete() -> None:
        started.wait()
        answer = http.post(f"/v1/uploads/{upload.id}/complete", json={"part_ids": [part.id]})
        statuses.append(answer.status_code)

    threads = [threading.Thread(target=complete) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200, *[400] * 5]
    [file] = [file for file in client.files.list() if file.bytes == 300_000]
    assert client.files.content(file.id).read() == b"r" * 300_000


def test_files_say_when_they_go(client: OpenAI) -> None:
    upload = begin(client, 0, expires_after={"anchor": "created_at", "seconds": 7200})
    done = client.uploads.complete(upload.id, part_ids=[])
    assert done.file is not None
    assert done.file.expires_at == done.file.created_at + 7200
    batch = client.files.create(file=("b.jsonl", b"{}"), purpose="batch")
    assert batch.expires_at == batch.created_at + 30 * 86_400
    assert client.files.create(file=("b.jsonl", b"{}"), purpose="user_data").expires_at is None


def test_an_upload_goes_on_after_a_restart_and_ends_in_time(tmp_path: Path, upstream_url: str) -> None:
    with launched(tmp_path / "data", upstream_url) as server:
        client = server.client()
        upload, late = begin(client, 6), begin(client, 4)
        first = client.uploads.parts.create(upload.id, data=b"abc")
        client.uploads.parts.create(late.id, data=b"late")
    with launched(tmp_path / "data", upstream_url) as server:
        client = server.client()
        second = client.uploads.parts.create(upload.id, data=b"def")
        done = client.uploads.complete(upload.id, part_ids=[first.id, second.id])
        assert done.file is not None
        assert client.files.content(done.file.id).read() == b"abcdef"
        with server.rows() as rows:
            rows.execute("UPDATE uploads SET expires_at = created_at WHERE id = ?", (late.id,))
        with pytest.raises(BadRequestError, match="is expired"):
            client.uploads.parts.create(late.id, data=b"x")
        assert len(blobs(server.data_dir)) == 2
    with launched(tmp_path / "data", upstream_url) as server:
        whole = [hashlib.sha256(b"abcdef").hexdigest()]
        for _ in range(600):
            if blobs(server.data_dir) == whole:
                break
            threading.Event().wait(0.05)
        assert blobs(server.data_dir) == whole
