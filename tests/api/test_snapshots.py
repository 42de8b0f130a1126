"""Snapshots, forks and restores over HTTP, and the computers of earlier turns."""

import time
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI

from ..conftest import Launch, Server
from .heard import listening
from .test_isolation import needs_runsc

SHELL: Any = {"type": "shell", "environment": {"type": "container_auto"}}


def reference(container_id: str) -> Any:
    return {"type": "shell", "environment": {"type": "container_reference", "container_id": container_id}}


def ran_in(response: Any) -> str:
    return str(next(item for item in response.output if item.type == "shell_call").environment.container_id)


def shell(client: OpenAI, command: str, tool: Any = SHELL, **fields: Any) -> Any:
    return client.responses.create(model="m", input=f"@@ shell {command}", tools=[tool], **fields)


def said(response: Any) -> str:
    return str(next(item for item in response.output if item.type == "shell_call_output").output[0].stdout)


def listed(http: httpx2.Client, container_id: str) -> list[Any]:
    return list(http.get(f"/v1/containers/{container_id}/snapshots").json()["data"])


def until_listed(http: httpx2.Client, container_id: str, count: int) -> list[Any]:
    """An automatic snapshot comes after the client was told the end."""
    deadline = time.monotonic() + 20
    while len(found := listed(http, container_id)) < count and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(found) == count
    return found


def post(http: httpx2.Client, path: str, **body: Any) -> Any:
    answer = http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_snapshot_is_taken_listed_restored_and_deleted(client: OpenAI, http: httpx2.Client) -> None:
    container = client.containers.create(name="snap")
    where = f"/v1/containers/{container.id}"
    client.containers.files.create(container.id, file=("kept.txt", b"before"))
    taken = post(http, f"{where}/snapshots", name="first")
    assert taken["id"].startswith("csnap_")
    assert taken["bytes"] > 0
    assert {key: taken[key] for key in ("object", "container_id", "name", "automatic")} == {
        "object": "container.snapshot",
        "container_id": container.id,
        "name": "first",
        "automatic": False,
    }
    kept = next(iter(client.containers.files.list(container.id)))
    client.containers.files.delete(kept.id, container_id=container.id)
    client.containers.files.create(container.id, file=("new.txt", b"after"))
    second = post(http, f"{where}/snapshots")
    assert [entry["id"] for entry in listed(http, container.id)] == [second["id"], taken["id"]]
    page = http.get(f"{where}/snapshots", params={"limit": 1, "order": "asc"}).json()
    assert ([entry["id"] for entry in page["data"]], page["has_more"]) == ([taken["id"]], True)

    assert post(http, f"{where}/restore", snapshot_id=taken["id"])["status"] == "running"
    (file,) = client.containers.files.list(container.id)
    assert file.path == "/mnt/data/kept.txt"
    assert client.containers.files.content.retrieve(file.id, container_id=container.id).read() == b"before"

    gone = http.delete(f"{where}/snapshots/{taken['id']}")
    assert gone.json() == {"id": taken["id"], "object": "container.snapshot.deleted", "deleted": True}
    assert http.delete(f"{where}/snapshots/{taken['id']}").status_code == 404
    assert http.post(f"{where}/restore", json={"snapshot_id": taken["id"]}).status_code == 404
    assert post(http, f"{where}/restore", snapshot_id=second["id"])["status"] == "running"
    assert [file.path for file in client.containers.files.list(container.id)] == ["/mnt/data/new.txt"]


def test_a_snapshot_outlives_its_container(client: OpenAI, http: httpx2.Client) -> None:
    container = client.containers.create(name="mortal")
    client.containers.files.create(container.id, file=("f", b"content"))
    taken = post(http, f"/v1/containers/{container.id}/snapshots")
    client.containers.delete(container.id)
    heir = post(http, "/v1/containers", name="heir", snapshot_id=taken["id"])
    (file,) = client.containers.files.list(heir["id"])
    assert client.containers.files.content.retrieve(file.id, container_id=heir["id"]).read() == b"content"
    assert said(shell(client, "cat f; echo more >> f && cat f", reference(heir["id"]))) == "contentcontentmore\n"


