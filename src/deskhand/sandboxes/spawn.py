"""Start a container's first process and hand it what it needs, and nothing else of the server's.

The child gets six descriptors and an empty environment: standard input, output and error are pipes, 3 is the listening
socket, 4 the system call filter, 5 the pipe on which bubblewrap reports the pid. Everything else is close-on-exec
(PEP 446).
"""

import fcntl
import json
import os
import select
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deskhand.ports.sandbox import SandboxUnavailable

from .launch import BLANKED, INFO_FD, LISTENER_FD, ROOT_FOLDERS, SECCOMP_FD, Host
from .processes import reap

BWRAP_MEND: Final = "apt-get install bubblewrap"
SETPRIV_MEND: Final = "apt-get install util-linux"
USERNS_MEND: Final = (
    "allow unprivileged user namespaces: sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000; "
    "on Ubuntu 24.04 also an AppArmor profile for bwrap with `userns,`; in Docker, --security-opt seccomp=unconfined"
)
LIFTED: Final = 64
"""Source descriptors are moved above this, clear of the numbers that they will have in the child."""


@dataclass(frozen=True, slots=True)
class Birth:
    """A container's outer process (bubblewrap's monitor), its first process, and the ends of the pipes to it."""

    monitor: int
    init: int
    stdin: int
    stderr: int


def inspect_host() -> Host:
    """Find the tools and what of the root and of /proc must be dealt with. Raises `SandboxUnavailable`."""
    bwrap = shutil.which("bwrap", path="/usr/local/bin:/usr/bin:/bin")
    if bwrap is None:
        raise SandboxUnavailable(f"bubblewrap is not installed: {BWRAP_MEND}")
    setpriv = shutil.which("setpriv", path="/usr/bin:/bin:/usr/sbin:/sbin")
    if setpriv is None and os.geteuid() == 0:
        raise SandboxUnavailable(f"setpriv is needed to leave root before a container starts: {SETPRIV_MEND}")
    version = subprocess.run([bwrap, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    folders = [Path("/", name) for name in ROOT_FOLDERS]
    return Host(
        bwrap=bwrap,
        setpriv=setpriv or "",
        links=tuple((path.name, os.readlink(path)) for path in folders if path.is_symlink()),
        folders=tuple(path.name for path in folders if path.is_dir() and not path.is_symlink()),
        proc=frozenset(path for path in BLANKED if Path(path).exists()),
        disables_userns=_version(version) >= (0, 8),
    )


def listen(path: Path) -> socket.socket:
    """Bind the agent's socket. Through the directory's descriptor, for sun_path holds 107 bytes (unix(7))."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener.bind(f"/proc/self/fd/{directory}/{path.name}")
        listener.listen(4096)
    except OSError:
        listener.close()
        raise
    finally:
        os.close(directory)
    return listener


def spawn(argv: list[str], listener: socket.socket, seccomp: bytes, patience_s: float) -> Birth:
    """Start the container; its agent waits for its settings on `stdin`. Blocking, some milliseconds.

    The caller owns the two descriptors of the result. Raises `SandboxUnavailable` with bubblewrap's own words.
    """
    stdin, stdout, stderr, info = (os.pipe() for _ in range(4))
    filter_fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
    children = (stdin[0], stdout[1], stderr[1], listener.fileno(), filter_fd, info[1])
    lifted: list[int] = []
    try:
        os.write(filter_fd, seccomp)
        os.lseek(filter_fd, 0, os.SEEK_SET)
        lifted = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, LIFTED) for fd in children]
        targets = (0, 1, 2, LISTENER_FD, SECCOMP_FD, INFO_FD)
        actions = [(os.POSIX_SPAWN_DUP2, fd, target) for fd, target in zip(lifted, targets, strict=True)]
        monitor = os.posix_spawn(argv[0], argv, {}, file_actions=actions, setsid=True, setsigmask=[])
    finally:
        for fd in (*lifted, stdin[0], stdout[0], stdout[1], stderr[1], filter_fd, info[1]):
            os.close(fd)
    try:
        init = _read_pid(info[0], patience_s)
    finally:
        os.close(info[0])
    if init is None:
        os.close(stdin[1])
        words = complaint(stderr[0])
        os.close(stderr[0])
        reap(monitor, 1.0)
        raise SandboxUnavailable(explain(words))
    return Birth(monitor, init, stdin[1], stderr[0])


def complaint(stderr: int) -> str:
    """Read what the container's start has complained of so far, for at most a quarter of a second."""
    said = b""
    deadline = time.monotonic() + 0.25
    while len(said) < 4096 and select.select([stderr], [], [], max(0.0, deadline - time.monotonic()))[0]:
        data = os.read(stderr, 4096)
        if not data:
            break
        said += data
    return said.decode(errors="replace").strip()


def explain(words: str) -> str:
    """Turn bubblewrap's complaint into a sentence that says what to do."""
    lowered = words.lower()
    if "namespace" in lowered or "uid map" in lowered or "permission" in lowered or "not permitted" in lowered:
        return f"this host does not let bubblewrap isolate ({words}); {USERNS_MEND}"
    return f"bubblewrap did not start: {words or 'it said nothing'}"


def _read_pid(info: int, patience_s: float) -> int | None:
    said = b""
    deadline = time.monotonic() + patience_s
    while select.select([info], [], [], max(0.0, deadline - time.monotonic()))[0]:
        data = os.read(info, 4096)
        if not data:
            break
        said += data
    try:
        return int(json.loads(said)["child-pid"])
    except (ValueError, KeyError, TypeError):
        return None


def _version(text: str) -> tuple[int, ...]:
    """Parse "bubblewrap 0.8.0"."""
    words = text.split()
    numbers = words[-1].split(".") if words else []
    return tuple(int(word) for word in numbers if word.isdigit())
