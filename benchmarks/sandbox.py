"""Measure the isolation engine against the bare thing, interleaved in one run: python benchmarks/sandbox.py [rounds].

(b) a container from nothing to its first output, against bare `bwrap ... true`
(c) `sh -c true` in a running container, against `subprocess.run` on the host
(e) memory of idle containers (PSS of bubblewrap's monitor and the agent), for 1 and for 10
"""

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from deskhand.ports.sandbox import Command, Limits, Output, SandboxSpec
from deskhand.sandboxes.bubblewrap import BubblewrapEngine
from deskhand.sandboxes.computer import Computer

BARE = ["bwrap", "--unshare-all", "--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin", "--symlink",
        "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--proc", "/proc", "--dev", "/dev", "true"]  # fmt: skip
ECHO = Command(("echo", "hello"), 10, 100, 0)
TRUE = Command(("sh", "-c", "true"), 10, 100, 0)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(Path(folder), rounds))


async def measure(folder: Path, rounds: int) -> None:
    engine = BubblewrapEngine(folder)
    try:
        await first_output(engine, "warm-up")
        await engine.destroy("warm-up")
        await starts(engine, rounds)
        await round_trips(engine, rounds * 10)
        for count in (1, 10):
            await memory(engine, count)
    finally:
        await engine.sweep(())


async def starts(engine: BubblewrapEngine, rounds: int) -> None:
    bare, ours = [], []
    for n in range(rounds):
        bare.append(await timed(lambda: run(BARE)))
        await asyncio.sleep(0.1)  # cold: the cgroup's grace period has passed
        ours.append(await timed(lambda n=n: first_output(engine, f"start-{n}")))  # type: ignore[misc]
        await engine.destroy(f"start-{n}")
    compare("(b) bare bwrap true", bare, "    create to first output", ours)


async def round_trips(engine: BubblewrapEngine, rounds: int) -> None:
    computer = await first_output(engine, "trips")
    host, ours = [], []
    for _ in range(rounds):
        host.append(await timed(lambda: run(["sh", "-c", "true"])))
        ours.append(await timed(lambda: drain(computer)))
    compare("(c) subprocess.run", host, "    exec in a container", ours)


async def memory(engine: BubblewrapEngine, count: int) -> None:
    await engine.sweep(())
    computers = [await first_output(engine, f"idle-{n}") for n in range(count)]
    await asyncio.sleep(0.5)
    total = sum(pss(pid) for computer in computers for pid in family(computer))
    sys.stdout.write(f"(e) PSS of an idle container, {count:2} running: {total / count / 1024:6.2f} MiB\n")


async def first_output(engine: BubblewrapEngine, name: str) -> Computer:
    await engine.allocate(name, Limits())
    computer = await engine.start(SandboxSpec(name))
    async for event in computer.exec(ECHO):
        assert isinstance(event, Output), event
        break
    return computer


async def drain(computer: Computer) -> None:
    async for _ in computer.exec(TRUE):
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


def family(computer: Computer) -> Sequence[int]:
    """The agent and its parent, bubblewrap's monitor."""
    pid = computer.running.init.pid
    return pid, int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def pss(pid: int) -> int:
    """Proportional set size in KiB (proc_pid_smaps(5))."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


if __name__ == "__main__":
    main()
