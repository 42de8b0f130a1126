"""Host processes named so that a reused pid is never mistaken for the one that was meant."""

import os
import select
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

KILL_PATIENCE_S = 10.0
"""How long a killed process may take to be gone: the kernel may be busy giving its memory back."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A process across restarts of the server: pid, start time in clock ticks since boot, and which boot."""

    pid: int
    started: int
    boot: str


def boot_id() -> str:
    """Return the random id of this boot (random(4))."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def identify(pid: int) -> Identity | None:
    """Name a living process; None if there is none."""
    started = _start_time(pid)
    return None if started is None else Identity(pid, started, boot_id())


def is_alive(identity: Identity) -> bool:
    """Tell whether exactly this process still runs (a zombie does not)."""
    handle = _open(identity)
    if handle is None:
        return False
    try:
        return not select.select([handle], [], [], 0)[0]
    finally:
        os.close(handle)


def handle(identity: Identity) -> int:
    """Return a descriptor of exactly this process (pidfd_open(2)). Raises `ProcessLookupError` if it has ended."""
    found = _open(identity)
    if found is None:
        raise ProcessLookupError(f"process {identity.pid} has ended")
    return found


def owner(identity: Identity) -> int:
    """Return the process's real uid on the host. Raises `OSError` if it has ended."""
    text = Path(f"/proc/{identity.pid}/status").read_text(errors="replace")
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Uid:"))


def kill(identity: Identity, patience_s: float) -> bool:
    """Send SIGKILL to exactly this process and wait until it is gone. False if it was still there at the end.

    The kernel lets the first process of a pid namespace go only when every other process of it is gone
    (pid_namespaces(7)), so for a container this ends everything.
    """
    handle = _open(identity)
    if handle is None:
        return True
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        return bool(select.select([handle], [], [], patience_s)[0])
    except ProcessLookupError:
        return True
    finally:
        os.close(handle)


def reap(pid: int, patience_s: float) -> bool:
    """Collect a child of this server that is ending. True if there is nothing (more) to collect."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            if os.waitpid(pid, os.WNOHANG)[0] != 0:
                return True
        except ChildProcessError:
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.0005)


def owned_by(uids: Sequence[int]) -> list[Identity]:
    """Every host process of these users. Only for users that Deskhand made up for one container."""
    names = {str(uid) for uid in uids}
    found = []
    for pid in _pids():
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        line = next((text for text in status.splitlines() if text.startswith("Uid:")), "")
        if names.intersection(line.split()[1:]):
            identity = identify(pid)
            if identity is not None:
                found.append(identity)
    return found


def kill_owned(uids: Sequence[int], patience_s: float) -> list[Identity]:
    """Kill every host process of these users until no new one is found; return all that were found.

    One look is not enough: a process may be born behind it, as bubblewrap's child is, which then waits for ever for the
    parent that has just been killed.
    """
    found: list[Identity] = []
    while new := [identity for identity in owned_by(uids) if identity not in found]:
        for identity in new:
            kill(identity, patience_s)
        found += new
    return found


def kill_running(argument: str, patience_s: float) -> None:
    """Kill every host process that was started with this very argument (proc_pid_cmdline(5))."""
    wanted = os.fsencode(argument)
    for pid in _pids():
        try:
            given = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        identity = identify(pid) if wanted in given else None
        if identity is not None:
            kill(identity, patience_s)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _open(identity: Identity) -> int | None:
    """A descriptor for the process, checked after opening, when the pid can no longer change its meaning."""
    if identity.boot != boot_id():
        return None
    try:
        handle = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return None
    if _start_time(identity.pid) != identity.started:
        os.close(handle)
        return None
    return handle


def _start_time(pid: int) -> int | None:
    """Field 22 of proc_pid_stat(5); the command name before it may hold spaces and brackets."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[19])
