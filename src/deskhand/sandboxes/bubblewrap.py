"""Containers through bubblewrap: no daemon, no image, started in some tens of milliseconds, as root or not."""

import json
import os
import select
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from deskhand.ports.sandbox import Finding, Level, Limits, SandboxUnavailable

from . import cgroups, mounting, processes, spawn, terminals
from .engine import ResidentEngine
from .launch import INFO_FD, LISTENER_FD, READ_ONLY, SECCOMP_FD, Host, command_line
from .launcher import Birth, Blueprint
from .layout import Layout, Place
from .mounts import MASKED
from .processes import reap
from .roots import ImageRoot, Root, from_host
from .seclusion import secluded

BWRAP_MEND: Final = "apt-get install bubblewrap"
SETPRIV_MEND: Final = "apt-get install util-linux"


class Bubblewrap:
    """The `Launcher` that starts containers with bwrap(1)."""

    name: Final = "bubblewrap"
    level: Final[Level] = "namespace"
    mend: Final = spawn.USERNS_MEND

    def __init__(self) -> None:
        self._host: Host | None = None
        self._runtime = Path()

    def prepare(self, layout: Layout, root: Root) -> None:
        self._host = inspect_host()
        self._runtime = layout.runtime

    def agent_socket(self, place: Place) -> Path:
        return place.socket

    def ceilings(self, limits: Limits) -> Limits:
        return limits

    def findings(self) -> Sequence[Finding]:
        assert self._host is not None
        if self._host.disables_userns:
            return [Finding("user namespace limit", True, "the kernel itself allows no further user namespace")]
        words = "nested user namespaces are refused by the system call filter alone: bubblewrap is older than 0.8"
        return [Finding("user namespace limit", False, words, BWRAP_MEND)]

    def launch(self, blueprint: Blueprint, patience_s: float) -> Birth:
        pts = blueprint.place.terminals
        own = pts if blueprint.uid is not None and terminals.mount(pts) else None
        with spawn.listen(blueprint.place.socket) as listener:
            return secluded(
                self._runtime, _mounts(blueprint, own), lambda: self._launch(blueprint, listener, patience_s, own)
            )

    def explain(self, words: str) -> str:
        lowered = words.lower()
        if any(word in lowered for word in ("namespace", "uid map", "permission", "not permitted")):
            return f"this host does not let bubblewrap isolate ({words}); {spawn.USERNS_MEND}"
        return f"bubblewrap did not start: {words or 'it said nothing'}"

    def interrupt(self, place: Place) -> None:
        # The folder is among the arguments of this container's processes, and of no other's.
        spawn.interrupt(str(place.egress), place.socket, processes.KILL_PATIENCE_S)

    def clean(self, place: Place) -> None:
        mounting.unmount(place.terminals)

    def _launch(self, blueprint: Blueprint, listener: socket.socket, patience_s: float, pts: Path | None) -> Birth:
        assert self._host is not None
        argv = command_line(self._host, blueprint, pts)
        filter_fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
        info_read, info_write = os.pipe()
        try:
            os.write(filter_fd, blueprint.filter)
            os.lseek(filter_fd, 0, os.SEEK_SET)
            given = {LISTENER_FD: listener.fileno(), SECCOMP_FD: filter_fd, INFO_FD: info_write}
            monitor, stdin, stderr = spawn.start(argv, given)
        except BaseException:
            os.close(info_read)
            raise
        finally:
            os.close(filter_fd)
            os.close(info_write)
        try:
            init = _read_pid(info_read, patience_s)
        finally:
            os.close(info_read)
        if init is None:
            os.close(stdin)
            words = spawn.complaint(stderr)
            os.close(stderr)
            reap(monitor, 1.0)
            raise SandboxUnavailable(self.explain(words))
        return Birth(monitor, init, stdin, stderr)


class BubblewrapEngine(ResidentEngine):
    """The engine for any host: root or an ordinary user, no daemon."""

    def __init__(
        self,
        root: Path,
        choose_cgroups: Callable[[str], cgroups.Cgroups] = cgroups.detect,
        choose_root: Callable[[Layout], Root] = from_host,
    ) -> None:
        super().__init__(root, [Bubblewrap()], choose_cgroups, choose_root)


def _mounts(blueprint: Blueprint, pts: Path | None) -> Sequence[Path]:
    """What of the installation's mounts a container is made of."""
    root = [blueprint.root.path] if isinstance(blueprint.root, ImageRoot) else []
    return [blueprint.place.disk, *([] if pts is None else [pts]), *root]


def inspect_host() -> Host:
    """Find the tools and what of /proc must be dealt with. Raises `SandboxUnavailable`."""
    bwrap = shutil.which("bwrap", path="/usr/local/bin:/usr/bin:/bin")
    if bwrap is None:
        raise SandboxUnavailable(f"bubblewrap is not installed: {BWRAP_MEND}")
    setpriv = shutil.which("setpriv", path="/usr/bin:/bin:/usr/sbin:/sbin")
    if setpriv is None and os.geteuid() == 0:
        raise SandboxUnavailable(f"setpriv is needed to leave root before a container starts: {SETPRIV_MEND}")
    version = subprocess.run([bwrap, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    return Host(
        bwrap=bwrap,
        setpriv=setpriv or "",
        proc=frozenset(path for path in (*MASKED, *READ_ONLY) if Path(path).exists()),
        disables_userns=_version(version) >= (0, 8),
    )


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
