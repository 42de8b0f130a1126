"""`/v1/containers`, `/v1/containers/{id}/files` and `/v1/files` through the official SDK."""

import io
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI

from ..conftest import Launch

SHELL: Any = {"type": "shell", "environment": {"type": "container_auto"}}


def test_a_container_lives_and_is_deleted(client: OpenAI) -> None:
    made = client.containers.create(
        name="work", memory_limit="1g", expires_after={"anchor": "last_active_at", "minutes": 45}
    )
    wire = made.to_dict()
    assert made.id.startswith("cntr_")
    assert wire["object"] == "container"
    assert wire["status"] == "running"
    assert wire["expires_after"] == {"anchor": "last_active_at", "minutes": 45}
    assert wire["memory_limit"] == "1g"
    assert wire["network_policy"] == {"type": "disabled"}
    assert client.containers.retrieve(made.id).name == "work"
    assert made.id in [container.id for container in client.containers.list(name="work")]
    client.containers.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        client.containers.retrieve(made.id)


@pytest.mark.parametrize("minutes", [0, 525_601, 2**63, 10**30])
def test_a_container_does_not_idle_for_more_than_a_year(client: OpenAI, minutes: int) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.containers.create(name="c", expires_after={"anchor": "last_active_at", "minutes": minutes})
    assert caught.value.param == "expires_after.minutes"
    year = client.containers.create(name="c", expires_after={"anchor": "last_active_at", "minutes": 525_600})
    client.containers.delete(year.id)


def test_files_go_in_and_come_out_byte_for_byte(client: OpenAI) -> None:
    container = client.containers.create(name="files")
    content = bytes(range(256)) * 4096
    file = client.containers.files.create(container.id, file=("in put.bin", content))
    assert (file.path, file.bytes, file.source) == ("/mnt/data/in put.bin", len(content), "user")
    assert file.id.startswith("cfile_")
    assert client.containers.files.content.retrieve(file.id, container_id=container.id).read() == content
    assert client.containers.files.retrieve(file.id, container_id=container.id).to_dict() == file.to_dict()
    client.containers.files.delete(file.id, container_id=container.id)
    with pytest.raises(openai.NotFoundError):
        client.containers.files.retrieve(file.id, container_id=container.id)


def test_an_uploaded_file_can_be_added_by_its_id_and_a_taken_name_is_not_replaced(client: OpenAI) -> None:
    upload = client.files.create(file=("d.csv", b"from files"), purpose="user_data")
    container = client.containers.create(name="ids", file_ids=[upload.id])
    second = client.containers.files.create(container.id, file_id=upload.id)
    assert second.path == "/mnt/data/d-1.csv"
    assert sorted(f.path for f in client.containers.files.list(container.id)) == [
        "/mnt/data/d-1.csv",
        "/mnt/data/d.csv",
    ]


def test_a_file_can_be_put_at_a_path_of_its_own(client: OpenAI, http: httpx2.Client) -> None:
    container = client.containers.create(name="paths")
    for content in (b"one", b"two"):
        answer = http.post(
            f"/v1/containers/{container.id}/files",
            files={"file": ("x", content)},
            data={"path": "/mnt/data/deep/er/x.txt"},
        )
        assert answer.status_code == 200, answer.text
    (file,) = client.containers.files.list(container.id)
    assert file.path == "/mnt/data/deep/er/x.txt"
    assert client.containers.files.content.retrieve(file.id, container_id=container.id).read() == b"two"
    outside = http.post(
        f"/v1/containers/{container.id}/files", files={"file": ("x", b"")}, data={"path": "/mnt/data/../../etc/x"}
    )
    assert outside.status_code == 400
    assert outside.json()["error"]["param"] == "path"


def test_lists_are_paged(client: OpenAI) -> None:
    made = [client.containers.create(name="paged").id for _ in range(5)]
    listed = [container.id for container in client.containers.list(name="paged", limit=2)]
    assert listed == made[::-1]
    assert [c.id for c in client.containers.list(name="paged", order="asc", limit=3)] == made
    for container_id in made:
        client.containers.delete(container_id)


def test_a_project_has_only_so_many_live_containers(launch: Launch) -> None:
    client = launch(max_live_containers="1").client()
    kept = client.containers.create(name="one")
    with pytest.raises(openai.RateLimitError) as raised:
        client.containers.create(name="two")
    assert int(raised.value.response.headers["retry-after"]) > 0
    told = client.responses.create(model="m", input="@@ shell echo hi", tools=[SHELL])
    output = next(item for item in told.output if item.type == "shell_call_output")
    assert "already has 1 live containers" in output.output[0].stderr
    client.containers.delete(kept.id)
    client.containers.create(name="two")


def test_files_are_uploaded_listed_read_and_deleted(client: OpenAI) -> None:
    content = b"hello " * 100_000
    file = client.files.create(
        file=("x.txt", io.BytesIO(content)),
        purpose="user_data",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert file.id.startswith("file-")
    assert (file.bytes, file.filename, file.purpose) == (len(content), "x.txt", "user_data")
    assert file.expires_at == file.created_at + 3600
    assert client.files.content(file.id).read() == content
    assert client.files.retrieve(file.id).to_dict() == file.to_dict()
    assert file.id in [f.id for f in client.files.list(purpose="user_data", limit=5)]
    assert client.files.delete(file.id).to_dict() == {"id": file.id, "object": "file", "deleted": True}
    with pytest.raises(openai.NotFoundError):
        client.files.content(file.id)


def test_a_bad_upload_is_refused_and_not_kept(http: httpx2.Client, client: OpenAI) -> None:
    before = {file.id for file in client.files.list()}
    for data, param in (({}, "purpose"), ({"purpose": "fun"}, "purpose")):
        answer = http.post("/v1/files", files={"file": ("x", b"abc")}, data=data)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    nothing = http.post("/v1/files", data={"purpose": "user_data"}, files={"other": ("x", b"abc")})
    assert (nothing.status_code, nothing.json()["error"]["param"]) == (400, "file")
    json_body = http.post("/v1/files", json={"purpose": "user_data"})
    assert json_body.status_code == 400
    assert {file.id for file in client.files.list()} == before


def test_a_path_that_comes_too_late_is_refused_and_nothing_is_kept(http: httpx2.Client, client: OpenAI) -> None:
    container = client.containers.create(name="late")
    where = f"/v1/containers/{container.id}/files"
    big = ("big.bin", b"x" * 3_000_000)
    late: Any = [("file", big), ("path", (None, "sub/f.bin"))]
    answer = http.post(where, files=late)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "path")
    assert list(client.containers.files.list(container.id)) == []
    early: Any = [("path", (None, "sub/f.bin")), ("file", big)]
    assert http.post(where, files=early).json()["path"] == "/mnt/data/sub/f.bin"
