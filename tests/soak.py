"""A week in fast-forward: python -m tests.soak [--seconds 60] [--engine NAME] [--seed N] [--workers N].

A real server is used by several clients at once who create, run, upload, download, snapshot, fork, restore and delete,
at random; hours pass in a moment (containers are made to look idle); the server and the containers under it are killed
at random steps and it is started again on what is left. At the end nothing may be left: no process, mount, loop device,
control group, socket, file or row. The clients check what they get back, so that nothing is lost on the way either.
"""

import argparse
import asyncio
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx2

from deskhand.compose import end_containers
from deskhand.sandboxes.layout import layout, load
from deskhand.settings import load as load_settings

from .attacks.census import crashes, traces
from .conftest import KEY, Server, launched, upstream_process
from .rows import rows_of

FINE: Final = (200, 400, 404, 409, 429)
"""What a request may be answered with while others delete what it names."""

STRIKE_S: Final = 5.0
LIFE_S: Final = 6.0
"""How long a server lives before it is killed."""

MOST_CONTAINERS: Final = 12


class Leak(AssertionError):
    """Something is left that should not be, or was answered that should not be."""


@dataclass(slots=True)
class World:
    """What the clients know: which containers there are and what each must hold."""

    chance: random.Random
    server: Server
    client: httpx2.AsyncClient
    contents: dict[str, bytes] = field(default_factory=dict)
    snapshots: dict[str, str] = field(default_factory=dict)
    ever: set[str] = field(default_factory=set)
    """Every container that there was."""
    complaints: dict[str, str] = field(default_factory=dict)
    """The first answer of each kind that no client can do anything with."""
    steps: Counter[str] = field(default_factory=Counter)
    ending: bool = False
    struck: float = -STRIKE_S
    """When a first process was last killed."""

    def some(self) -> str:
        """One of the containers; "" if there is none."""
        return self.chance.choice(list(self.contents)) if self.contents else ""

    def forget(self, container: str) -> None:
        """It is gone, with what was in it."""
        self.ever.add(container)
        self.contents.pop(container, None)

    async def ask(self, method: str, path: str, **words: Any) -> httpx2.Response:
        """One request, whose answer must be one that a client can do something with."""
        answer = await self.client.request(method, path, **words)
        if answer.status_code not in FINE and not self._was_struck(answer):
            crash = self.server.log.read_text().rpartition("Traceback")[2][-3000:] if answer.status_code == 500 else ""
            what = f"{method} {re.sub(r'_[0-9a-f]{16,}', '', path)} {answer.status_code}"
            self.complaints.setdefault(what, f"{answer.text[:300]}\n{crash}")
        return answer

    def _was_struck(self, answer: httpx2.Response) -> bool:
        """True for what a client is told whose computer was killed while it started: it may try again."""
        told = answer.status_code == 503 and "retry-after" in answer.headers and "did not start" in answer.text
        return told and time.monotonic() - self.struck < STRIKE_S


async def create(world: World) -> None:
    if len(world.contents) >= MOST_CONTAINERS:
        return await delete(world)
    answer = await world.ask("POST", "/v1/containers", json={"name": "soak"})
    if answer.status_code == 200:
        world.contents[answer.json()["id"]] = b""


async def shell(world: World) -> None:
    container = world.some()
    place = {"type": "container_reference", "container_id": container} if container else {"type": "container_auto"}
    number = world.chance.randrange(1 << 30)
    script = f"@@ shell (setsid sleep 600 > /dev/null 2>&1 &); echo {number} > n; cat n; ls f 2> /dev/null"
    body = {"model": "m", "input": script, "tools": [{"type": "shell", "environment": place}]}
    answer = await world.ask("POST", "/v1/responses", json=body)
    if answer.status_code == 200 and not container:
        made = answer.json()["output"][0].get("environment", {}).get("container_id")
        if made:
            world.contents[made] = b""


async def python(world: World) -> None:
    container = world.some()
    number = world.chance.randrange(1 << 30)
    body = {
        "model": "m",
        "input": f"@@ python print({number} + 1)",
        "tools": [{"type": "code_interpreter", "container": container or {"type": "auto"}}],
        "include": ["code_interpreter_call.outputs"],
    }
    answer = await world.ask("POST", "/v1/responses", json=body)
    if answer.status_code == 200 and not container:
        call = next((item for item in answer.json()["output"] if item["type"] == "code_interpreter_call"), None)
        if call is not None:
            world.contents[call["container_id"]] = b""


async def execute(world: World) -> None:
    if container := world.some():
        await world.ask("POST", f"/v1/containers/{container}/exec", json={"command": "echo here; sleep 0.05"})


async def upload(world: World) -> None:
    container = world.some()
    if not container:
        return
    content = os.urandom(64) * world.chance.choice((1, 100, 20_000))
    files = {"file": ("f", content)}
    answer = await world.ask("POST", f"/v1/containers/{container}/files", files=files, data={"path": "/mnt/data/f"})
    if answer.status_code == 200 and container in world.contents:
        world.contents[container] = content