@needs_runsc
def test_what_comes_back_is_isolated_as_it_was_unless_the_request_says_how(launch: Launch) -> None:
    server = launch(more_engines="gvisor")
    client = server.client()
    tool: Any = {"type": "shell", "environment": {"type": "container_auto", "isolation": "gvisor"}}
    first = shell(client, "cat /proc/version", tool)
    strong, plain = said(first), Path("/proc/version").read_text()
    assert strong != plain
    with server.http() as http:

        def made(**fields: Any) -> str:
            """What the kernel of a new container says of itself."""
            container = post(http, "/v1/containers", name="heir", **fields)
            return str(post(http, f"/v1/containers/{container['id']}/exec", command="cat /proc/version")["stdout"])

        taken = post(http, f"/v1/containers/{ran_in(first)}/snapshots")
        assert made(response_id=first.id) == strong
        client.containers.delete(ran_in(first))
        assert made(snapshot_id=taken["id"]) == strong
        assert made(snapshot_id=taken["id"], isolation="namespace") == plain
        ordinary = client.containers.create(name="ordinary")
        weak = post(http, f"/v1/containers/{ordinary.id}/snapshots")
        assert made(snapshot_id=weak["id"]) == plain
        assert made(snapshot_id=weak["id"], isolation="gvisor") == strong
    server.process.kill()
    server.process.wait()
    with launch().http() as http:
        refused = http.post("/v1/containers", json={"name": "heir", "snapshot_id": taken["id"]})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "isolation")
        assert post(http, "/v1/containers", name="heir", snapshot_id=weak["id"])["status"] == "running"


def test_a_fork_is_a_computer_of_its_own(client: OpenAI, http: httpx2.Client) -> None:
    first = shell(client, "mkdir d; echo one > d/f; chmod 700 d; ln -s d/f link; pip --version > /dev/null; id -u")
    original = ran_in(first)
    upload = client.containers.files.create(original, file=("mine.txt", b"x"))
    fork = post(http, f"/v1/containers/{original}/fork")["id"]
    assert fork != original
    files = {file.path: file for file in client.containers.files.list(fork)}
    assert files["/mnt/data/mine.txt"].source == "user"
    assert files["/mnt/data/mine.txt"].id != upload.id
    assert said(shell(client, "cat link; echo two > d/f; touch d/new ~/home; id -u", reference(fork))) == "one\n1000\n"
    assert said(shell(client, "cat link; ls d; ls ~", reference(original))) == "one\nf\n"
    again = post(http, f"/v1/containers/{fork}/fork", name="third")
    assert again["name"] == "third"
    assert said(shell(client, "cat link; ls d", reference(again["id"]))) == "two\nf\nnew\n"


def test_any_earlier_turns_computer_comes_back(client: OpenAI, http: httpx2.Client) -> None:
    first = shell(client, "echo one > log")
    container_id = ran_in(first)
    second = shell(client, "echo two >> log; echo x > extra", previous_response_id=first.id)
    talk = client.responses.create(model="m", input="@@ say hi", tools=[SHELL], previous_response_id=second.id)
    third = shell(client, "rm log extra", previous_response_id=talk.id)
    assert {ran_in(second), ran_in(third)} == {container_id}
    assert [entry["automatic"] for entry in until_listed(http, container_id, 3)] == [True] * 3

    for response, expected in ((first, "one\n"), (second, "one\ntwo\nextra\n"), (talk, "one\ntwo\nextra\n")):
        made = post(http, "/v1/containers", name="past", response_id=response.id)["id"]
        continued = shell(client, "cat log; ls extra 2>&-", reference(made), previous_response_id=response.id)
        assert said(continued) == expected
    assert said(shell(client, "ls -A", reference(container_id))) == ""

    post(http, f"/v1/containers/{container_id}/restore", response_id=first.id)
    continued = shell(client, "cat log; ls", previous_response_id=first.id)
    assert (ran_in(continued), said(continued)) == (container_id, "one\nlog\n")


def test_what_has_not_changed_is_not_kept_twice(client: OpenAI, http: httpx2.Client) -> None:
    first = shell(client, "echo one > f")
    container_id = ran_in(first)
    second = shell(client, "cat f", previous_response_id=first.id)
    shell(client, "echo two > f", previous_response_id=second.id)
    snapshots = until_listed(http, container_id, 2)
    made = post(http, "/v1/containers", name="second", response_id=second.id)["id"]
    assert said(shell(client, "cat f", reference(made))) == "one\n"
    assert len({entry["id"] for entry in snapshots}) == 2


def test_a_response_that_is_not_stored_leaves_no_snapshot(client: OpenAI, http: httpx2.Client) -> None:
    first = shell(client, "echo one > f", store=False)
    second = shell(client, "echo two > g", reference(ran_in(first)))
    assert len(until_listed(http, ran_in(second), 1)) == 1
    refused = http.post("/v1/containers", json={"name": "x", "response_id": first.id})
    assert (refused.status_code, refused.json()["error"]["param"]) == (404, "response_id")


