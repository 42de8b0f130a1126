"""The pure parts: filter, frames, tail, cgroup settings, launch line, layout."""

import errno
import struct
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deskhand.ports.sandbox import Command, Dropped, Limits, Output, SandboxGone, WorkspaceError
from deskhand.sandboxes import cgroups, launch, seccomp, workspace
from deskhand.sandboxes.cgroups import V1, V2, Group
from deskhand.sandboxes.launcher import Blueprint
from deskhand.sandboxes.layout import layout
from deskhand.sandboxes.protocol import (
    HEADER,
    Pong,
    ProtocolError,
    Reply,
    Transcript,
    exec_frame,
    parse_header,
    parse_reply,
)
from deskhand.sandboxes.resident.settings import Reader
from deskhand.sandboxes.resident.tail import Tail
from deskhand.sandboxes.rootfs import Shared
from deskhand.sandboxes.roots import HostRoot

EPERM, ENOSYS, EAFNOSUPPORT = (0x50000 | code for code in (errno.EPERM, errno.ENOSYS, errno.EAFNOSUPPORT))
EPROTONOSUPPORT = 0x50000 | errno.EPROTONOSUPPORT
ALLOW = seccomp.ALLOW
ON_A_PROCESS = ("prlimit64", "sched_setparam", "sched_setscheduler", "sched_setaffinity", "sched_setattr", "tkill",
                "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_open")  # fmt: skip
CONDITIONAL = ("socket", "socketpair", "clone", "ioctl", "unshare", "fcntl", "setsockopt", "kill", *ON_A_PROCESS)


def _verdict(machine: str, number: int, *arguments: int, audit: int | None = None) -> int:
    """Interpret the filter as the kernel does, for the instructions that it uses."""
    code = seccomp.program(machine)
    program = [struct.unpack_from("HBBI", code, at) for at in range(0, len(code), 8)]
    arch = seccomp.MACHINES[machine].audit if audit is None else audit
    data = struct.pack("<IIQ6Q", number, arch, 0, *(list(arguments) + [0] * 6)[:6])
    accumulator, at = 0, 0
    while True:
        operation, yes, no, k = program[at]
        at += 1
        match operation:
            case seccomp.LD_ABS:
                accumulator = struct.unpack_from("<I", data, k)[0]
            case seccomp.JEQ:
                at += yes if accumulator == k else no
            case seccomp.JGE:
                at += yes if accumulator >= k else no
            case seccomp.JSET:
                at += yes if accumulator & k else no
            case seccomp.RET:
                return int(k)
            case _:
                raise AssertionError(operation)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_answers_for_every_call(machine: str) -> None:
    calls = seccomp.MACHINES[machine].calls
    assert len(seccomp.program(machine)) // 8 < 4096
    for name, number in calls.items():
        if name not in CONDITIONAL:
            assert _verdict(machine, number) in (EPERM, ENOSYS), name
    assert _verdict(machine, calls["clone3"]) == ENOSYS
    assert _verdict(machine, calls["clone"], 17) == ALLOW
    for flag in (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert _verdict(machine, calls["clone"], flag | 17) == EPERM
        assert _verdict(machine, calls["unshare"], flag) == EPERM
    assert _verdict(machine, calls["unshare"], 0x80) == EPERM
    assert _verdict(machine, calls["unshare"], 0x400 | 0x200) == ALLOW
    assert _verdict(machine, calls["ioctl"], 0, 0x5412) == EPERM
    assert _verdict(machine, calls["ioctl"], 0, (1 << 32) | 0x5412) == EPERM, "the kernel reads 32 bits of it"
    assert _verdict(machine, calls["ioctl"], 0, 0x5413) == ALLOW
    assert _verdict(machine, calls["fcntl"], 3, 1026) == EPERM
    assert _verdict(machine, calls["fcntl"], 3, 1031) == ALLOW
    assert _verdict(machine, calls["setsockopt"], 3, 6, 31) == EPERM
    assert [_verdict(machine, calls["setsockopt"], 3, *what) for what in ((6, 1), (1, 31))] == [ALLOW, ALLOW]
    for pid, sent, verdict in ((1, 9, EPERM), (1, 0, EPERM), (1, 17, ALLOW), (2, 9, ALLOW), (0xFFFFFFFF, 9, ALLOW)):
        assert _verdict(machine, calls["kill"], pid, sent) == verdict
    for name in ON_A_PROCESS:
        assert [_verdict(machine, calls[name], pid) for pid in (0, 1, 2, (1 << 32) | 1)] == [ALLOW, EPERM, ALLOW, EPERM]


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_knows_socket_families(machine: str) -> None:
    for name in ("socket", "socketpair"):
        number = seccomp.MACHINES[machine].calls[name]
        for family in range(50):
            expected = ALLOW if family in (1, 2, 10, 16) else EAFNOSUPPORT
            assert _verdict(machine, number, family, 1, 0) == expected, family
        for family in (2, 10):
            allowed = [proto for proto in range(300) if _verdict(machine, number, family, 1, proto) == ALLOW]
            assert allowed == [0, 1, 6, 17, 58]
            assert _verdict(machine, number, family, 5, 132) == EPROTONOSUPPORT
        assert _verdict(machine, number, 1, 1, 7) == ALLOW
        assert _verdict(machine, number, 16, 3, 9) == EPROTONOSUPPORT


def test_the_filter_refuses_what_it_does_not_know() -> None:
    assert _verdict("x86_64", 39) == ALLOW
    assert _verdict("x86_64", 39, audit=0x40000003) == ENOSYS
    assert _verdict("x86_64", 0x40000000 | 39) == ENOSYS
    assert _verdict("x86_64", 100_000) == ENOSYS
    assert not seccomp.supported("riscv64")


@given(st.integers(0, 255), st.binary(max_size=40))
@example(ord("N"), b"\0")
def test_any_frame_is_parsed_or_refused(kind: int, payload: bytes) -> None:
    try:
        reply = parse_reply(kind, payload)
    except ProtocolError:
        return
    assert isinstance(reply, Reply)


def test_what_no_honest_agent_sends_is_refused() -> None:
    for kind, payload in (
        (b"O", b"\x01"), (b"O", b"\x03x"), (b"E", b"\0\0"), (b"E", b"\0\x41\0"), (b"E", b"\0\0\x09"), (b"T", b"x"),
        (b"D", struct.pack(">BQQ", 1, 1, 2)), (b"D", struct.pack(">BQQ", 1, 0, 0)), (b"Z", b""), (b"\xff", b""),
    ):  # fmt: skip
        with pytest.raises(ProtocolError):
            parse_reply(kind[0], payload)
    with pytest.raises(ProtocolError):
        parse_header(HEADER.pack(1 << 30, ord("O")))
    transcript = Transcript(3, 2)
    transcript.admit(Output("stdout", b"12345"))
    with pytest.raises(ProtocolError):
        transcript.admit(Output("stdout", b"6"))
    transcript.admit(Dropped("stdout", 1, 1))
    with pytest.raises(ProtocolError):
        transcript.admit(Dropped("stdout", 1, 1))
    with pytest.raises(ProtocolError):
        transcript.admit(Pong())


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1))
def test_the_agent_reads_what_the_server_writes(argv: list[str]) -> None:
    frame = exec_frame(Command(argv, 1.5, 2, 3, {"A": "b"}))
    reader = Reader(frame[5:])
    assert reader.take(">dQQ") == (1.5, 2, 3)
    assert [word.decode() for word in reader.strings()] == argv
    assert reader.pairs() == {b"A": b"b"}


