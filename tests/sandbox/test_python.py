"""The Python of containers: started by the agent, or forked in advance and put in; the same contract for both."""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from deskhand.engine.background import beside
from deskhand.ports.sandbox import Cell, CellEnded, Limits, SandboxSpec
from deskhand.sandboxes import kit, processes
from deskhand.sandboxes.bubblewrap import BubblewrapEngine
from deskhand.sandboxes.computer import Computer
from deskhand.sandboxes.engine import ResidentEngine
from deskhand.sandboxes.registry import ENGINES
from deskhand.sandboxes.rootfs import python_version
from deskhand.testing.conformance_python import CHECKS, Ran, run
from deskhand.testing.conformance_sandbox import Check
from deskhand.testing.conformance_sandbox_bench import SMALL, Bench, Desk, NotEnforced

from .conftest import needs_bwrap, needs_root
from .test_oci import WHY_NOT

pytestmark = [pytest.mark.anyio, needs_bwrap]

needs_kit = pytest.mark.skipif(kit.find(python_version() or "") is None, reason="not installed: deskhand kit install")
WARM_S = 60.0


async def _until_warm(engine: ResidentEngine) -> None:
    """Wait for the process that makes interpreters, as nothing that a container sees tells when it is there."""
    engine.expect_python()
    async with asyncio.timeout(WARM_S):
        while not engine.has_warm_python:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@pytest.fixture
async def warm(root: Path) -> AsyncIterator[Bench]:
    """A bench whose engine has interpreters ready."""
    async with _warm("bubblewrap", root) as made:
        yield made


@asynccontextmanager
async def _warm(engine: str, root: Path) -> AsyncIterator[Bench]:
    made = Bench(lambda: ENGINES[engine](root))
    assert isinstance(made.engine, ResidentEngine)
    try:
        async with beside(made.engine.keep_python_warm()):
            await _until_warm(made.engine)
            yield made
    finally:
        await made.engine.sweep(())


@pytest.mark.parametrize("engine", ["bubblewrap", "crun", "runc", "gvisor"])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_an_interpreter_of_its_own_keeps_the_contract(root: Path, engine: str, check: Check) -> None:
    if why_not := WHY_NOT.get(engine):
        pytest.skip(why_not)
    bench = Bench(lambda: ENGINES[engine](root))
    try:
        await check(bench)
    except NotEnforced as exc:
        pytest.skip(str(exc))
    finally:
        await bench.engine.sweep(())


@needs_root
@needs_kit
@pytest.mark.parametrize("engine", ["bubblewrap", "crun", "runc"])
async def test_a_forked_interpreter_keeps_the_contract(root: Path, engine: str) -> None:
    if why_not := WHY_NOT.get(engine):
        pytest.skip(why_not)
    async with _warm(engine, root) as bench:
        async with bench.desk() as desk:
            assert (await run(desk.sandbox, "import sys; 'pandas' in sys.modules")).text == "True\n", (
                "it was not forked"
            )
        for check in CHECKS:
            with suppress(NotEnforced):
                await check(bench)


def _running(desk: Desk) -> tuple[int, int]:
    """The host pids of the container's first process and of its interpreter."""
    assert isinstance(desk.sandbox, Computer)
    init = desk.sandbox.running.init.pid
    (kernel,) = Path(f"/proc/{init}/task/{init}/children").read_text().split()
    return init, int(kernel)


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@needs_root
@needs_kit
async def test_seen_from_the_host_a_forked_interpreter_is_what_everything_in_its_container_is(warm: Bench) -> None:
    async with warm.desk() as desk:
        assert (await run(desk.sandbox, "import sys; 'pandas' in sys.modules")).text == "True\n", "it was not forked"
        init, kernel = _running(desk)
        for kind in ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup"):
            inside = os.readlink(f"/proc/{kernel}/ns/{kind}")
            assert inside == os.readlink(f"/proc/{init}/ns/{kind}")
            assert inside != os.readlink(f"/proc/self/ns/{kind}"), f"the {kind} namespace is the host's: no control"
        agent, forked, own = _status(init), _status(kernel), _status(os.getpid())
        for name in ("Uid", "Gid", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "NSpid"):
            assert name == "NSpid" or forked[name] == agent[name]
        assert (forked["Seccomp"], forked["NoNewPrivs"], int(forked["CapEff"], 16)) == ("2", "1", 0)
        assert own["Seccomp"] == "0", "no control"
        assert len(forked["NSpid"].split()) == 2
        assert Path(f"/proc/{kernel}/cgroup").read_text() == Path(f"/proc/{init}/cgroup").read_text()
        assert Path(f"/proc/{kernel}/oom_score_adj").read_text() == "500\n"
        held = {os.readlink(f"/proc/{kernel}/fd/{fd}") for fd in os.listdir(f"/proc/{kernel}/fd")}
        assert {re.sub(r"\d", "", name) for name in held} == {"/dev/null", "pipe:[]", "socket:[]"}
        assert len(os.listdir(f"/proc/{kernel}/fd")) == 5
        assert Path(f"/proc/{kernel}/root").resolve() == Path(f"/proc/{init}/root").resolve()
        assert Path(f"/proc/{kernel}/environ").read_bytes().count(b"DESKHAND") == 0


