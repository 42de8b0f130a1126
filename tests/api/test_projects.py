"""Keys and projects: every `/v1` route needs a key, and what a project makes does not exist for another."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from ..conftest import KEY, Launch, Server

SHELL: Any = {"type": "shell", "environment": {"type": "container_auto"}}


@pytest.mark.parametrize("path", ["/v1/models", "/v1/responses/x", "/v1/containers", "/v1/files", "/v1/nothing"])
@pytest.mark.parametrize("authorization", [None, "Bearer", "Bearer sk-wrong", f"Basic {KEY}", KEY])
def test_every_route_needs_a_key(server: Server, path: str, authorization: str | None) -> None:
    headers = {"authorization": authorization} if authorization else {}
    with server.http(key=None) as http:
        answer = http.get(path, headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert "sk-wrong" not in answer.text


def test_health_needs_none_and_says_what_is_enforced(server: Server) -> None:
    with server.http(key=None) as http:
        health = http.get("/health").json()
    assert health["status"] == "ok"
    assert health["isolation"]["level"] == "namespace"
    assert health["isolation"]["hosted_tools"] is True


@pytest.fixture
def projects(launch: Launch, tmp_path: Path) -> Server:
    config = tmp_path / "deskhand.toml"
    config.write_text(
        '[[keys]]\nkey = "sk-a"\nproject = "proj_a"\n[[keys]]\nkey = "sk-a2"\nproject = "proj_a"\n'
        '[[keys]]\nkey = "sk-b"\nproject = "proj_b"\n'
    )
    return launch(config=str(config), api_key="", max_concurrent_runs="2")


def test_another_projects_things_do_not_exist(projects: Server) -> None:
    a, a2, b = projects.client("sk-a"), projects.client("sk-a2"), projects.client("sk-b")
    response: Any = a.responses.create(model="m", input="@@ shell echo x > f", tools=[SHELL])
    container_id = str(response.output[0].environment.container_id)
    (made,) = a.containers.files.list(container_id)
    upload = a.files.create(file=("x", b"y"), purpose="user_data")

    assert a2.responses.retrieve(response.id).id == response.id
    assert a2.files.content(upload.id).read() == b"y"

    item_id = response.output[0].id
    named: Any = [{"type": "item_reference", "id": item_id}]
    attempts: list[Callable[[], object]] = [
        lambda: b.responses.retrieve(response.id),
        lambda: b.responses.delete(response.id),
        lambda: list(b.responses.input_items.list(response.id)),
        lambda: b.responses.create(model="m", input=named),
        lambda: b.responses.create(
            model="m",
            input="@@ shell cat f",
            tools=[{"type": "shell", "environment": {"type": "container_reference", "container_id": container_id}}],
        ),
        lambda: b.containers.retrieve(container_id),
        lambda: b.containers.delete(container_id),
        lambda: list(b.containers.files.list(container_id)),
        lambda: b.containers.files.content.retrieve(made.id, container_id=container_id),
        lambda: b.containers.files.delete(made.id, container_id=container_id),
        lambda: b.files.retrieve(upload.id),
        lambda: b.files.content(upload.id),
        lambda: b.files.delete(upload.id),
    ]
    for attempt in attempts:
        with pytest.raises(openai.NotFoundError):
            attempt()
    with pytest.raises(openai.BadRequestError, match="not found"):
        b.responses.create(model="m", input="x", previous_response_id=response.id)
    assert list(b.containers.list()) == []
    assert list(b.files.list()) == []
    assert a.containers.files.content.retrieve(made.id, container_id=container_id).read() == b"x\n"


def test_a_project_has_only_so_many_runs_at_once(projects: Server) -> None:
    slow = {"model": "m", "input": "@@ shell sleep 5", "tools": [SHELL], "stream": True}

    with ExitStack() as stack:

        def post(key: str) -> Any:
            http = stack.enter_context(projects.http(key))
            return stack.enter_context(http.stream("POST", "/v1/responses", json=slow))

        first, second = post("sk-a"), post("sk-a")
        third = post("sk-a2")
        third.read()
        assert third.status_code == 429
        assert int(third.headers["retry-after"]) > 0
        assert third.json()["error"]["code"] == "rate_limit_exceeded"
        other = post("sk-b")
        assert (first.status_code, second.status_code, other.status_code) == (200, 200, 200)


def test_a_key_is_made_at_first_start_kept_private_and_shown_once(launch: Launch) -> None:
    first = launch(api_key="")
    shown = first.log.read_text()
    key = (first.data_dir / "api_key").read_text().strip()
    assert (first.data_dir / "api_key").stat().st_mode & 0o777 == 0o600
    assert f"export OPENAI_BASE_URL={first.url}/v1 OPENAI_API_KEY={key}" in shown
    assert first.client(key).models.list().data
    first.process.terminate()
    assert first.process.wait(20) == 0
    again = launch(api_key="")
    assert again.client(key).models.list().data
    assert key not in again.log.read_text()


def test_two_servers_cannot_share_a_data_directory(launch: Launch) -> None:
    launch()
    with pytest.raises(AssertionError, match="Another Deskhand server is using"):
        launch()


def test_keys_are_never_logged(launch: Launch) -> None:
    server = launch(upstream="http://127.0.0.1:9/v1", upstream_key="sk-upstream-secret", log_level="debug")
    response = server.client().responses.create(model="m", input="hi")
    assert response.status == "failed"
    with server.http("sk-somebody-elses") as http:
        assert http.get("/v1/models").status_code == 401
    assert isinstance(http, httpx2.Client)
    told = server.log.read_text() + response.to_json()
    for secret in (KEY, "sk-upstream-secret", "sk-somebody-elses"):
        assert secret not in told
