"""R: to exhaust the host, the server or a neighbour; and what is left when something dies at the wrong moment."""
# ruff: noqa: E501 - programs that attack are data, and read better in one line

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, Final

import pytest

from deskhand.engine.background import beside
from deskhand.ports.sandbox import (
    Command,
    EngineReport,
    Exited,
    Limits,
    SandboxGone,
    SandboxSpec,
    TimedOut,
    WorkspaceError,
)
from deskhand.sandboxes import processes
from deskhand.sandboxes.fairness import PRESSED_WEIGHT
from deskhand.sandboxes.layout import Record, layout, load, root_uid
from deskhand.sandboxes.registry import ENGINES
from deskhand.testing.conformance_sandbox_bench import SMALL, Bench, Desk, chunks, gather

from ..conftest import Launch
from .attempts import inside, outside, run
from .cases import case
from .census import traces
from .conftest import settled
from .product import KEYS, Product
from .test_host import done, refused

pytestmark = pytest.mark.anyio

BOMBS: Final = {
    "shell": ("bash", "-c", "f() { f | f & }; f; while :; do f; done"),
    "headless": (
        "python3",
        "-c",
        "import os, time\nwhile True:\n  try:\n    if os.fork() == 0: os.setsid()\n  except OSError: time.sleep(0.001)",
    ),
}


@asynccontextmanager
async def attacked_by(desk: Desk, *argv: str, timeout_s: float = 20.0) -> AsyncIterator[None]:
    """While inside, the command runs in the container."""
    running = asyncio.ensure_future(desk.call(*argv, timeout_s=timeout_s, head=100, tail=0))
    await asyncio.sleep(0.5)
    try:
        assert not running.done(), running.result()
        yield
    finally:
        running.cancel()
        await asyncio.wait([running])


async def latency(desk: Desk, rounds: int = 40) -> float:
    """Median milliseconds of a command."""
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        assert (await desk.run("true")).end == Exited(0)
        taken.append((time.perf_counter() - began) * 1000)
    return median(taken)


@case("R01", "a fork bomb, of shells and of headless processes", "ends inside; a neighbour's commands go on")
@pytest.mark.parametrize("bomb", BOMBS)
async def test_a_fork_bomb_ends_inside(bench: Bench, bomb: str) -> None:
    async with beside(bench.engine.keep_fair()), bench.desk() as one, bench.desk() as two:
        quiet = await latency(two)
        async with attacked_by(one, *BOMBS[bomb], timeout_s=6):
            busy = await latency(two)
            assert 20 < len(processes_in(bench, one)) <= most_processes(bench, one)
            print(f"a neighbour's command takes {quiet:.1f} ms, beside the bomb {busy:.1f} ms")
        assert (await one.run("echo lives")).text == "lives"


FILLS: Final = {
    "processors": f"import os\nfor _ in range({os.cpu_count()}): os.fork() or exec('while True: pass')\nos.wait()",
    "processes": BOMBS["headless"][2],
}


@case("R22", "processors kept busy, and as many processes as there may be", "the container gives way to all others")
@pytest.mark.parametrize("way", FILLS)
async def test_who_takes_everything_gives_way(bench: Bench, way: str) -> None:
    async with beside(bench.engine.keep_fair()), bench.desk(Limits()) as one, bench.desk() as two:
        if gives_way(bench, one) is None:
            pytest.skip("this host cannot have a group give way: it needs cpu.idle (Linux 5.15)")
        async with attacked_by(one, "python3", "-c", FILLS[way]):
            await until_giving_way(bench, one, True)
            assert weight(bench, one) == PRESSED_WEIGHT, "of all containers, beside a process of the host"
            assert (await two.run("echo at once")).text == "at once"
            assert not gives_way(bench, two)
        await until_giving_way(bench, one, False)
        assert weight(bench, one) == 1.0


