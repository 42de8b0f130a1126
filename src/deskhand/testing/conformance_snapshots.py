"""What every isolation engine must do about snapshots; part of the checks of `conformance_sandbox`."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

from deskhand.ports.sandbox import SandboxGone, SandboxSpec, SnapshotGone

from .conformance_sandbox_bench import SMALL, Bench, Desk, NotEnforced, chunks, content


@asynccontextmanager
async def _kept(bench: Bench) -> AsyncIterator[str]:
    """An id for a snapshot of one check."""
    snapshot_id = f"snap-{secrets.token_hex(5)}"
    try:
        yield snapshot_id
    finally:
        await bench.engine.drop_snapshot(snapshot_id)


@asynccontextmanager
async def _heir(bench: Bench, snapshot_id: str) -> AsyncIterator[Desk]:
    """A started container with the files of a snapshot."""
    container_id = f"heir-{secrets.token_hex(5)}"
    try:
        await bench.engine.allocate(container_id, SMALL, snapshot_id)
        sandbox = await bench.engine.start(SandboxSpec(container_id, SMALL))
        yield Desk(container_id, sandbox, bench.engine.workspace(container_id))
    finally:
        await bench.engine.destroy(container_id)


TREE = """
mkdir -p d/e && echo one > d/e/f && chmod 640 d/e/f && chmod 700 d
ln -s d/e/f link && ln d/e/f hard && touch -d @1000000000 old && : > empty && mkfifo pipe
truncate -s 1M sparse && printf x | dd of=sparse bs=1 seek=500000 conv=notrunc 2>/dev/null
printf '\\377\\n' > "$(printf 'odd\\377name')" && echo home > ~/note && echo tmp > /tmp/note
"""
LOOK = "find . ~ /tmp -printf '%y %m %s %T@ %n %l %p\\n' | grep -v ' \\./pipe$' | sort; sha256sum d/e/f sparse odd*"


async def a_container_from_a_snapshot_has_all_of_its_files(bench: Bench) -> None:
    async with bench.desk() as desk, _kept(bench) as taken:
        assert (await desk.run(TREE)).stderr == b""
        before = (await desk.run(LOOK)).text
        assert (await bench.engine.snapshot(desk.container_id, taken)).bytes > 0
        await desk.run("rm -rf d link; echo later > new")
        async with _heir(bench, taken) as heir:
            assert (await heir.run(LOOK)).text == before
            assert await content(heir.workspace, "d/e/f") == b"one\n"


async def a_copy_and_its_original_do_not_touch_each_other(bench: Bench) -> None:
    async with bench.desk() as desk, _kept(bench) as taken:
        await desk.run("echo one > f; mkdir d; echo deep > d/f")
        await bench.engine.snapshot(desk.container_id, taken)
        async with _heir(bench, taken) as first, _heir(bench, taken) as second:
            owner = "id -u; stat -c %u f d d/f; echo mine > f && rm -r d && mkdir d2 && chmod 700 . && cat f"
            assert (await first.run(owner)).text.split() == ["1000"] * 4 + ["mine"]
            await first.workspace.write("up/loaded", chunks(b"host"))
            assert (await first.run("stat -c %u up up/loaded && rm -r up && echo gone")).text.split() == [
                "1000",
                "1000",
                "gone",
            ]
            await desk.run("echo original > f")
            assert (await second.run("cat f d/f")).text == "one\ndeep"
            assert (await first.run("cat f")).text == "mine"
            assert (await desk.run("cat f d/f")).text == "original\ndeep"


async def a_snapshot_is_of_one_moment(bench: Bench) -> None:
    """A program writes to one file and then to another, all the time: in no snapshot may the second be ahead."""
    writer = (
        "import os\n"
        "a, b = (os.open(name, os.O_WRONLY | os.O_CREAT, 0o644) for name in 'ab')\n"
        "n = 0\n"
        "while True:\n"
        "    n += 1\n"
        "    for fd in (a, b): os.pwrite(fd, b'%012d' % n, 0)\n"
        "    if n % 100 == 0: open('f%d' % n, 'wb').write(os.urandom(20000))\n"
        "    if n % 1000 == 0: [os.unlink('f%d' % k) for k in range(n - 900, n + 1, 100)]\n"
    )
    async with bench.desk() as desk, _kept(bench) as taken:
        await desk.run(f"setsid -f python3 -c {_quoted(writer)} >/dev/null 2>&1; while [ ! -s b ]; do :; done")
        for _ in range(3):
            await bench.engine.snapshot(desk.container_id, taken)
            async with _heir(bench, taken) as heir:
                first, second = (int(word) for word in (await heir.run("cat a; echo; cat b")).text.split())
                assert second <= first <= second + 1, (first, second)
            await bench.engine.drop_snapshot(taken)
        before = (await desk.run("cat a")).text
        await asyncio.sleep(0.2)
        assert (await desk.run("cat a")).text != before, "the program does not go on"


async def a_restored_container_is_as_it_was(bench: Bench) -> None:
    async with bench.desk() as desk, _kept(bench) as taken:
        await desk.run(TREE)
        before = (await desk.run(LOOK)).text
        await bench.engine.snapshot(desk.container_id, taken)
        await desk.run(
            "rm -rf d link ~/note; echo later > new; echo worse > old; chmod 777 empty; setsid -f sleep 1000"
        )
        await bench.engine.restore(desk.container_id, taken)
        assert await desk.workspace.stat("new") is None
        sandbox = await bench.engine.start(SandboxSpec(desk.container_id, SMALL))
        again = Desk(desk.container_id, sandbox, desk.workspace)
        assert (await again.run(LOOK)).text == before
        assert (await again.run("pgrep -c sleep")).text == "0"
        assert (await again.run("echo more >> d/e/f; cat hard")).text == "one\nmore"
        await bench.engine.restore(desk.container_id, taken)
        assert await content(desk.workspace, "d/e/f") == b"one\n"


async def a_container_can_become_what_another_was(bench: Bench) -> None:
    async with bench.desk() as ours, bench.desk() as other, _kept(bench) as taken:
        await other.run("mkdir d; echo theirs > d/f")
        await bench.engine.snapshot(other.container_id, taken)
        await bench.engine.destroy(other.container_id)
        await ours.run("echo ours > f")
        await bench.engine.restore(ours.container_id, taken)
        sandbox = await bench.engine.start(SandboxSpec(ours.container_id, SMALL))
        again = Desk(ours.container_id, sandbox, ours.workspace)
        assert (await again.run("ls; cat d/f; echo x >> d/f; rm -r d; ls -A | wc -l")).text.split() == [
            "d",
            "theirs",
            "0",
        ]


CHANGES = ("printf two > f", "printf x | dd of=g bs=1 seek=50000 conv=notrunc", "chmod 600 f", "touch -d @9 f",
           "mv f f2", "rm f2", "mkdir d", "ln g h")  # fmt: skip


async def a_disk_that_has_not_changed_is_kept_once(bench: Bench) -> None:
    async with bench.desk() as desk, _kept(bench) as first, _kept(bench) as second, _kept(bench) as third:
        await desk.run("echo one > f; head -c 100000 /dev/urandom > g")
        assert (await bench.engine.snapshot(desk.container_id, first)).same_as is None
        await desk.run("cat f g > /dev/null; ls -la; true")
        shared = await bench.engine.snapshot(desk.container_id, second)
        if shared.same_as is None:
            raise NotEnforced("this engine does not notice that nothing has changed")
        assert shared.same_as == first
        await bench.engine.drop_snapshot(first)
        async with _heir(bench, second) as heir:
            assert (await heir.run("cat f")).text == "one"
        for change in CHANGES:
            await desk.run(change)
            assert (await bench.engine.snapshot(desk.container_id, third)).same_as is None, change
            await bench.engine.drop_snapshot(third)


async def what_is_dropped_is_gone(bench: Bench) -> None:
    async with bench.desk() as desk, _kept(bench) as kept, _kept(bench) as left:
        await bench.engine.snapshot(desk.container_id, kept)
        await desk.run("echo changed > f")
        await bench.engine.snapshot(desk.container_id, left)
        for _ in range(2):
            await bench.engine.drop_snapshot(left)
        for gone in (left, "never-was", "../../etc"):
            for attempt in (
                bench.engine.restore(desk.container_id, gone),
                bench.engine.allocate(f"{desk.container_id}-2", SMALL, gone),
            ):
                await _refused(attempt, SnapshotGone)
        await _refused(bench.engine.workspace(f"{desk.container_id}-2").list(1), SandboxGone)
        await _refused(bench.engine.snapshot("never-was", "snap-none"), SandboxGone)
        assert (await desk.run("cat f")).text == "changed", "a restore that cannot be ends nothing"
        async with _heir(bench, kept) as heir:
            assert (await heir.run("ls -A")).text == ""


async def a_full_disk_can_be_kept_and_put_back(bench: Bench) -> None:
    async with bench.desk() as desk, _kept(bench) as taken:
        await desk.run("echo precious > f; head -c 40000000 /dev/zero | tr '\\0' x > big")
        await bench.engine.snapshot(desk.container_id, taken)
        await desk.run("echo lost > f; cat /dev/zero > more")
        await bench.engine.restore(desk.container_id, taken)
        assert await content(desk.workspace, "f") == b"precious\n"
        sandbox = await bench.engine.start(SandboxSpec(desk.container_id, SMALL))
        again = Desk(desk.container_id, sandbox, desk.workspace)
        assert (await again.run("stat -c %s big; echo fits > g; cat g")).text == "40000000\nfits"


async def commands_and_snapshots_go_on_side_by_side(bench: Bench) -> None:
    async with bench.desk() as desk:
        names = [f"side-{secrets.token_hex(5)}" for _ in range(4)]
        running = asyncio.ensure_future(desk.run("for i in $(seq 200); do echo $i > n; sleep 0.005; done; cat n"))
        try:
            await asyncio.gather(*(bench.engine.snapshot(desk.container_id, name) for name in names))
            assert (await running).text == "200"
        finally:
            await asyncio.gather(*(bench.engine.drop_snapshot(name) for name in names))


_HALF_BORN = """
import os
gate = (os.POSIX_SPAWN_OPEN, 0, "gate", os.O_RDONLY, 0)
os.waitpid(os.posix_spawn("/bin/echo", ["echo", "born"], {}, file_actions=[gate]), 0)
"""
"""A process whose child waits between vfork(2) and execve(2): the parent cannot be stopped meanwhile."""


async def a_child_that_is_being_born_does_not_hold_a_snapshot_up(bench: Bench) -> None:
    async with bench.desk() as desk, _kept(bench) as taken:
        await desk.run(f"mkfifo gate; cat > p.py <<'E'{_HALF_BORN}E")
        running = asyncio.ensure_future(desk.run("python3 p.py"))
        while not (await desk.run("grep -l '^State:.D' /proc/[0-9]*/status")).text:
            assert not running.done()
        await bench.engine.snapshot(desk.container_id, taken)
        await desk.run("timeout 5 sh -c ': > gate'")
        assert (await running).text == "born"


async def _refused(attempt: Awaitable[object], kind: type[Exception]) -> None:
    try:
        await attempt
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was expected")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


SNAPSHOT_CHECKS = (
    a_container_from_a_snapshot_has_all_of_its_files,
    a_copy_and_its_original_do_not_touch_each_other,
    a_snapshot_is_of_one_moment,
    a_restored_container_is_as_it_was,
    a_container_can_become_what_another_was,
    a_disk_that_has_not_changed_is_kept_once,
    what_is_dropped_is_gone,
    a_full_disk_can_be_kept_and_put_back,
    commands_and_snapshots_go_on_side_by_side,
    a_child_that_is_being_born_does_not_hold_a_snapshot_up,
)
