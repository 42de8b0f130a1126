"""What must not work inside, each with a positive control that the same attempt works where nothing forbids it."""

import ctypes
import os
import shutil
import socket
import subprocess
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deskhand.ports.sandbox import Exited, Limits
from deskhand.testing.conformance_sandbox_bench import Bench, Desk, chunks

from .conftest import needs_bwrap, needs_root

pytestmark = [pytest.mark.anyio, needs_bwrap]

CALLS = r"""
import ctypes, errno, os, socket, sys
l = ctypes.CDLL(None, use_errno=True)
x86 = os.uname().machine == "x86_64"
def call(a, b, *args):
    r = l.syscall(a if x86 else b, *args)
    return "done" if r >= 0 else errno.errorcode[ctypes.get_errno()]
def sock(*args):
    try:
        socket.socket(*args).close()
        return "done"
    except OSError as e:
        return errno.errorcode[e.errno]
def opened(path, flags):
    try:
        os.close(os.open(path, flags))
        return "done"
    except OSError as e:
        return errno.errorcode[e.errno]
buf = ctypes.create_string_buffer(256)
print("keyctl", call(250, 219, 0, -3, 0))
print("add_key", call(248, 217, b"user", b"d", b"x", 1, -3))
print("userfaultfd", call(323, 282, 1))
print("io_uring_setup", call(425, 425, 4, buf))
print("perf_event_open", call(298, 241, buf, 0, -1, -1, 0))
print("bpf", call(321, 280, 0, buf, 64))
print("clone3", call(435, 435, 0, 0))
print("fsopen", call(430, 430, b"tmpfs", 0))
print("mount", call(165, 40, b"x", b"/tmp", b"tmpfs", 0, 0))
print("setns", call(308, 268, 0, 0))
print("chroot", call(161, 51, b"/tmp"))
print("unshare_user", call(272, 97, 0x10000000))
print("unshare_net", call(272, 97, 0x40000000))
print("unshare_files", call(272, 97, 0x400))
print("clone_newuser", call(56, 220, 0x10000000 | 17, 0, 0, 0, 0))
print("open_by_handle_at", call(304, 265, -100, buf, 0))
print("vsock", sock(40, 1))
print("packet", sock(17, 3))
print("alg", sock(38, 5))
print("raw", sock(2, 3, 1))
print("audit", sock(16, 3, 9))
print("route", sock(16, 3, 0))
print("inet", sock(2, 1))
print("unix", sock(1, 1))
print("core_pattern", opened("/proc/sys/kernel/core_pattern", os.O_RDWR))
print("sysrq", opened("/proc/sysrq-trigger", os.O_WRONLY))
print("kmsg", opened("/dev/kmsg", os.O_RDONLY))
print("kvm", opened("/dev/kvm", os.O_RDWR))
print("mem", opened("/dev/mem", os.O_RDONLY))
print("keys", opened("/proc/keys", os.O_RDONLY), len(open("/proc/keys").read()) if os.path.exists("/proc/keys") else 0)
print("mknod", "done" if l.mknod(b"/tmp/null", 0o20666, 0x103) == 0 else errno.errorcode[ctypes.get_errno()])
print("fifo", "done" if l.mkfifo(b"/tmp/fifo%d" % os.getpid(), 0o600) == 0 else errno.errorcode[ctypes.get_errno()])
print("tiocsti", end=" ")
import fcntl
m, s = os.openpty()
try:
    fcntl.ioctl(s, 0x5412, b"x")
    print("done")
except OSError as e:
    print(errno.errorcode[e.errno])
"""

