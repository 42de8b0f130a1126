"""L: containers that expire, are deleted, snapshotted, forked and killed while something goes on in them."""

import asyncio
import os
import signal
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from deskhand.ports.sandbox import SandboxError, SandboxGone, SandboxSpec
from deskhand.sandboxes.layout import layout, load
from deskhand.testing.conformance_sandbox_bench import SMALL, Bench, chunks

from ..conftest import Launch
from .cases import case
from .census import traces
from .conftest import settled
from .product import Product
from .test_files import answered

pytestmark = pytest.mark.anyio


@case("L02", "delete a container while its commands run, its files are read and written, twice at once",
      "200 or 404; what ran ends with an answer; nothing is left")  # fmt: skip
def test_a_deletion_ends_what_goes_on(product: Product) -> None:
    container = product.shell("head -c 30M /dev/urandom > big").container_id
    with product.http() as client:
        file = client.get(f"/v1/containers/{container}/files").json()["data"][0]["id"]

    def delete(_: int) -> int:
        time.sleep(0.3)
        with product.http() as client:
            return client.delete(f"/v1/containers/{container}").status_code

    def download(_: int) -> int:
        with (
            product.http() as client,
            client.stream("GET", f"/v1/containers/{container}/files/{file}/content") as answer,
        ):
            try:
                for _chunk in answer.iter_bytes(1 << 16):
                    time.sleep(0.002)
            except Exception:
                return 0
            return answer.status_code

    with ThreadPoolExecutor(12) as pool:
        running = [pool.submit(product.shell, "sleep 30; echo ended", container) for _ in range(3)]
        reading = [pool.submit(download, n) for n in range(3)]
        writing = [pool.submit(product.upload, container, bytes(20 << 20), path=f"/mnt/data/{n}") for n in range(2)]
        deleting = [pool.submit(delete, n) for n in range(3)]
        assert sorted(task.result(30) for task in deleting) == [200, 404, 404]
        for command in running:
            assert "ended" not in command.result(30).stdout
        assert all(answered(task.result(30)) in (200, 400, 404) for task in writing)
        assert all(task.result(30) in (0, 200, 404) for task in reading)
    place = layout(product.root, as_root=os.geteuid() == 0).place(container)
    assert not place.data.exists()
    assert not place.runtime.exists()
    with product.http() as client:
        assert client.delete(f"/v1/containers/{container}").status_code == 404


@case(
    "L02", "destroy a container at every moment of its allocation, its start and its first command", "nothing is left"
)
async def test_a_container_destroyed_while_it_is_made_is_gone(bench: Bench, root: Path) -> None:
    before = len(traces(root))
    for step in range(16):
        name = f"raced-{step}"

        async def live(name: str = name) -> None:
            await bench.engine.allocate(name, SMALL)
            sandbox = await bench.engine.start(SandboxSpec(name, SMALL))
            await sandbox.ping()
            await bench.engine.workspace(name).write("f", chunks(bytes(1 << 20)))

        living = asyncio.ensure_future(live())
        await asyncio.sleep(0.004 * step)
        await bench.engine.destroy(name)
        await asyncio.wait([living], timeout=20)
        assert living.done()
        assert living.exception() is None or isinstance(living.exception(), SandboxError)
        await bench.engine.destroy(name)
    for _ in range(100):
        if len(traces(root)) == before:
            break
        await asyncio.sleep(0.05)
    assert len(traces(root)) == before


@case("L10", "leave something in a container for its next user", "there is no next user: ids, files, processes are new")
async def test_a_container_is_never_used_twice(bench: Bench) -> None:
    secret = "canary-of-the-first"
    async with bench.desk() as first:
        await first.run(
            f"for d in /mnt/data /tmp /dev/shm ~ /run /opt/venv; do echo {secret} > $d/f; done; setsid -f sleep 51515"
        )
        await first.run("ipcmk -M 4096 > /dev/null")
        name = first.container_id
    await bench.engine.allocate(name, SMALL)
    try:
        again = await bench.engine.start(SandboxSpec(name, SMALL))
        for _ in range(3):
            async with bench.desk() as other:
                look = f"grep -rls {secret} /mnt /tmp /dev/shm /home /run /opt/venv; ps ax | grep -c '[5]1515'; ipcs -m | grep -c 0x"
                assert (await other.run(look)).text == "0\n0"
        assert await bench.engine.workspace(name).list(9) == []
        await again.ping()
    finally:
        await bench.engine.destroy(name)


