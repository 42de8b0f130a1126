"""What every isolation engine must do, as checks that any implementer can run.

Each check is an async function over a `Bench`; `CHECKS` lists them. A test suite parametrises over it; without one:

    python -m deskhand.testing.conformance_sandbox deskhand.sandboxes.bubblewrap:BubblewrapEngine /an/empty/folder

A check raises `AssertionError` when the contract is broken and `NotEnforced` when the engine's own report says that
this host cannot enforce the limit in question; that is printed, never passed over in silence.
"""

import asyncio
import contextlib
import importlib
import os
import secrets
import sys
import time
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

from deskhand.ports.sandbox import (
    SKILLS,
    Command,
    Dropped,
    Exited,
    FileInfo,
    Output,
    SandboxEngine,
    SandboxError,
    SandboxGone,
    SandboxSpec,
    TimedOut,
    WorkspaceError,
)

from .conformance_sandbox_bench import SMALL, Bench, Desk, NotEnforced, chunks, content, count, gather, zip_bundle
from .conformance_snapshots import SNAPSHOT_CHECKS
from .conformance_terminal import TERMINAL_CHECKS


async def commands_end_as_data(bench: Bench) -> None:
    async with bench.desk() as desk:
        assert (await desk.run("exit 7")).end == Exited(7)
        assert (await desk.run("kill -TERM $$")).end == Exited(128 + 15, 15)
        assert (await desk.call("no-such-command")).end == Exited(127)
        result = await desk.run("echo out; echo err >&2")
        assert (result.stdout, result.stderr, result.end) == (b"out\n", b"err\n", Exited(0))


async def a_command_starts_in_the_workspace_with_its_environment(bench: Bench) -> None:
    async with bench.desk(SPOKEN="spec") as desk:
        lines = (await desk.run("pwd; id -un; echo $SPOKEN; ulimit -c; ulimit -n")).text.split("\n")
        assert lines == ["/mnt/data", "agent", "spec", "0", "256"]
        command = Command(("sh", "-c", "echo $SPOKEN $OWN"), 5, 100, 0, {"OWN": "mine", "SPOKEN": "command"})
        assert (await gather(desk.sandbox, command)).stdout == b"command mine\n"


async def commands_share_files_and_nothing_else(bench: Bench) -> None:
    async with bench.desk() as desk:
        await desk.run("cd /tmp; export LEFT=1; echo kept > /mnt/data/file; echo home > ~/note")
        assert (await desk.run("echo $PWD [$LEFT]; cat file ~/note")).text == "/mnt/data []\nkept\nhome"
        sessions = [(await desk.run("ps -o sid= -p $$")).text for _ in range(2)]
        assert sessions[0] != sessions[1]


async def standard_input_is_at_its_end(bench: Bench) -> None:
    async with bench.desk() as desk:
        assert (await desk.call("cat", timeout_s=5)).end == Exited(0)


async def output_is_any_bytes(bench: Bench) -> None:
    async with bench.desk() as desk:
        result = await desk.python("import os; os.write(1, bytes(range(256)) * 3)")
        assert result.stdout == bytes(range(256)) * 3


async def the_first_output_comes_at_once(bench: Bench) -> None:
    async with bench.desk() as desk:
        began = time.monotonic()
        seen = [
            time.monotonic() - began
            async for event in desk.sandbox.exec(Command(("sh", "-c", "echo a; sleep 2; echo b"), 9, 99, 0))
            if isinstance(event, Output)
        ]
        assert len(seen) == 2
        assert seen[0] < 1.5 < seen[1]


async def head_and_tail_are_kept_and_the_rest_is_counted(bench: Bench) -> None:
    async with bench.desk() as desk:
        script = "import sys; sys.stdout.write('<' + 'é' * 500000 + '>')"
        result = await gather(desk.sandbox, Command(("python3", "-c", script), 20, 5, 7))
        assert result.stdout == "<éé".encode() + "ééé>".encode()
        assert result.dropped == [Dropped("stdout", 999_990, 499_995)]
        silent = await desk.run("echo x; echo y >&2", head=0, tail=0)
        assert (silent.stdout, silent.stderr) == (b"", b"")
        assert sorted(silent.dropped, key=lambda d: d.stream) == [Dropped("stderr", 2, 2), Dropped("stdout", 2, 2)]


