"""Webhooks, from the official SDK's calls to a receiver that checks signatures with it."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from openai import BadRequestError, InvalidWebhookSignatureError, OpenAI

from deskhand.wire.webhooks import EVENT_TYPES

from ..conftest import Launch, Server, launched
from ..rows import all_bytes
from .receiver import Answer, Received, Receiver, receiving, register

SHELL: Any = {"type": "shell", "environment": {"type": "container_auto"}}


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture(scope="module")
def server(upstream_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that may call the loopback."""
    data = tmp_path_factory.mktemp("webhooks") / "data"
    with launched(data, upstream_url, allow_private_hosts="127.0.0.1") as running:
        yield running


@pytest.fixture(autouse=True)
def _no_endpoints(server: Server) -> Iterator[None]:
    """A project may have only so many, and each test has its own."""
    yield
    client = server.client()
    for endpoint in list(client.webhooks.list(limit=100)):
        client.webhooks.delete(endpoint.id)


def deliveries(http: httpx2.Client, endpoint_id: str) -> list[Any]:
    """The log of an endpoint, newest first."""
    answer = http.get(f"/v1/webhook_endpoints/{endpoint_id}/deliveries", params={"limit": 100})
    assert answer.status_code == 200
    found: list[Any] = answer.json()["data"]
    return found


def once(http: httpx2.Client, endpoint_id: str, count: int = 1, **expected: object) -> list[Any]:
    """The log of an endpoint, once it has `count` deliveries with these fields."""
    deadline = time.monotonic() + 60
    while True:
        found = deliveries(http, endpoint_id)
        if len([one for one in found if expected.items() <= one.items()]) >= count:
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def unwrapped(client: OpenAI, request: Received, secret: str) -> Any:
    return client.webhooks.unwrap(request.body, request.headers, secret=secret)


def test_every_type_can_be_tested_and_is_read_by_the_sdk(client: OpenAI, http: httpx2.Client) -> None:
    with receiving() as receiver:
        endpoint = register(client, receiver.url("/every"), ["response.completed"])
        for type_ in EVENT_TYPES:
            told = client.webhooks.test(endpoint.id, event_type=type_)  # type: ignore[arg-type]
            assert told.to_dict() == {
                "object": "webhook_endpoint.test",
                "webhook_endpoint_id": endpoint.id,
                "event_type": type_,
                "status_code": 200,
                "success": True,
            }
        requests = receiver.at("/every")
    log = deliveries(http, endpoint.id)
    for request, type_ in zip(requests, EVENT_TYPES, strict=True):
        event = unwrapped(client, request, endpoint.signing_secret)
        assert event.type == type_
        assert event.object == "event"
        assert event.id.startswith("evt_")
        assert event.data.id if hasattr(event.data, "id") else event.data.call_id
        assert request.method == "POST"
        assert request.headers["content-type"] == "application/json"
        assert request.headers["user-agent"].startswith("Deskhand/")
        assert not {"authorization", "cookie"} & request.headers.keys()
        assert any(
            entry["id"] == request.headers["webhook-id"]
            and entry["event_id"] == event.id
            and (entry["type"], entry["state"], entry["attempts"]) == (type_, "delivered", 1)
            for entry in [*log, *deliveries_after(http, endpoint.id, log[-1]["id"])]
        )
    assert client.webhooks.retrieve(endpoint.id).updated_at == endpoint.updated_at


def deliveries_after(http: httpx2.Client, endpoint_id: str, after: str) -> list[Any]:
    found: list[Any] = http.get(
        f"/v1/webhook_endpoints/{endpoint_id}/deliveries", params={"after": after, "limit": 100}
    ).json()["data"]
    return found


def test_signatures_are_of_this_secret_this_body_and_this_moment(client: OpenAI, receiver: Receiver) -> None:
    endpoint = register(client, receiver.url("/signed"))
    client.webhooks.test(endpoint.id, event_type="response.completed")
    (request,) = receiver.at("/signed")
    client.webhooks.verify_signature(request.body, request.headers, secret=endpoint.signing_secret)
    for body, headers in (
        (request.body.replace(b"completed", b"cancelled"), request.headers),
        (request.body, {**request.headers, "webhook-id": "wh_1"}),
        (request.body, {**request.headers, "webhook-timestamp": str(int(request.headers["webhook-timestamp"]) + 1)}),
    ):
        with pytest.raises(InvalidWebhookSignatureError):
            client.webhooks.verify_signature(body, headers, secret=endpoint.signing_secret)
    # The moment is that of the attempt: within seconds of now, for a tolerance of seconds.
    assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 60
    client.webhooks.verify_signature(request.body, request.headers, secret=endpoint.signing_secret, tolerance=60)