def test_a_command_with_a_nul_byte_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        exec_frame(Command(("a\0b",), 1, 1, 1))


@given(st.integers(0, 40), st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(min_size=1, max_size=30))))
def test_the_tail_and_what_was_dropped_are_all_there_was(size: int, writes: list[tuple[int, bytes]]) -> None:
    tail = Tail(size)
    for stream, data in writes:
        tail.push(stream, data)
    tail.trim()
    everything = [(stream, byte) for stream, data in writes for byte in data]
    kept = [(stream, byte) for stream, data in tail.chunks for byte in data]
    assert kept == (everything[-size:] if size else [])
    lost = everything[: len(everything) - len(kept)]
    for stream in (1, 2):
        gone = bytes(byte for owner, byte in lost if owner == stream)
        assert tail.dropped[stream] == (len(gone), sum(byte & 0xC0 != 0x80 for byte in gone))


def test_limits_become_cgroup_files() -> None:
    limits = Limits(memory_bytes=1000, pids=9, cpus=1.5)
    assert cgroups.settings_v1(limits) == [
        ("memory", "memory.limit_in_bytes", "1000"),
        ("memory", "memory.memsw.limit_in_bytes", "1000"),
        ("memory", "memory.kmem.tcp.limit_in_bytes", "125"),
        ("pids", "pids.max", "10"),
        ("cpu", "cpu.cfs_period_us", "100000"),
        ("cpu", "cpu.cfs_quota_us", "150000"),
    ]
    assert cgroups.settings_v2(limits) == [
        ("memory.max", "1000"),
        ("memory.swap.max", "0"),
        ("pids.max", "10"),
        ("cpu.max", "150000 100000"),
    ]