async def a_flood_is_counted_not_stored(bench: Bench) -> None:
    async with bench.desk() as desk:
        result = await desk.run("yes | head -c 1G", head=10, tail=10, timeout_s=60)
        assert result.stdout == b"y\n" * 10
        assert result.dropped == [Dropped("stdout", (1 << 30) - 20, (1 << 30) - 20)]


async def commands_run_at_the_same_time(bench: Bench) -> None:
    async with bench.desk() as desk:
        began = time.monotonic()
        results = await asyncio.gather(*(desk.run(f"sleep 2; echo {n}") for n in range(3)))
        assert [result.text for result in results] == ["0", "1", "2"]
        assert time.monotonic() - began < 3.5


NASTY = (
    'setsid sh -c "sleep 31337 &" & sleep 31337',
    "env -i setsid setsid -f env -i sleep 31337; (setsid -f sleep 31337 &) ; exec sleep 31337",
    "trap '' TERM HUP INT; for i in 1 2 3 4 5 6; do (setsid -f sh -c 'sleep 31337' &); done; cat /dev/zero > /dev/null",
    "(exec -a kthreadd env -i X=1 setsid -f setsid -f sleep 31337); sleep 0.1; kill -STOP $$",
    "f() { f | f & sleep 31337; }; f",
    "ulimit -m 5; setsid -f env -i sleep 31337; exec sleep 31337",
)


async def a_timeout_kills_the_whole_tree_and_nothing_else(bench: Bench) -> None:
    async with bench.desk() as desk:
        await desk.run("setsid -f sleep 41414 > /dev/null 2>&1; sleep 41414 > /dev/null 2>&1 &")
        bystander = asyncio.ensure_future(desk.run("sleep 5; echo unharmed"))
        await asyncio.sleep(0.2)
        assert count(await desk.run("ps ax"), "41414") == 2
        for script in NASTY:
            result = await desk.call("bash", "-c", "echo partial;" + script, timeout_s=0.5)
            assert result.end == TimedOut(), script
            assert result.stdout.startswith(b"partial\n")
            listing = await desk.run("ps ax")
            assert count(listing, "31337") == 0, listing.text
        assert (await bystander).text == "unharmed"
        assert count(await desk.run("ps ax"), "41414") == 2


async def a_background_process_outlives_its_command(bench: Bench) -> None:
    async with bench.desk() as desk:
        began = time.monotonic()
        script = "echo page > index.html; python3 -m http.server 8099 & sleep 0.1; echo started"
        assert (await desk.run(script, timeout_s=10)).end == Exited(0)
        assert time.monotonic() - began < 5
        fetch = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8099/', timeout=5).read().decode())"
        for _ in range(20):
            result = await desk.python(fetch)
            if result.end == Exited(0):
                break
            await asyncio.sleep(0.2)
        assert result.text == "page"
        assert (await desk.python(fetch)).text == "page"  # its log still has somewhere to go


async def leaving_a_command_kills_it(bench: Bench) -> None:
    async with bench.desk() as desk:
        events = desk.sandbox.exec(Command(("sh", "-c", "echo a; setsid -f sleep 31337; sleep 31337"), 60, 99, 0))
        assert await anext(events) == Output("stdout", b"a\n")
        assert isinstance(events, AsyncGenerator)
        await events.aclose()
        assert count(await desk.run("ps ax"), "31337") == 0
        task = asyncio.ensure_future(desk.run("setsid -f sleep 31337; sleep 31337", timeout_s=60))
        await asyncio.sleep(0.3)
        assert count(await desk.run("ps ax"), "31337") >= 2
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert count(await desk.run("ps ax"), "31337") == 0