INSIDE = {
    "keyctl": "EPERM", "add_key": "EPERM", "userfaultfd": "ENOSYS", "io_uring_setup": "ENOSYS",
    "perf_event_open": "EPERM", "bpf": "ENOSYS", "clone3": "ENOSYS", "fsopen": "EPERM", "mount": "EPERM",
    "setns": "EPERM", "chroot": "EPERM", "unshare_user": "EPERM", "unshare_net": "EPERM", "unshare_files": "done",
    "clone_newuser": "EPERM", "open_by_handle_at": "EPERM", "vsock": "EAFNOSUPPORT", "packet": "EAFNOSUPPORT",
    "alg": "EAFNOSUPPORT", "raw": "EPERM", "audit": "EPROTONOSUPPORT", "route": "done", "inet": "done",
    "unix": "done", "core_pattern": "EACCES", "sysrq": "EACCES", "kmsg": "ENOENT", "kvm": "ENOENT", "mem": "ENOENT",
    "mknod": "EPERM", "fifo": "done", "tiocsti": "EPERM",
}  # fmt: skip

CONTROLS = r"""
import ctypes, os, socket
l = ctypes.CDLL(None, use_errno=True)
x86 = os.uname().machine == "x86_64"
os.close(os.open("/proc/sys/kernel/core_pattern", os.O_RDWR))
print("core_pattern")
if l.syscall(250 if x86 else 219, 0, -3, 0) >= 0:
    print("keyctl")
try:
    socket.socket(40, 1).close()
    print("vsock")
except OSError:
    pass
if l.unshare(0x40000000) == 0:
    print("unshare_net")
"""
"""Run as root on the host, so only what changes nothing beyond its own process: nothing is written, nothing mounted."""


def _answers(text: str) -> dict[str, str]:
    return {line.split()[0]: line.split()[1] for line in text.splitlines() if len(line.split()) > 1}


@pytest.fixture
async def desk(bench: Bench) -> AsyncIterator[Desk]:
    async with bench.desk() as made:
        yield made


async def test_the_kernel_refuses_what_could_lead_out(desk: Desk) -> None:
    result = await desk.python(CALLS)
    found = _answers(result.text)
    absent = {name: "ENOENT" for name in ("sysrq", "core_pattern") if found.get(name) == "ENOENT"}
    assert found == INSIDE | {"keys": found.get("keys", "")} | absent, result.stderr.decode()
    assert "keys done 0" in result.text or "keys ENOENT" in result.text or "keys EACCES" in result.text


@needs_root
def test_harmless_ones_of_these_attempts_work_where_nothing_forbids_them() -> None:
    host = subprocess.run(["/usr/bin/python3", "-c", CONTROLS], capture_output=True, text=True, check=False)
    assert {"core_pattern", "unshare_net"} <= set(host.stdout.split()), host.stderr
    assert {"keyctl", "vsock"} & set(host.stdout.split())


async def test_a_foreign_instruction_set_is_no_way_round_the_filter(desk: Desk) -> None:
    """x32 numbers, and (on x86-64) int 0x80: both carry other numbers for the same calls."""
    if os.uname().machine != "x86_64":
        pytest.skip("x32 and i386 exist on x86-64 only")
    script = (
        "import ctypes, errno; l = ctypes.CDLL(None, use_errno=True);"
        "print(l.syscall(0x40000000 | 39), ctypes.get_errno() == errno.ENOSYS, l.syscall(39) > 0, l.syscall(600),"
        "ctypes.get_errno() == errno.ENOSYS)"
    )
    assert (await desk.python(script)).text == "-1 True True -1 True"


