"""Measure snapshots at 10 MB and 500 MB, where blocks are copied and where they are shared.

    python -m benchmarks.snapshots [rounds]

A fork is a snapshot and a container made from it; a restore puts the disk back and leaves the computer off. Each round
changes as much as the row says, in files of 100 kB. Where this process may mount, the same on XFS and Btrfs in a file.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from pathlib import Path

from deskhand.ports.sandbox import Command, Limits, Sandbox, SandboxSpec
from deskhand.sandboxes.bubblewrap import BubblewrapEngine

FILE_BYTES = 100_000
SHARING = ("xfs", "btrfs")
IMAGE_BYTES = 16 << 30
LIMITS = Limits(disk_bytes=2 << 30)


def main(rounds: int = 5) -> None:
    """Measure on the file system of temporary files, then on file systems that share blocks."""
    with tempfile.TemporaryDirectory() as folder:
        print(f"\nsnapshots on {_kind(Path(folder))} (median of {rounds})")
        asyncio.run(measure(Path(folder) / "data", rounds))
        for kind in SHARING:
            if os.geteuid() == 0 and shutil.which(f"mkfs.{kind}"):
                with mounted(kind, Path(folder)) as target:
                    print(f"snapshots on {kind} (median of {rounds})")
                    asyncio.run(measure(target, rounds))


async def measure(root: Path, rounds: int) -> None:
    """Print a row for each size."""
    engine = BubblewrapEngine(root)
    try:
        for megabytes in (10, 500):
            await _measure(engine, megabytes, rounds)
    finally:
        await engine.sweep(())
        await engine.sweep_snapshots(())


async def _measure(engine: BubblewrapEngine, megabytes: int, rounds: int) -> None:
    await engine.allocate("measured", LIMITS)
    taken: list[float] = []
    unchanged: list[float] = []
    light: list[float] = []
    forked: list[float] = []
    restored: list[float] = []
    for number in range(rounds):
        computer = await engine.attach("measured") or await engine.start(SandboxSpec("measured", LIMITS))
        await _write(computer, megabytes)
        name = f"snapshot-{number}"
        taken.append(await _timed(engine.snapshot("measured", name)))
        unchanged.append(await _timed(engine.snapshot("measured", f"{name}-same")))
        await _write(computer, 10)
        light.append(await _timed(engine.snapshot("measured", f"{name}-light")))
        await _write(computer, 1)
        forked.append(await _timed(_fork(engine, f"{name}-fork")))
        restored.append(await _timed(engine.restore("measured", name)))
        for snapshot in (name, f"{name}-same", f"{name}-light", f"{name}-fork"):
            await engine.drop_snapshot(snapshot)
        await engine.destroy("fork")
    await engine.destroy("measured")
    rows = {
        f"snapshot of {megabytes} MB, all of it new": taken,
        "snapshot when nothing has changed": unchanged,
        f"snapshot of {megabytes} MB, 10 MB of it new": light,
        f"fork at {megabytes} MB, 1 MB of it new": forked,
        f"restore of {megabytes} MB": restored,
    }
    for name, values in rows.items():
        print(f"  {name:40} {sorted(values)[len(values) // 2]:9.1f} ms")


async def _fork(engine: BubblewrapEngine, snapshot_id: str) -> None:
    await engine.snapshot("measured", snapshot_id)
    await engine.allocate("fork", LIMITS, snapshot_id)


async def _write(computer: Sandbox, megabytes: int) -> None:
    count = megabytes * 1_000_000 // FILE_BYTES
    script = f"for i in $(seq {count}); do head -c {FILE_BYTES} /dev/urandom > $i; done"
    async for _ in computer.exec(Command(("sh", "-c", script), 300, 1000, 0)):
        pass


async def _timed(action: Awaitable[object]) -> float:
    began = time.perf_counter()
    await action
    return (time.perf_counter() - began) * 1000


@contextmanager
def mounted(kind: str, folder: Path) -> Iterator[Path]:
    """A file system in a file, for as long as the block runs."""
    image, target = folder / f"{kind}.img", folder / kind
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    target.mkdir()
    subprocess.run([f"mkfs.{kind}", str(image)], check=True, capture_output=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(target)], check=True)
    try:
        yield target
    finally:
        subprocess.run(["umount", "--lazy", str(target)], check=True)
        image.unlink()


def _kind(folder: Path) -> str:
    told = subprocess.run(["stat", "-f", "-c", "%T", str(folder)], check=True, capture_output=True, text=True)
    return told.stdout.strip()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