def record_of(bench: Bench, desk: Desk) -> Record:
    """What the engine has written down of a container."""
    record = load(layout(root_of(bench), as_root=os.geteuid() == 0).place(desk.container_id))
    assert record is not None
    return record


def weight(bench: Bench, desk: Desk) -> float:
    """What the group that holds all containers weighs, where one process, or another group, weighs 1."""
    record = record_of(bench, desk)
    assert record.group is not None
    whole = Path(record.group.directories["cpu"]).parent
    match record.group.version:
        case "v1":
            return int((whole / "cpu.shares").read_text()) / 1024
        case _:
            return int((whole / "cpu.weight").read_text()) / 100


async def until_giving_way(bench: Bench, desk: Desk, expected: bool) -> None:
    """Wait until a container gives way, or does not any more. Raises `TimeoutError`."""
    async with asyncio.timeout(20):
        while gives_way(bench, desk) is not expected:  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(0.05)


def gives_way(bench: Bench, desk: Desk) -> bool | None:
    """Whether the kernel has a container's group give way to the others; None if the host has no such thing."""
    record = record_of(bench, desk)
    assert record.group is not None
    setting = Path(record.group.directories.get("cpu", "none"), "cpu.idle")
    return setting.read_text().strip() == "1" if setting.exists() else None


def processes_in(bench: Bench, desk: Desk) -> list[Path]:
    """Every process of a container by the host's table: those of its users, else those in its pid namespace."""
    record = record_of(bench, desk)
    assert record.init is not None
    if os.geteuid() == 0:
        return [Path("/proc", str(found.pid)) for found in processes.owned_by((record.uid, root_uid(record.uid)))]
    namespace = os.readlink(f"/proc/{record.init.pid}/ns/pid")
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.readlink(entry / "ns" / "pid") == namespace:
                found.append(entry)
    return found


def most_processes(bench: Bench, desk: Desk) -> int:
    """What the kernel allows, and the monitor, which stands outside: gVisor's own processes are allowed for."""
    record = record_of(bench, desk)
    assert record.group is not None
    directory = record.group.directories.get("pids")
    return int(Path(directory, "pids.max").read_text()) + 1 if directory else SMALL.pids + 2


HOGS: Final = {
    "heap": "hog = []\nwhile True: hog.append(b'x' * (8 << 20))",
    "anonymous": "import mmap\nhog = []\nwhile True: m = mmap.mmap(-1, 8 << 20); m.write(b'x' * (8 << 20)); hog.append(m)",
    "memfd": "import os\nf = os.memfd_create('hog')\nwhile True: os.write(f, b'x' * (8 << 20))",
    "children": "import os, time\nfor _ in range(40):\n  if os.fork() == 0: hog = b'x' * (40 << 20); time.sleep(9)\ntime.sleep(2)",
    "messages": """
import ctypes, os
l = ctypes.CDLL(None)
q = [l.msgget(0, 0o600) for _ in range(30000)]
b = ctypes.create_string_buffer(8200)
ctypes.c_long.from_buffer(b).value = 1
for i in q:
    while l.msgsnd(i, b, 8192, 0o4000) == 0: pass
""",
    "sockets": """
import socket, time
hog = []
while True:
    try: a, b = socket.socketpair()
    except OSError: break
    a.setblocking(False); hog.append((a, b))
    try:
        while True: a.send(b'x' * 65536)
    except OSError: pass
""",
    "pipes": """
import os, fcntl
hog = []
while True:
    try: r, w = os.pipe()
    except OSError: break
    try: fcntl.fcntl(w, 1031, 1 << 20)
    except OSError: pass
    os.set_blocking(w, False); hog.append((r, w))
    try:
        while True: os.write(w, b'x' * 65536)
    except OSError: pass
""",
}


@case("R02", "take memory: heap, mappings, memfd, children, message queues, socket buffers, pipes",
      "the container's own ceiling; the host's free memory falls by no more")  # fmt: skip
