"""A POST that is sent again under its `Idempotency-Key` is answered again, and done once."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from openai import OpenAI

from ..conftest import KEY, Launch, Server, launched, upstream_process
from ..rows import all_bytes

SHELL: Any = {"type": "shell", "environment": {"type": "container_auto"}}
KEPT = 64


@pytest.fixture(scope="module")
def plain(upstream_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without containers."""
    with launched(tmp_path_factory.mktemp("plain") / "data", upstream_url, engine="none") as running:
        yield running


@pytest.fixture(scope="module")
def web(plain: Server) -> Iterator[httpx2.Client]:
    with plain.http() as http:
        yield http


def _key() -> dict[str, str]:
    return {"idempotency-key": uuid4().hex}


def _say(text: str = "hi", **fields: Any) -> dict[str, Any]:
    return {"model": "m", "input": f"@@ say {text}", **fields}


def _ids(http: httpx2.Client) -> set[str]:
    return {file["id"] for file in http.get("/v1/files").json()["data"]}


def _replayed(answer: httpx2.Response) -> bool:
    return answer.headers.get("idempotent-replayed") == "true"


def _upload(http: httpx2.Client, key: dict[str, str], content: bytes = b"x" * 100_000, **fields: str) -> Any:
    form = {"purpose": "user_data", **fields}
    return http.post("/v1/files", data=form, files={"file": ("x.txt", content)}, headers=key)


def test_a_response_is_made_once_and_told_again(web: httpx2.Client) -> None:
    key = _key()
    first, again = (web.post("/v1/responses", json=_say(), headers=key) for _ in range(2))
    assert first.status_code == again.status_code == 200
    assert first.json() == again.json()
    assert not _replayed(first)
    assert _replayed(again)
    assert again.headers["content-type"] == first.headers["content-type"]
    # Without the key, and with another one, there are two.
    assert web.post("/v1/responses", json=_say()).json()["id"] != first.json()["id"]
    assert web.post("/v1/responses", json=_say(), headers=_key()).json()["id"] != first.json()["id"]


def test_what_include_showed_is_shown_again(server: Server) -> None:
    with server.http() as http:
        key = _key()
        tool = {"type": "code_interpreter", "container": {"type": "auto"}}
        body = {"model": "m", "input": "@@ python print(6 * 7)", "tools": [tool]}
        body["include"] = ["code_interpreter_call.outputs"]
        first, again = (http.post("/v1/responses", json=body, headers=key) for _ in range(2))
    assert _replayed(again)
    assert again.json() == first.json()
    assert "42" in json.dumps(again.json()["output"][0]["outputs"])


def test_a_file_is_kept_once_whatever_boundary_the_client_draws(web: httpx2.Client) -> None:
    key, before = _key(), _ids(web)
    first, again = _upload(web, key), _upload(web, key)
    assert first.request.headers["content-type"] != again.request.headers["content-type"]
    assert again.content == first.content
    assert _replayed(again)
    assert _ids(web) - before == {first.json()["id"]}
    for other in (_upload(web, key, b"y" * 100_000), _upload(web, key, purpose="vision")):
        assert other.status_code == 422


def test_a_container_is_made_once(server: Server) -> None:
    with server.http() as http:
        key = _key()
        first, again = (http.post("/v1/containers", json={"name": "once"}, headers=key) for _ in range(2))
        assert again.content == first.content
        container = first.json()["id"]
        key, body = _key(), {"command": "echo x >> log; wc -l < log"}
        ran = [http.post(f"/v1/containers/{container}/exec", json=body, headers=key) for _ in range(3)]
        assert [answer.status_code for answer in ran] == [200, 200, 200]
        assert ran[0].content == ran[1].content == ran[2].content
        assert "1\\n" in ran[0].text
        http.delete(f"/v1/containers/{container}")


def test_another_request_under_the_key_is_refused_and_the_key_stays(web: httpx2.Client) -> None:
    key = _key()
    first = web.post("/v1/responses", json=_say(), headers=key)
    others = [
        web.post("/v1/responses", json=_say("ho"), headers=key),
        web.post("/v1/responses?x=1", json=_say(), headers=key),
        web.post("/v1/responses/compact", json=_say(), headers=key),
        web.post("/v1/responses", content=json.dumps(_say()).encode(), headers=key),
        web.post("/v1/files", json=_say(), headers=key),
    ]
    for other in others:
        assert other.status_code == 422
        assert other.json()["error"]["code"] == "idempotency_key_reused"
        assert not _replayed(other)
    assert web.post("/v1/responses", json=_say(), headers=key).json() == first.json()