async def a_fork_bomb_ends_inside(bench: Bench) -> None:
    async with bench.desk() as desk, bench.desk() as neighbour:
        bomb = asyncio.ensure_future(desk.call("bash", "-c", "b() { b | b & }; b; sleep 60", timeout_s=1.5))
        await asyncio.sleep(0.7)
        assert (await neighbour.run("echo fine")).text == "fine"
        assert (await bomb).end == TimedOut()
        assert (await desk.run("ps ax | wc -l")).end == Exited(0)
        assert int((await desk.run("ls -d /proc/[0-9]* | wc -l")).text) < 8


GREEDY = """
import os, time
while True:
    try:
        if os.fork() == 0:
            time.sleep(20)
            os._exit(0)
    except OSError:
        time.sleep(0.01)
"""


async def the_process_limit_is_said_in_words(bench: Bench) -> None:
    async with bench.desk() as desk:
        hog = asyncio.ensure_future(desk.call("python3", "-c", GREEDY, timeout_s=6))
        for _ in range(40):
            await asyncio.sleep(0.1)
            end = (await desk.call("true")).end
            if end != Exited(0):
                break
        match end:
            case Exited(code, note=note):
                assert code != 0
                assert "processes" in note
            case other:
                raise AssertionError(other)
        await hog
        assert (await desk.call("true")).end == Exited(0)


async def a_memory_hog_is_killed_alone(bench: Bench) -> None:
    await bench.require("memory limit")
    async with bench.desk() as desk:
        quiet = asyncio.ensure_future(desk.run("sleep 2; echo unharmed"))
        match (await desk.python("x = bytearray(700 << 20); print(len(x))")).end:
            case Exited(code, note=note):
                assert code == 137
                assert "memory" in note
            case other:
                raise AssertionError(other)
        assert (await quiet).text == "unharmed"
        forked = "import os\nfor _ in range(20):\n  if os.fork() == 0: x = b'1' * (40 << 20); os.kill(os.getpid(), 19)"
        forked += "\nimport signal; signal.pause()"
        await desk.call("python3", "-c", forked, timeout_s=2)
        assert (await desk.python("print(len(bytearray(50 << 20)))")).text == str(50 << 20)


async def a_full_disk_hurts_nobody_else(bench: Bench) -> None:
    await bench.require("disk limit")
    async with bench.desk() as desk, bench.desk() as neighbour:
        result = await desk.run(
            "head -c 200M /dev/zero > full; head -c 9M /dev/zero > ~/h; head -c 9M /dev/zero > /tmp/t"
        )
        assert result.stderr.count(b"No space left") == 3
        try:
            await desk.workspace.write("more", chunks(bytes(1 << 20), bytes(8 << 20)))
        except WorkspaceError as exc:
            assert "full" in str(exc)  # noqa: PT017 - this file does not need pytest
        else:
            raise AssertionError("written to a full disk")
        assert [info.path for info in await desk.workspace.list(9)] == ["full"]
        many = "rm full; i=0; while true > f$i; do i=$((i+1)); done 2> /dev/null; echo $i"
        assert 0 < int((await desk.run(many)).text) <= SMALL.disk_inodes
        assert (await neighbour.run("head -c 20M /dev/zero > mine; wc -c < mine")).text == str(20 << 20)


async def the_agent_cannot_be_harmed_from_inside(bench: Bench) -> None:
    async with bench.desk() as desk:
        await desk.run("kill -9 1; kill -STOP 1; kill -INT 1; kill -TERM 1; kill -9 -1")
        for path in ("/proc/1/mem", "/proc/1/fd/3", "/proc/1/cwd/..", "/proc/1/root/bin"):
            result = await desk.run(f"cat {path} /proc/self/comm")
            assert (result.text, result.stderr != b"") == ("cat", True), path
        attach = "import ctypes; l = ctypes.CDLL(None); print(l.ptrace(16, %d, 0, 0))"
        assert (await desk.python(attach % 1)).text == "-1"
        assert (await desk.python("import os, ctypes; p = os.fork() or os.kill(os.getpid(), 19)\n" + attach % 0)).end
        await desk.sandbox.ping()