def test_automatic_snapshots_are_bounded_and_can_be_switched_off(launch: Launch) -> None:
    few = launch("few", snapshots_per_container="2")
    client = few.client()
    with few.http() as http:
        last = shell(client, "echo 0 > f")
        mine = post(http, f"/v1/containers/{ran_in(last)}/snapshots", name="mine")
        for number in range(1, 5):
            last = shell(client, f"echo {number} > f", previous_response_id=last.id)
        until_deadline = time.monotonic() + 20
        while time.monotonic() < until_deadline:
            names = [entry["name"] for entry in listed(http, ran_in(last))]
            if names == ["", "", "mine"]:
                break
            time.sleep(0.05)
        assert names == ["", "", "mine"]
        post(http, f"/v1/containers/{ran_in(last)}/restore", snapshot_id=mine["id"])
        assert said(shell(client, "cat f", reference(ran_in(last)))) == "0\n"
    off = launch("off", auto_snapshots="false")
    with off.http() as http:
        response = shell(off.client(), "echo 1 > f")
        taken = post(http, f"/v1/containers/{ran_in(response)}/snapshots")
        assert [entry["id"] for entry in listed(http, ran_in(response))] == [taken["id"]]


def test_snapshots_have_a_ceiling_of_room(launch: Launch) -> None:
    server = launch(snapshot_max_bytes="3000000")
    client = server.client()
    with server.http() as http:
        container = client.containers.create(name="big")
        first = post(http, f"/v1/containers/{container.id}/snapshots")
        client.containers.files.create(container.id, file=("big", b"x" * 4_000_000))
        refused = http.post(f"/v1/containers/{container.id}/snapshots", json={})
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert [entry["id"] for entry in listed(http, container.id)] == [first["id"]]
    assert [path.name for path in (server.data_dir / "sandboxes" / "snapshots").iterdir()] == [first["id"]]


def test_nothing_of_another_project_can_be_used(tmp_path: Any, upstream_url: str) -> None:
    from ..conftest import launched

    config = tmp_path / "deskhand.toml"
    config.write_text('[[keys]]\nkey = "sk-a"\nproject = "a"\n[[keys]]\nkey = "sk-b"\nproject = "b"\n')
    with launched(tmp_path / "data", upstream_url, config=str(config)) as server:
        client = server.client("sk-a")
        response = shell(client, "echo secret > f")
        container_id = ran_in(response)
        with server.http("sk-a") as ours, server.http("sk-b") as theirs:
            taken = post(ours, f"/v1/containers/{container_id}/snapshots")
            foreign = theirs.post("/v1/containers", json={"name": "own"}).json()["id"]
            where = f"/v1/containers/{container_id}"
            for method, path, body in (
                ("POST", f"{where}/snapshots", {}),
                ("DELETE", f"{where}/snapshots/{taken['id']}", None),
                ("POST", f"{where}/fork", {}),
                ("POST", f"{where}/restore", {"snapshot_id": taken["id"]}),
                ("POST", f"{where}/exec", {"command": "cat f"}),
                ("POST", "/v1/containers", {"name": "x", "snapshot_id": taken["id"]}),
                ("POST", "/v1/containers", {"name": "x", "response_id": response.id}),
                ("POST", f"/v1/containers/{foreign}/restore", {"snapshot_id": taken["id"]}),
                ("POST", f"/v1/containers/{foreign}/restore", {"response_id": response.id}),
            ):
                answer = theirs.request(method, path, json=body)
                assert answer.status_code == 404, (path, answer.text)
            assert listed(theirs, container_id) == []
            assert len(listed(ours, container_id)) == 2
            made = post(ours, "/v1/containers", name="x", snapshot_id=taken["id"])["id"]
            assert post(ours, f"/v1/containers/{made}/exec", command="cat f")["stdout"] == "secret\n"


def test_a_container_whose_command_runs_is_kept_and_not_put_back(client: OpenAI, http: httpx2.Client) -> None:
    container = client.containers.create(name="busy")
    where = f"/v1/containers/{container.id}"
    taken = post(http, f"{where}/snapshots")
    body = {"command": "echo started; sleep 60", "stream": True}
    with http.stream("POST", f"{where}/exec", json=body) as stream:
        lines = stream.iter_lines()
        assert any("started" in line for line in lines)
        during = post(http, f"{where}/snapshots")
        refused = http.post(f"{where}/restore", json={"snapshot_id": taken["id"]})
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "container_busy")
    assert during["id"] != taken["id"]
    deadline = time.monotonic() + 20
    while (answer := http.post(f"{where}/restore", json={"snapshot_id": taken["id"]})).status_code == 409:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert answer.status_code == 200


def test_a_restored_computer_has_none_of_the_old_processes_and_its_model_is_told(
    client: OpenAI, http: httpx2.Client
) -> None:
    first = shell(client, "setsid -f sleep 1000; until pgrep sleep > /dev/null; do :; done; pgrep -c sleep")
    assert said(first) == "1\n"
    snapshot = until_listed(http, ran_in(first), 1)[0]
    post(http, f"/v1/containers/{ran_in(first)}/restore", snapshot_id=snapshot["id"])
    second = shell(client, "pgrep -c sleep", previous_response_id=first.id)
    assert said(second) == "0\n"