@pytest.mark.parametrize("hog", HOGS)
async def test_memory_is_taken_from_the_container_alone(bench: Bench, hog: str) -> None:
    await bench.require("memory limit")
    async with bench.desk() as one, bench.desk() as two:
        lowest, watching = [available()], threading.Event()
        watcher = threading.Thread(target=watch_memory, args=(lowest, watching))
        watcher.start()
        before = lowest[0]
        ended = (await one.call("python3", "-c", HOGS[hog], timeout_s=15)).end
        watching.set()
        watcher.join()
        assert isinstance(ended, Exited), ended
        if hog in ("heap", "anonymous", "memfd"):
            assert "memory" in ended.note
            assert ended.code == 137
        # What others on this machine do meanwhile has room here; what the hog would take without a ceiling has not.
        assert before - min(lowest) < SMALL.memory_bytes + (1 << 30)
        assert (await one.run("echo lives")).text == "lives"
        assert (await two.run("echo lives")).text == "lives"


def available() -> int:
    """Bytes of memory that the host could give (proc_meminfo(5))."""
    text = Path("/proc/meminfo").read_text()
    return next(int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith("MemAvailable"))


def watch_memory(seen: list[int], ending: threading.Event) -> None:
    while not ending.wait(0.02):
        seen.append(available())


@case("R03", "spin on all processors with a hundred threads", "the container's share of processors and no more")
async def test_the_share_of_processors_is_kept(bench: Bench) -> None:
    await bench.require("cpu limit")
    spin = "import os, time\nfor _ in range(20): os.fork() or exec('while True: pass')\ntime.sleep(60)"
    clock = "import os, time\nbegan = time.monotonic()\nwhile time.monotonic() - began < 2: pass\nprint(sum(os.times()[:2]))"
    async with bench.desk(replace(SMALL, cpus=0.5)) as one, bench.desk() as two:
        async with attacked_by(one, "python3", "-c", spin, timeout_s=6):
            spent, began = cpu_seconds(bench, one), time.monotonic()
            free = await two.python(clock)
            share = (cpu_seconds(bench, one) - spent) / (time.monotonic() - began)
        assert 0.1 < share < 0.75, share
        assert float(free.text) > 0.2, "the control had no processor of its own"


def cpu_seconds(bench: Bench, desk: Desk) -> float:
    """Processor time of every process that lives in the container, by the host's count."""
    ticks = 0
    for entry in processes_in(bench, desk):
        with suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def root_of(bench: Bench) -> Path:
    """The folder of the engine under test."""
    return Path(str(bench.engine._layout.data))  # type: ignore[attr-defined]


@case(
    "R04",
    "fill the disk: bytes, sparse files, fallocate, /tmp, /dev/shm, the home",
    "ENOSPC inside; the host's disk is safe",
)
async def test_a_full_disk_is_the_containers_own(bench: Bench) -> None:
    await bench.require("disk limit")
    free = os.statvfs("/tmp").f_bavail * os.statvfs("/tmp").f_frsize
    async with bench.desk() as one, bench.desk() as two:
        script = (
            "fallocate -l 1G a; for d in . /tmp /dev/shm ~ /run /opt/venv; do head -c 100M /dev/zero > $d/fill; done"
        )
        full = await one.run(script)
        assert full.stderr.count(b"No space left") >= 6
        assert (await one.run("truncate -s 1T sparse && stat -c %s sparse")).text == str(1 << 40)
        with pytest.raises(WorkspaceError, match="full"):
            await one.workspace.write("more", chunks(bytes(8 << 20)))
        assert (await two.run("head -c 20M /dev/zero > mine; wc -c < mine")).text == str(20 << 20)
    left = os.statvfs("/tmp").f_bavail * os.statvfs("/tmp").f_frsize
    assert free - left < 4 * SMALL.disk_bytes + (1 << 30)