async def the_agent_is_out_of_sight(bench: Bench) -> None:
    await bench.require("agent out of sight")
    async with bench.desk() as desk:
        for path in ("/proc/1/environ", "/proc/1/maps", "/proc/1/fd/0"):
            result = await desk.run(f"cat {path} /proc/self/comm")
            assert (result.text, result.stderr != b"") == ("cat", True), path


async def nothing_of_the_server_is_inside(bench: Bench) -> None:
    os.environ["DESKHAND_CANARY"] = "canary-value"
    leak = os.open(__file__, os.O_RDONLY)
    os.set_inheritable(leak, True)
    try:
        async with bench.desk() as desk:
            text = (await desk.run("env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'; echo HOME=$HOME")).text
            assert "HOME=/home/agent" in text
            assert "canary" not in text.lower()
            assert (await desk.run("ls /proc/self/fd | tr '\\n' ' '")).text == "0 1 2 3"  # 3 is that of ls itself
    finally:
        os.close(leak)
        del os.environ["DESKHAND_CANARY"]


async def the_report_is_usable(bench: Bench) -> None:
    report = await bench.engine.probe()
    assert report.usable, report.weaknesses
    assert all(finding.detail for finding in report.findings)
    assert all(finding.mend for finding in report.weaknesses)


async def files_go_in_and_out(bench: Bench) -> None:
    async with bench.desk() as desk:
        info = await desk.workspace.write("a/b c/ü.txt", chunks(b"one", b"two"))
        assert (info.path, info.bytes) == ("a/b c/ü.txt", 6)
        assert (
            await desk.run("cat 'a/b c/ü.txt'; echo three >> 'a/b c/ü.txt'; touch a/mine; id -u")
        ).text == "onetwo1000"
        assert await content(desk.workspace, "a/b c/ü.txt") == b"onetwothree\n"
        await desk.workspace.write("a/b c/ü.txt", chunks(b"new"))
        await desk.run("mkfifo pipe; ln -s a link; ln -s /etc/passwd out; echo > a-b; mkdir deep; echo > .hidden")
        paths = [found.path for found in await desk.workspace.list(100)]
        assert paths == sorted(paths) == [".hidden", "a-b", "a/b c/ü.txt", "a/mine"]
        assert [found.path for found in await desk.workspace.list(2)] == paths[:2]
        assert await desk.workspace.stat("a/mine") == FileInfo(
            "a/mine", 0, (await desk.workspace.list(9))[3].modified_at
        )
        assert await desk.workspace.delete("a/mine")
        assert not await desk.workspace.delete("a/mine")
        assert await desk.workspace.stat("a/mine") is None


async def no_path_leads_out_of_the_workspace(bench: Bench) -> None:
    async with bench.desk() as desk:
        await desk.run("ln -s /etc e; ln -s /etc/passwd p; ln -s ../../../etc/passwd up; ln -s /proc/self/root r")
        await desk.run("mkfifo f; mkdir d")
        await desk.run("echo inside > real; ln -s real alias")
        assert await content(desk.workspace, "alias") == b"inside\n"
        hostile = ("p", "up", "e/passwd", "f", "d", "r/etc/passwd", "../x", "/etc/passwd", "a/../../x", "", ".", "a//b")
        for path in (*hostile, "nul\0", "x" * 300, "d/" * 3000 + "x", "missing"):
            with contextlib.suppress(WorkspaceError):
                raise AssertionError((path, await content(desk.workspace, path)))
            assert await desk.workspace.stat(path) is None
            assert not await desk.workspace.delete(path)
        for path in ("e/new", "../new", "/tmp/new", "d", "r/tmp/new", "a/../b"):
            with contextlib.suppress(WorkspaceError):
                raise AssertionError((path, await desk.workspace.write(path, chunks(b"x"))))
        await desk.workspace.write("p", chunks(b"replaces the link"))
        assert (await desk.run("test -L p || cat p")).text == "replaces the link"