def test_wrong_bodies_are_refused(client: OpenAI, http: httpx2.Client) -> None:
    container = client.containers.create(name="wrong")
    where = f"/v1/containers/{container.id}"
    for path, body, status in (
        (f"{where}/restore", {}, 400),
        (f"{where}/restore", {"snapshot_id": "csnap_1", "response_id": "resp_1"}, 400),
        (f"{where}/restore", {"snapshot_id": "../../etc"}, 404),
        (f"{where}/restore", {"response_id": "resp_none"}, 404),
        (f"{where}/snapshots", {"name": 3}, 400),
        (f"{where}/fork", {"network_policy": {"type": "allowlist"}}, 400),
        ("/v1/containers/cntr_none/fork", {}, 404),
        ("/v1/containers", {"name": "x", "snapshot_id": "csnap_none"}, 404),
    ):
        answer = http.post(path, json=body)
        assert (answer.status_code, "error" in answer.json()) == (status, True), (path, body, answer.text)


def test_snapshots_survive_a_killed_server(launch: Launch) -> None:
    server = launch()
    client = server.client()
    first = shell(client, "echo one > f")
    with server.http() as http:
        until_listed(http, ran_in(first), 1)
        # The link to the response comes after the snapshot.
        deadline = time.monotonic() + 20
        while not _links(server):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    server.process.kill()
    server.process.wait()
    again = launch()
    with again.http() as http:
        assert len(listed(http, ran_in(first))) == 1
        made = post(http, "/v1/containers", name="past", response_id=first.id)["id"]
        assert said(shell(again.client(), "cat f", reference(made))) == "one\n"


def _links(server: Server) -> int:
    with server.rows() as rows:
        return int(rows.execute("SELECT COUNT(*) FROM response_snapshots").fetchone()[0])


@pytest.mark.parametrize("on_expired", ["error", "restore", "recreate"])
def test_an_expired_container_does_what_it_was_told_to(on_expired: str, launch: Launch) -> None:
    """The idle time is a minute at least, so the container is aged in the database."""
    server = launch(on_expired)
    client = server.client()
    tool: Any = {"type": "shell", "environment": {"type": "container_auto", "on_expired": on_expired}}
    first = shell(client, "echo one > f", tool)
    container_id = ran_in(first)
    age(server, container_id)
    if on_expired == "error":
        with pytest.raises(openai.BadRequestError, match="expired"):
            shell(client, "cat f", reference(container_id))
    else:
        expected = "one\n" if on_expired == "restore" else ""
        assert said(shell(client, "cat f", reference(container_id))) == expected
    # Whatever it does, the conversation goes on.
    second = shell(client, "cat f; echo done", tool, previous_response_id=first.id)
    assert said(second) == ("one\ndone\n" if on_expired == "restore" else "done\n")
    assert (ran_in(second) == container_id) == (on_expired != "error")


def age(server: Server, container_id: str) -> None:
    """Let a container be idle for an hour, and wait until the server has noticed."""
    with server.rows() as rows:
        rows.execute("UPDATE containers SET last_active_at = last_active_at - 3600 WHERE id = ?", (container_id,))
    with server.http() as http:
        assert http.get(f"/v1/containers/{container_id}").json()["status"] == "expired"


def test_the_model_is_told_once_that_its_computer_is_another(launch: Launch) -> None:
    with listening() as upstream:
        server = launch(upstream=upstream.url, container_on_expired="restore")
        client = server.client()

        def ask(script: str, after: str | None) -> tuple[Any, str]:
            """The response, and the first prompt that led to it."""
            before = len(upstream.requests)
            tools: Any = [SHELL]
            answer = client.responses.create(model="m", input=script, tools=tools, previous_response_id=after)
            return answer, str(upstream.requests[before].body)

        first, prompt = ask("@@ shell echo one > f", None)
        assert "Note on your computer" not in prompt
        age(server, ran_in(first))
        told, prompt = ask("@@ shell cat f", first.id)
        assert said(told) == "one\n"
        assert "brought back as it was at" in prompt
        later, prompt = ask("@@ say hi", told.id)
        assert "brought back" not in prompt
        assert all("brought back" not in str(item.to_dict()) for item in client.responses.input_items.list(told.id))

        client.containers.delete(ran_in(first))
        fresh, prompt = ask("@@ shell ls", later.id)
        assert ran_in(fresh) != ran_in(first)
        assert "you have a new, empty one" in prompt
        with server.http() as http:
            post(http, f"/v1/containers/{ran_in(fresh)}/restore", response_id=fresh.id)
        assert "put it back" in ask("@@ say hi", fresh.id)[1]