def test_the_unified_hierarchy_is_set_up_below_a_leaf_for_the_server(tmp_path: Path) -> None:
    """On plain files: what is written where. That the kernel obeys is not tested here (this needs a pure v2 host)."""
    base = tmp_path / "service"
    base.mkdir()
    for name, text in (
        ("cgroup.controllers", "cpu memory pids"), ("cgroup.type", "domain"), ("cgroup.procs", "17\n18\n"),
        ("cgroup.subtree_control", ""),
    ):  # fmt: skip
        (base / name).write_text(text)
    v2 = V2(base, "abc")
    assert list(v2.missing) == []
    group = v2.plan("c")
    v2.create(group, Limits())
    assert (base / "cgroup.subtree_control").read_text() == "+memory +pids +cpu"
    assert (base / "deskhand-abc" / "cgroup.subtree_control").read_text() == "+memory +pids +cpu"
    assert (base / "deskhand-server" / "cgroup.procs").read_text() == "18"
    assert (base / "deskhand-abc" / "c" / "memory.max").read_text() == str(1 << 30)
    (base / "deskhand-abc" / "c" / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    assert cgroups.oom_kills(group) == 2
    cgroups.join(group, 99)
    assert (base / "deskhand-abc" / "c" / "cgroup.procs").read_text() == "99"
    assert not v2.gives_way, "a kernel before 5.15"
    for name, text in (
        ("cpu.idle", "0"), ("cpu.stat", "usage_usec 7\n"), ("c/cpu.stat", "usage_usec 2500000\nuser_usec 1\n"),
        ("c/pids.current", "9\n"), ("c/pids.max", "12\n"),
    ):  # fmt: skip
        (base / "deskhand-abc" / name).write_text(text)
    assert v2.gives_way
    assert (v2.containers(), v2.used_s("c"), v2.crowding("c")) == (["c"], 2.5, 0.75)
    (base / "deskhand-abc" / "c" / "pids.max").write_text("max\n")
    assert v2.crowding("c") == 0.0
    v2.set_idle("c", True)
    assert (base / "deskhand-abc" / "c" / "cpu.idle").read_text() == "1"
    v2.set_weight(0.25)
    assert (base / "deskhand-abc" / "cpu.weight").read_text() == "25"


def test_the_hybrid_layout_is_understood(tmp_path: Path) -> None:
    mountinfo = (
        "30 24 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
        "31 24 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
        "32 24 0:28 / /sys/fs/cgroup/memory rw shared:3 - cgroup cgroup rw,memory\n"
        "33 24 0:29 / /mnt rw - ext4 /dev/vda rw\n"
    )
    mounts = {"": "/sys/fs/cgroup/unified", "cpu": "/sys/fs/cgroup/cpu,cpuacct", "memory": "/sys/fs/cgroup/memory"}
    assert cgroups.parse_mounts(mountinfo) == mounts
    own = "4:memory:/a/b\n1:cpu,cpuacct:/\n0::/x:y\n"
    assert cgroups.parse_own(own) == {"memory": "/a/b", "cpu": "/", "cpuacct": "/", "": "/x:y"}
    v1 = V1({"memory": tmp_path})
    assert list(v1.missing) == ["pids", "cpu"]
    assert v1.plan("c") == Group("v1", {"memory": str(tmp_path / "c")})


def test_a_server_in_its_leaf_finds_the_delegated_group_again(tmp_path: Path) -> None:
    assert cgroups.delegated_base(tmp_path, "/app.slice/x.service/deskhand-server") == tmp_path / "app.slice/x.service"


def test_root_leaves_root_before_bubblewrap_runs() -> None:
    host = launch.Host("/usr/bin/bwrap", "/usr/bin/setpriv", frozenset(), True)
    shared = Shared(Path("/run/d/shared"), ("alternatives",), "3.11")
    place = layout(Path("/d"), as_root=True).place("cntr_1")
    root = HostRoot("3.11", (("bin", "usr/bin"),), (), None)
    blueprint = Blueprint("cntr_1", place, 1879048192, shared, root, b"", Limits())
    argv = launch.command_line(host, blueprint)
    assert argv[:5] == ["/usr/bin/setpriv", "--reuid", "1879048192", "--regid", "1879048192"]
    assert {"--clear-groups", "--bounding-set=-all", "--inh-caps=-all"} <= set(argv[: argv.index("/usr/bin/bwrap")])
    for option in ("--unshare-net", "--unshare-pid", "--as-pid-1", "--disable-userns", "--clearenv", "--seccomp"):
        assert option in argv
    assert "--die-with-parent" not in argv
    assert launch.command_line(host, replace(blueprint, uid=None))[0] == "/usr/bin/bwrap"


def test_ids_that_are_paths_are_no_containers(tmp_path: Path) -> None:
    place = layout(tmp_path, as_root=False)
    for name in ("..", "a/b", "", "-rf", "x" * 200, "a\n"):
        with pytest.raises(SandboxGone):
            place.place(name)
    assert place.place("cntr_0aB-9").socket.name == "agent.sock"
    assert layout(tmp_path / "a" / "..", as_root=True) == layout(tmp_path, as_root=True)
    assert layout(tmp_path / "b", as_root=True).runtime != layout(tmp_path, as_root=True).runtime


@given(st.text(max_size=50))
def test_a_path_is_split_or_refused(path: str) -> None:
    try:
        parts = workspace.check(path)
    except WorkspaceError:
        return
    assert "/".join(parts) == path
    assert not {"", ".", ".."} & set(parts)


def test_the_agent_imports_little() -> None:
    source = Path(sys.modules[Tail.__module__].__file__ or "").read_text()
    for heavy in (
        "import asyncio",
        "import subprocess",
        "import socket\n",
        "import ctypes\n",
        "import json",
        "import typing",
    ):
        assert heavy not in source