async def an_interrupted_write_leaves_nothing(bench: Bench) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"half"
        raise RuntimeError("the client went away")

    async with bench.desk() as desk:
        await desk.workspace.write("file", chunks(b"old"))
        with contextlib.suppress(RuntimeError):
            await desk.workspace.write("file", broken())
        assert await content(desk.workspace, "file") == b"old"
        assert (await desk.run("ls -A")).text == "file"


async def a_restarted_server_finds_its_containers(bench: Bench) -> None:
    async with bench.desk(KEPT="yes") as desk:
        await desk.run("echo here > file; setsid -f sleep 51515 > /dev/null 2>&1")
        second = bench.make()
        sandbox = await second.attach(desk.container_id)
        assert sandbox is not None
        adopted = Desk(desk.container_id, sandbox, second.workspace(desk.container_id))
        assert (await adopted.run("cat file; echo $KEPT")).text == "here\nyes"
        assert count(await adopted.run("ps ax"), "51515") == 1
        assert await content(adopted.workspace, "file") == b"here\n"
        await second.allocate(desk.container_id, SMALL)
        assert await second.attach("check-never-was") is None
        await second.destroy(desk.container_id)
        assert await bench.engine.attach(desk.container_id) is None


async def a_bundle_is_seen_and_cannot_be_changed(bench: Bench) -> None:
    asked: list[str] = []
    first, second = zip_bundle("look-1", {"a.sh": b"#!/bin/sh\necho 1\n"}, asked), zip_bundle("look-1", {}, asked)
    async with bench.desk() as desk:
        await bench.engine.provide(desk.container_id, first)
        seen = await desk.run(f"cd {SKILLS}/look-1 && ls && cat SKILL.md && ./a.sh")
        assert seen.text == "SKILL.md\na.sh\nlook\n1", seen
        for act in ("echo x > SKILL.md", "rm a.sh", "touch new", "chmod 777 a.sh", "ln a.sh b", f"touch {SKILLS}/x"):
            tried = await desk.run(f"cd {SKILLS}/look-1 && {act}")
            assert tried.end != Exited(0), f"{act}: {tried}"
        assert (await desk.run("cp -r /mnt/skills/look-1 . && echo x > look-1/new")).end == Exited(0)
        await bench.engine.provide(desk.container_id, first)
        assert asked == [first.digest], "a known digest is not read again"
        await bench.engine.provide(desk.container_id, second)
        assert (await desk.run(f"ls {SKILLS}/look-1")).text == "SKILL.md", "another bundle took its place"
        async with bench.desk() as other:
            assert (await other.run(f"ls {SKILLS}")).text == "", "a bundle is for one container"
            await bench.engine.provide(other.container_id, first)
            assert (await other.run(f"cat {SKILLS}/look-1/a.sh")).stdout.endswith(b"echo 1\n")
    try:
        await bench.engine.provide(desk.container_id, first)
    except SandboxGone:
        pass
    else:
        raise AssertionError("a container that is gone got a bundle")


async def nothing_is_left_of_a_destroyed_container(bench: Bench) -> None:
    async with bench.desk() as desk:
        long = asyncio.ensure_future(desk.run("sleep 60"))
        await asyncio.sleep(0.2)
        await bench.engine.destroy(desk.container_id)
        await bench.engine.destroy(desk.container_id)
        for attempt in (long, desk.run("true"), desk.sandbox.ping(), desk.workspace.list(1), desk.workspace.stat("x")):
            try:
                await attempt
            except SandboxGone:
                continue
            raise AssertionError("a destroyed container answered")
        assert await bench.engine.attach(desk.container_id) is None
        await bench.engine.allocate(desk.container_id, SMALL)
        assert await desk.workspace.list(1) == []


async def a_workspace_needs_no_computer(bench: Bench) -> None:
    container_id = f"check-{secrets.token_hex(5)}"
    workspace = bench.engine.workspace(container_id)
    try:
        await workspace.list(1)
    except SandboxGone:
        pass
    else:
        raise AssertionError("a workspace that was never allocated")
    await bench.engine.allocate(container_id, SMALL)
    try:
        await workspace.write("early", chunks(b"bird"))
        sandbox = await bench.engine.start(SandboxSpec(container_id, SMALL))
        assert (await gather(sandbox, Command(("cat", "early"), 5, 99, 0))).stdout == b"bird"
        try:
            await bench.engine.start(SandboxSpec(container_id, SMALL))
        except SandboxError:
            pass
        else:
            raise AssertionError("started twice")
        assert (await gather(sandbox, Command(("cat", "early"), 5, 99, 0))).stdout == b"bird"
    finally:
        await bench.engine.destroy(container_id)