@case("R05", "make a million empty files and folders", "the ceiling of inodes; the listing answers, in pages")
def test_a_million_files_do_not_stop_the_listing(product: Product) -> None:
    container = product.shell("true").container_id
    many = "import os\nn = 0\ntry:\n  while n < 1000000:\n    open('/mnt/data/%07d' % n, 'w').close(); n += 1\nexcept OSError: pass\nprint(n)"
    made = int(product.shell(f"python3 -c \"exec('''{many}''')\"", container, timeout_ms=110_000).stdout)
    assert 1000 < made < 201_000  # 200000, rounded up to whole groups of blocks
    with product.http() as client:
        page = client.get(f"/v1/containers/{container}/files", params={"limit": 100}).json()
        assert (len(page["data"]), page["has_more"]) == (100, True)
        after = client.get(f"/v1/containers/{container}/files", params={"limit": 5, "after": page["last_id"]}).json()
        assert not {file["id"] for file in after["data"]} & {file["id"] for file in page["data"]}
        assert client.delete(f"/v1/containers/{container}").status_code == 200


@case("R06", "folders a thousand deep, names of 255 bytes, circles of links", "bounded, answered, and deletable")
def test_a_deep_tree_is_walked_in_bounds(product: Product) -> None:
    deep = (
        "import os\nfor n in range(1200):\n  os.mkdir('d' * 250); os.chdir('d' * 250)\n"
        "open('/mnt/data/' + 'n' * 255, 'w').close()\n"
        "os.symlink('/mnt/data/loop', '/mnt/data/loop'); os.symlink('..', '/mnt/data/up'); os.symlink('.', '/mnt/data/here')"
    )
    made = product.shell(f"python3 -c \"exec('''{deep}''')\"; ls | wc -l")
    assert made.stdout.strip() == "5"
    with product.http() as client:
        files = client.get(f"/v1/containers/{made.container_id}/files").json()["data"]
        assert [file["path"] for file in files] == ["/mnt/data/" + "n" * 255]
        for path in ("/mnt/data/loop/x", "/mnt/data/" + "here/" * 100 + "x", "/mnt/data/" + "x/" * 3000 + "x"):
            answer = product.upload(made.container_id, b"x", path=path)
            assert answer.status_code == 400, answer.text
        assert product.upload(made.container_id, b"x", path="/mnt/data/here/here/y").status_code in (200, 400)
        assert client.delete(f"/v1/containers/{made.container_id}").status_code == 200


FLOODS: Final = {
    "yes": "yes | head -c 3G",
    "one line": "head -c 1G /dev/zero | tr '\\0' x",
    "binary": "head -c 50M /dev/urandom",
    "halves of characters": "python3 -c \"import os\nfor _ in range(300): os.write(1, b'\\xe2\\x82' * 30000); os.write(2, b'\\xff\\xfe\\0' * 9999)\"",
    "escapes": "for i in $(seq 20000); do printf '\\033]0;x\\007\\033[2J\\r\\n\\0'; done",
}


@case("R07", "gigabytes of output, one endless line, random bytes, halves of characters, terminal escapes",
      "head and tail are kept, valid JSON and SSE, the server's memory stays flat")  # fmt: skip
@pytest.mark.parametrize("flood", FLOODS)
def test_floods_of_output_are_cut(product: Product, flood: str) -> None:
    before = peak(product)
    call = json.dumps({"commands": [FLOODS[flood]], "max_output_length": 2000})
    body = {
        "model": "m",
        "input": f"@@ call shell {call}",
        "tools": [{"type": "shell", "environment": {"type": "container_auto"}}],
        "stream": True,
    }
    events: list[dict[str, Any]] = []
    with product.http() as client, client.stream("POST", "/v1/responses", json=body) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: "):
                events.append(json.loads(line.removeprefix("data: ")))
    assert events[-1]["type"] == "response.completed"
    output = next(item for item in events[-1]["response"]["output"] if item["type"] == "shell_call_output")
    kept = output["output"][0]["stdout"] + output["output"][0]["stderr"]
    assert 0 < len(kept) < 5000
    assert "chars truncated" in kept
    json.dumps(kept).encode("utf-8")  # no lone surrogate
    assert peak(product) - before < 48 << 10, "kB"


