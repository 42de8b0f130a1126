"""Fixtures of the isolation tests: each test has an engine over a folder of its own, and leaves nothing behind."""

import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from deskhand.ports.sandbox import SandboxEngine
from deskhand.sandboxes.bubblewrap import BubblewrapEngine
from deskhand.sandboxes.layout import layout
from deskhand.testing.conformance_sandbox_bench import Bench

needs_bwrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can drop to another user or mount")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """The folder of an installation. Below a 0700 folder, as a data directory in /root is."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    yield closed / "data"
    shutil.rmtree(layout(closed / "data", as_root=os.geteuid() == 0).runtime, ignore_errors=True)


@pytest.fixture
async def bench(root: Path) -> AsyncIterator[Bench]:
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    made = Bench(lambda: BubblewrapEngine(root))
    yield made
    await made.engine.sweep(())


@pytest.fixture
def make(root: Path) -> Callable[[], SandboxEngine]:
    return lambda: BubblewrapEngine(root)
