"""Engines over OCI runtimes: the conformance suite on each that is installed, and what is particular to them."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from deskhand.ports.sandbox import Command, Limits, SandboxExhausted, SandboxGone, SandboxSpec, SandboxUnavailable
from deskhand.sandboxes import mounting, mounts, oci, processes
from deskhand.sandboxes.engine import ResidentEngine
from deskhand.sandboxes.launcher import Blueprint
from deskhand.sandboxes.layout import layout, load, root_uid
from deskhand.sandboxes.oci_config import NO_SYS, bind, config
from deskhand.sandboxes.rootfs import Shared
from deskhand.sandboxes.roots import HostRoot, host_root
from deskhand.testing.conformance_sandbox import CHECKS, Check
from deskhand.testing.conformance_sandbox_bench import SMALL, Bench, NotEnforced, gather

from .conftest import needs_root

pytestmark = pytest.mark.anyio

ENGINES: dict[str, Callable[[Path], ResidentEngine]] = {
    "crun": oci.CrunEngine,
    "runc": oci.RuncEngine,
    "gvisor": oci.GvisorEngine,
}
RUNTIMES = {"crun": oci.CRUN, "runc": oci.RUNC, "gvisor": oci.RUNSC}


def _why_not(name: str) -> str:
    """Why this host cannot have the engine; "" if it can."""
    if os.geteuid() != 0:
        return "only root can start containers of an OCI runtime"
    nowhere = layout(Path(f"/tmp/deskhand-none-{os.getpid()}"), as_root=True)
    try:
        oci.Oci(RUNTIMES[name]).prepare(nowhere, host_root())
    except SandboxUnavailable as exc:
        return str(exc)
    finally:
        mounting.unmount(nowhere.skeleton)
        shutil.rmtree(nowhere.runtime, ignore_errors=True)
    return ""


WHY_NOT = {name: _why_not(name) for name in ENGINES}


@pytest.fixture(params=list(ENGINES))
def engine_name(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if WHY_NOT[name]:
        pytest.skip(WHY_NOT[name])
    return name


@pytest.fixture
def make_engine(engine_name: str, root: Path) -> Callable[[], ResidentEngine]:
    return lambda: ENGINES[engine_name](root)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_it_keeps_the_contract(make_engine: Callable[[], ResidentEngine], check: Check) -> None:
    bench = Bench(make_engine)
    try:
        await check(bench)
    except NotEnforced as exc:
        pytest.skip(str(exc))
    finally:
        await bench.engine.sweep(())


async def test_its_level_is_told_and_proved(make_engine: Callable[[], ResidentEngine], engine_name: str) -> None:
    engine = make_engine()
    try:
        report = await engine.probe()
    finally:
        await engine.sweep(())
    assert report.usable
    assert (report.engine, report.level) == (engine_name, "gvisor" if engine_name == "gvisor" else "namespace")


async def test_host_users_are_the_containers_own(make_engine: Callable[[], ResidentEngine], root: Path) -> None:
    bench = Bench(make_engine)
    try:
        async with bench.desk() as desk:
            record = load(layout(root, as_root=True).place(desk.container_id))
            assert record is not None
            assert record.init is not None
            assert (await desk.run("id -u; cat /proc/self/uid_map | wc -l; touch mine")).text.split()[0] == "1000"
            users = {record.uid, root_uid(record.uid)}
            status = Path(f"/proc/{record.init.pid}/status").read_text()
            uids = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1:]
            assert {int(uid) for uid in uids} <= users
            for pid in {found.pid for found in processes.owned_by(sorted(users))} | {record.init.pid}:
                groups = Path(f"/proc/{pid}/cgroup").read_text()
                assert f"{desk.container_id}\n" in groups, "all its processes are under its ceilings"
    finally:
        await bench.engine.sweep(())


STEPS = ("spawn:start:before", "spawn:start:after", "processes:identify:after", "cgroups:join:before")
SERVER = """
import asyncio, os, sys
from pathlib import Path
from deskhand.ports.sandbox import *
from deskhand.sandboxes import oci, spawn, processes, cgroups
name, root, step = sys.argv[1:]
module, function, when = step.split(":")
where = {"spawn": spawn, "processes": processes, "cgroups": cgroups}[module]
original = getattr(where, function)
def replaced(*args, **kwargs):
    if when == "before": os.kill(os.getpid(), 9)
    original(*args, **kwargs)
    os.kill(os.getpid(), 9)
