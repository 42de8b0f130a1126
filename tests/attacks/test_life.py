"""L: containers that expire, are deleted, snapshotted, forked and killed while something goes on in them."""
# ruff: noqa: E501 - programs that attack are data, and read better in one line

import asyncio
import fcntl
import os
import random
import resource
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
import pytest

from deskhand.ports.sandbox import Command, SandboxError, SandboxSpec, SnapshotGone
from deskhand.sandboxes import snapshots
from deskhand.sandboxes.layout import layout, load
from deskhand.sandboxes.registry import ENGINES
from deskhand.testing.conformance_sandbox_bench import SMALL, Bench, chunks, content, gather

from ..conftest import Launch
from .cases import case
from .census import traces
from .conftest import settled
from .product import KEYS, Product
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
    async with bench.desk():
        pass  # from here on there is what all containers stand on
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
        if len(traces(root)) <= before:
            break
        await asyncio.sleep(0.05)
    assert len(traces(root)) <= before  # less, if what the attack before this one has left was still going


SNAPPER: Final = """
import asyncio, sys
from pathlib import Path
from deskhand.ports.sandbox import *
from deskhand.sandboxes.registry import ENGINES
async def main():
    engine = ENGINES[sys.argv[1]](Path(sys.argv[2]))
    limits = Limits(memory_bytes=256 << 20, pids=64, disk_bytes=64 << 20, disk_inodes=4000)
    await engine.allocate("snapped", limits)
    sandbox = await engine.start(SandboxSpec("snapped", limits))
    put = "put() { echo $n > new; mv new $1; }"  # whole files: a shell opens and empties one before it writes
    script = f"{put}; n=0; while :; do n=$((n+1)); put a; put b; head -c 300000 /dev/urandom > big; done"
    async def write():
        async for event in sandbox.exec(Command(("sh", "-c", script), 60, 0, 0)):
            pass
    writing = asyncio.ensure_future(write())
    while not {"a", "b"} <= {file.path for file in await engine.workspace("snapped").list(9)}:
        await asyncio.sleep(0.01)
    n = 0
    while True:
        await engine.snapshot("snapped", f"csnap_{sys.argv[3]}_{n}")
        print(n, flush=True)
        n += 1
        if n % 3 == 0:
            await engine.drop_snapshot(f"csnap_{sys.argv[3]}_{n - 2}")
asyncio.run(main())
"""


@case(
    "L03",
    "kill -9 of the server at any moment of a snapshot, of a container that writes",
    "each snapshot is whole or not there; nothing stays frozen",
)
async def test_a_snapshot_is_whole_or_not_there(engine_name: str, root: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(Path(sys.modules["deskhand"].__file__ or "").parents[1])}
    for round_ in range(5):
        argv = [sys.executable, "-c", SNAPPER, engine_name, str(root), str(round_)]
        with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            told = 0
            for _ in range(2):
                told = int(await asyncio.to_thread(server.stdout.readline))
            await asyncio.sleep(0.007 * round_)
            server.kill()
        engine = ENGINES[engine_name](root)
        sandbox = await engine.attach("snapped") or await engine.start(SandboxSpec("snapped", SMALL))
        async with asyncio.timeout(40):  # a disk that stays frozen would hold this for ever
            assert (await gather(sandbox, Command(("sh", "-c", "echo thawed > f; cat f"), 30, 99, 0))).text == "thawed"
        for number in range(told + 1):
            name = f"copy-{number}"
            try:
                await engine.allocate(name, SMALL, f"csnap_{round_}_{number}")
            except SnapshotGone:
                continue
            copy = engine.workspace(name)
            first, second = [int((await content(copy, path)).split()[0]) for path in ("a", "b")]
            assert first - second in (0, 1), "half a snapshot"
            await engine.destroy(name)
        await engine.sweep(())
        assert await settled(root) == []
        assert len(await engine.sweep_snapshots(())) >= 1
        assert list((root / "snapshots").iterdir()) == [], "drafts of snapshots are left"