def test_a_rotated_secret_signs_beside_the_old_one_or_alone(client: OpenAI, receiver: Receiver) -> None:
    first = register(client, receiver.url("/rotated"))

    def valid(secret: str) -> bool:
        client.webhooks.test(first.id, event_type="response.failed")
        request = receiver.at("/rotated")[-1]
        try:
            unwrapped(client, request, secret)
        except InvalidWebhookSignatureError:
            return False
        return True

    second = client.webhooks.rotate_secret(first.id, keep_old_secret_active_for_24_hours=True)
    assert second.signing_secret != first.signing_secret
    assert second.signing_secret_hint != first.signing_secret_hint
    assert valid(first.signing_secret)
    assert valid(second.signing_secret)
    assert len(receiver.at("/rotated")[-1].headers["webhook-signature"].split(" ")) == 2
    third = client.webhooks.rotate_secret(first.id)
    assert valid(third.signing_secret)
    assert not valid(second.signing_secret)
    assert not valid(first.signing_secret)
    assert len(receiver.at("/rotated")[-1].headers["webhook-signature"].split(" ")) == 1


def test_a_test_tells_what_was_answered(client: OpenAI, http: httpx2.Client, receiver: Receiver) -> None:
    receiver.answers["/broken"] = lambda _: Answer(503)
    broken = register(client, receiver.url("/broken"))
    told = client.webhooks.test(broken.id, event_type="response.completed")
    assert (told.status_code, told.success) == (503, True)
    (entry,) = deliveries(http, broken.id)
    assert (entry["state"], entry["status_code"], entry["error"]) == ("failed", 503, "it answered 503")
    assert entry["next_attempt_at"] is None
    closed = register(client, "http://127.0.0.1:9/hook?token=verysecret")
    with pytest.raises(BadRequestError, match="does not answer") as caught:
        client.webhooks.test(closed.id, event_type="response.completed")
    assert "verysecret" not in caught.value.message
    (entry,) = deliveries(http, closed.id)
    assert (entry["state"], entry["status_code"]) == ("failed", None)


def test_redirects_are_not_followed(client: OpenAI, receiver: Receiver) -> None:
    receiver.answers["/moved"] = lambda _: Answer(307, {"location": receiver.url("/target")})
    moved = register(client, receiver.url("/moved"))
    assert client.webhooks.test(moved.id, event_type="response.completed").status_code == 307
    assert len(receiver.at("/moved")) == 1
    assert receiver.at("/target") == []
    direct = register(client, receiver.url("/target"))
    assert client.webhooks.test(direct.id, event_type="response.completed").status_code == 200
    assert len(receiver.at("/target")) == 1


def test_private_addresses_are_refused_unless_the_operator_names_the_host(
    client: OpenAI, http: httpx2.Client, receiver: Receiver, launch: Launch
) -> None:
    # `localhost` is a name like any other: what it stands for shows when it is called.
    unnamed = register(client, receiver.url("/private", "localhost"))
    with pytest.raises(BadRequestError, match="allow_private_hosts"):
        client.webhooks.test(unnamed.id, event_type="response.completed")
    assert receiver.at("/private") == []
    (entry,) = deliveries(http, unnamed.id)
    assert "private address" in entry["error"]
    allowing = launch(allow_private_hosts="localhost").client()
    named = register(allowing, receiver.url("/private", "localhost"))
    assert allowing.webhooks.test(named.id, event_type="response.completed").status_code == 200
    assert len(receiver.at("/private")) == 1
    with pytest.raises(BadRequestError, match="private address"):
        register(allowing, receiver.url("/private"))


