"""Measure isolation engines against the bare thing, interleaved in one run: python -m benchmarks.sandbox [rounds].

(b) a container from nothing to its first output, against bare `bwrap … true`: cold, from the pool, a hundred at once,
    beside two hundred others
(c) `sh -c true` in a running container, against `subprocess.run` on the host and against `crun exec`
(e) memory of idle containers (PSS of all their host processes), for 1, 10 and 200
(q) a command beside a neighbour that takes all it can get, against the same in peace
"""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path

from deskhand.engine.background import beside
from deskhand.ports.sandbox import Command, Limits, Output, Sandbox, SandboxEngine, SandboxError, SandboxSpec
from deskhand.sandboxes.computer import Computer
from deskhand.sandboxes.layout import layout, load
from deskhand.sandboxes.oci import is_hybrid
from deskhand.sandboxes.registry import ENGINES

BARE = ["bwrap", "--unshare-all", "--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin", "--symlink",
        "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--proc", "/proc", "--dev", "/dev", "true"]  # fmt: skip
ECHO = Command(("echo", "hello"), 10, 100, 0)
TRUE = Command(("sh", "-c", "true"), 10, 100, 0)
AT_ONCE = 100
MANY = 200
GREEDY = {
    "a fork bomb of shells": ("bash", "-c", "f() { f | f & }; f; while :; do f; done"),
    "a fork bomb that sleeps": (
        "python3",
        "-c",
        "import os, time\nwhile True:\n  try: os.fork() or os.setsid()\n  except OSError: time.sleep(0.001)",
    ),
    "endless loops": (
        "python3",
        "-c",
        "import os\nfor _ in range(os.cpu_count()): os.fork() or exec('while True: pass')",
    ),
}


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 40
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(Path(folder), rounds))


async def measure(folder: Path, rounds: int) -> None:
    others = [name for name in ("crun", "runc", "gvisor") if os.geteuid() == 0]
    for name in ("bubblewrap", *others):
        root = folder / name
        engine = ENGINES[name](root)
        try:
            await first_output(engine, "warm-up")
        except SandboxError as exc:
            sys.stdout.write(f"    {name} is not measured: {exc}\n")
            continue
        try:
            await engine.destroy("warm-up")
            if name == "bubblewrap":
                await whole(engine, root, rounds)
            else:
                await brief(engine, name, root, rounds)
        finally:
            await engine.sweep(())


