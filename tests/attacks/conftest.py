"""Every attack is made on every engine of this machine; each leaves nothing behind, and gives nothing away."""

import asyncio
import functools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from deskhand.egress.authority import Authority
from deskhand.ports.sandbox import EngineReport
from deskhand.sandboxes.layout import layout
from deskhand.sandboxes.registry import ENGINES
from deskhand.testing.conformance_sandbox_bench import Bench, Desk

from ..conftest import launched
from ..egress.world import Issuer, World
from .canaries import Canaries, planted
from .census import crashes, traces
from .differences import DIFFERENCES
from .network import Networked, outside, settings, trusting
from .product import KEYS, Product

ASKED = os.environ.get("DESKHAND_ATTACK_ENGINES", "bubblewrap")
"""Names of engines, or "all": a run on every engine takes minutes for each, so `make test` keeps to the default one."""

NAMES = sorted(set(ENGINES) - {"none"}) if ASKED == "all" else ASKED.split(",")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "case(id, attempt, expect): a test of this case of the attack suite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        mark = item.get_closest_marker("case")
        if mark is None or not isinstance(item, pytest.Function):
            continue
        engine = str(item.callspec.params.get("engine_name", "")) if hasattr(item, "callspec") else ""
        item.user_properties += [("case", mark.args[0]), ("test", item.originalname), ("engine", engine)]
        difference = DIFFERENCES.get((engine, item.originalname))
        if difference is not None:
            item.add_marker(pytest.mark.xfail(reason=difference.reason, run=difference.run, strict=True))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@functools.cache
def report(name: str) -> EngineReport:
    """What an engine says of itself on this host."""
    folder = Path(tempfile.mkdtemp(prefix="deskhand-attacks-"))
    engine = ENGINES[name](folder)

    async def look() -> EngineReport:
        found = await engine.probe()
        await engine.sweep(())
        return found

    try:
        return asyncio.run(look())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session", params=NAMES)
def engine_name(request: pytest.FixtureRequest) -> str:
    """Each engine that can isolate here; the others are skipped with their own reason."""
    name = str(request.param)
    found = report(name)
    if not found.usable:
        missing = next(finding for finding in found.findings if finding.required and not finding.ok)
        pytest.skip(f"{name} cannot isolate here: {missing.detail}")
    return name


@pytest.fixture(scope="session")
def engine_report(engine_name: str) -> EngineReport:
    return report(engine_name)


@pytest.fixture(scope="session")
def root(engine_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of one installation for all attacks on an engine; at the end, nothing of it may be left."""
    closed = tmp_path_factory.mktemp(f"closed-{engine_name}")
    closed.chmod(0o700)
    root = closed / "data"
    yield root
    asyncio.run(ENGINES[engine_name](root).sweep(()))
    left = asyncio.run(settled(root))
    shutil.rmtree(layout(root, as_root=os.geteuid() == 0).runtime, ignore_errors=True)
    assert not left, left


async def settled(root: Path) -> list[str]:
    """Traces, once the kernel has had a moment to let go of mounts and loop devices."""
    left = traces(root)
    for _ in range(250):
        if not left:
            break
        await asyncio.sleep(0.02)
        left = traces(root)
    return list(left)


@pytest.fixture
def bench(engine_name: str, root: Path) -> Bench:
    return Bench(lambda: ENGINES[engine_name](root))


@pytest.fixture
async def desk(bench: Bench) -> AsyncIterator[Desk]:
    async with bench.desk() as made:
        yield made


@pytest.fixture
def canaries() -> Iterator[Canaries]:
    with planted() as made:
        yield made


def product_settings(folder: Path, engine: str) -> dict[str, str]:
    """Three projects with room for many containers."""
    config = folder / "deskhand.toml"
    config.write_text("".join(f'[[keys]]\nkey = "{key}"\nproject = "proj_{name}"\n' for name, key in KEYS.items()))
    most = {"max_live_containers": "100"}
    return most | {"config": str(config), "api_key": "", "engine": engine, "log_level": "debug"}


@pytest.fixture
def product(served: Product) -> Iterator[Product]:
    """The server, without a container before and after a test: in some engines an idle one costs much."""
    yield served
    served.clear()


@pytest.fixture
def net(networked: Networked) -> Iterator[Networked]:
    """The server whose operator allows some hosts, without a container before and after a test."""
    yield networked
    networked.product.clear()


@pytest.fixture(scope="session")
def served(engine_name: str, upstream_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """One server for each engine. At its end: no crash, no key in its log or its data, nothing left on the host."""
    folder = tmp_path_factory.mktemp(f"product-{engine_name}")
    with launched(folder / "data", upstream_url, **product_settings(folder, engine_name)) as server:
        yield Product(server, engine_name)
        log = server.log.read_text()
        assert server.process.poll() is None, log[-4000:]
        assert crashes(log) == set(), log[-4000:]
        kept = [path for path in server.data_dir.rglob("*") if path.is_file() and path.suffix != ".img"]
        shown = [server.log, *kept]
        assert not [path for path in shown for key in KEYS.values() if key.encode() in path.read_bytes()]
    assert asyncio.run(settled(server.data_dir / "sandboxes")) == []


@pytest.fixture(scope="session")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture(scope="session")
def networked(
    engine_name: str, upstream_url: str, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Networked]:
    """A server for each engine whose operator allows some hosts."""
    folder = tmp_path_factory.mktemp(f"network-{engine_name}")
    with outside(issuer) as world, trusting(issuer, folder):
        given = product_settings(folder, engine_name) | settings(world)
        with launched(folder / "data", upstream_url, **given) as server:
            yield Networked(Product(server, engine_name), world)


@pytest.fixture
async def world(tmp_path: Path, issuer: Issuer) -> AsyncIterator[World]:
    """The proxy alone, with a resolver that says what a test wants."""
    async with World.open(tmp_path, issuer, Authority.kept(tmp_path)) as made:
        yield made
