"""The way out of containers, for every engine that this host has."""

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from deskhand.sandboxes.registry import ENGINES
from deskhand.testing.conformance_outlet import OUTLET_CHECKS
from deskhand.testing.conformance_sandbox_bench import Bench, NotEnforced

pytestmark = pytest.mark.anyio

PROGRAMS = {"bubblewrap": "bwrap", "crun": "crun", "runc": "runc", "gvisor": "runsc"}


@pytest.fixture(params=[name for name in ENGINES if name != "none"])
async def any_bench(request: pytest.FixtureRequest, root: Path) -> AsyncIterator[Bench]:
    name = request.param
    if shutil.which(PROGRAMS.get(name, name)) is None:
        pytest.skip(f"{name} is not installed")
    if name != "bubblewrap" and os.geteuid() != 0:
        pytest.skip(f"{name} needs root")
    made = Bench(lambda: ENGINES[name](root))
    yield made
    await made.engine.sweep(())


@pytest.mark.parametrize("check", OUTLET_CHECKS, ids=lambda check: check.__name__)
async def test_the_way_out(any_bench: Bench, check: Callable[[Bench], Awaitable[None]]) -> None:
    try:
        await check(any_bench)
    except NotEnforced as exc:
        pytest.skip(str(exc))