def peak(product: Product) -> int:
    """The largest resident set of the server so far, in kB (proc_pid_status(5))."""
    text = Path(f"/proc/{product.server.process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmHWM:"))


@case(
    "R08",
    "read a stream slowly or not at all, and go away in the middle",
    "the command ends with its reader; others are not held up",
)
def test_a_reader_that_stops_holds_up_nobody(product: Product) -> None:
    container = product.shell("true").container_id
    place = {"type": "container_reference", "container_id": container}
    script = "@@ shell while :; do date +%s%N | tee beat; seq 1 2000; sleep 0.05; done"
    body = {"model": "m", "input": script, "stream": True, "tools": [{"type": "shell", "environment": place}]}
    with product.http() as slow, slow.stream("POST", "/v1/responses", json=body) as answer:
        lines = answer.iter_lines()
        while "shell_call_output_content.delta" not in next(lines):
            pass
        time.sleep(2)  # reads no more
        assert product.shell("echo here", container).stdout == "here\n"
        assert product.shell("echo elsewhere").stdout == "elsewhere\n"
    probe = 'for n in $(seq 20); do a=$(stat -c %y beat); sleep 1; [ "$a" = "$(stat -c %y beat)" ] && break; done; echo dead $n'
    assert product.shell(probe, container).stdout.split() != ["dead", "20"]


ORPHANS: Final = (
    "setsid sh -c 'sleep 31337 &' & sleep 31337",
    "(setsid -f sleep 31337 &); (setsid -f env -i sleep 31337 &); exec sleep 31337",
    "nohup sh -c 'trap \"\" TERM HUP INT; sleep 31337' > /dev/null 2>&1 & sleep 31337",
    'python3 -c "import os,time\nfor _ in range(9):\n  if os.fork() == 0: os.setsid(); os.fork(); time.sleep(31337)\ntime.sleep(31337)"',
)


@case(
    "R09",
    "children that setsid, fork twice, ignore signals, outlive their command",
    "dead when its deadline is over, and reaped",
)
async def test_no_child_outlives_a_deadline(desk: Desk) -> None:
    for script in ORPHANS:
        assert (await desk.run(script, timeout_s=0.5)).end == TimedOut()
        left = await desk.run("ps -eo stat,args | grep -v ps; true")
        assert "31337" not in left.text, (script, left.text)
        assert not [line for line in left.text.splitlines() if line.startswith("Z")]


@case("R10", "ignore SIGTERM; be stopped when the deadline comes", "killed all the same; the container goes on")
async def test_what_is_stopped_is_killed_too(desk: Desk) -> None:
    for script in (
        "trap '' TERM INT HUP; while :; do sleep 1; done",
        "kill -STOP $$",
        "sleep 99 & kill -STOP $!; wait",
    ):
        assert (await desk.run(script, timeout_s=0.5)).end == TimedOut()
    assert (await desk.run("ps -eo stat= | grep -c T; true")).text == "0"


@case("R13", "a thousand commands as fast as they go, hundreds of sessions", "nothing is left of them")
async def test_a_thousand_commands_leave_nothing(bench: Bench, root: Path) -> None:
    async with bench.desk() as desk:
        before = list(traces(root))
        room = asyncio.Semaphore(20)

        async def one(n: int) -> None:
            async with room:
                assert (await desk.run(f"echo {n}")).text == str(n)

        await asyncio.gather(*(one(n) for n in range(600)))
        assert len(traces(root)) == len(before)
        assert int((await desk.run("ls /proc | grep -c '^[0-9]'")).text) < 8


