"""Enemies inside: what they did to the agent, to their neighbours, to the disk and to the clock before it was mended.

The oracle is never Deskhand's own word: the container's process table, another container, the kernel, the disk's free
space. Each attempt has a control that it works where nothing forbids it.
"""

import asyncio
import os
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from deskhand.ports.sandbox import Command, SandboxGone, SandboxUnavailable, TimedOut, WorkspaceError
from deskhand.sandboxes import connection, disk
from deskhand.sandboxes.connection import dial
from deskhand.sandboxes.workspace import DirectoryWorkspace, Site
from deskhand.testing.conformance_sandbox_bench import SMALL, Bench, Desk, chunks

from .conftest import needs_bwrap, needs_root

pytestmark = [pytest.mark.anyio, needs_bwrap]


@pytest.fixture
async def desk(bench: Bench) -> AsyncIterator[Desk]:
    async with bench.desk() as made:
        yield made


HEADLESS = """
import ctypes, os, sys, threading, time
if sys.argv[1] == "forked":
    if os.fork():
        time.sleep(60)
    os.setsid()
def live():
    while True:
        open("/mnt/data/beat", "a").write("x")
        time.sleep(0.02)
threading.Thread(target=live).start()
time.sleep(0.2)
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)  # exit(2): this thread alone ends
"""


@pytest.mark.parametrize("how", ["first", "forked"])
async def test_a_process_whose_first_thread_has_ended_does_not_outlive_the_deadline(desk: Desk, how: str) -> None:
    """It is shown as a zombie while its other threads run on."""
    await desk.workspace.write("headless.py", chunks(HEADLESS.encode()))
    running = asyncio.create_task(desk.call("python3", "headless.py", how, timeout_s=2))
    await asyncio.sleep(1)
    shown = await desk.run("ps -eLo stat,args | grep -c '^Zsl.*defunct'; wc -c < beat; sleep 0.3; wc -c < beat")
    zombies, before, after = map(int, shown.text.split())
    assert zombies, "the control did not look dead"
    assert after > before, "the control was not alive"
    assert (await running).end == TimedOut()
    sizes = await desk.run("wc -c < beat; sleep 0.3; wc -c < beat")
    assert len(set(sizes.text.split())) == 1, "it still beats"


LIMITS = """
import os, resource, subprocess, sys
child = subprocess.Popen(["sleep", "60"])
def tries(pid):
    for attempt in (lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE, (0, 0)),
                    lambda: os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0)),
                    lambda: os.sched_setaffinity(pid, {0})):
        try:
            attempt()
            yield "done"
        except PermissionError:
            yield "refused"
print(*tries(child.pid), *tries(1))
child.kill()
"""


async def test_the_agent_cannot_be_starved_by_limits_and_scheduling(desk: Desk) -> None:
    """It has the uid of the commands, which is all that prlimit(2) asks; with no files left it would answer nobody."""
    assert (await desk.python(LIMITS)).text.split() == ["done"] * 3 + ["refused"] * 3
    await desk.sandbox.ping()


SPY = """
import ctypes, errno, fcntl, os, time
libc = ctypes.CDLL(None, use_errno=True)
fd = libc.inotify_init1(os.O_NONBLOCK)
watch = libc.inotify_add_watch(fd, b"/usr/bin", 0x20) if fd >= 0 else -1
try:
    fcntl.fcntl(os.open("/usr/bin", os.O_RDONLY), 1026, 0x80000001)
    folder = "told"
except OSError:
    folder = "refused"
print("watching" if watch >= 0 else "refused", folder, flush=True)
time.sleep(1.5)
print("saw", b"getconf" in os.read(fd, 1 << 16) if watch >= 0 else False)
"""


async def test_nobody_is_told_what_others_run(bench: Bench) -> None:
    """/usr is one for all; the control is the same spy outside, as a user without any privilege."""
    async with bench.desk() as spy, bench.desk() as other:
        inside = asyncio.create_task(spy.python(SPY))
        outside = await asyncio.to_thread(_spy_on_the_host)
        for _ in range(3):
            await asyncio.sleep(0.4)
            await other.run("getconf PAGESIZE")
        assert (await inside).text.split() == ["refused", "refused", "saw", "False"]
        words, _ = await asyncio.to_thread(outside.communicate)
    assert words.split() == ["watching", "told", "saw", "True"]