@case(
    "L03",
    "take a snapshot when the host has no room for it",
    "told as an error; the container goes on; no half of it is left",
)
def test_a_snapshot_without_room_is_told(product: Product) -> None:
    container = product.shell("head -c 20M /dev/urandom > big; md5sum < big").container_id
    folder = product.root / "snapshots"
    with product.http() as client:
        first = client.post(f"/v1/containers/{container}/snapshots", json={})
        assert first.status_code == 200
        before = sorted(folder.iterdir()) if folder.is_dir() else []
        product.shell("head -c 30M /dev/urandom > other", container)
        limit(
            product.server.process.pid, 1 << 20
        )  # the largest file that the server may write: EFBIG instead of ENOSPC
        try:
            failed = client.post(f"/v1/containers/{container}/snapshots", json={})
            assert failed.status_code in (200, 400, 409, 500, 503, 507), failed.text
            assert failed.status_code != 200 or folder.is_dir()
        finally:
            limit(product.server.process.pid, resource.RLIM_INFINITY)
        if failed.status_code != 200:
            assert [path for path in sorted(folder.iterdir()) if path not in before] == []
        assert product.shell("ls", container).stdout == "big\nother\n"
        assert client.post(f"/v1/containers/{container}/snapshots", json={}).status_code == 200


