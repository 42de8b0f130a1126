"""Webhook endpoints: made, read, changed, listed, deleted, and refused."""

import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from openai import BadRequestError, NotFoundError, OpenAI

from deskhand.wire.webhooks import EVENT_TYPES

from ..conftest import Server, launched
from .receiver import register

OTHER = "sk-other"


@pytest.fixture(scope="module")
def server(upstream_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with two projects."""
    folder = tmp_path_factory.mktemp("endpoints")
    config = folder / "deskhand.toml"
    config.write_text(f'keys = [{{key = "sk-test", project = "a"}}, {{key = "{OTHER}", project = "b"}}]\n')
    with launched(folder / "data", upstream_url, config=str(config)) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_endpoints(server: Server) -> Iterator[None]:
    """A project may have only so many, and each test has its own."""
    yield
    client = server.client()
    for endpoint in list(client.webhooks.list(limit=100)):
        client.webhooks.delete(endpoint.id)


def test_endpoints_are_made_read_changed_listed_and_deleted(client: OpenAI, http: httpx2.Client) -> None:
    before = int(time.time())
    made = register(client, "https://example.com/hook?a=1", ["response.completed", "video.failed", "video.failed"])
    assert made.id.startswith("wh")
    assert made.object == "webhook_endpoint"
    assert made.event_types == ["response.completed", "video.failed"]
    assert before <= made.created_at == made.updated_at
    assert made.signing_secret.startswith("whsec_")
    assert made.signing_secret_hint is not None
    assert made.signing_secret_hint not in made.signing_secret
    found = client.webhooks.retrieve(made.id)
    assert found.to_dict() == {name: value for name, value in made.to_dict().items() if name != "signing_secret"}
    assert client.webhooks.update(made.id, name="n").to_dict() == found.to_dict()
    changed = client.webhooks.update(made.id, url="http://example.org:81", event_types=list(EVENT_TYPES))  # type: ignore[arg-type]
    assert (changed.name, changed.url, changed.event_types) == ("n", "http://example.org:81", list(EVENT_TYPES))
    others = [register(client, "https://example.com") for _ in range(4)]
    newest_first = [endpoint.id for endpoint in (*reversed(others), made)]
    assert [endpoint.id for endpoint in client.webhooks.list(limit=2)] == newest_first
    page = http.get("/v1/webhook_endpoints", params={"limit": 2, "after": newest_first[0]}).json()
    assert [entry["id"] for entry in page["data"]] == newest_first[1:3]
    assert (page["object"], page["first_id"], page["last_id"], page["has_more"]) == ("list", *newest_first[1:3], True)
    assert all("signing_secret" not in entry for entry in page["data"])
    gone = client.webhooks.delete(made.id)
    assert gone.to_dict() == {"id": made.id, "object": "webhook_endpoint.deleted", "deleted": True}
    with pytest.raises(NotFoundError):
        client.webhooks.retrieve(made.id)
    assert client.webhooks.event_types.list().data == list(EVENT_TYPES)
    assert len(EVENT_TYPES) == 27


@pytest.mark.parametrize(
    "url",
    [
        "example.com",
        "ftp://example.com",
        "file:///etc/passwd",
        "https://user:hunter2@example.com/",
        "https://user@example.com/",
        "https://example.com/#part",
        "https://exa mple.com/",
        "https://example.com/\r\nx: y",
        "https://example.com:0/",
        "https://example.com:99999/",
        "https://",
        "https://ex%61mple.com/",
        "https:\\\\example.com",
        "https://0x7f.1/",
        "http://10.0.0.1/",
        "http://127.0.0.2/",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/",
        "http://[::ffff:10.0.0.1]/",
        "https://example.com/" + "a" * 2048,
        "",
    ],
)
def test_urls_that_would_never_be_called_are_refused(client: OpenAI, url: str) -> None:
    for refused in (
        lambda: register(client, url),
        lambda: client.webhooks.update(register(client, "https://example.com").id, url=url),
    ):
        with pytest.raises(BadRequestError) as caught:
            refused()
        assert caught.value.param == "url"
        assert "hunter2" not in caught.value.message
    assert register(client, "https://8.8.8.8/").url == "https://8.8.8.8/"


def test_bad_bodies_are_refused(client: OpenAI, http: httpx2.Client) -> None:
    good = {"name": "n", "url": "https://example.com", "event_types": ["response.completed"]}
    made = http.post("/v1/webhook_endpoints", json=good).json()
    one = f"/v1/webhook_endpoints/{made['id']}"
    changes: list[dict[str, Any]] = [
        {"name": ""},
        {"name": "n" * 257},
        {"event_types": []},
        {"event_types": ["response.done"]},
        {"event_types": "response.completed"},
        {"event_types": ["response.completed"] * 28},
        {"secret": "whsec_x"},
    ]
    for change in changes:
        for path in ("/v1/webhook_endpoints", one):
            assert http.post(path, json=good | change).status_code == 400
    for left_out in good:
        body = {name: value for name, value in good.items() if name != left_out}
        answer = http.post("/v1/webhook_endpoints", json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, left_out)
    assert http.post(f"{one}/test", json={}).status_code == 400
    assert http.post(f"{one}/test", json={"event_type": "response.done"}).status_code == 400
    assert http.post(f"{one}/rotate_secret", json={"keep_old_secret_active_for_24_hours": "x"}).status_code == 400
    assert http.post(f"{one}/rotate_secret").status_code == 200


def test_a_project_may_have_so_many_endpoints(client: OpenAI) -> None:
    made = [register(client, "https://example.com") for _ in range(20)]
    with pytest.raises(BadRequestError, match="20 webhook endpoints"):
        register(client, "https://example.com")
    client.webhooks.delete(made[0].id)
    register(client, "https://example.com")


def test_another_projects_endpoint_is_not_there(client: OpenAI, server: Server) -> None:
    endpoint = register(client, "https://example.com")
    one = f"/v1/webhook_endpoints/{endpoint.id}"
    with server.http() as own, server.http(OTHER) as other:
        for method, path in (
            ("GET", one),
            ("POST", one),
            ("DELETE", one),
            ("POST", f"{one}/rotate_secret"),
            ("GET", f"{one}/deliveries"),
            ("POST", f"{one}/deliveries/wh_1/retry"),
        ):
            assert other.request(method, path, json={}).status_code == 404
        assert other.post(f"{one}/test", json={"event_type": "video.failed"}).status_code == 404
        assert other.get("/v1/webhook_endpoints").json()["data"] == []
        assert other.get("/v1/webhook_endpoints", params={"after": endpoint.id}).status_code == 404
        assert own.get(one).json()["updated_at"] == endpoint.updated_at