def test_a_key_is_of_its_project(launch: Launch, tmp_path_factory: pytest.TempPathFactory) -> None:
    config = tmp_path_factory.mktemp("keys") / "deskhand.toml"
    config.write_text('[[keys]]\nkey = "sk-b"\nproject = "proj_b"\n')
    server = launch(engine="none", config=str(config))
    key = _key()
    with server.http() as one, server.http("sk-b") as other:
        first = one.post("/v1/responses", json=_say(), headers=key)
        second = other.post("/v1/responses", json=_say(), headers=key)
        assert first.status_code == second.status_code == 200
        assert not _replayed(second)
        assert first.json()["id"] != second.json()["id"]


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there", "é"])
def test_a_key_that_is_none_is_refused(web: httpx2.Client, key: str) -> None:
    answer = web.post("/v1/responses", json=_say(), headers=[(b"idempotency-key", key.encode())])
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "Idempotency-Key"


def test_keys_of_every_allowed_length_and_letter_serve(web: httpx2.Client) -> None:
    letters = "".join(map(chr, range(33, 127)))
    for key in ("x", letters, uuid4().hex.ljust(255, "~")):
        first, again = (web.post("/v1/responses", json=_say(), headers={"idempotency-key": key}) for _ in range(2))
        assert again.json() == first.json()
    two = [(b"idempotency-key", b"a"), (b"idempotency-key", b"b")]
    assert web.post("/v1/responses", json=_say(), headers=two).status_code == 400


def test_other_methods_do_not_look_at_the_key(web: httpx2.Client) -> None:
    key = _key()
    made = web.post("/v1/responses", json=_say(), headers=key).json()
    assert web.get(f"/v1/responses/{made['id']}", headers=key).json() == made
    assert web.delete(f"/v1/responses/{made['id']}", headers=key).status_code == 200
    # What was deleted is not told again, and not made again.
    gone = web.post("/v1/responses", json=_say(), headers=key)
    assert gone.status_code == 404
    assert made["id"] in gone.json()["error"]["message"]


def test_a_request_without_a_valid_project_key_has_no_keys(plain: Server) -> None:
    with plain.http(None) as http:
        assert http.post("/v1/responses", json=_say(), headers=_key()).status_code == 401


def test_a_refusal_is_told_again_and_one_that_read_nothing_is_not(web: httpx2.Client) -> None:
    key, wrong = _key(), {"model": "m", "input": [], "max_turns": 1}
    first, again = (web.post("/v1/responses", json=wrong, headers=key) for _ in range(2))
    assert first.status_code == 400
    assert (again.status_code, again.content) == (400, first.content)
    assert _replayed(again)
    key = _key()
    assert web.post("/v1/nowhere", json=wrong, headers=key).status_code == 404
    assert not _replayed(web.post("/v1/nowhere", json=wrong, headers=key))
    assert web.post("/v1/responses", json=_say(), headers=key).status_code == 200


def test_a_second_request_while_the_first_runs_is_asked_to_wait(launch: Launch) -> None:
    with upstream_process("--delay", "1") as slow:
        server = launch(upstream=slow, engine="none")
        key = _key()

        def ask(delay_s: float) -> httpx2.Response:
            time.sleep(delay_s)
            with server.http() as http:
                return http.post("/v1/responses", json=_say(), headers=key)

        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(ask, (0, 0.5))
        assert first.status_code == 200
        assert second.status_code == 409
        assert second.json()["error"]["code"] == "idempotency_in_progress"
        assert int(second.headers["retry-after"]) > 0
        assert second.headers["x-should-retry"] == "true"
        # The SDK tries a 409 again by itself, so both of its threads have the one response.
        key = _key()

        def create(delay_s: float) -> str:
            time.sleep(delay_s)
            with OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=5) as client:
                return client.responses.create(model="m", input="@@ say hi", extra_headers=key).id

        with ThreadPoolExecutor(2) as pool:
            one, other = pool.map(create, (0, 0.5))
        assert one == other


def test_many_at_once_make_one(plain: Server) -> None:
    key = _key()

    def ask(_: int) -> httpx2.Response:
        with plain.http() as http:
            return http.post("/v1/responses", json=_say(), headers=key)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(64)))
    told = [answer for answer in answers if answer.status_code == 200]
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert len({answer.json()["id"] for answer in told}) == 1
    assert sum(not _replayed(answer) for answer in told) == 1


def test_a_stream_is_told_again_byte_by_byte(web: httpx2.Client) -> None:
    both: list[dict[str, Any]] = [{}, {"store": False}]
    for fields in both:
        key = _key()
        first, again = (web.post("/v1/responses", json=_say(stream=True, **fields), headers=key) for _ in range(2))
        assert b"event: response.completed" in first.content
        assert again.content == first.content
        assert _replayed(again)
        assert again.headers["content-type"] == first.headers["content-type"]