@needs_root
@needs_kit
async def test_the_ceilings_of_a_container_hold_for_a_forked_interpreter(warm: Bench) -> None:
    async with warm.desk(Limits(memory_bytes=256 << 20, pids=16, cpus=1.0, disk_bytes=64 << 20)) as desk:
        forks = (
            "import os, time\nn = 0\ntry:\n    while n < 99:\n        if os.fork() == 0: time.sleep(30); os._exit(0)\n"
        )
        ran = await run(
            desk.sandbox, f"{forks}        n += 1\nexcept OSError as exc: print(type(exc).__name__, n < 20)"
        )
        assert ran.text == "BlockingIOError True\n"
        await desk.run("pkill -9 -f 'time.sleep' ; true")
        fill = "with open('f', 'wb') as f:\n    for _ in range(99): f.write(bytes(1 << 20))"
        assert "No space left on device" in (await run(desk.sandbox, fill)).text


@needs_root
@needs_kit
async def test_two_forked_interpreters_do_not_draw_the_same_numbers(warm: Bench) -> None:
    drawn = []
    for _ in range(2):
        async with warm.desk() as desk:
            code = "import numpy, random, uuid; numpy.random.rand(), random.random(), uuid.uuid4()"
            drawn.append((await run(desk.sandbox, code)).text)
    assert drawn[0] != drawn[1]
    assert not set(drawn[0].split(", ")) & set(drawn[1].split(", "))


@needs_root
@needs_kit
async def test_forked_interpreters_find_what_the_model_installs_and_what_is_loaded_later(warm: Bench) -> None:
    async with warm.desk() as desk:
        await desk.run(
            "echo 'x = 1' > mine.py; cd $VIRTUAL_ENV/lib/python3*/site-packages; echo 'answer = 42' > installed.py"
        )
        code = "import installed, mine, numpy, pandas, openpyxl; installed.answer, mine.x, numpy.__file__"
        assert (await run(desk.sandbox, code)).text == "(42, 1, '/opt/kit/numpy/__init__.py')\n"
        frame = "pandas.DataFrame({'a': [1, 2]}).to_excel('t.xlsx'); pandas.read_excel('t.xlsx').a.sum()"
        assert (await run(desk.sandbox, frame)).text == "np.int64(3)\n"


@needs_root
@needs_kit
async def test_no_process_of_a_forked_interpreter_outlives_its_container(warm: Bench) -> None:
    async with warm.desk() as desk:
        await run(desk.sandbox, "import subprocess; subprocess.Popen(['sleep', '500'])")
        assert isinstance(desk.sandbox, Computer)
        uid = processes.owner(desk.sandbox.running.init)
        assert len(processes.owned_by([uid])) >= 3, "no control"
    assert processes.owned_by([uid]) == []


@needs_root
@needs_kit
async def test_what_was_put_in_goes_on_without_the_process_that_made_it(root: Path) -> None:
    engine = BubblewrapEngine(root)
    try:
        async with beside(engine.keep_python_warm()):
            await _until_warm(engine)
            await engine.allocate("kept", SMALL)
            sandbox = await engine.start(SandboxSpec("kept", SMALL))
            await run(sandbox, "import sys; state = 'pandas' in sys.modules")
        found = await BubblewrapEngine(root).attach("kept")
        assert found is not None
        assert await run(found, "state") == Ran("True\n", CellEnded(False))
    finally:
        await engine.sweep(())


async def test_a_computer_that_is_started_again_says_that_state_is_lost(root: Path) -> None:
    engine = BubblewrapEngine(root)
    try:
        await engine.allocate("again", SMALL)
        first = await engine.start(SandboxSpec("again", SMALL))
        assert await run(first, "x = 1") == Ran("", CellEnded(False))
        processes.kill(first.running.init, 10.0)
        second = await engine.start(SandboxSpec("again", SMALL))
        assert await run(second, "'x' in globals()") == Ran("False\n", CellEnded(False), renewed=True)
    finally:
        await engine.sweep(())


async def test_a_cell_that_nobody_waits_for_ends_with_its_server(bench: Bench) -> None:
    async with bench.desk() as desk:
        await run(desk.sandbox, "1")
        beat = "import time\nwhile True:\n    open('beat', 'w').write(str(time.time())); time.sleep(0.02)"
        task = asyncio.create_task(run(desk.sandbox, beat, 60))
        async with asyncio.timeout(20):
            while not await desk.workspace.stat("beat"):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.wait([task])
        still = "import time; a = open('beat').read(); time.sleep(0.5); a == open('beat').read()"
        assert (await run(desk.sandbox, still)).text == "True\n"


async def test_code_with_any_characters_reaches_the_interpreter(bench: Bench) -> None:
    async with bench.desk() as desk:
        text = "é😀\u2028\ud800 \x01"
        events = [event async for event in desk.sandbox.run_code(Cell(f"ascii({text!r})", 9, 999, 0))]
        assert events[-1] == CellEnded(False)
