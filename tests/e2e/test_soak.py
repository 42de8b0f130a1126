"""The soak test, for some seconds; `make soak` runs it for as long as one likes."""

import os
import shutil
from pathlib import Path

import pytest

from deskhand.ports.sandbox import SandboxSpec
from deskhand.sandboxes.bubblewrap import BubblewrapEngine
from deskhand.testing.conformance_sandbox_bench import SMALL

from ..attacks.census import traces
from ..soak import soak

pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")


@pytest.mark.timeout(240)
def test_nothing_is_left_of_many_short_lives(tmp_path: Path) -> None:
    seed = int.from_bytes(os.urandom(3), "big")
    print(f"seed {seed}")
    steps = soak(tmp_path, 10, "bubblewrap", seed, print)
    assert sum(steps.values()) > 100
    assert len(steps) > 8


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_census_would_see_what_is_left(tmp_path: Path) -> None:
    """The control: a container that lives is seen in the mounts, the processes, the control groups and the folders."""
    engine = BubblewrapEngine(tmp_path)
    await engine.allocate("kept", SMALL)
    try:
        await engine.start(SandboxSpec("kept", SMALL))
        kinds = {line.split()[0] for line in traces(tmp_path)}
        assert kinds >= (
            {"mount", "process", "loop", "cgroup", "folder"} if os.geteuid() == 0 else {"process", "folder"}
        )
    finally:
        await engine.sweep(())
