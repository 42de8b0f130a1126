"""Starting, dying and cleaning up: whatever is killed, and whenever, nothing stays."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from deskhand.ports.sandbox import Command, Exited, Limits, SandboxGone, SandboxSpec, SandboxUnavailable
from deskhand.sandboxes import cgroups, connection, processes
from deskhand.sandboxes.bubblewrap import BubblewrapEngine
from deskhand.sandboxes.cgroups import NoCgroups
from deskhand.sandboxes.layout import Layout, layout, load
from deskhand.testing.conformance_sandbox_bench import SMALL, Bench, gather

from .conftest import needs_bwrap, needs_root

pytestmark = [pytest.mark.anyio, needs_bwrap]

TINY = replace(SMALL, disk_bytes=32 << 20)


def _layout(root: Path) -> Layout:
    return layout(root, as_root=os.geteuid() == 0)


def _traces(root: Path) -> list[str]:
    """Everything on this host that belongs to the installation at `root`: processes, mounts, loops, cgroups, files."""
    place = _layout(root)
    marks = (str(place.runtime), str(place.data), f"deskhand-{place.installation}")
    found = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if any(m in line for m in marks)]
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = entry.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if "bwrap" in text and any(m in text for m in marks):
            found.append(text)
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            found += [line for line in [backing.read_text()] if any(m in line for m in marks)]
        except OSError:
            continue
    for path, folders, _ in os.walk("/sys/fs/cgroup"):  # walks past what other tests remove meanwhile
        found += [f"{path}/{name}" for name in folders if name == f"deskhand-{place.installation}"]
    for folder in (place.containers, place.running):
        found += [str(path) for path in folder.iterdir()] if folder.is_dir() else []
    return found


async def _settled(root: Path) -> list[str]:
    """Traces, once the kernel has had a moment to let go of mounts and loop devices."""
    for _ in range(500):
        found = _traces(root)
        if not found:
            break
        await asyncio.sleep(0.02)
    return found


@needs_root
async def test_a_container_is_started_out_of_sight_of_the_disks_of_others(bench: Bench, root: Path) -> None:
    async with bench.desk() as one, bench.desk() as two:
        places = {desk: _layout(root).place(desk.container_id) for desk in (one, two)}
        ours = Path("/proc/self/mountinfo").read_text()
        assert all(f" {place.disk} " in ours for place in places.values())
        record = load(places[two])
        assert record is not None
        assert record.init is not None
        monitor = re.findall(r"^PPid:\s*(\d+)$", Path(f"/proc/{record.init.pid}/status").read_text(), re.MULTILINE)[0]
        seen = Path(f"/proc/{monitor}/mountinfo").read_text()
        assert f" {places[two].disk} " in seen
        assert str(places[one].disk) not in seen
    assert await _settled(root) == [], "without a sweep"


async def test_nothing_is_left_after_a_sweep(bench: Bench, root: Path) -> None:
    async with bench.desk() as desk:
        assert _traces(root), "the census sees a living container"
        await desk.run("setsid -f sleep 60; mkdir -p a/b; chmod 0 a; mkfifo f")
        assert await bench.engine.sweep((desk.container_id,)) == []
        await desk.sandbox.ping()
        assert await bench.engine.sweep(()) == [desk.container_id]
        with pytest.raises(SandboxGone):
            await desk.sandbox.ping()
    assert await _settled(root) == []


async def test_a_hostile_tree_is_removed(bench: Bench, root: Path) -> None:
    async with bench.desk() as desk:
        script = "import os\nfor i in range(1500):\n  os.mkdir('d' * 20); os.chdir('d' * 20)\nos.chmod('.', 0)"
        assert (await desk.python(script)).end == Exited(0)
        assert await desk.workspace.list(10) == []
    await bench.engine.sweep(())
    assert await _settled(root) == []


@needs_root
async def test_a_container_is_found_though_its_data_directory_was_deleted(bench: Bench, root: Path) -> None:
    async with bench.desk() as desk:
        record = load(_layout_of(bench).place(desk.container_id))
        assert record is not None
        assert record.init is not None
        await asyncio.to_thread(shutil.rmtree, root)
        assert processes.is_alive(record.init)
        assert await bench.make().sweep(()) == [desk.container_id]
        assert not processes.is_alive(record.init)
    assert await _settled(root) == []


SERVER = """
import asyncio, os, sys
from pathlib import Path
from deskhand.ports.sandbox import *
from deskhand.sandboxes import bubblewrap, disk, layout, cgroups, processes, rootfs, spawn
stop = sys.argv[2]
def bomb(module, name, after):
    original = getattr(module, name)
    def replaced(*args, **kwargs):
        if not after: os.kill(os.getpid(), 9)
        result = original(*args, **kwargs)
        os.kill(os.getpid(), 9)
        return result
    setattr(module, name, replaced)
