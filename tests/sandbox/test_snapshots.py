"""Snapshots where the contract does not reach: whoever is killed when, old hosts, disks without a file system."""

import asyncio
import hashlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deskhand.ports.sandbox import Command, Limits, SandboxSpec, SandboxUnavailable
from deskhand.sandboxes import disk, idmap, processes, snapshots
from deskhand.sandboxes.bubblewrap import BubblewrapEngine
from deskhand.sandboxes.layout import Layout, layout, load
from deskhand.testing.conformance_sandbox import run_checks
from deskhand.testing.conformance_sandbox_bench import SMALL, Bench, content, gather
from deskhand.testing.conformance_snapshots import SNAPSHOT_CHECKS

from .conftest import needs_bwrap, needs_root
from .test_lifecycle import _settled

pytestmark = [pytest.mark.anyio, needs_bwrap]

SERVER = """
import asyncio, os, sys
from pathlib import Path
from deskhand.ports.sandbox import *
from deskhand.sandboxes import bubblewrap, disk, engine, idmap, layout, mounting, snapshots
stop = sys.argv[2]
def bomb(module, name, when, count):
    original = getattr(module, name)
    calls = 0
    def replaced(*args, **kwargs):
        nonlocal calls
        calls += 1
        if when == "before" and calls == count: os.kill(os.getpid(), 9)
        result = original(*args, **kwargs)
        if when == "after" and calls == count: os.kill(os.getpid(), 9)
        return result
    setattr(module, name, replaced)
where = {"disk": disk, "snapshots": snapshots, "layout": layout, "idmap": idmap, "mounting": mounting}
async def run(sandbox, script):
    async for event in sandbox.exec(Command(("sh", "-c", script), 30, 9999, 0)):
        pass
async def main():
    made = bubblewrap.BubblewrapEngine(Path(sys.argv[1]))
    limits = Limits(memory_bytes=256 << 20, pids=64, disk_bytes=64 << 20, disk_inodes=4000)
    fill = "for i in 1 2 3 4 5 6 7 8; do head -c 300000 /dev/urandom > f$i; done; sha256sum f* > sums; cat sums"
    await made.allocate("victim", limits)
    sandbox = await made.start(SandboxSpec("victim", limits))
    await run(sandbox, "echo old > which;" + fill)
    await made.snapshot("victim", "old")
    await run(sandbox, "echo new > which;" + fill)
    await made.snapshot("victim", "new")
    print("ready", flush=True)
    if ":" in stop:
        module, name, when, count = stop.split(":")
        bomb(where[module], name, when, int(count))
    if sys.argv[3] == "restore":
        while True:
            for which in ("old", "new"):
                await made.restore("victim", which)
    number = 0
    while True:
        number += 1
        sandbox = await made.attach("victim") or await made.start(SandboxSpec("victim", limits))
        await run(sandbox, f"echo {number} > which;" + fill)
        await made.snapshot("victim", f"taken-{number}")
asyncio.run(main())
"""


def _layout(root: Path) -> Layout:
    return layout(root, as_root=os.geteuid() == 0)


async def _killed_at(root: Path, stop: str, task: str, delay_s: float | None = None) -> None:
    """Run a server until it is killed, by itself at a step or after a while."""
    env = {**os.environ, "PYTHONPATH": str(Path(sys.modules["deskhand"].__file__ or "").parents[1])}
    argv = [sys.executable, "-c", SERVER, str(root), stop, task]
    server = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    with server:
        assert await asyncio.to_thread(server.stdout.readline) == "ready\n"
        if delay_s is not None:
            await asyncio.sleep(delay_s)
            server.kill()
        await asyncio.wait_for(asyncio.to_thread(server.wait), 30)
    assert server.returncode == -signal.SIGKILL


async def _is_whole(engine: BubblewrapEngine, container_id: str) -> str:
    """Which disk it is, if all of it is there."""
    workspace = engine.workspace(container_id)
    for line in (await content(workspace, "sums")).decode().splitlines():
        digest, name = line.split()
        assert hashlib.sha256(await content(workspace, name)).hexdigest() == digest, name
    return (await content(workspace, "which")).decode().strip()


RESTORE_STEPS = ("snapshots:copy_back:before:1", "snapshots:copy_back:after:1", "layout:save:before:1",
                 "layout:save:after:1", "snapshots:exchange:before:1", "snapshots:exchange:after:1",
                 "layout:save:before:2", "layout:save:after:2")  # fmt: skip
ROOT_RESTORE_STEPS = ("disk:clone:after:1", "disk:shut_down:before:1", "disk:shut_down:after:1",
                      "mounting:unmount:before:1", "disk:mount_image:before:1", "disk:mount_image:after:1")  # fmt: skip