SERVER: Final = """
import asyncio, os, sys
from pathlib import Path
from deskhand.ports.sandbox import *
from deskhand.sandboxes.registry import ENGINES
async def main():
    engine = ENGINES[sys.argv[1]](Path(sys.argv[2]))
    limits = Limits(memory_bytes=256 << 20, pids=64, disk_bytes=32 << 20, disk_inodes=4000)
    n = 0
    while True:
        name = f"victim-{n}"
        await engine.allocate(name, limits)
        sandbox = await engine.start(SandboxSpec(name, limits))
        async for event in sandbox.exec(Command(("sh", "-c", "setsid -f sleep 31337; echo x > f; true"), 9, 99, 0)):
            pass
        async def body():
            yield b"x" * 100000
        await engine.workspace(name).write("u", body())
        print(n, flush=True)
        await engine.destroy(name)
        n += 1
asyncio.run(main())
"""


@case(
    "R15",
    "kill -9 of the server at any moment of create, start, run, upload, delete",
    "the next server finds or removes all of it",
)
async def test_a_server_killed_at_any_moment_leaves_nothing(engine_name: str, root: Path) -> None:
    argv = [sys.executable, "-c", SERVER, engine_name, str(root)]
    env = {**os.environ, "PYTHONPATH": str(Path(sys.modules["deskhand"].__file__ or "").parents[1])}
    seen = 0
    for round_ in range(12):
        with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            await asyncio.to_thread(server.stdout.readline)
            await asyncio.sleep(0.011 * round_)
            server.kill()
        seen += bool(traces(root))
        await ENGINES[engine_name](root).sweep(())
        assert await settled(root) == []
    assert seen > 6, "the server was killed when there was nothing to leave"


@case(
    "R15",
    "kill -9 of a container's agent while commands run and files are written",
    "told at once as gone; it starts again",
)
async def test_an_agent_that_dies_is_told_and_replaced(bench: Bench, root: Path) -> None:
    async with bench.desk() as desk:
        record = load(layout(root, as_root=os.geteuid() == 0).place(desk.container_id))
        assert record is not None
        assert record.init is not None
        await desk.run("echo kept > f")
        running = asyncio.ensure_future(desk.run("sleep 60"))
        await asyncio.sleep(0.2)
        os.kill(record.init.pid, signal.SIGKILL)
        with pytest.raises(SandboxGone):
            await asyncio.wait_for(running, 10)
        assert await bench.engine.attach(desk.container_id) is None
        again = await bench.engine.start(SandboxSpec(desk.container_id, SMALL))
        assert (await gather(again, Command(("cat", "f"), 5, 99, 0))).text == "kept"


@case("R16", "restart of the server with containers that run", "adopted; their files and processes go on")
def test_containers_outlive_their_server(engine_name: str, engine_report: EngineReport, launch: Launch) -> None:
    assert engine_report.usable
    first = launch(engine=engine_name)
    made = first.client().containers.create(name="kept")
    tool: Any = {"type": "shell", "environment": {"type": "container_reference", "container_id": made.id}}
    first.client().responses.create(model="m", input="@@ shell echo kept > f; setsid -f sleep 51515", tools=[tool])
    first.process.kill()
    first.process.wait()
    after: Any = (
        launch(engine=engine_name)
        .client()
        .responses.create(model="m", input="@@ shell cat f; ps ax | grep -c '[5]1515'", tools=[tool])
    )
    assert after.output[1].output[0].stdout == "kept\n1\n"


@case("R18", "take the kernel's asynchronous I/O contexts (io_setup), which all of the host shares", "ENOSYS or EPERM")
async def test_the_hosts_asynchronous_io_is_not_used_up(desk: Desk) -> None:
    refused(await inside(desk, "call=io_setup,1,buf"), {"ENOSYS", "EPERM"})
    done(outside("call=io_setup,1,buf"))


TERMINALS: Final = """
import os, time
held = 0
while True:
    reader, writer = os.pipe()
    try:
        child = os.fork()
    except OSError:
        break
    if child == 0:
        taken = 0
        try:
            while True:
                os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
                taken += 1
        except OSError:
            os.write(writer, b"%d" % taken)
        time.sleep(5)
        os._exit(0)
    os.close(writer)
    taken = int(os.read(reader, 99))
    held += taken
    if not taken:
        break
print(held, flush=True)
time.sleep(3)
"""