def _spy_on_the_host() -> "subprocess.Popen[str]":
    user = 65534 if os.geteuid() == 0 else None
    return subprocess.Popen(
        ["/usr/bin/python3", "-c", "import signal; signal.signal(signal.SIGIO, signal.SIG_IGN)\n" + SPY],
        stdout=subprocess.PIPE,
        text=True,
        user=user,
    )


SOCKETS = """
import errno, socket
def attempt(*what):
    try:
        socket.socket(*what).close()
        return "made"
    except OSError as e:
        return errno.errorcode[e.errno]
print(attempt(2, 1, 6), attempt(2, 2, 17), attempt(2, 1, 262), attempt(2, 2, 136), attempt(2, 5, 132))
a = socket.create_server(("127.0.0.1", 0))
b = socket.create_connection(a.getsockname())
b.setsockopt(6, 1, 1)
try:
    b.setsockopt(6, 31, b"tls")
except OSError as e:
    print(errno.errorcode[e.errno])
"""


async def test_rare_protocols_of_the_kernel_are_out_of_reach(desk: Desk) -> None:
    rare = ["EPROTONOSUPPORT"] * 3
    assert (await desk.python(SOCKETS)).text.split() == ["made", "made", *rare, "EPERM"]
    control = subprocess.run([sys.executable, "-c", SOCKETS], capture_output=True, text=True, check=True).stdout.split()
    assert control[3] == "made"
    assert control[-1] != "EPERM"


@needs_root
async def test_a_stalled_download_does_not_keep_the_disk_of_a_deleted_container(bench: Bench, root: Path) -> None:
    if not disk.images_possible():
        pytest.skip("there are no loop devices")
    content = os.urandom(1 << 20) * 40
    async with bench.desk() as desk:
        before = _stored(root)
        await desk.workspace.write("big", chunks(content))
        os.sync()
        assert _stored(root) - before > 30 << 20, "the control is not on the disk"
        reading, stalled = desk.workspace.read("big"), os.open(_image(root), os.O_RDONLY)
        assert await anext(reading) == content[: 256 << 10]
        await bench.engine.destroy(desk.container_id)
    try:
        os.sync()
        assert os.fstat(stalled).st_blocks == 0
        with pytest.raises(SandboxGone):
            async for _ in reading:
                pass
    finally:
        os.close(stalled)


@needs_root
async def test_an_upload_that_goes_on_after_the_end_of_its_container_is_refused(bench: Bench) -> None:
    async with bench.desk() as desk:

        async def body() -> AsyncIterator[bytes]:
            yield b"before"
            await bench.engine.destroy(desk.container_id)
            yield b"after" * 100_000

        with pytest.raises(SandboxGone):
            await desk.workspace.write("late", body())
        with pytest.raises(SandboxGone):
            await desk.workspace.list(1)


def _image(root: Path) -> Path:
    (image,) = (root / "containers").glob("*/disk.img")
    return image


def _stored(root: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in root.glob("containers/*/disk.img"))