where = {"disk": disk, "rootfs": rootfs, "spawn": spawn, "processes": processes, "cgroups": cgroups}
if ":" in stop:
    module, name, when = stop.split(":")
    bomb(where[module], name, when == "after")
async def main():
    engine = bubblewrap.BubblewrapEngine(Path(sys.argv[1]))
    limits = Limits(memory_bytes=256 << 20, pids=64, disk_bytes=32 << 20, disk_inodes=4000)
    await engine.allocate("victim", limits)
    sandbox = await engine.start(SandboxSpec("victim", limits))
    print("started", sandbox.running.init.pid, flush=True)
    if stop == "idle":
        await asyncio.sleep(60)
    script = "echo running; setsid -f sleep 31337; sleep 31337"
    async for event in sandbox.exec(Command(("sh", "-c", script), 60, 99, 0)):
        print("event", flush=True)
asyncio.run(main())
"""


def _server(root: Path, stop: str) -> "subprocess.Popen[str]":
    env = {**os.environ, "PYTHONPATH": str(Path(sys.modules["deskhand"].__file__ or "").parents[1])}
    argv = [sys.executable, "-c", SERVER, str(root), stop]
    return subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


STEPS = ("rootfs:populate:before", "spawn:listen:before", "spawn:start:before", "spawn:start:after",
         "processes:identify:after", "cgroups:join:before", "cgroups:join:after")  # fmt: skip
ROOT_STEPS = (
    "disk:make_template:before",
    "disk:clone:after",
    "disk:mount_new_image:before",
    "disk:mount_new_image:after",
)


@pytest.mark.parametrize("step", [*STEPS, *(pytest.param(step, marks=needs_root) for step in ROOT_STEPS)])
async def test_a_server_killed_at_any_step_leaves_nothing_that_a_sweep_does_not_find(
    make: Callable[[], BubblewrapEngine], root: Path, step: str
) -> None:
    with _server(root, step) as server:
        await asyncio.to_thread(server.communicate, timeout=20)
    assert server.returncode == -signal.SIGKILL
    engine = make()
    assert await engine.attach("victim") is None
    await engine.sweep(())
    assert await _settled(root) == []


async def test_a_container_outlives_its_server_and_is_adopted(make: Callable[[], BubblewrapEngine], root: Path) -> None:
    with _server(root, "exec") as server:
        assert server.stdout is not None
        assert (await asyncio.to_thread(server.stdout.readline)).startswith("started")
        assert await asyncio.to_thread(server.stdout.readline) == "event\n"
        server.kill()
    engine = make()
    sandbox = await engine.attach("victim")
    assert sandbox is not None
    for _ in range(50):  # the command of the dead server is killed, its container is not
        listing = await gather(sandbox, Command(("ps", "ax"), 5, 9999, 0))
        if "31337" not in listing.text:
            break
        await asyncio.sleep(0.05)
    assert "31337" not in listing.text
    await engine.sweep(())
    assert await _settled(root) == []


async def test_a_death_from_outside_is_told_as_gone(bench: Bench) -> None:
    async with bench.desk() as desk:
        record = load(_layout_of(bench).place(desk.container_id))
        assert record is not None
        assert record.init is not None
        pending = asyncio.ensure_future(desk.run("sleep 60"))
        await asyncio.sleep(0.2)
        assert await asyncio.to_thread(processes.kill, record.init, 5)
        with pytest.raises(SandboxGone):
            await pending
        with pytest.raises(SandboxGone):
            await desk.sandbox.ping()
        assert await bench.engine.attach(desk.container_id) is None
        again = await bench.engine.start(SandboxSpec(desk.container_id, SMALL))
        await again.ping()


def _layout_of(bench: Bench) -> Layout:
    assert isinstance(bench.engine, BubblewrapEngine)
    return bench.engine._layout


def test_a_reused_pid_is_not_killed() -> None:
    with subprocess.Popen(["sleep", "60"]) as bystander:
        truth = processes.identify(bystander.pid)
        assert truth is not None
        assert processes.is_alive(truth)
        for lie in (replace(truth, started=truth.started - 1), replace(truth, boot="another")):
            assert not processes.is_alive(lie)
            assert processes.kill(lie, 1)
            assert bystander.poll() is None
        assert processes.kill(truth, 5)
        assert bystander.wait() == -signal.SIGKILL


async def test_two_installations_do_not_disturb_each_other(bench: Bench, tmp_path: Path) -> None:
    other = BubblewrapEngine(tmp_path / "other")
    async with bench.desk() as desk:
        await other.allocate(desk.container_id, TINY)
        sandbox = await other.start(SandboxSpec(desk.container_id, TINY))
        assert await other.sweep(()) == [desk.container_id]
        with pytest.raises(SandboxGone):
            await sandbox.ping()
        await desk.sandbox.ping()
    assert await _settled(tmp_path / "other") == []


async def test_without_cgroups_what_is_left_is_limited_and_the_rest_is_reported(root: Path) -> None:
    engine = BubblewrapEngine(root, lambda _: NoCgroups())
    report = await engine.probe()
    assert report.usable
    weak = {finding.name for finding in report.weaknesses}
    assert {"memory limit", "cpu limit"} <= weak
    assert "process limit" not in weak
    await engine.allocate("c", TINY)
    try:
        sandbox = await engine.start(SandboxSpec("c", TINY))
        hog = Command(("python3", "-c", "bytearray(700 << 20)"), 20, 9999, 0)
        result = await gather(sandbox, hog)
        assert b"MemoryError" in result.stderr
    finally:
        await engine.sweep(())


async def test_starts_and_destroys_can_be_cancelled_at_any_moment(bench: Bench, root: Path) -> None:
    for delay in (0.001, 0.004, 0.01, 0.02, 0.03):
        await bench.engine.allocate("c", TINY)
        task = asyncio.ensure_future(bench.engine.start(SandboxSpec("c", TINY)))
        await asyncio.sleep(delay)
        task.cancel()
        await asyncio.wait([task])
        await bench.engine.destroy("c")
    await bench.engine.sweep(())
    assert await _settled(root) == []


async def test_a_start_without_allocation_is_refused(bench: Bench) -> None:
    with pytest.raises(SandboxGone):
        await bench.engine.start(SandboxSpec("never", SMALL))
    with pytest.raises(SandboxGone):
        await bench.engine.allocate("../../etc", SMALL)


async def test_tools_are_found_in_fixed_places_not_by_the_path_of_the_server(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    async with bench.desk() as desk:
        await desk.sandbox.ping()


async def test_a_start_that_bubblewrap_refuses_says_what_to_do(bench: Bench, root: Path) -> None:
    engine = bench.engine
    assert isinstance(engine, BubblewrapEngine)
    await engine.allocate("c", TINY)
    ground = await engine._prepared()
    engine._ground = replace(ground, filter=b"not a filter")
    with pytest.raises(SandboxUnavailable, match="bubblewrap did not start: .*seccomp"):
        await engine.start(SandboxSpec("c", TINY))
    engine._ground = ground
    await (await engine.start(SandboxSpec("c", TINY))).ping()


async def test_many_containers_have_users_of_their_own(bench: Bench) -> None:
    async with bench.desk(TINY) as one, bench.desk(TINY) as two:
        records = [load(_layout_of(bench).place(desk.container_id)) for desk in (one, two)]
        uids = {record.uid for record in records if record is not None}
        assert len(uids) == (2 if os.geteuid() == 0 else 1)
        assert 0 not in uids
        for desk, record in zip((one, two), records, strict=True):
            assert record is not None
            assert record.init is not None
            status = _status(record.init.pid)
            assert f"Uid:\t{record.uid}\t{record.uid}\t{record.uid}\t{record.uid}" in status
            assert "CapBnd:\t0000000000000000" in status
            if os.geteuid() == 0:
                assert "Groups:\t \n" in status
            await desk.sandbox.ping()


def _status(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text()


async def test_no_zombies_are_kept(bench: Bench) -> None:
    before = _zombies()  # of other tests, in which a second engine in this process ended a container of the first
    async with bench.desk(TINY) as desk:
        await desk.sandbox.ping()
    assert _zombies() <= before


def _zombies() -> set[str]:
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            _, _, rest = path.read_text().rpartition(")")
            if rest.split()[0] == "Z" and int(rest.split()[1]) == os.getpid():
                found.add(path.parent.name)
    return found


@needs_root
def test_a_group_of_the_unified_hierarchy_is_emptied_and_removed() -> None:
    mount = cgroups.parse_mounts(Path("/proc/self/mountinfo").read_text()).get("")
    if mount is None or not os.access(mount, os.W_OK):
        pytest.skip("the unified cgroup hierarchy is not mounted writable here")
    path = Path(mount, f"deskhand-test-{os.getpid()}", "c")
    path.mkdir(parents=True)
    group = cgroups.Group("v2", dict.fromkeys(cgroups.CONTROLLERS, str(path)))
    with subprocess.Popen(["sleep", "60"]) as member:
        cgroups.join(group, member.pid)
        assert str(member.pid) in (path / "cgroup.procs").read_text()
        assert cgroups.remove(group)
        assert member.wait() == -signal.SIGKILL
    assert not path.parent.exists()


async def test_an_agent_that_does_not_answer_is_ended_and_can_be_started_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench.desk(TINY) as desk:
        record = load(_layout_of(bench).place(desk.container_id))
        assert record is not None
        assert record.init is not None
        os.kill(record.init.pid, signal.SIGSTOP)
        monkeypatch.setattr(connection, "PING_S", 0.2)
        assert await bench.make().attach(desk.container_id) is None
        assert not processes.is_alive(record.init)
        await (await bench.engine.start(SandboxSpec(desk.container_id, TINY))).ping()


async def test_a_flood_does_not_grow_the_agent(bench: Bench) -> None:
    async with bench.desk() as desk:
        record = load(_layout_of(bench).place(desk.container_id))
        assert record is not None
        assert record.init is not None
        before = _peak_kib(record.init.pid)
        await desk.run("yes | head -c 1G", head=1 << 16, tail=1 << 16, timeout_s=60)
        await asyncio.gather(*(desk.run("yes | head -c 20M", head=10, tail=1 << 20) for _ in range(4)))
        assert _peak_kib(record.init.pid) - before < 12 << 10


def _peak_kib(pid: int) -> int:
    line = next(line for line in _status(pid).splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1])


async def test_unlimited_means_unlimited(bench: Bench) -> None:
    free = Limits(memory_bytes=0, pids=0, cpus=0, open_files=0, disk_bytes=0, disk_inodes=0)
    async with bench.desk(free) as desk:
        assert (await desk.run("ulimit -f")).text == "unlimited"
        assert cgroups.settings_v1(free) == []
        assert cgroups.settings_v2(free) == []