def test_a_stream_too_long_to_keep_is_not_made_again(plain: Server, web: httpx2.Client) -> None:
    key, body = _key(), _say("x" * 9_000_000, stream=True)
    first = web.post("/v1/responses", json=body, headers=key)
    assert b"event: response.completed" in first.content
    again = web.post("/v1/responses", json=body, headers=key)
    assert again.status_code == 409
    assert again.headers["x-should-retry"] == "false"
    id_ = again.json()["error"]["message"].partition("/v1/responses/")[2].partition(" ")[0]
    assert web.get(f"/v1/responses/{id_}").json()["status"] == "completed"


def test_a_background_response_is_begun_once_and_told_as_it_is(launch: Launch) -> None:
    with upstream_process("--delay", "0.5") as slow:
        server = launch(upstream=slow, engine="none")
        with server.http() as http:
            key = _key()
            first, again = (http.post("/v1/responses", json=_say(background=True), headers=key) for _ in range(2))
            assert first.json()["id"] == again.json()["id"]
            assert again.json()["status"] in {"queued", "in_progress"}
            _until_ended(http, first.json()["id"])
            ended = http.post("/v1/responses", json=_say(background=True), headers=key).json()
            assert (ended["id"], ended["status"]) == (first.json()["id"], "completed")


def test_a_background_stream_goes_on_from_its_log_while_the_first_still_reads_it(launch: Launch) -> None:
    with upstream_process("--delay", "1") as slow:
        server = launch(upstream=slow, engine="none")
        key = _key()

        def ask(delay_s: float) -> httpx2.Response:
            time.sleep(delay_s)
            with server.http() as http:
                return http.post("/v1/responses", json=_say(background=True, stream=True), headers=key)

        with ThreadPoolExecutor(2) as pool:
            first, again = pool.map(ask, (0, 0.5))
        assert _replayed(again)
        assert _data(first) == _data(again)
        assert b"response.completed" in again.content


def test_a_client_that_went_away_has_its_response_made_when_it_comes_again(launch: Launch) -> None:
    with upstream_process("--delay", "1") as slow:
        server = launch(upstream=slow, engine="none")
        key = _key()
        with server.http() as http:
            with http.stream("POST", "/v1/responses", json=_say(stream=True), headers=key) as cut:
                next(cut.iter_lines())
            answer = _when_free(http, _say(stream=True), key)
            assert b"event: response.completed" in answer.content
            assert not _replayed(answer)


def test_a_client_that_leaves_as_soon_as_it_has_the_ending_does_not_free_its_key(plain: Server) -> None:
    for _ in range(20):
        key = _key()
        with plain.http() as http:
            with http.stream("POST", "/v1/responses", json=_say(stream=True), headers=key) as cut:
                told = next(line for line in cut.iter_lines() if '"type":"response.completed"' in line)
        response_id = json.loads(told.removeprefix("data: "))["response"]["id"]
        with plain.http() as http:
            again = http.post("/v1/responses", json=_say(stream=True), headers=key)
            while again.status_code == 409 and again.json()["error"]["code"] == "idempotency_in_progress":
                again = http.post("/v1/responses", json=_say(stream=True), headers=key)
        assert response_id in again.text
        assert _replayed(again) or again.json()["error"]["code"] == "idempotency_answer_not_kept"


def test_what_the_upstream_or_the_server_failed_at_may_be_tried_again(launch: Launch) -> None:
    with upstream_process("--delay", "1") as slow:
        server = launch(upstream=slow, engine="none", max_concurrent_runs="1")
        key = _key()
        with server.http() as http, ThreadPoolExecutor(1) as pool:
            running = pool.submit(http.post, "/v1/responses", json=_say())
            time.sleep(0.5)
            with server.http() as other:
                assert other.post("/v1/responses", json=_say(), headers=key).status_code == 429
                assert running.result().status_code == 200
                made = other.post("/v1/responses", json=_say(), headers=key)
                assert made.status_code == 200
                assert not _replayed(made)


def test_keys_outlive_a_restart_and_what_was_only_in_memory_is_not_done_again(launch: Launch) -> None:
    server = launch(engine="none")
    requests = {
        "stored": _say(),
        "unstored": _say(store=False),
        "streamed": _say(stream=True),
    }
    keys = {name: _key() for name in [*requests, "file"]}
    with server.http() as http:
        first = {name: http.post("/v1/responses", json=body, headers=keys[name]) for name, body in requests.items()}
        first["file"] = _upload(http, keys["file"])
    server.process.terminate()
    server.process.wait(20)
    with launch(engine="none").http() as http:
        again = {name: http.post("/v1/responses", json=body, headers=keys[name]) for name, body in requests.items()}
        again["file"] = _upload(http, keys["file"])
        assert _ids(http) == {first["file"].json()["id"]}
    assert again["stored"].json() == first["stored"].json()
    assert again["file"].content == first["file"].content
    for name in ("unstored", "streamed"):
        assert again[name].status_code == 409
        assert again[name].json()["error"]["code"] == "idempotency_answer_not_kept"