async def download(world: World) -> None:
    container = world.some()
    files = (await world.ask("GET", f"/v1/containers/{container or 'cntr_none'}/files")).json().get("data", [])
    for file in files[:2]:
        try:
            got = await world.ask("GET", f"/v1/containers/{container}/files/{file['id']}/content")
        except httpx2.RemoteProtocolError:  # its container was deleted meanwhile, and the answer cannot be taken back
            continue
        if got.status_code == 200 and file["path"] == "/mnt/data/f" and len(got.content) % 64:
            raise Leak(f"half a file: {len(got.content)} bytes")


async def snapshot(world: World) -> None:
    if container := world.some():
        answer = await world.ask("POST", f"/v1/containers/{container}/snapshots", json={})
        if answer.status_code == 200:
            world.snapshots[answer.json()["id"]] = container


async def fork(world: World) -> None:
    container = world.some()
    if not container or len(world.contents) >= MOST_CONTAINERS:
        return
    answer = await world.ask("POST", f"/v1/containers/{container}/fork", json={})
    if answer.status_code == 200:
        world.contents[answer.json()["id"]] = world.contents.get(container, b"")


async def restore(world: World) -> None:
    if world.snapshots:
        name, container = world.chance.choice(list(world.snapshots.items()))
        await world.ask("POST", f"/v1/containers/{container}/restore", json={"snapshot_id": name})


async def from_snapshot(world: World) -> None:
    if world.snapshots and len(world.contents) < MOST_CONTAINERS:
        name = world.chance.choice(list(world.snapshots))
        answer = await world.ask("POST", "/v1/containers", json={"name": "again", "snapshot_id": name})
        if answer.status_code == 200:
            world.contents[answer.json()["id"]] = b""


async def drop_snapshot(world: World) -> None:
    if world.snapshots:
        name, container = world.chance.choice(list(world.snapshots.items()))
        world.snapshots.pop(name, None)
        await world.ask("DELETE", f"/v1/containers/{container}/snapshots/{name}")


async def expire(world: World) -> None:
    """A day passes for one container; the next look finds it expired."""
    if container := world.some():
        await asyncio.to_thread(_age, world.server.data_dir, container)
        world.forget(container)
        await world.ask("GET", f"/v1/containers/{container}")


async def delete(world: World) -> None:
    if container := world.some():
        world.forget(container)
        await world.ask("DELETE", f"/v1/containers/{container}")


async def leave(world: World) -> None:
    """A client that goes away in the middle of a command."""
    script = "@@ shell echo begun; sleep 20"
    tools = [{"type": "shell", "environment": {"type": "container_auto"}}]
    body = {"model": "m", "input": script, "tools": tools, "stream": True}
    async with world.client.stream("POST", "/v1/responses", json=body) as answer:
        async for line in answer.aiter_lines():
            if "output_item.done" in line:
                break


async def strike(world: World) -> None:
    """The first process of a container is killed from outside."""
    container = world.some()
    place = layout(world.server.data_dir / "sandboxes", as_root=os.geteuid() == 0)
    record = load(place.place(container)) if container else None
    if record is not None and record.init is not None:
        with suppress(ProcessLookupError):
            os.kill(record.init.pid, signal.SIGKILL)
        world.struck = time.monotonic()


Step = Callable[[World], Awaitable[None]]
STEPS: Final[Mapping[Step, int]] = {
    create: 8, shell: 12, python: 6, execute: 6, upload: 8, download: 8, snapshot: 5, fork: 3, restore: 2,
    from_snapshot: 2, drop_snapshot: 3, expire: 3, delete: 6, leave: 2, strike: 2,
}  # fmt: skip
"""What may happen, and how often."""


async def live(world: World, seconds: float) -> None:
    """Take random steps, several at once, for so long."""
    end = time.monotonic() + seconds

    async def one() -> None:
        while time.monotonic() < end and not world.ending:
            (step,) = world.chance.choices(list(STEPS), list(STEPS.values()))
            try:
                await step(world)
            except (httpx2.TransportError, httpx2.RemoteProtocolError):
                if not world.ending:
                    raise
            world.steps[getattr(step, "__name__", "step")] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(one())
        await asyncio.sleep(seconds * world.chance.uniform(0.7, 0.95))
        if world.chance.random() < 0.75:
            world.ending = True
            world.server.process.kill()


async def settle(world: World) -> None:
    """Delete everything that is still there, through the API; snapshots outlive their containers."""
    while containers := (await world.ask("GET", "/v1/containers", params={"limit": 100})).json()["data"]:
        for container in containers:
            world.ever.add(container["id"])
            await world.ask("DELETE", f"/v1/containers/{container['id']}")
    for container in world.ever:
        where = f"/v1/containers/{container}/snapshots"
        while kept := (await world.ask("GET", where, params={"limit": 100})).json()["data"]:
            for snapshot in kept:
                await world.ask("DELETE", f"{where}/{snapshot['id']}")