async def two_containers_share_nothing(bench: Bench) -> None:
    async with bench.desk() as one, bench.desk() as two:
        await one.run("for d in /mnt/data /tmp /dev/shm ~ /run; do echo secret > $d/secret; done")
        await one.run("python3 -m http.server 8077 > /dev/null 2>&1 & sleep 0.5")
        assert (await two.run("find /mnt/data /tmp /dev/shm ~ /run -name secret")).text == ""
        assert "http.server" not in (await two.run("ps ax")).text
        assert (await one.run("ps ax")).text.count("http.server 8077") >= 1
        dial = "import socket; print(socket.socket().connect_ex(('127.0.0.1', 8077)))"
        assert ((await one.python(dial)).text, (await two.python(dial)).text) == ("0", "111")


Check = Callable[[Bench], Awaitable[None]]
CHECKS: tuple[Check, ...] = (
    commands_end_as_data,
    a_command_starts_in_the_workspace_with_its_environment,
    commands_share_files_and_nothing_else,
    standard_input_is_at_its_end,
    output_is_any_bytes,
    the_first_output_comes_at_once,
    head_and_tail_are_kept_and_the_rest_is_counted,
    a_flood_is_counted_not_stored,
    commands_run_at_the_same_time,
    a_timeout_kills_the_whole_tree_and_nothing_else,
    a_background_process_outlives_its_command,
    leaving_a_command_kills_it,
    a_fork_bomb_ends_inside,
    the_process_limit_is_said_in_words,
    a_memory_hog_is_killed_alone,
    a_full_disk_hurts_nobody_else,
    the_agent_cannot_be_harmed_from_inside,
    the_agent_is_out_of_sight,
    nothing_of_the_server_is_inside,
    the_report_is_usable,
    files_go_in_and_out,
    no_path_leads_out_of_the_workspace,
    an_interrupted_write_leaves_nothing,
    a_restarted_server_finds_its_containers,
    a_bundle_is_seen_and_cannot_be_changed,
    nothing_is_left_of_a_destroyed_container,
    a_workspace_needs_no_computer,
    two_containers_share_nothing,
    *SNAPSHOT_CHECKS,
    *TERMINAL_CHECKS,
)


async def run_checks(make: Callable[[], SandboxEngine], checks: Sequence[Check] = CHECKS, at_once: int = 3) -> bool:
    """Run checks, `at_once` at the same time, print a line for each, sweep. True if none failed."""
    bench = Bench(make)
    free = asyncio.Semaphore(at_once)

    async def run(check: Check) -> bool:
        async with free:
            verdict, passed = await _judge(check, bench)
        sys.stdout.write(verdict + "\n")
        sys.stdout.flush()
        return passed

    passed = await asyncio.gather(*map(run, checks))
    await bench.engine.sweep(())
    return all(passed)


async def _judge(check: Check, bench: Bench) -> tuple[str, bool]:
    name = getattr(check, "__name__", str(check))
    try:
        await check(bench)
    except NotEnforced as exc:
        return f"skip {name}: {exc}", True
    except Exception:
        return f"FAIL {name}\n{traceback.format_exc()}", False
    return f"ok {name}", True


def main(checks: Sequence[Check] = CHECKS) -> int:
    """Run checks against `module:Class`, which is called with the path of a folder."""
    target, folder = sys.argv[1:3]
    module, _, name = target.partition(":")
    engine: Callable[[Path], SandboxEngine] = getattr(importlib.import_module(module), name)
    return 0 if asyncio.run(run_checks(lambda: engine(Path(folder)), checks)) else 1


if __name__ == "__main__":
    raise SystemExit(main())