@pytest.mark.parametrize("step", [*RESTORE_STEPS, *(pytest.param(s, marks=needs_root) for s in ROOT_RESTORE_STEPS)])
async def test_a_restore_that_is_killed_leaves_the_old_or_the_new_disk(
    make: Callable[[], BubblewrapEngine], root: Path, step: str
) -> None:
    await _killed_at(root, step, "restore")
    await _check_victim(make(), ("old", "new"))
    assert await _settled(root) == []


SNAPSHOT_STEPS = ("snapshots:copy_out:before:1", "snapshots:copy_out:after:1", "snapshots:_make_durable:after:1",
                  "snapshots:sync:after:1", "layout:save:before:1", "layout:save:after:1")  # fmt: skip
ROOT_SNAPSHOT_STEPS = ("snapshots:_image_mark:after:2", "disk:clone:before:1", "disk:clone:after:1",
                       "disk:repair:before:1", "disk:repair:after:1")  # fmt: skip


@pytest.mark.parametrize("step", [*SNAPSHOT_STEPS, *(pytest.param(s, marks=needs_root) for s in ROOT_SNAPSHOT_STEPS)])
async def test_a_snapshot_that_is_killed_is_whole_or_not_there_and_its_disk_goes_on(
    make: Callable[[], BubblewrapEngine], root: Path, step: str
) -> None:
    await _killed_at(root, step, "snapshot")
    await _check_victim(make(), ("1",))
    assert await _settled(root) == []


@pytest.mark.parametrize("task", ["restore", "snapshot"])
async def test_a_server_that_is_killed_at_random_leaves_the_old_or_the_new(
    make: Callable[[], BubblewrapEngine], root: Path, task: str
) -> None:
    for _ in range(4):
        await _killed_at(root, "", task, random.uniform(0.0, 0.5))
        engine = make()
        expected = ("old", "new") if task == "restore" else ("new", *map(str, range(1, 100)))
        await _check_victim(engine, expected)
        assert await _settled(root) == []


async def _check_victim(engine: BubblewrapEngine, expected: tuple[str, ...]) -> None:
    """The killed server's container is one of `expected` and works; every snapshot that it left is whole."""
    folder = engine._layout.snapshots
    names = {name for name in os.listdir(folder) if not name.startswith(".")}
    assert {"old", "new"} <= names
    assert await engine.sweep(("victim",)) == []
    assert await engine.sweep_snapshots(names) == []
    assert set(os.listdir(folder)) == names, "drafts are swept"
    for name in names:
        await engine.allocate(f"from-{name}", SMALL, name)
        assert await _is_whole(engine, f"from-{name}") == name.removeprefix("taken-")
    sandbox = await engine.attach("victim") or await engine.start(SandboxSpec("victim", SMALL))
    async with asyncio.timeout(20):
        told = await gather(sandbox, Command(("sh", "-c", "cat which; echo x > written && cat written"), 10, 999, 0))
    assert told.text.split()[1:] == ["x"]
    assert told.text.split()[0] in expected
    if told.text.split()[0] in ("old", "new"):
        await _is_whole(engine, "victim")
    await engine.sweep(())
    await engine.sweep_snapshots(())


@needs_root
async def test_a_frozen_disk_of_a_killed_server_is_thawed_by_whoever_comes_next(
    make: Callable[[], BubblewrapEngine], root: Path
) -> None:
    await _killed_at(root, "disk:clone:before:1", "snapshot")
    place = _layout(root).place("victim")
    writing = subprocess.Popen(["touch", str(place.disk / "data" / "blocked")])
    with pytest.raises(subprocess.TimeoutExpired):
        writing.wait(0.5)  # the control: it is frozen
    engine = make()
    assert await engine.attach("victim") is not None
    assert await asyncio.to_thread(writing.wait, 10) == 0
    await engine.sweep(())


@needs_root
async def test_a_destroyed_container_is_not_kept_by_a_frozen_disk(
    make: Callable[[], BubblewrapEngine], root: Path
) -> None:
    await _killed_at(root, "disk:clone:before:1", "snapshot")
    async with asyncio.timeout(30):
        assert await make().sweep(()) == ["victim"]
    assert await _settled(root) == []