def test_proxies_of_the_environment_are_not_asked(
    launch: Launch, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiving() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        server = launch(allow_private_hosts="127.0.0.1")
        with httpx2.Client(base_url=server.url, headers={"authorization": "Bearer sk-test"}, trust_env=False) as http:
            body = {"name": "n", "url": receiver.url("/direct"), "event_types": ["response.completed"]}
            made = http.post("/v1/webhook_endpoints", json=body).json()
            path = f"/v1/webhook_endpoints/{made['id']}/test"
            assert http.post(path, json={"event_type": "response.completed"}).json()["status_code"] == 200
        assert len(receiver.at("/direct")) == 1
        assert proxy.received == []
        # Others who do ask it reach it.
        httpx2.post("http://example.com/asked", timeout=10)
        assert len(proxy.received) == 1


def end(client: OpenAI, script: str = "@@ say hello", **options: Any) -> str:
    """Begin a response in the background."""
    return str(client.responses.create(model="m", input=script, background=True, **options).id)


def test_the_end_of_a_background_response_is_told(client: OpenAI, http: httpx2.Client, receiver: Receiver) -> None:
    endpoint = register(client, receiver.url("/ends"))
    other = register(client, receiver.url("/ends-too"))
    deaf = register(client, receiver.url("/deaf"), ["response.failed"])
    response_id = end(client)
    (request,) = receiver.wait("/ends")
    event = unwrapped(client, request, endpoint.signing_secret)
    assert (event.type, event.data.id) == ("response.completed", response_id)
    response = client.responses.retrieve(response_id)
    assert response.completed_at is not None
    assert event.created_at == int(response.completed_at)
    body = json.loads(request.body)
    assert body == {
        "id": event.id,
        "object": "event",
        "type": "response.completed",
        "created_at": event.created_at,
        "data": {"id": response_id},
    }
    (too,) = receiver.wait("/ends-too")
    assert unwrapped(client, too, other.signing_secret).id == event.id
    assert too.headers["webhook-id"] != request.headers["webhook-id"]
    with pytest.raises(InvalidWebhookSignatureError):
        unwrapped(client, too, endpoint.signing_secret)
    (entry,) = once(http, endpoint.id, state="delivered")
    assert entry == {
        "id": request.headers["webhook-id"],
        "object": "webhook_delivery",
        "webhook_endpoint_id": endpoint.id,
        "event_id": event.id,
        "type": "response.completed",
        "created_at": entry["created_at"],
        "state": "delivered",
        "attempts": 1,
        "status_code": 200,
        "error": None,
        "next_attempt_at": None,
    }
    # What runs in the foreground is not told of, nor what an endpoint does not ask for.
    client.responses.create(model="m", input="@@ say x")
    last = end(client)
    assert {unwrapped(client, one, endpoint.signing_secret).data.id for one in receiver.wait("/ends", 2)} == {
        response_id,
        last,
    }
    once(http, other.id, 2, state="delivered")
    assert deliveries(http, deaf.id) == []
    assert receiver.at("/deaf") == []


def test_each_way_to_end_has_its_event(client: OpenAI, receiver: Receiver) -> None:
    client.responses.create(model="m", input="@@ shell true", tools=[SHELL])  # from now on commands start at once
    endpoint = register(client, receiver.url("/ways"))
    expected = {
        end(client, "@@ say a b c"): "response.completed",
        end(client, "@@ fail server_error broken"): "response.failed",
        end(client, "@@ incomplete max_output_tokens"): "response.incomplete",
    }
    running = end(client, "@@ shell sleep 60", tools=[SHELL])
    client.responses.cancel(running)
    expected[running] = "response.cancelled"
    found = [unwrapped(client, one, endpoint.signing_secret) for one in receiver.wait("/ways", 4)]
    assert {event.data.id: event.type for event in found} == expected


def test_what_fails_is_tried_again_under_the_same_id(client: OpenAI, http: httpx2.Client, receiver: Receiver) -> None:
    receiver.answers["/mended"] = lambda number: Answer(500 if number < 2 else 204)
    endpoint = register(client, receiver.url("/mended"))
    end(client)
    receiver.wait("/mended")
    (entry,) = once(http, endpoint.id, attempts=1, status_code=500)
    assert (entry["state"], entry["error"]) == ("pending", "it answered 500")
    assert entry["next_attempt_at"] > entry["created_at"]
    # At once, instead of when its pause is over.
    retry = f"/v1/webhook_endpoints/{endpoint.id}/deliveries/{entry['id']}/retry"
    assert http.post(retry).json()["id"] == entry["id"]
    receiver.wait("/mended", 2)
    first, second, third = receiver.wait("/mended", 3)
    assert first.body == second.body == third.body
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == third.headers["webhook-id"] == entry["id"]
    for request in (first, second, third):
        assert unwrapped(client, request, endpoint.signing_secret).type == "response.completed"
    assert int(third.headers["webhook-timestamp"]) > int(first.headers["webhook-timestamp"])
    once(http, endpoint.id, state="delivered", attempts=3, status_code=204)
    # What was taken can be sent again as well.
    http.post(retry)
    assert receiver.wait("/mended", 4)[3].headers["webhook-id"] == entry["id"]
    assert http.post(f"/v1/webhook_endpoints/{endpoint.id}/deliveries/wh_1/retry").status_code == 404


def test_retry_after_and_gone_are_heeded(client: OpenAI, http: httpx2.Client, receiver: Receiver) -> None:
    receiver.answers["/later"] = lambda _: Answer(429, {"retry-after": "3600"})
    receiver.answers["/gone"] = lambda _: Answer(410)
    later, gone = register(client, receiver.url("/later")), register(client, receiver.url("/gone"))
    end(client)
    (entry,) = once(http, later.id, status_code=429)
    assert entry["next_attempt_at"] >= entry["created_at"] + 3600
    (entry,) = once(http, gone.id, state="failed")
    assert (entry["status_code"], entry["next_attempt_at"]) == (410, None)


def test_a_receiver_that_hangs_holds_nobody_up(client: OpenAI, http: httpx2.Client, receiver: Receiver) -> None:
    receiver.answers["/hangs"] = lambda _: Answer(wait_s=10**6)
    hanging = register(client, receiver.url("/hangs"))
    for number in range(24):
        end(client, f"@@ say {number}")
    once(http, hanging.id, 24)
    receiver.wait("/hangs", 4)
    quick = register(client, receiver.url("/quick"))
    more = {end(client, f"@@ say {number}") for number in range(12)}
    found = [unwrapped(client, one, quick.signing_secret).data.id for one in receiver.wait("/quick", 12)]
    assert set(found) == more
    once(http, quick.id, 12, state="delivered")
    # They went past those that hang, of which a few are open at a time; all of those would take minutes.
    assert {entry["state"] for entry in deliveries(http, hanging.id)} == {"pending"}
    assert len(receiver.at("/hangs")) < 36


def test_what_is_owed_survives_a_killed_server(launch: Launch) -> None:
    with receiving() as receiver:
        receiver.answers["/down"] = lambda number: Answer(500 if number == 0 else 200)
        receiver.answers["/hangs"] = lambda number: Answer(wait_s=10**6 if number == 0 else 0)
        first = launch(allow_private_hosts="127.0.0.1")
        client = first.client()
        down, hangs = register(client, receiver.url("/down")), register(client, receiver.url("/hangs"))
        response_id = end(client)
        receiver.wait("/hangs")
        with first.http() as http:
            once(http, down.id, status_code=500)
        first.process.kill()
        first.process.wait()

        second = launch(allow_private_hosts="127.0.0.1")
        for endpoint, path in ((down, "/down"), (hangs, "/hangs")):
            before, after = receiver.wait(path, 2, 60)
            assert before.headers["webhook-id"] == after.headers["webhook-id"]
            assert before.body == after.body
            assert unwrapped(second.client(), after, endpoint.signing_secret).data.id == response_id
            with second.http() as http:
                once(http, endpoint.id, state="delivered", attempts=2)


def test_secrets_are_nowhere(launch: Launch) -> None:
    with receiving() as receiver:
        server = launch(allow_private_hosts="127.0.0.1", log_level="debug")
        client = server.client()
        endpoint = register(client, receiver.url("/kept?findme=1"))
        secrets = [endpoint.signing_secret]
        for keep in (True, False, True):
            rotated = client.webhooks.rotate_secret(endpoint.id, keep_old_secret_active_for_24_hours=keep)
            secrets.append(rotated.signing_secret)
        client.webhooks.test(endpoint.id, event_type="response.completed")
        end(client)
        receiver.wait("/kept?findme=1", 2)
        told = [request.headers["webhook-signature"] for request in receiver.received]
        server.process.kill()
        server.process.wait()
        kept = all_bytes(server.data_dir) + server.log.read_bytes()
    # What is looked for would be found: the URL is kept as it is.
    assert b"findme" in kept
    for secret in secrets:
        bare = secret.removeprefix("whsec_").rstrip("=").encode()
        assert bare not in kept
        assert bare[:12] not in kept
    assert told
    assert all(signature.split(" ")[0].removeprefix("v1,").encode() not in kept for signature in told)
    assert b"findme" not in server.log.read_bytes()