def soak(folder: Path, seconds: float, engine: str, seed: int, tell: Callable[[str], None]) -> Counter[str]:
    """Run for so long, then look for what is left. Raises `Leak`."""
    chance, total, data = random.Random(seed), Counter[str](), folder / "data"
    contents: dict[str, bytes] = {}
    snapshots: dict[str, str] = {}
    complaints: dict[str, str] = {}
    ever: set[str] = set()
    end = time.monotonic() + seconds
    lives = 0
    with upstream_process() as upstream, ExitStack() as servers:
        while True:
            last = time.monotonic() >= end
            settings = {"engine": engine, "max_live_containers": "100", "warm_containers": "0" if last else "2"}
            server = servers.enter_context(launched(data, upstream, **settings))
            world = asyncio.run(_life(chance, server, contents, snapshots, ever, 0.0 if last else LIFE_S))
            total += world.steps
            complaints = world.complaints | complaints
            ever |= set(contents)
            lives += 1
            if last:
                break
            tell(f"life {lives}: {_words(world.steps)}; {len(contents)} containers, {len(snapshots)} snapshots")
            server.process.kill()
            server.process.wait()
        _look_at_rows(data)
        _look_at_folders(data, server)
        server.process.terminate()
        server.process.wait(30)
        asyncio.run(end_containers(load_settings({}, data_dir=data, engine=engine)))
        left = _settled(data / "sandboxes")
        if left:
            raise Leak("left on the host: " + "\n".join(left))
    if complaints:
        raise Leak("\n".join(f"{what}: {words}" for what, words in complaints.items()))
    return total


async def _life(
    chance: random.Random,
    server: Server,
    contents: dict[str, bytes],
    snapshots: dict[str, str],
    ever: set[str],
    seconds: float,
) -> World:
    headers = {"authorization": f"Bearer {KEY}"}
    limits = httpx2.Limits(max_connections=32)
    async with httpx2.AsyncClient(base_url=server.url, headers=headers, timeout=60, limits=limits) as client:
        world = World(chance, server, client, contents, snapshots, ever)
        if seconds:
            await live(world, seconds)
        else:
            before = _descriptors(server)
            await settle(world)
            await client.aclose()
            await asyncio.sleep(0.5)
            if _descriptors(server) > before + 8:
                raise Leak(f"the server has {_descriptors(server)} open files, {before} before")
    return world


def _look_at_rows(data: Path) -> None:
    """Raises `Leak` for rows of what was deleted, and for responses that are not ended."""
    with rows_of(data) as rows:
        for name, columns in rows.columns().items():
            if name.startswith(("container", "snapshot", "secret")):
                where = "WHERE state NOT IN ('reserved')" if "state" in columns else ""
                found = rows.execute(f"SELECT count(*) FROM {name} {where}").fetchone()[0]
                if found:
                    raise Leak(f"{found} rows are left in {name}")
        unfinished = rows.execute("SELECT count(*) FROM responses WHERE status = 'in_progress'").fetchone()[0]
        if unfinished:
            raise Leak(f"{unfinished} responses are still in progress")


def _look_at_folders(data: Path, server: Server) -> None:
    """Raises `Leak` for folders, mounts and processes of containers that were deleted; none are kept ready now."""
    left = [line for line in traces(data / "sandboxes") if "/containers/" in line]
    if left:
        raise Leak("left of deleted containers: " + "\n".join(left))
    if server.process.poll() is not None:
        raise Leak("the server has ended")
    log = server.log.read_text()
    if crashes(log):
        raise Leak(f"the server's log holds {crashes(log)}: " + log[log.index("Traceback") :][:3000])


def _settled(root: Path) -> Sequence[str]:
    for _ in range(250):
        if not traces(root):
            break
        time.sleep(0.02)
    return traces(root)


def _descriptors(server: Server) -> int:
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def _age(data: Path, container: str) -> None:
    with rows_of(data) as rows:
        rows.execute("UPDATE containers SET last_active_at = last_active_at - 86400 WHERE id = ?", (container,))


def _words(steps: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in steps.most_common())


def main() -> int:
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    options.add_argument("--seconds", type=float, default=300.0)
    options.add_argument("--engine", default="bubblewrap")
    options.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    given = options.parse_args()

    def tell(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    tell(f"seed {given.seed}, {given.seconds:.0f} s, {given.engine}")
    with tempfile.TemporaryDirectory(prefix="deskhand-soak-") as folder:
        began = time.monotonic()
        total = soak(Path(folder), given.seconds, given.engine, given.seed, tell)
    tell(f"nothing is left after {sum(total.values())} steps in {time.monotonic() - began:.0f} s: {_words(total)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