async def test_a_folder_that_hides_what_is_in_it_counts_as_full(tmp_path: Path) -> None:
    """Without an image the disk is measured by looking; what cannot be looked at could hold anything."""
    here = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(20):
            os.mkdir("d" * 250, dir_fd=here)
            below = os.open("d" * 250, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        hidden = os.open("hidden", os.O_WRONLY | os.O_CREAT, dir_fd=here)
        os.write(hidden, bytes(1 << 20))
        os.close(hidden)
    finally:
        os.close(here)
    counted = subprocess.run(["du", "-s", "--block-size=1", tmp_path], capture_output=True, text=True, check=True)
    assert int(counted.stdout.split()[0]) > 1 << 20, "du(1) sees the hidden file"
    assert disk.usage(tmp_path, 1000)[1] >= 1000
    disk.erase(tmp_path / ("d" * 250))
    assert disk.usage(tmp_path, 1000) == (0, 0)


async def test_one_upload_cannot_pass_a_quota_that_is_only_looked_at(tmp_path: Path) -> None:
    ceiling = 20 << 20
    site = DirectoryWorkspace(
        lambda: Site(tmp_path, None), lambda: "disk full" if disk.usage(tmp_path, 100)[0] > ceiling else ""
    )

    async def endless(most: int) -> AsyncIterator[bytes]:
        for _ in range(most):
            yield bytes(1 << 20)

    with pytest.raises(WorkspaceError, match="disk full"):
        await site.write("big", endless(1000))
    assert os.listdir(tmp_path) == []
    assert (await site.write("small", endless(18))).bytes == 18 << 20


async def test_an_agent_that_drips_cannot_stretch_a_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One byte now and then used to count as an answer for ever; the control is that a drip in time is heard."""
    monkeypatch.setattr(connection, "KILL_PATIENCE_S", 0.5)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(5)
        try:
            while not writer.is_closing():
                writer.write(struct.pack(">I", 2) + b"O\x01x")
                await writer.drain()
                await asyncio.sleep(0.1)
        except ConnectionError:
            writer.close()

    server = await asyncio.start_unix_server(serve, tmp_path / "s")
    command = Command(("true",), 0.5, 1000, 1000)
    heard: list[object] = []
    began = time.monotonic()

    async def listen() -> None:
        with dial(tmp_path / "s") as channel:
            await channel.begin(command)
            async for event in channel.replies(command):
                heard.append(event)

    try:
        with pytest.raises(SandboxUnavailable, match="did not answer"):
            await listen()
    finally:
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.3)
    assert 3 <= len(heard) <= 15
    assert time.monotonic() - began < connection.FAREWELL_S + 3


@needs_root
async def test_containers_made_at_the_same_moment_all_get_a_sound_disk(bench: Bench) -> None:
    """The first of a size make its template; several at once used to write into one draft."""
    limits = replace(SMALL, disk_bytes=24 << 20)
    names = [f"check-side-{n}" for n in range(8)]
    await asyncio.gather(*(bench.engine.allocate(name, limits) for name in names))
    for name in names:
        workspace = bench.engine.workspace(name)
        assert (await workspace.write("f", chunks(b"x" * 5000))).bytes == 5000


async def test_a_fork_bomb_without_heads_and_marks_ends_at_its_deadline(bench: Bench) -> None:
    bomb = """
import ctypes, os, resource, threading, time
hard = resource.getrlimit(10)[1]
while True:
    try:
        if os.fork() == 0:
            os.setsid()
            resource.setrlimit(10, (max(hard - 5, 0),) * 2)
            threading.Thread(target=time.sleep, args=(60,)).start()
            ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)
    except (OSError, RuntimeError, ValueError):
        pass
"""
    async with bench.desk(replace(SMALL, memory_bytes=1 << 30)) as desk:  # it shall not end for want of memory
        await desk.workspace.write("bomb.py", chunks(bomb.encode()))
        assert (await desk.call("python3", "bomb.py", timeout_s=2)).end == TimedOut()
        left = await desk.run("ps -eLo comm | grep -c '^python3'")
        assert left.text == "1", "only the agent is left"


@needs_root
async def test_files_looked_at_during_a_destroy_do_not_mount_the_disk_again(bench: Bench, root: Path) -> None:
    over = asyncio.Event()

    async def look(container_id: str) -> int:
        looked = 0
        while not over.is_set():
            try:
                await bench.engine.workspace(container_id).list(10)
                looked += 1
            except SandboxGone:
                await asyncio.sleep(0)
        return looked

    names = [f"check-look-{n}" for n in range(12)]
    for name in names:
        await bench.engine.allocate(name, replace(SMALL, disk_bytes=16 << 20))
    lookers = [asyncio.create_task(look(name)) for name in names for _ in range(2)]
    await asyncio.sleep(0.2)
    for name in names:
        await bench.engine.destroy(name)
    over.set()
    assert all(count > 0 for count in await asyncio.gather(*lookers))
    assert "check-look" not in Path("/proc/self/mountinfo").read_text()
    for _ in range(100):  # the kernel lets go of loop devices a moment later
        devices = subprocess.run(["losetup", "--list"], capture_output=True, text=True, check=True).stdout
        if str(root) not in devices:
            break
        await asyncio.sleep(0.05)
    assert str(root) not in devices