@case("L10", "read what a deleted container has written from the free blocks of a new disk", "a new disk holds zeros")
async def test_a_new_disk_holds_nothing_old(bench: Bench, root: Path) -> None:
    secret = b"canary-on-the-disk"
    async with bench.desk() as first:
        await first.workspace.write("f", chunks(secret * 200_000))
        await first.run("sync")
        place = layout(root, as_root=os.geteuid() == 0).place(first.container_id)
        if place.image.exists():
            assert secret in place.image.read_bytes(), "the control: it was there"
    async with bench.desk() as second:
        script = "fallocate -l 40M blocks; tr -d '\\0' < blocks | wc -c"
        assert (await second.run(script)).text == "0"
        place = layout(root, as_root=os.geteuid() == 0).place(second.container_id)
        if place.image.exists():
            assert secret not in place.image.read_bytes()


@case(
    "L12",
    "kill the container from below while a command runs",
    "the client is told at once; the next command has a computer",
)
def test_a_container_that_disappears_is_told_at_once(product: Product) -> None:
    container = product.shell("echo kept > f").container_id
    record = load(layout(product.root, as_root=os.geteuid() == 0).place(container))
    assert record is not None
    assert record.init is not None
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(product.shell, "sleep 100", container)
        time.sleep(1)
        os.kill(record.init.pid, signal.SIGKILL)
        said = running.result(20)
    assert "stopped while the command ran" in said.stderr
    assert product.shell("cat f", container).stdout == "kept\n"


@case("L12", "remove a container's folder on the host by hand", "an honest answer, never 500, and it can be deleted")
def test_a_container_whose_disk_was_removed_is_answered(product: Product) -> None:
    container = product.shell("echo kept > f").container_id
    place = layout(product.root, as_root=os.geteuid() == 0).place(container)
    record = place.record.read_text()
    place.record.unlink()
    with product.http() as client:
        assert answered(client.get(f"/v1/containers/{container}/files")) in (200, 404)
        assert answered(product.upload(container, b"x")) in (400, 404)
        said = product.shell("echo alive", container)
        assert "alive" in said.stdout or said.stderr
        place.record.write_text(record)
        assert client.delete(f"/v1/containers/{container}").status_code == 200
    assert not place.runtime.exists()


@case("L01", "use a container in the moment in which it expires", "it lives on, or its end is told; never half of it")
def test_an_expiry_in_the_middle_is_told(engine_name: str, launch: Launch) -> None:
    server = launch(engine=engine_name)
    client = server.client()
    container = client.containers.create(name="old", expires_after={"anchor": "last_active_at", "minutes": 1}).id
    tool: Any = {"type": "shell", "environment": {"type": "container_reference", "container_id": container}}
    ended: list[str] = []

    def run() -> None:
        answer: Any = client.responses.create(model="m", input="@@ shell sleep 9; echo ended", tools=[tool])
        ended.append(answer.output[1].output[0].stdout)

    running = threading.Thread(target=run)
    running.start()
    time.sleep(1)
    age(server.data_dir, container, 3600)  # as if it had been idle for an hour, while its command runs
    time.sleep(6)  # longer than the sweep's pause
    assert client.containers.retrieve(container).status == "running"
    running.join(30)
    assert ended == ["ended\n"]
    age(server.data_dir, container, 3600)
    for _ in range(100):
        if client.containers.retrieve(container).status == "expired":
            break
        age(server.data_dir, container, 3600)
        time.sleep(0.1)
    assert client.containers.retrieve(container).status == "expired"
    place = layout(server.data_dir / "sandboxes", as_root=os.geteuid() == 0).place(container)
    assert not place.data.exists()


def age(data_dir: Path, container: str, seconds: int) -> None:
    """Have a container be idle for so long."""
    with sqlite3.connect(data_dir / "deskhand.sqlite", timeout=10) as rows:
        rows.execute("UPDATE containers SET last_active_at = last_active_at - ? WHERE id = ?", (seconds, container))
    rows.close()