@case("R19", "open all pseudo terminals of the kernel", "a neighbour still gets one")
async def test_a_neighbour_still_gets_a_terminal(bench: Bench) -> None:
    async with bench.desk() as one, bench.desk() as two:
        taking = asyncio.ensure_future(one.python(TERMINALS))
        await asyncio.sleep(2.5)
        got = await two.python("import os; print(len(os.openpty()))")
        assert int((await taking).text) > 9, "the control: a container has terminals"
        assert got.text == "2"


BUFFERS: Final = """
import socket, sys, time
held, queued, most = [], 0, int(sys.argv[2]) << 20
server = socket.create_server(("127.0.0.1", 0), backlog=1000)
try:
    while queued < most:
        if sys.argv[1] == "tcp":
            near = socket.create_connection(server.getsockname())
            far, _ = server.accept()
        else:
            near, far = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
            far.bind(("127.0.0.1", 0))
            near.connect(far.getsockname())
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        near.setblocking(False)
        held.append((near, far))
        for _ in range(500):
            try:
                near.send(b"x" * 4000)
                queued += 4000
            except OSError:
                break
            if sys.argv[1] == "udp" and _ == 40:
                break
except OSError:
    pass
print(queued, flush=True)
time.sleep(1.5)
"""


@case(
    "R20",
    "keep memory in the buffers of TCP and UDP sockets that nobody reads",
    "counted like any other memory of the container",
)
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
async def test_socket_buffers_are_counted(bench: Bench, protocol: str) -> None:
    await bench.require("memory limit")
    limits = replace(SMALL, memory_bytes=64 << 20, open_files=4096)
    async with bench.desk(limits) as desk:
        hogs = asyncio.gather(*(desk.python(BUFFERS, protocol, "100") for _ in range(3)))
        taken = await most_taken(protocol, hogs)
    assert taken < limits.memory_bytes + (16 << 20)
    assert await most_taken(protocol, asyncio.to_thread(run, BUFFERS, protocol, "40")) > 20 << 20


async def most_taken(protocol: str, hog: Awaitable[object]) -> int:
    """By how many bytes the buffers of a protocol have grown at most while something ran."""
    before, most, running = socket_memory(protocol), 0, asyncio.ensure_future(hog)
    while not running.done():
        most = max(most, socket_memory(protocol) - before)
        await asyncio.sleep(0.02)
    await running
    return most


def socket_memory(protocol: str) -> int:
    """Bytes in the buffers of a protocol, of all network namespaces together (proc_pid_net(5), sockstat)."""
    for line in Path("/proc/net/sockstat").read_text().splitlines():
        words = line.split()
        if words[0].lower() == f"{protocol}:":
            return int(words[words.index("mem") + 1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


@case("R21", "list the files of a container with two hundred thousand folders, from many clients at once",
      "another project's containers are made and run meanwhile")  # fmt: skip
def test_a_heavy_listing_holds_up_nobody(product: Product) -> None:
    container = product.shell("true").container_id
    many = "import os\ntry:\n  for n in range(198000): os.mkdir('/mnt/data/%07d' % n)\nexcept OSError: pass"
    product.shell(f"python3 -c \"exec('''{many}''')\"", container, timeout_ms=110_000)

    def listing(_: int) -> float:
        with product.server.http(KEYS["a"]) as client:
            client.get(f"/v1/containers/{container}/files", timeout=110)
            return time.monotonic()

    with ThreadPoolExecutor(8) as pool:
        listings = [pool.submit(listing, n) for n in range(8)]
        time.sleep(1)
        said = product.shell("echo served", project="b")
        served = time.monotonic()
        ends = sorted(task.result() for task in listings)
    assert said.stdout == "served\n"
    assert served < ends[2], "another project waited for the listings"
    with product.http() as client:
        client.delete(f"/v1/containers/{container}")