setattr(where, function, replaced)
async def main():
    engine = getattr(oci, name)(Path(root))
    limits = Limits(memory_bytes=256 << 20, pids=64, disk_bytes=32 << 20, disk_inodes=4000)
    await engine.allocate("victim", limits)
    await engine.start(SandboxSpec("victim", limits))
asyncio.run(main())
"""


@pytest.mark.parametrize("step", STEPS)
async def test_a_server_killed_at_any_step_leaves_nothing(
    make_engine: Callable[[], ResidentEngine], engine_name: str, root: Path, step: str
) -> None:
    env = {**os.environ, "PYTHONPATH": str(Path(sys.modules["deskhand"].__file__ or "").parents[1])}
    argv = [sys.executable, "-c", SERVER, ENGINES[engine_name].__name__, str(root), step]
    process = await asyncio.create_subprocess_exec(*argv, env=env)
    assert await process.wait() == -signal.SIGKILL
    place = layout(root, as_root=True)
    assert await make_engine().sweep(()) == ["victim"]
    for _ in range(500):
        if not (found := _traces(place.installation)):
            break
        await asyncio.sleep(0.02)
    assert found == []


def _traces(installation: str) -> list[str]:
    """Processes, mounts, cgroups and folders of an installation."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = entry.read_bytes().decode(errors="replace")
        except OSError:
            continue
        found += [text] if f"/run/deskhand/{installation}" in text else []
    found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if installation in line]
    for path, folders, _ in os.walk("/sys/fs/cgroup"):
        found += [f"{path}/{name}" for name in folders if name.startswith(f"deskhand-{installation}")]
    return [*found, *(str(path) for path in Path("/run/deskhand").glob(f"{installation}/containers/*"))]


async def test_a_spare_takes_its_containers_name_and_leaves_nothing(
    make_engine: Callable[[], ResidentEngine], root: Path
) -> None:
    engine, place = make_engine(), layout(root, as_root=True)
    pool = asyncio.create_task(engine.keep_warm(1))
    await asyncio.sleep(0)  # it begins
    try:
        await engine.allocate("asked", SMALL)  # spares are of a kind that somebody has asked for
        for _ in range(500):
            records = [load(place.place(path.name)) for path in place.containers.glob("warm-*")]
            if any(record is not None and record.warm for record in records):
                break
            await asyncio.sleep(0.02)
        init = next(record.init for record in records if record is not None and record.warm)
        await engine.allocate("named", SMALL)
        sandbox = await engine.start(SandboxSpec("named", SMALL))
        record = load(place.place("named"))
        assert record is not None
        assert record.init == init, "it was started before it was asked for"
        assert (await gather(sandbox, Command(("echo", "out"), 5, 99, 0))).text == "out"
        assert await make_engine().attach("named") is not None
    finally:
        pool.cancel()
        await asyncio.wait([pool])
        await engine.sweep(())
    for _ in range(500):
        if not (found := _traces(place.installation)):
            break
        await asyncio.sleep(0.02)
    assert found == []


async def test_a_greedy_command_ends_its_gvisor_computer_which_says_so(root: Path) -> None:
    if WHY_NOT["gvisor"]:
        pytest.skip(WHY_NOT["gvisor"])
    bench = Bench(lambda: oci.GvisorEngine(root))
    try:
        async with bench.desk() as desk:
            await desk.run("echo kept > file")
            with pytest.raises(SandboxExhausted, match="ran out of memory"):
                await desk.python("x = bytearray(900 << 20); print(len(x))")
            assert await bench.engine.attach(desk.container_id) is None, "what is left of it is ended"
            again = await bench.engine.start(SandboxSpec(desk.container_id, SMALL))
            assert (await gather(again, Command(("cat", "file"), 5, 99, 0))).text == "kept"
    finally:
        await bench.engine.sweep(())


async def test_a_link_in_place_of_the_agents_socket_leads_nowhere(root: Path) -> None:
    if WHY_NOT["gvisor"]:
        pytest.skip(WHY_NOT["gvisor"])
    bench = Bench(lambda: oci.GvisorEngine(root))
    try:
        async with bench.desk() as desk, bench.desk() as victim:
            host = layout(root, as_root=True).place(victim.container_id).disk / "agent" / oci.SOCKET
            assert host.is_socket(), "the control: this is where the other container's agent is reached"
            folder = oci.AGENT_FOLDER
            # Last, so that nothing is left to run: from here on, nobody reaches this container's own agent.
            await desk.run(f"cd {folder} && rm {oci.SOCKET} && ln -s {host} {oci.SOCKET}")
            with pytest.raises(SandboxGone):
                await desk.run("hostname; touch /mnt/data/reached")
            assert [info.path for info in await victim.workspace.list(9)] == []
            await desk.workspace.list(9)
            assert await bench.engine.attach(desk.container_id) is None
            again = await bench.engine.start(SandboxSpec(desk.container_id, SMALL))
            await again.ping()
    finally:
        await bench.engine.sweep(())


