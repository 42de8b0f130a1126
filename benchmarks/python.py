"""The first Python result of a container, against ipykernel on the host, interleaved in one run.

Ours: the container runs, and its interpreter does not exist yet. Theirs: a kernel is started, without any isolation,
with the same packages. Then the memory of idle containers with an interpreter in each.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from jupyter_client.manager import start_new_async_kernel

from deskhand.engine.background import beside
from deskhand.ports.sandbox import Cell, CellEnded, Limits, SandboxSpec
from deskhand.sandboxes import kit
from deskhand.sandboxes.bubblewrap import BubblewrapEngine
from deskhand.sandboxes.computer import Computer
from deskhand.sandboxes.rootfs import python_version

from .figures import Figures, show
from .sandbox import pss

ROUNDS = 15
PAUSE_S = 0.3
"""Before each measurement, as agents pause: back to back, cgroups would not wait for their grace period."""
IDLE = 10
CELLS = {
    "1+1": "1+1",
    "numpy, pandas and pyplot": (
        "import numpy as np, pandas as pd, matplotlib.pyplot as plt\n"
        "pd.DataFrame({'a': np.arange(9) % 3}).groupby('a').size().sum()"
    ),
}


def main() -> None:
    """Measure and print."""
    version = python_version() or ""
    packages = kit.find(version)
    if packages is None:
        print("\nFirst Python result: not measured, the data packages are not installed (deskhand kit install)")
    elif version != f"3.{sys.version_info.minor}":
        print(f"\nFirst Python result: not measured, ipykernel would need Python {version} here")
    else:
        os.environ["PYTHONPATH"] = str(packages)
        asyncio.run(_measure())


async def _measure() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with _engine(Path(folder, "cold")) as cold, _engine(Path(folder, "warm")) as warm:
            async with beside(warm.keep_python_warm()):
                warm.expect_python()
                while not warm.has_warm_python:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                for name, code in CELLS.items():
                    await _compare(name, code, cold, warm)
                await _memory(warm)


@asynccontextmanager
async def _engine(folder: Path) -> AsyncIterator[BubblewrapEngine]:
    engine = BubblewrapEngine(folder)
    try:
        yield engine
    finally:
        await engine.sweep(())


async def _compare(name: str, code: str, cold: BubblewrapEngine, warm: BubblewrapEngine) -> None:
    theirs, started, forked = [], [], []
    for _ in range(ROUNDS):
        theirs.append(await _ipykernel(code))
        started.append(await _first(cold, code))
        forked.append(await _first(warm, code))
    base = Figures("ipykernel on the host", theirs)
    cases = [base, Figures("Deskhand: started in the container", started), Figures("Deskhand: forked into it", forked)]
    show(f"First Python result of a new interpreter: {name}", cases, base)


async def _first(engine: BubblewrapEngine, code: str) -> float:
    computer = await _start(engine, "first")
    try:
        await asyncio.sleep(PAUSE_S)
        began = time.perf_counter()
        await _run(computer, code)
        return time.perf_counter() - began
    finally:
        await engine.destroy("first")


async def _ipykernel(code: str) -> float:
    await asyncio.sleep(PAUSE_S)
    began = time.perf_counter()
    manager, client = await start_new_async_kernel(stderr=subprocess.DEVNULL)
    try:
        reply = await client.execute(code, reply=True, timeout=30)
        assert reply["content"]["status"] == "ok", reply
        return time.perf_counter() - began
    finally:
        client.stop_channels()
        await manager.shutdown_kernel(now=True)


async def _memory(engine: BubblewrapEngine) -> None:
    names = [f"idle-{n}" for n in range(IDLE)]
    for cell in (None, *CELLS.values()):
        computers = [await _start(engine, name) for name in names]
        if cell is not None:
            await asyncio.gather(*(_run(computer, cell) for computer in computers))
        await asyncio.sleep(0.5)
        total = sum(pss(pid) for computer in computers for pid in _family(computer))
        what = "no interpreter" if cell is None else f"an interpreter that ran {cell.splitlines()[0]!r}"
        print(f"  PSS of an idle container, {IDLE} running, with {what}: {total / IDLE / 1024:.1f} MiB")
        for name in names:
            await engine.destroy(name)


def _family(computer: Computer) -> Sequence[int]:
    """The container's first process, all below it, and bubblewrap's monitor above it."""
    init = computer.running.init.pid
    below = [int(pid) for pid in Path(f"/proc/{init}/task/{init}/children").read_text().split()]
    above = int(Path(f"/proc/{init}/stat").read_text().rpartition(")")[2].split()[1])
    return [above, init, *below]


async def _start(engine: BubblewrapEngine, name: str) -> Computer:
    await engine.allocate(name, Limits())
    return await engine.start(SandboxSpec(name))


async def _run(computer: Computer, code: str) -> None:
    *_, end = [event async for event in computer.run_code(Cell(code, 30, 1000, 1000))]
    assert end == CellEnded(False), end