async def whole(engine: SandboxEngine, root: Path, rounds: int) -> None:
    """All that is promised of the default engine."""
    await starts(engine, rounds)
    await from_the_pool(engine, root, rounds)
    await burst(engine, AT_ONCE)
    await round_trips(engine, rounds * 10)
    for count in (1, 10):
        await memory(engine, root, count)
    async with beside(engine.keep_fair()):
        for words, argv in GREEDY.items():
            await neighbours(engine, words, argv, rounds * 5)
    await memory(engine, root, MANY, rounds // 2)


async def brief(engine: SandboxEngine, name: str, root: Path, rounds: int) -> None:
    """The same of another engine, in short."""
    sys.stdout.write(f"--- {name}\n")
    await starts(engine, rounds // 2)
    await round_trips(engine, rounds * 4)
    if name == "crun":
        await crun_exec(engine, root, rounds)
    await memory(engine, root, 10)


async def starts(engine: SandboxEngine, rounds: int) -> None:
    bare, ours = [], []
    for n in range(rounds):
        bare.append(await timed(lambda: run(BARE)))
        await asyncio.sleep(0.1)  # cold: the cgroup's grace period has passed
        ours.append(await timed(lambda n=n: first_output(engine, f"start-{n}")))  # type: ignore[misc]
        await engine.destroy(f"start-{n}")
    compare("(b) bare bwrap true", bare, "    create to first output", ours)


async def from_the_pool(engine: SandboxEngine, root: Path, rounds: int) -> None:
    """The same, when there is a spare, which is waited for."""
    bare, ours = [], []
    pool = asyncio.create_task(engine.keep_warm(1))
    await asyncio.sleep(0)  # it begins
    try:
        await first_output(engine, "asked")  # spares are of a kind that somebody has asked for
        await engine.destroy("asked")
        for n in range(rounds):
            await spare(root)
            bare.append(await timed(lambda: run(BARE)))
            ours.append(await timed(lambda n=n: first_output(engine, f"pooled-{n}")))  # type: ignore[misc]
            await engine.destroy(f"pooled-{n}")
    finally:
        pool.cancel()
        with suppress(asyncio.CancelledError):
            await pool
    compare("(b) bare bwrap true", bare, "    from the pool", ours)


async def spare(root: Path) -> None:
    place = layout(root, as_root=os.geteuid() == 0)
    while True:
        records = [load(place.place(path.name)) for path in place.containers.glob("warm-*")]
        if any(record is not None and record.warm for record in records):
            await asyncio.sleep(0.1)
            return
        await asyncio.sleep(0.005)


async def burst(engine: SandboxEngine, count: int) -> None:
    began = time.perf_counter()
    times = await asyncio.gather(*(timed(lambda n=n: first_output(engine, f"burst-{n}")) for n in range(count)))  # type: ignore[misc]
    wall = time.perf_counter() - began
    sys.stdout.write(f"(b) {count} at once, cold: all in {wall:.2f} s, p50 {percentile(times, 50):.0f} ms\n")
    await engine.sweep(())


async def round_trips(engine: SandboxEngine, rounds: int) -> None:
    computer = await first_output(engine, "trips")
    host, ours = [], []
    for _ in range(rounds):
        host.append(await timed(lambda: run(["sh", "-c", "true"])))
        ours.append(await timed(lambda: drain(computer)))
    compare("(c) subprocess.run", host, "    exec in a container", ours)
    await engine.destroy("trips")


async def crun_exec(engine: SandboxEngine, root: Path, rounds: int) -> None:
    computer = await first_output(engine, "exec")
    command, calls = ten_times_crun_exec(layout(root, as_root=True).place("exec").runtime / "o")
    theirs = [await timed(lambda: run(command)) / calls for _ in range(max(1, rounds // calls))]
    compare(
        "(c) crun exec", theirs, "    exec by the agent", [await timed(lambda: drain(computer)) for _ in range(rounds)]
    )
    await engine.destroy("exec")


def ten_times_crun_exec(state: Path) -> tuple[list[str], int]:
    """A command that runs `crun exec` some times, and how often: in one shell, for the sake of what must come first."""
    command = ["crun", "--root", str(state), "--cgroup-manager=disabled", "exec", "c", "/bin/sh", "-c", "true"]
    # crun refuses a host with both cgroup hierarchies, unless one is hidden.
    hide = "umount /sys/fs/cgroup/unified; " if is_hybrid(Path("/proc/self/mountinfo").read_text()) else ""
    script = hide + 'for i in 1 2 3 4 5 6 7 8 9 10; do "$@"; done'
    return ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", *command], 10


async def neighbours(engine: SandboxEngine, words: str, argv: tuple[str, ...], rounds: int) -> None:
    """A command in one container while another one does its worst, which has begun a second before."""
    patient, greedy = await first_output(engine, "patient"), await first_output(engine, "greedy")
    peace = [await timed(lambda: drain(patient)) for _ in range(rounds)]
    at_work = asyncio.ensure_future(drain(greedy, Command(argv, 60, 100, 0)))
    await asyncio.sleep(1)
    beside_it = [await timed(lambda: drain(patient)) for _ in range(rounds)]
    at_work.cancel()
    await asyncio.wait([at_work])
    compare("(q) a command in peace", peace, f"    beside {words}", beside_it)
    await engine.destroy("patient")
    await engine.destroy("greedy")


async def memory(engine: SandboxEngine, root: Path, count: int, starting: int = 0) -> None:
    """Memory of `count` idle containers; then start `starting` more."""
    await engine.sweep(())
    small = Limits(disk_bytes=64 << 20, disk_inodes=4000)
    free = asyncio.Semaphore(8)

    async def idle(name: str) -> Computer:
        async with free:
            computer = await first_output(engine, name, small)
        assert isinstance(computer, Computer)
        return computer

    began = time.perf_counter()
    computers = await asyncio.gather(*(idle(f"idle-{n}") for n in range(count)))
    wall = time.perf_counter() - began
    await asyncio.sleep(0.5)
    total = sum(pss(pid) for computer in computers for pid in members(computer))
    each = total / count / 1024
    sys.stdout.write(f"(e) PSS of an idle container, {count:3} live (made in {wall:.1f} s): {each:6.2f} MiB\n")
    if starting:
        await starts(engine, starting)
    await engine.sweep(())


async def first_output(engine: SandboxEngine, name: str, limits: Limits = Limits()) -> Sandbox:  # noqa: B008
    await engine.allocate(name, limits)
    computer = await engine.start(SandboxSpec(name, limits))
    async for event in computer.exec(ECHO):
        assert isinstance(event, Output), event
        break
    return computer


async def drain(computer: Sandbox, command: Command = TRUE) -> None:
    async for _ in computer.exec(command):
        pass


async def run(argv: Sequence[str]) -> None:
    subprocess.run(argv, check=True)  # noqa: ASYNC221 - the thing to compare with, as simple as it comes


async def timed(action: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await action()
    return (time.perf_counter() - began) * 1000


def compare(base_name: str, base: Sequence[float], name: str, ours: Sequence[float]) -> None:
    for label, values in ((base_name, base), (name, ours)):
        numbers = "  ".join(f"p{p} {percentile(values, p):7.2f}" for p in (50, 95, 99))
        ratio = percentile(values, 50) / percentile(base, 50)
        sys.stdout.write(f"{label:30} {numbers} ms   {ratio:5.2f} x   ({len(values)} rounds)\n")


def percentile(values: Sequence[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


def members(computer: Computer) -> Sequence[int]:
    """The agent, bubblewrap's monitor if there is one, and what else is in the container's cgroups."""
    pid = computer.running.init.pid
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    around = [parent] if "bwrap" in Path(f"/proc/{parent}/comm").read_text() else []
    grouped: list[int] = []
    for directory in list(computer.running.group.directories.values())[:1]:
        grouped = [int(line) for line in Path(directory, "cgroup.procs").read_text().split()]
    return sorted({pid, *around, *grouped})


def pss(pid: int) -> int:
    """Proportional set size in KiB (proc_pid_smaps(5))."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


if __name__ == "__main__":
    if shutil.which("bwrap") is None:
        sys.exit("bubblewrap is not installed")
    main()