@needs_root
async def test_a_copy_has_a_user_of_its_own_on_the_host(bench: Bench, root: Path) -> None:
    async with bench.desk() as desk:
        await desk.run("echo x > f; sleep 1000 & echo started")
        await bench.engine.snapshot(desk.container_id, "taken")
        await bench.engine.allocate("copy", SMALL, "taken")
        sandbox = await bench.engine.start(SandboxSpec("copy", SMALL))
        records = [load(_layout(root).place(name)) for name in (desk.container_id, "copy")]
        ours, theirs = (record for record in records if record is not None)
        assert ours.uid != theirs.uid
        assert (theirs.disk_uid, ours.disk_uid) == (ours.uid, None)
        assert (_layout(root).place("copy").disk / "data" / "f").stat().st_uid == theirs.uid
        await gather(sandbox, Command(("sh", "-c", "echo y > g"), 10, 99, 0))
        await bench.engine.snapshot("copy", "again")
        await bench.engine.restore(desk.container_id, "again")
        assert (_layout(root).place(desk.container_id).disk / "data" / "g").stat().st_uid == ours.uid
        await bench.engine.destroy("copy")
        assert not processes.owned_by((theirs.uid,))


@needs_root
async def test_a_kernel_that_cannot_translate_owners_gets_copies_with_new_ones(
    bench: Bench, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idmap, "supported", lambda: False)
    async with bench.desk() as desk:
        await desk.run("mkdir d; echo x > d/f; ln -s /etc/passwd link; chmod 700 d")
        await bench.engine.snapshot(desk.container_id, "taken")
        await bench.engine.allocate("copy", SMALL, "taken")
        record = load(_layout(root).place("copy"))
        assert record is not None
        assert record.disk_uid is None
        assert (_layout(root).place("copy").disk / "data" / "d" / "f").stat().st_uid == record.uid
        assert Path("/etc/passwd").stat().st_uid == 0
        sandbox = await bench.engine.start(SandboxSpec("copy", SMALL))
        assert (await gather(sandbox, Command(("sh", "-c", "cat d/f; rm -r d; ls"), 10, 99, 0))).text == "x\nlink"


async def test_directories_are_kept_like_images(
    make: Callable[[], BubblewrapEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a server without root or loop devices has; the same checks, on the same host."""
    monkeypatch.setattr(disk, "images_possible", lambda: False)
    passed = [await run_checks(make, [check], at_once=1) for check in SNAPSHOT_CHECKS]
    assert all(passed)


@needs_root
async def test_a_snapshot_of_another_kind_of_disk_is_refused_in_words(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench.desk() as desk:
        await bench.engine.snapshot(desk.container_id, "taken")
        monkeypatch.setattr(disk, "images_possible", lambda: False)
        with pytest.raises(SandboxUnavailable, match="another kind of disk"):
            await bench.engine.allocate("copy", SMALL, "taken")


async def test_a_disk_that_takes_too_long_to_copy_is_thawed_and_refused(
    bench: Bench, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench.desk(Limits(disk_bytes=256 << 20)) as desk:
        await desk.run("head -c 3000000 /dev/urandom > f")
        monkeypatch.setattr(snapshots, "FREEZE_S", -1.0)
        monkeypatch.setattr(snapshots, "COPY_S", 0.0)
        with pytest.raises(SandboxUnavailable, match="copied"):
            await bench.engine.snapshot(desk.container_id, "taken")
        assert (await desk.run("echo goes on > g; cat g")).text == "goes on"
        assert os.listdir(_layout(root).snapshots) == []


@needs_root
async def test_a_damaged_copy_is_no_snapshot(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench.desk() as desk:
        original = disk.clone

        def damaging(source: Path, target: Path, deadline: float = float("inf")) -> None:
            original(source, target, deadline)
            with target.open("r+b") as image:
                image.write(bytes(1 << 20))

        monkeypatch.setattr(disk, "clone", damaging)
        with pytest.raises(SandboxUnavailable, match="damaged"):
            await bench.engine.snapshot(desk.container_id, "taken")
        monkeypatch.undo()
        assert (await bench.engine.snapshot(desk.container_id, "taken")).bytes > 0


@needs_root
async def test_a_snapshot_whose_equal_is_going_is_refused_in_words(bench: Bench, root: Path) -> None:
    """One that would share its blocks, and finds them gone, since somebody deletes the other at this moment."""
    async with bench.desk() as desk:
        await bench.engine.snapshot(desk.container_id, "first")
        assert (await bench.engine.snapshot(desk.container_id, "same")).same_as == "first"
        (root / "snapshots" / "first" / "disk.img").unlink()
        with pytest.raises(SandboxUnavailable, match="could not be kept"):
            await bench.engine.snapshot(desk.container_id, "third")
        assert sorted(os.listdir(root / "snapshots")) == ["first", "same"]
        await desk.run("echo changed > f")
        assert (await bench.engine.snapshot(desk.container_id, "third")).same_as is None
        for name in ("first", "same", "third"):
            await bench.engine.drop_snapshot(name)