async def test_only_the_expected_is_mounted_writable(desk: Desk) -> None:
    lines = (await desk.run("cat /proc/self/mounts")).text.splitlines()
    fields = [line.split() for line in lines]
    writable = {point for _, point, kind, options, *_ in fields if "rw" in options.split(",") and kind != "devtmpfs"}
    assert writable == {"/proc", "/dev/pts", "/dev/shm", "/tmp", "/run", "/home/agent", "/opt/venv", "/mnt/data"}
    assert all("nosuid" in options.split(",") for _, _, _, options, *_ in fields)
    devices = {point for _, point, kind, *_ in fields if kind == "devtmpfs"}
    assert devices <= {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/console"}
    refused = await desk.run("for d in / /dev /etc /usr /opt/deskhand /mnt /opt /home; do touch $d/x || echo no; done")
    assert refused.text.count("no") == 8


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file that every user of the host can read."""
    tmp_path.chmod(0o755)
    canary = tmp_path / "canary"
    canary.write_text("found")
    canary.chmod(0o644)
    assert canary.read_text() == "found"
    return canary


async def test_host_secrets_are_not_there(desk: Desk, canary: Path) -> None:
    names = f"{canary} /etc/shadow /root /etc/pip.conf /etc/gitconfig /etc/npmrc /etc/ssl/private /sys /etc/machine-id"
    assert (await desk.run(f"cat {canary}; ls -d {names} 2> /dev/null")).text == ""
    assert (await desk.run("ls -d /usr /etc/passwd 2> /dev/null")).text.split() == ["/etc/passwd", "/usr"]
    cmdline = (await desk.run("cat /proc/*/cmdline | tr '\\0' ' '")).text
    assert "bwrap" not in cmdline
    assert "setpriv" not in cmdline


async def test_the_host_cannot_be_reached_by_any_socket(desk: Desk, tmp_path: Path) -> None:
    abstract = f"\0deskhand-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as hidden, socket.socket() as listener:
        hidden.bind(abstract)
        hidden.listen()
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        port = listener.getsockname()[1]
        for address in (abstract,):
            with socket.socket(socket.AF_UNIX) as control:
                control.connect(address)
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass
        script = f"""
import socket
def dial(family, address):
    with socket.socket(family) as s:
        s.settimeout(2)
        return s.connect_ex(address)
print(dial(socket.AF_UNIX, {abstract!r}), dial(socket.AF_INET, ("127.0.0.1", {port})))
for host in ("8.8.8.8", "169.254.169.254", "10.0.0.1"):
    print(dial(socket.AF_INET, (host, 80)))
print(dial(socket.AF_INET6, ("2001:4860:4860::8888", 53)))
try:
    print(socket.getaddrinfo("example.com", 80))
except OSError as e:
    print("unresolved")
"""
        lines = (await desk.python(script)).text.split()
    assert lines == ["111", "111", "101", "101", "101", "101", "unresolved"]


async def test_programs_of_the_host_work(bench: Bench) -> None:
    async with bench.desk(Limits()) as desk:
        await _run_programs(desk)


async def _run_programs(desk: Desk) -> None:
    for argv in (
        "awk 'BEGIN { print 1 }'",
        "perl -e 'print 1'",
        "git --version",
        "java -version",
        "python -m pip --version",
    ):
        name = argv.split()[0]
        if name != "python" and shutil.which(name, path="/usr/bin") is None:
            continue
        result = await desk.run(argv)
        assert result.end == Exited(0), (argv, result.stderr)
    assert (
        await desk.run(
            "test -x /usr/bin/editor && readlink -e /usr/bin/editor > /dev/null || ! test -L /usr/bin/editor"
        )
    ).end == Exited(0)
    assert (
        await desk.run("python -c 'import ssl, sqlite3, zoneinfo; print(ssl.create_default_context())'")
    ).end == Exited(0)


async def test_pip_installs_a_local_wheel_offline(desk: Desk, tmp_path: Path) -> None:
    wheel = tmp_path / "local-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("local_thing.py", "ANSWER = 42\n")
        archive.writestr("local-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: local\nVersion: 1.0\n")
        archive.writestr("local-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("local-1.0.dist-info/RECORD", "")
    await desk.workspace.write(wheel.name, chunks(wheel.read_bytes()))
    installed = await desk.run(f"python -m pip install ./{wheel.name}", timeout_s=60)
    assert installed.end == Exited(0), installed.stderr.decode()
    assert (
        await desk.run("python -c 'import local_thing; print(local_thing.ANSWER, local_thing.__file__)'")
    ).text.startswith("42 /opt/venv/lib")


def test_this_process_is_dumpable_so_the_hidden_agent_means_something() -> None:
    assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 1
