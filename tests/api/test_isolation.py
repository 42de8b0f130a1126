"""Several engines at once: the operator's minimum, and containers that ask for a stronger one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from deskhand.composition.backing import IsolationTooWeak, require_isolation
from deskhand.ports.sandbox import EngineReport, Finding, Level

from ..conftest import KEY, Launch

NO = Finding("start", False, "it did not start", "mend it", required=True)
needs_runsc = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("runsc") is None, reason="gVisor's runsc is not installed, or this is not root"
)


def report(level: Level, *others: EngineReport, usable: bool = True) -> EngineReport:
    return EngineReport(f"engine-{level}", level, [] if usable else [NO], others)


def shell(**environment: object) -> Any:
    return {"type": "shell", "environment": {"type": "container_auto", **environment}}


def kernel(client: OpenAI, tool: Any, **more: Any) -> tuple[str, str]:
    """What the kernel of the computer says of itself, and the container."""
    response: Any = client.responses.create(model="m", input="@@ shell cat /proc/version", tools=[tool], **more)
    output = response.output[1].output[0].stdout
    return output, response.tools[0].to_dict()["environment"]["container_id"]


def test_the_first_engine_that_is_strong_enough_is_chosen() -> None:
    weak, strong, broken = report("namespace"), report("gvisor"), report("gvisor", usable=False)
    both = report("namespace", broken, strong)
    assert both.choose("namespace") is both
    assert both.choose("gvisor") is strong
    assert both.choose("microvm") is None
    assert report("namespace", broken).choose("gvisor") is None
    assert report("gvisor", weak).choose("namespace") == report("gvisor", weak)


def test_an_engine_below_the_minimum_is_refused_and_a_broken_one_is_not_counted() -> None:
    require_isolation(report("namespace"), "namespace")
    require_isolation(report("gvisor"), "gvisor")
    require_isolation(report("gvisor", report("namespace", usable=False)), "gvisor")
    for found in (report("namespace"), report("gvisor", report("namespace"))):
        with pytest.raises(IsolationTooWeak, match="min_isolation is 'gvisor', and the engine 'engine-namespace'"):
            require_isolation(found, "gvisor")


def test_a_server_below_the_minimum_does_not_start_and_says_why(tmp_path: Path) -> None:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("DESKHAND_")}
    environ |= {"DESKHAND_API_KEY": KEY, "DESKHAND_DATA_DIR": str(tmp_path), "DESKHAND_PORT": "0"}
    environ |= {"DESKHAND_MIN_ISOLATION": "gvisor"}
    argv = [sys.executable, "-m", "deskhand", "serve"]
    ran = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 1
    assert "min_isolation is 'gvisor', and the engine 'bubblewrap' isolates at level 'namespace'" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_level_that_is_not_offered_is_refused(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="isolation 'gvisor' is not offered by this server") as caught:
        client.containers.create(name="c", extra_body={"isolation": "gvisor"})
    assert caught.value.param == "isolation"
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="m", input="@@ shell true", tools=[shell(isolation="gvisor")])
    assert caught.value.param == "tools[0].environment.isolation"
    created = client.containers.create(name="c", extra_body={"isolation": "namespace"})
    client.containers.delete(created.id)


@needs_runsc
def test_a_container_may_ask_for_a_stronger_kernel(launch: Launch) -> None:
    server = launch(more_engines="gvisor")
    client = server.client()
    with server.http() as http:
        health = http.get("/health").json()["isolation"]
    assert (health["engine"], [other["level"] for other in health["others"]]) == ("bubblewrap", ["gvisor"])
    plain, _ = kernel(client, shell())
    strong, first = kernel(client, shell(isolation="gvisor"))
    assert plain == Path("/proc/version").read_text()
    assert strong != plain
    assert "4.4.0" in strong  # what gVisor's kernel calls itself
    explicit: Any = client.containers.create(name="c", extra_body={"isolation": "gvisor"})
    reference = {"type": "shell", "environment": {"type": "container_reference", "container_id": explicit.id}}
    assert kernel(client, reference)[0] == strong
    again = launch(more_engines="gvisor", data="other").client()
    weak: Any = again.responses.create(model="m", input="@@ shell true", tools=[shell()])
    follow, second = kernel(again, shell(isolation="gvisor"), previous_response_id=weak.id)
    assert follow == strong
    assert second not in (first, weak.tools[0].to_dict()["environment"]["container_id"])


@needs_runsc
def test_what_was_better_isolated_is_not_put_into_a_weaker_container(launch: Launch) -> None:
    server = launch(more_engines="gvisor")
    with server.http() as http:
        weak, strong = (
            http.post("/v1/containers", json={"name": "c", "isolation": level}).json()["id"]
            for level in ("namespace", "gvisor")
        )
        of_weak, of_strong = (
            http.post(f"/v1/containers/{container}/snapshots", json={}).json()["id"] for container in (weak, strong)
        )
        refused = http.post(f"/v1/containers/{weak}/restore", json={"snapshot_id": of_strong})
        assert refused.status_code == 400
        assert "isolated as 'gvisor'" in refused.json()["error"]["message"]
        for container, snapshot in ((weak, of_weak), (strong, of_strong), (strong, of_weak)):
            restored = http.post(f"/v1/containers/{container}/restore", json={"snapshot_id": snapshot})
            assert restored.status_code == 200, restored.text
        made = http.post("/v1/containers", json={"name": "c", "snapshot_id": of_strong}).json()["id"]
        fork = http.post(f"/v1/containers/{strong}/fork", json={}).json()["id"]
        for container in (strong, made, fork):
            answer = http.post(f"/v1/containers/{container}/exec", json={"command": "cat /proc/version"})
            assert "4.4.0" in answer.json()["stdout"]  # what gVisor's kernel calls itself