@needs_root
def test_an_old_gvisor_is_refused_with_the_reason(tmp_path: Path) -> None:
    fake = tmp_path / "runsc"
    for said, refused in (
        ("runsc version release-20221219.0", True),
        ("who am I", True),
        ("release-20991231.0", False),
    ):
        fake.write_text(f"#!/bin/sh\necho '{said}'\n")
        fake.chmod(0o755)
        launcher = oci.Oci(replace(oci.RUNSC, name=str(fake)))
        place = layout(tmp_path / "data", as_root=False)
        if refused:
            with pytest.raises(SandboxUnavailable, match="20240729 or newer: install gVisor of July 2024 or newer"):
                launcher.prepare(place, host_root())
        else:
            launcher.prepare(place, host_root())
            mounting.unmount(place.skeleton)


@needs_root
def test_a_runtime_that_is_missing_is_named() -> None:
    missing = oci.Oci(replace(oci.CRUN, name="no-such-runtime"))
    with pytest.raises(SandboxUnavailable, match="no-such-runtime is not installed: apt-get install crun"):
        missing.prepare(layout(Path("/nowhere"), as_root=False), host_root())


def _blueprint() -> Blueprint:
    place = layout(Path("/d"), as_root=True).place("cntr_1")
    shared = Shared(Path("/run/d/shared"), ("alternatives",), "3.11")
    root = HostRoot("3.11", (("bin", "usr/bin"),), ("lib64",), None)
    return Blueprint("cntr_1", place, 1879048192, shared, root, b"filter", Limits())


def test_a_container_is_described_without_any_privilege() -> None:
    document = config(_blueprint(), Path("/run/d/root"), "", [])
    process, linux = document["process"], document["linux"]
    assert process["noNewPrivileges"] is True
    assert all(held == [] for held in process["capabilities"].values())
    assert process["user"] == {"uid": 1000, "gid": 1000}
    assert {entry["type"] for entry in linux["namespaces"]} >= {"user", "pid", "network", "mount", "ipc"}
    assert [entry["hostID"] for entry in linux["uidMappings"]] == [1879048193, 1879048192]
    assert linux["uidMappings"] == linux["gidMappings"]
    assert document["root"]["readonly"] is True
    assert "cgroupsPath" not in linux
    assert config(_blueprint(), Path("/r"), "/group", [])["linux"]["cgroupsPath"] == "/group"
    assert json.loads(json.dumps(document)) == document


def test_everything_has_a_place_to_be_mounted_on() -> None:
    inside = ("/usr/", "/etc/", "/dev/", "/proc/", *(f"/{name}" for name in ("lib64",)))
    for mount in config(_blueprint(), Path("/r"), "", [bind(mounts.Bind(Path("/x"), oci.AGENT_FOLDER, True)), NO_SYS])[
        "mounts"
    ]:
        target = mount["destination"]
        assert target in mounts.POINTS or target.startswith(inside) or target == "/dev", target
        if mount["type"] == "bind":
            assert {"nosuid", "nodev"} <= set(mount["options"])
            assert ("rw" in mount["options"]) == (target not in mounts_read_only())


def mounts_read_only() -> set[str]:
    blueprint = _blueprint()
    return {bind.target for bind in (*mounts.system(blueprint), *mounts.own(blueprint)) if not bind.writable}


def test_versions_and_hosts_are_recognised() -> None:
    assert oci.release("runsc version 0.0~20240729.0\nspec: 1.2.0") == 20240729
    assert oci.release("runsc version release-20251103.0") == 20251103
    assert oci.release("something else") == 0
    hybrid = "31 25 0:27 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw"
    assert oci.is_hybrid(hybrid)
    assert not oci.is_hybrid(hybrid.replace("/unified", ""))


def test_an_interrupted_runtime_is_found_by_its_bundle(tmp_path: Path) -> None:
    script = "import sys, time; time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)]) as busy:
        with subprocess.Popen([sys.executable, "-c", script, f"{tmp_path}-other"]) as bystander:
            processes.kill_running(str(tmp_path), 5)
            assert busy.wait(5) == -signal.SIGKILL
            assert bystander.poll() is None
            bystander.kill()
