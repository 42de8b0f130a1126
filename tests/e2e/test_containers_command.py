"""`deskhand containers`, as an operator types it."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from openai import OpenAI

from ..conftest import KEY, Server

Deskhand = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def environ(server: Server, tmp_path: Path) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("DESKHAND_", "OPENAI_"))}
    return {**clean, "HOME": str(tmp_path), "COLUMNS": "120", "DESKHAND_URL": server.url, "DESKHAND_API_KEY": KEY}


@pytest.fixture
def deskhand(environ: dict[str, str], tmp_path: Path) -> Deskhand:
    def run(*words: str, given: bytes = b"", status: int = 0) -> "subprocess.CompletedProcess[bytes]":
        command = [sys.executable, "-m", "deskhand", "containers", *words]
        ran = subprocess.run(command, cwd=tmp_path, env=environ, input=given, capture_output=True, timeout=60)
        assert ran.returncode == status, ran.stderr.decode()
        return ran

    return run


@pytest.fixture
def container(client: OpenAI) -> str:
    return client.containers.create(name="typed").id


def test_containers_are_listed(deskhand: Deskhand, container: str) -> None:
    table = deskhand("ls").stdout.decode()
    assert table.split()[:2] == ["ID", "NAME"]
    assert any(line.split()[:4] == [container, "typed", "running", "1g"] for line in table.splitlines())
    assert container in deskhand("ls", "-q").stdout.decode().split("\n")


def test_a_commands_streams_and_exit_code_are_passed_on(deskhand: Deskhand, container: str) -> None:
    ran = deskhand("exec", container, "echo out; echo err >&2; exit 5", status=5)
    assert (ran.stdout, ran.stderr) == (b"out\n", b"err\n")
    assert deskhand("exec", container, "printf", "%s|", "-n", "$HOME").stdout == b"-n|$HOME|"
    assert deskhand("exec", "-e", "A=b=c", container, "echo $A").stdout == b"b=c\n"
    assert deskhand("exec", "--timeout", "0.5", container, "echo begun; sleep 100", status=124).stdout == b"begun\n"
    assert len(deskhand("exec", container, "seq 200000").stdout) > 900_000


def test_files_are_copied_both_ways(deskhand: Deskhand, container: str, tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "x.bin").write_bytes(content)
    (tmp_path / "folder").mkdir()
    deskhand("cp", "x.bin", f"{container}:/mnt/data/sub/y.bin")
    deskhand("cp", "x.bin", f"{container}:")
    assert (
        deskhand("exec", container, "wc -c < sub/y.bin; cmp x.bin sub/y.bin && echo same").stdout == b"1280000\nsame\n"
    )
    deskhand("cp", f"{container}:/mnt/data/sub/y.bin", "folder")
    deskhand("cp", f"{container}:x.bin", "z.bin")
    assert (tmp_path / "folder" / "y.bin").read_bytes() == (tmp_path / "z.bin").read_bytes() == content
    assert deskhand("cp", f"{container}:x.bin", "-").stdout == content
    assert b"There is no file" in deskhand("cp", f"{container}:/etc/passwd", "here", status=1).stderr
    assert not (tmp_path / "here").exists()
    assert b"cannot read" in deskhand("cp", "absent", f"{container}:", status=1).stderr
    assert b"one of the two" in deskhand("cp", "x.bin", "y.bin", status=1).stderr


def test_snapshots_forks_and_restores(deskhand: Deskhand, container: str) -> None:
    deskhand("exec", container, "echo one > f")
    taken = deskhand("snapshot", container, "--name", "first").stdout.decode().strip()
    assert taken.startswith("csnap_")
    deskhand("exec", container, "echo two > f")
    fork = deskhand("fork", container, "-n", "copy").stdout.decode().strip()
    deskhand("restore", container, "--snapshot", taken)
    assert deskhand("exec", container, "cat f").stdout == b"one\n"
    assert deskhand("exec", fork, "cat f").stdout == b"two\n"
    assert [taken, "first"] == deskhand("snapshots", container).stdout.decode().splitlines()[-2].split()[:2]
    assert deskhand("rm", container, fork).stdout.decode().split() == [container, fork]
    assert b"not found" in deskhand("exec", container, "true", status=1).stderr


def test_what_cannot_work_is_one_line(deskhand: Deskhand, environ: dict[str, str]) -> None:
    environ["DESKHAND_URL"] = "http://127.0.0.1:9"
    silent = deskhand("ls", status=1).stderr.decode()
    assert silent.startswith("deskhand: no Deskhand server answers at http://127.0.0.1:9")
    assert silent.count("\n") == 1
    del environ["DESKHAND_API_KEY"]
    assert b"there is no key" in deskhand("ls", status=1).stderr


def test_a_shell_on_this_terminal(environ: dict[str, str], container: str, tmp_path: Path) -> None:
    """The terminal is a real one: raw while attached, as it was afterwards, its size passed on."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
    before = termios.tcgetattr(theirs)
    command = [sys.executable, "-m", "deskhand", "containers", "shell", container]
    process = subprocess.Popen(command, env=environ, cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs)
    try:
        os.write(ours, b"stty size; echo rea''dy\n")
        assert "33 99" in _printed(ours, "ready")
        assert termios.tcgetattr(theirs)[3] & termios.ICANON == 0
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 111, 0, 0))
        process.send_signal(28)  # SIGWINCH, which a process without this terminal as its own does not get
        _until(ours, b"stty size\n", "44 111")
        os.write(ours, b"exit 9\n")
        assert process.wait(20) == 9
        assert termios.tcgetattr(theirs) == before
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)


def test_a_shell_without_a_terminal_does_what_a_pipe_says(deskhand: Deskhand, container: str) -> None:
    ran = deskhand("shell", container, "-c", "stty -echo; read line; echo got $line; exit 3", given=b"it\n", status=3)
    assert b"got it" in ran.stdout


def _printed(fd: int, wanted: str) -> str:
    seen = ""
    while wanted not in seen:
        seen += os.read(fd, 4096).decode(errors="replace")
    return seen


def _until(fd: int, typed: bytes, wanted: str) -> None:
    """Type until the answer is as wanted."""
    os.set_blocking(fd, False)
    deadline, seen = time.monotonic() + 20, ""
    while wanted not in seen:
        assert time.monotonic() < deadline, seen
        os.write(fd, typed)
        time.sleep(0.2)
        try:
            seen += os.read(fd, 65536).decode(errors="replace")
        except BlockingIOError:
            continue
    os.set_blocking(fd, True)