def limit(pid: int, size: int) -> None:
    """Change the soft limit on the size of files that a process writes."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]))


@case("L07", "have forks draw the same random numbers and names", "each has its own")
def test_forks_are_told_apart(product: Product) -> None:
    container = product.container()
    draw = "python3 -c 'import random, uuid, os; print(random.random(), uuid.uuid4(), os.urandom(8).hex())'"
    product.shell("true", container)
    with product.http() as client:
        forks = [client.post(f"/v1/containers/{container}/fork", json={}).json()["id"] for _ in range(3)]
    drawn = [product.shell(draw, name).stdout for name in (container, *forks)]
    assert len({word for words in drawn for word in words.split()}) == 12


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
        await asyncio.to_thread(os.sync)
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
        assert answered(product.upload(container, b"x")) in (200, 400, 404)
        said = product.shell("echo alive", container)
        assert "alive" in said.stdout or said.stderr
        place.record.write_text(record)
        assert client.delete(f"/v1/containers/{container}").status_code == 200
    assert not place.runtime.exists()


@case("L14", "snapshot, fork, restore, run, write, read and delete a container from many sides at once",
      "each is done or refused in words; what is kept on the disk is what is listed")  # fmt: skip
def test_lives_that_cross_leave_nothing(product: Product) -> None:
    first = product.shell("head -c 2M /dev/urandom > f").container_id
    containers, taken = [first], [(first, "none")]
    until = time.monotonic() + 8
    seen: set[tuple[str, int]] = set()

    def live(number: int) -> None:
        chance = random.Random(number)
        with product.http() as client:
            while time.monotonic() < until:
                kind, one, kept = chance.choice(KINDS), chance.choice(containers), chance.choice(taken)
                with suppress(httpx2.RemoteProtocolError):  # a download whose container was deleted
                    seen.add((kind, answered(cross(client, kind, one, kept, made))))

    def made(kind: str, container: str, name: str) -> None:
        if kind == "snapshots":
            taken.append((container, name))
        else:
            containers.append(name)
        if len(containers) > 5:
            with product.http() as client:
                seen.add(("end", client.delete(f"/v1/containers/{containers.pop(1)}").status_code))

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(live, range(10)))
    assert {(kind, 200) for kind in KINDS} <= seen
    assert typed(product, first, "wc -c < f") == "2097152\n"
    with product.server.rows() as rows:
        listed = {row[0] for row in rows.execute("SELECT id FROM snapshots")}
    assert {path.name for path in (product.root / "snapshots").iterdir()} == listed


KINDS: Final = ("snapshots", "fork", "restore", "exec", "files", "read", "drop")


def cross(
    client: httpx2.Client, kind: str, container: str, kept: tuple[str, str], made: Callable[[str, str, str], None]
) -> httpx2.Response:
    """One thing that a client may do with a container, or a snapshot of one; `made` is told what comes of it."""
    path, (origin, snapshot) = f"/v1/containers/{container}", kept
    match kind:
        case "exec":
            return client.post(f"{path}/exec", json={"command": "head -c 100K /dev/urandom > r; cat f | wc -c"})
        case "files":
            return client.post(f"{path}/files", files={"file": ("u", bytes(1 << 20))}, data={"path": "/mnt/data/u"})
        case "read":
            files = client.get(f"{path}/files").json().get("data") or [{"id": "none"}]
            return client.get(f"{path}/files/{files[0]['id']}/content")
        case "restore":
            return client.post(f"{path}/restore", json={"snapshot_id": snapshot})
        case "drop":
            return client.delete(f"/v1/containers/{origin}/snapshots/{snapshot}")
        case _:
            answer = client.post(f"{path}/{kind}", json={})
            if answer.status_code == 200:
                made(kind, container, answer.json()["id"])
            return answer


@case("L13", "have processes that cannot be killed when their container is deleted",
      "it is gone for its user at once; when they can be, they are killed, and nothing is left")  # fmt: skip
async def test_what_does_not_die_in_time_is_ended_later(product: Product) -> None:
    said = await asyncio.to_thread(product.shell, "head -c 5M /dev/urandom > f; setsid -f sleep 1000")
    place = layout(product.root, as_root=os.geteuid() == 0).place(said.container_id)
    record = load(place)
    assert record is not None
    assert record.init is not None
    with frozen(record.init.pid), product.http() as client:
        deleted = await asyncio.to_thread(client.delete, f"/v1/containers/{said.container_id}", timeout=120)
        assert deleted.status_code == 200
        assert client.get(f"/v1/containers/{said.container_id}").status_code == 404
        assert place.data.exists(), "the control: it could not be ended"
    for _ in range(600):
        if not place.data.exists():
            break
        await asyncio.sleep(0.1)
    assert not place.data.exists()
    assert not place.runtime.exists()


@case("L15", "write, delete and break off uploads in a container whose disk stands still, as it does for a snapshot",
      "nobody else waits for that")  # fmt: skip
def test_a_disk_that_stands_still_holds_up_nobody_else(product: Product) -> None:
    mine, theirs = product.container("a"), product.container("b")
    files = [product.upload(mine, b"x", path=f"/mnt/data/{number}").json()["id"] for number in range(20)]
    known = product.upload(theirs, b"known", "b").json()["id"]
    place = layout(product.root, as_root=os.geteuid() == 0).place(mine)
    if not place.image.exists():
        pytest.skip("a disk that is a directory is never frozen")

    def delete(file: str) -> int:
        with product.http("a") as client:
            return answered(client.delete(f"/v1/containers/{mine}/files/{file}"))

    with ThreadPoolExecutor(40) as pool, product.http("b") as other:
        broken = begun(product, mine)
        disk = os.open(place.disk, os.O_RDONLY)
        try:
            fcntl.ioctl(disk, snapshots.FIFREEZE, 0)
            broken.close()
            writing = [pool.submit(product.upload, mine, bytes(1 << 20)) for _ in range(20)]
            deleting = [pool.submit(delete, file) for file in files]
            time.sleep(1)
            at = f"/v1/containers/{theirs}"
            assert other.get(f"{at}/files/{known}/content").content == b"known"
            assert product.upload(theirs, b"new", "b").status_code == 200
            assert other.post(f"{at}/exec", json={"command": "echo alive"}).json()["stdout"] == "alive\n"
            assert not any(task.done() for task in writing), "the control: the disk stands still"
        finally:
            fcntl.ioctl(disk, snapshots.FITHAW, 0)
            os.close(disk)
        assert [task.result(60).status_code for task in writing] == [200] * 20
        assert [task.result(60) for task in deleting] == [200] * 20
    assert ".deskhand" not in typed(product, mine, "ls -A")


def begun(product: Product, container: str) -> socket.socket:
    """The connection of an upload of which a part has been written."""
    url = urlsplit(product.server.url)
    connection = socket.create_connection((url.hostname, url.port))
    head = (
        f"POST /v1/containers/{container}/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEYS['a']}\r\n"
        "content-type: multipart/form-data; boundary=b\r\ncontent-length: 9999999\r\n\r\n"
        '--b\r\ncontent-disposition: form-data; name="file"; filename="broken"\r\n\r\n'
    )
    connection.sendall(head.encode() + bytes(1 << 20))
    while ".deskhand" not in typed(product, container, "ls -A"):
        time.sleep(0.1)
    return connection


def typed(product: Product, container: str, command: str) -> str:
    """What a command prints that no model has run: no snapshot is taken after it."""
    with product.http() as client:
        return str(client.post(f"/v1/containers/{container}/exec", json={"command": command}).json()["stdout"])


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Inside, a process can do nothing, not even die (Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst)."""
    top = Path("/sys/fs/cgroup/freezer")
    if not os.access(top / "cgroup.procs", os.W_OK):
        pytest.skip("nothing here keeps a process from being killed: there is no freezer of control groups v1")
    group = top / f"attack-{secrets.token_hex(4)}"
    group.mkdir()
    try:
        (group / "cgroup.procs").write_text(str(pid))
        (group / "freezer.state").write_text("FROZEN")
        yield
    finally:
        (group / "freezer.state").write_text("THAWED")
        while group.exists():
            try:
                group.rmdir()
            except OSError:  # the last of it is dying
                time.sleep(0.05)


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
