"""Start a container's first process and hand it what it needs, and nothing else of the server's.

The child gets pipes as standard input, output and error, the descriptors that it is given by number, and an empty
environment. Everything else is close-on-exec (PEP 446).
"""

import fcntl
import os
import select
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from deskhand.unix_address import address_of

from .processes import kill_running

USERNS_MEND: Final = (
    "allow unprivileged user namespaces: sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000; "
    "on Ubuntu 24.04 also an AppArmor profile for bwrap with `userns,`; in Docker, --security-opt seccomp=unconfined"
)
INTERRUPT_PAUSE_S: Final = 0.005
LIFTED: Final = 64
"""Source descriptors are moved above this, clear of the numbers that they will have in the child."""


def listen(path: Path) -> socket.socket:
    """Bind the agent's socket."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with address_of(path) as address:
            listener.bind(address)
        listener.listen(4096)
    except OSError:
        listener.close()
        raise
    return listener


def interrupt(argument: str, listener: Path, patience_s: float) -> None:
    """Kill what was started with this argument, until nobody holds the listener that it was given, if it was given one.

    One look is not enough: a process that is just becoming another program has no arguments (proc_pid_cmdline(5)).
    """
    deadline = time.monotonic() + patience_s
    kill_running(argument, patience_s)
    while _is_held(listener) and time.monotonic() < deadline:
        time.sleep(INTERRUPT_PAUSE_S)
        kill_running(argument, patience_s)


def _is_held(listener: Path) -> bool:
    """Tell whether a process still has the socket that listens here."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, address_of(listener) as address:
            probe.setblocking(False)
            probe.connect(address)
    except BlockingIOError:  # its queue is full
        return True
    except OSError:
        return False
    return True


def start(argv: list[str], given: Mapping[int, int]) -> tuple[int, int, int]:
    """Start a process in a session of its own with an empty environment; return its pid, standard input and error.

    `given` maps descriptors that the child shall have (3 and up) to those of this process. The caller owns the two
    returned ends of pipes.
    """
    stdin, stdout, stderr = (os.pipe() for _ in range(3))
    targets = {0: stdin[0], 1: stdout[1], 2: stderr[1], **given}
    lifted: dict[int, int] = {}
    try:
        for target, fd in targets.items():
            lifted[target] = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, LIFTED)
        actions = [(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in lifted.items()]
        pid = os.posix_spawn(argv[0], argv, {}, file_actions=actions, setsid=True, setsigmask=[])
    except BaseException:
        os.close(stdin[1])
        os.close(stderr[0])
        raise
    finally:
        for fd in (*lifted.values(), stdin[0], stdout[0], stdout[1], stderr[1]):
            os.close(fd)
    return pid, stdin[1], stderr[0]


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