def test_a_key_is_over_after_its_day(launch: Launch) -> None:
    server, key = launch(engine="none"), _key()
    with server.http() as http:
        first = http.post("/v1/responses", json=_say(), headers=key).json()
    server.process.terminate()
    server.process.wait(20)
    with server.rows() as database:
        database.execute("update idempotency_keys set expires_at = expires_at - 86400")
    with launch(engine="none").http() as http:
        second = http.post("/v1/responses", json=_say(), headers=key)
        assert not _replayed(second)
        assert second.json()["id"] != first["id"]


def test_a_killed_server_leaves_no_key_locked_and_makes_no_second_response(launch: Launch) -> None:
    server = launch()
    keys = {name: _key() for name in ("foreground", "background", "upload")}
    run: dict[str, Any] = {"model": "m", "input": "@@ shell echo begun >> log; sleep 3", "tools": [SHELL]}
    body: dict[str, Any] = {"foreground": run, "background": {**run, "background": True}}
    begun = threading.Event()

    def ask() -> None:
        with server.http() as http:
            try:
                http.post("/v1/responses", json=body["foreground"], headers=keys["foreground"])
            except httpx2.HTTPError:
                begun.set()

    threading.Thread(target=ask, daemon=True).start()
    with server.http() as http:
        queued = http.post("/v1/responses", json=body["background"], headers=keys["background"]).json()
        _running(http, 2)
    server.process.kill()
    server.process.wait()
    assert begun.wait(10)
    with server.rows() as database:
        database.execute("update idempotency_keys set lease_until = 1 where ended = 0")
        (foreground,) = database.execute(
            "select response_id from idempotency_keys where key = ?", (keys["foreground"]["idempotency-key"],)
        ).fetchone()
    with launch().http() as http:
        again = _when_free(http, body["foreground"], keys["foreground"])
        assert again.json()["id"] == foreground
        assert again.json()["status"] == "failed"
        assert _replayed(again)
        same = http.post("/v1/responses", json=body["background"], headers=keys["background"])
        assert same.json()["id"] == queued["id"]
        _until_ended(http, queued["id"])


def test_nothing_readable_is_kept_with_a_key(launch: Launch) -> None:
    server, canary = launch(engine="none"), f"canary-{uuid4().hex}"
    with server.http() as http:
        for fields in ({"store": False}, {"store": False, "stream": True}):
            assert canary in http.post("/v1/responses", json=_say(canary, **fields), headers=_key()).text
        assert canary in _upload(http, _key(), b"x", purpose=canary).text
    server.process.terminate()
    server.process.wait(20)
    assert canary.encode() not in all_bytes(server.data_dir)
    with server.rows() as database:
        sealed = database.execute("select length(sealed) from idempotency_keys").fetchall()
    assert len(sealed) == 3
    assert all(size > KEPT for (size,) in sealed)


def test_what_is_not_to_be_stored_is_not_stored_when_it_is_refused(plain: Server) -> None:
    """Nor when another host answers it: what this one keeps of it is no larger than of what it never saw."""
    named = f"resp_{uuid4().hex * 8}"
    with plain.http() as http:
        for store in (True, False):
            body, key = _say(store=store, previous_response_id=named), _key()
            first, again = (http.post("/v1/responses", json=body, headers=key) for _ in range(2))
            assert (first.status_code, again.status_code) == (400, 400)
            assert named in again.json()["error"]["message"]
            assert _replayed(again)
            with plain.rows() as database:
                query = "select length(sealed) from idempotency_keys where key = ?"
                ((size,),) = database.execute(query, (key["idempotency-key"],)).fetchall()
            assert (size > len(named)) == store


def _data(answer: httpx2.Response) -> list[str]:
    return [line for line in answer.text.splitlines() if line.startswith("data: ")]


def _running(http: httpx2.Client, runs: int) -> None:
    deadline = time.monotonic() + 30
    while http.get("/health").json()["runs"] != runs:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _until_ended(http: httpx2.Client, response_id: str) -> None:
    deadline = time.monotonic() + 30
    while http.get(f"/v1/responses/{response_id}").json()["status"] in {"queued", "in_progress"}:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _when_free(http: httpx2.Client, body: dict[str, Any], key: dict[str, str]) -> httpx2.Response:
    """Ask until the key is not held."""
    deadline = time.monotonic() + 30
    while (answer := http.post("/v1/responses", json=body, headers=key)).status_code == 409:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return answer
