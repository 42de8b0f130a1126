"""Containers through an OCI runtime: crun and runc (one kernel for all), or gVisor's runsc (a kernel of its own).

The runtime starts the container and goes; nothing of it stays but the container's first process. Cgroups, the disk and
the system call filter are Deskhand's, as with bubblewrap. What differs between runtimes is data (`Runtime`).

Sources: the OCI runtime specification 1.0.2; crun(1), runc(8); gVisor's `runsc flags`.
"""

import json
import os
import re
import select
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar, Final

from deskhand.ports.sandbox import Finding, Level, Limits, SandboxUnavailable

from . import cgroups, disk, mounting, processes, spawn
from .engine import ResidentEngine
from .launch import LISTENER_FD
from .launcher import Birth, Blueprint
from .layout import Layout, Place, root_uid
from .mounts import POINTS, Bind
from .oci_config import NO_SYS, Mount, bind, config
from .processes import kill_owned, owned_by, reap
from .roots import HostRoot, Root, from_host

ID: Final = "c"
"""The container's name to its runtime. Each has a runtime state of its own, so one name does for all."""

AGENT_FOLDER: Final = "/opt/agent"
SOCKET: Final = "agent.sock"
SEARCHED: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HYBRID: Final = Path("/sys/fs/cgroup/unified")
HIDE_HYBRID: Final = f'umount {HYBRID} && exec "$@"'
DELETE_PATIENCE_S: Final = 20.0

SENTRY_MEMORY: Final = 128 << 20
SENTRY_THREADS: Final = 1024
THREADS_PER_TASK: Final = 3
"""What gVisor's kernel, a process in the container's cgroups, needs beside what the container does (generous)."""

GVISOR: Final = "https://gvisor.dev/docs/user_guide/install/"


@dataclass(frozen=True, slots=True)
class Runtime:
    """What is particular to a runtime.

    `options` come before the verb. `given_listener`: it hands a descriptor on, so the agent need not make its socket.
    `own_cgroup`: it cannot do without a cgroup and must be asked to remove it. `hybrid`: it starts on a host with both
    cgroup hierarchies, else the newer one must be put out of its sight. `oldest`: the date of the first that works.
    """

    name: str
    level: Level
    options: Sequence[str]
    mend: str
    given_listener: bool = True
    own_cgroup: bool = False
    hybrid: bool = True
    oldest: int = 0


CRUN: Final = Runtime("crun", "namespace", ("--cgroup-manager=disabled",), "apt-get install crun", hybrid=False)
RUNC: Final = Runtime("runc", "namespace", (), "apt-get install runc", own_cgroup=True)
RUNSC: Final = Runtime(
    "runsc",
    "gvisor",
    ("--platform=systrap", "--network=none", "--ignore-cgroups", "--overlay2=none", "--host-uds=all"),
    f"install gVisor of July 2024 or newer from its own releases: {GVISOR} (Debian 12's package is too old)",
    given_listener=False,
    oldest=20240729,
)


@dataclass(frozen=True, slots=True)
class Ready:
    """A runtime as it is called on this host, and the empty root for containers of the host's files."""

    command: Sequence[str]
    program: str
    skeleton: Path
    prefix: str


class Oci:
    """The `Launcher` that starts containers with an OCI runtime. Needs root, for the users of a container are two."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._ready: Ready | None = None

    @property
    def name(self) -> str:
        return "gvisor" if self._runtime.level == "gvisor" else self._runtime.name

    @property
    def level(self) -> Level:
        return self._runtime.level

    @property
    def mend(self) -> str:
        return self._runtime.mend

    def agent_socket(self, place: Place) -> Path:
        return place.socket if self._runtime.given_listener else place.disk / "agent" / SOCKET

    def ceilings(self, limits: Limits) -> Limits:
        """gVisor's kernel lives under the container's ceilings; what is inside is limited by itself (RLIMIT_NPROC)."""
        if self._runtime.level != "gvisor":
            return limits
        return replace(
            limits,
            memory_bytes=limits.memory_bytes + SENTRY_MEMORY if limits.memory_bytes else 0,
            pids=limits.pids * THREADS_PER_TASK + SENTRY_THREADS if limits.pids else 0,
        )

    def prepare(self, layout: Layout, root: Root) -> None:
        runtime = self._runtime
        if os.geteuid() != 0:
            raise SandboxUnavailable(f"{runtime.name} needs a server that runs as root; engine=bubblewrap does not")
        program = shutil.which(runtime.name, path=SEARCHED)
        if program is None:
            raise SandboxUnavailable(f"{runtime.name} is not installed: {runtime.mend}")
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
        found = release(said)
        if found < runtime.oldest:
            words = f"{program} is of {found or 'an unknown date'}, and containers need {runtime.oldest} or newer"
            raise SandboxUnavailable(f"{words}: {runtime.mend}")
        hides = not runtime.hybrid and is_hybrid(Path("/proc/self/mountinfo").read_text())
        if isinstance(root, HostRoot):
            mounting.unmount(layout.skeleton)
            make_skeleton(layout.skeleton, root)
            mounting.bind_read_only(layout.skeleton, layout.skeleton)  # no runtime makes a root nosuid by itself
        command = [*(_hiding() if hides else []), program]
        self._ready = Ready(command, program, layout.skeleton, f"/deskhand-{layout.installation}")

    def findings(self) -> Sequence[Finding]:
        assert self._ready is not None
        return [Finding("runtime", True, f"containers are started with {self._ready.program}")]

    def launch(self, blueprint: Blueprint, patience_s: float) -> Birth:
        bundle = _bundle(blueprint.place)
        disk.erase(bundle)
        bundle.mkdir(mode=0o700)
        if self._runtime.given_listener:
            with spawn.listen(blueprint.place.socket) as listener:
                return self._run(blueprint, {LISTENER_FD: listener.fileno()}, [], patience_s)
        return self._run(blueprint, {}, [bind(self._agent_folder(blueprint)), NO_SYS], patience_s)

    def explain(self, words: str) -> str:
        return f"{self._runtime.name} did not start a container: {words or 'it said nothing'}"

    def interrupt(self, place: Place) -> None:
        spawn.interrupt(str(_bundle(place)), place.socket, processes.KILL_PATIENCE_S)

    def clean(self, place: Place) -> None:
        bundle = _bundle(place)
        if not bundle.exists():
            return
        if self._runtime.own_cgroup:
            program = shutil.which(self._runtime.name, path=SEARCHED)
            if program is not None:
                argv = [program, "--root", str(bundle), "delete", "--force", ID]
                subprocess.run(argv, capture_output=True, timeout=DELETE_PATIENCE_S, check=False, env={})
            # One that was killed before it wrote its state down does not know its cgroup any more.
            cgroups.remove(_own_cgroup(bundle), DELETE_PATIENCE_S)
        disk.erase(bundle)

    def _agent_folder(self, blueprint: Blueprint) -> Bind:
        """Make the folder in which the agent will put its socket: on the container's disk, so that nothing is free."""
        folder = self.agent_socket(blueprint.place).parent
        disk.erase(folder)  # whatever the container has made of it
        folder.mkdir(mode=0o755)
        if blueprint.uid is not None:
            os.chown(folder, blueprint.uid, blueprint.uid)
        return Bind(folder, AGENT_FOLDER, writable=True)

    def _run(self, blueprint: Blueprint, given: dict[int, int], extra: Sequence[Mount], patience_s: float) -> Birth:
        ready, bundle = self._ready, _bundle(blueprint.place)
        assert ready is not None
        cgroup = f"{ready.prefix}-{bundle.parent.name}" if self._runtime.own_cgroup else ""
        (bundle / "config.json").write_text(json.dumps(config(blueprint, ready.skeleton, cgroup, extra)))
        pid_file = _pid_file(bundle)
        preserve = ["--preserve-fds", str(len(given))] if given else []
        argv = [*ready.command, "--root", str(bundle), *self._runtime.options, "run", "--detach"]
        argv += ["--bundle", str(bundle), "--pid-file", str(pid_file), *preserve, ID]
        runtime, stdin, stderr = spawn.start(argv, given)
        ended = _wait(runtime, patience_s)
        if ended != 0 or not pid_file.exists():
            os.close(stdin)
            words = spawn.complaint(stderr) if ended is not None else f"it did not answer within {patience_s:.0f} s"
            os.close(stderr)
            if blueprint.uid is not None:
                kill_owned((blueprint.uid, root_uid(blueprint.uid)), patience_s)
            raise SandboxUnavailable(self.explain(words[-1000:]))
        init = int(pid_file.read_text())
        # The runtime has gone, so the host's init reaps the container's first process, or the server if it is that.
        return Birth(
            monitor=init,
            init=init,
            stdin=stdin,
            stderr=stderr,
            helpers=partial(self._helpers, blueprint, init),
            filter=blueprint.filter,
            address="" if given else f"{AGENT_FOLDER}/{SOCKET}",
        )

    def _helpers(self, blueprint: Blueprint, init: int) -> Sequence[int]:
        """gVisor's other processes: its file server, and those in which the container's programs run."""
        if self._runtime.level != "gvisor" or blueprint.uid is None:
            return ()
        return [found.pid for found in owned_by((root_uid(blueprint.uid),)) if found.pid != init]


class OciEngine(ResidentEngine):
    """An engine over the runtime that its class names."""

    runtime: ClassVar[Runtime]

    def __init__(
        self,
        root: Path,
        choose_cgroups: Callable[[str], cgroups.Cgroups] = cgroups.detect,
        choose_root: Callable[[Layout], Root] = from_host,
    ) -> None:
        super().__init__(root, [Oci(self.runtime)], choose_cgroups, choose_root)


class CrunEngine(OciEngine):
    """The engine that starts containers with crun."""

    runtime = CRUN


class RuncEngine(OciEngine):
    """The engine that starts containers with runc."""

    runtime = RUNC


class GvisorEngine(OciEngine):
    """The engine that starts containers with gVisor's runsc."""

    runtime = RUNSC


def release(text: str) -> int:
    """The date in a version such as "release-20240729.0"; 0 if there is none."""
    found = re.search(r"\b(20\d{6})\b", text)
    return int(found[1]) if found else 0


def is_hybrid(mountinfo: str) -> bool:
    """Tell whether this host has cgroup hierarchies of both versions, the newer one where systemd puts it."""
    return cgroups.parse_mounts(mountinfo).get("") == str(HYBRID)


def make_skeleton(path: Path, root: HostRoot) -> None:
    """Make an empty root with all that something is mounted on, so that nothing need be made in it later."""
    for point in (*POINTS, *root.folders):
        (path / point.lstrip("/")).mkdir(mode=0o755, parents=True, exist_ok=True)
    for name, target in (*root.links, ("var/tmp", "/tmp"), ("var/run", "/run")):
        link = path / name
        if not link.is_symlink():
            link.parent.mkdir(mode=0o755, exist_ok=True)
            link.symlink_to(target)


def _bundle(place: Place) -> Path:
    """The folder of a container's config.json and of what its runtime remembers.

    A short name: runsc puts a socket there, whose path has room for 107 bytes (unix(7)), and else it would use /run.
    """
    return place.runtime / "o"


def _own_cgroup(bundle: Path) -> cgroups.Group:
    """The cgroup that a runtime was told to make for the container of this folder, in every hierarchy."""
    try:
        name = json.loads((bundle / "config.json").read_bytes())["linux"]["cgroupsPath"].lstrip("/")
    except (OSError, ValueError):  # killed before it was written: nothing was told to anybody
        return cgroups.Group("none", {})
    return cgroups.everywhere(name, Path("/proc/self/mountinfo").read_text())


def _pid_file(bundle: Path) -> Path:
    """Where a runtime writes the host's pid of a container's first process, once it is started."""
    return bundle / "pid"


def _hiding() -> Sequence[str]:
    unshare, shell = (shutil.which(tool, path=SEARCHED) for tool in ("unshare", "sh"))
    if unshare is None or shell is None:
        raise SandboxUnavailable(
            "crun needs unshare(1) on a host with both cgroup versions: apt-get install util-linux"
        )
    return [unshare, "--mount", "--propagation", "private", shell, "-c", HIDE_HYBRID, "sh"]


def _wait(pid: int, patience_s: float) -> int | None:
    """Wait for a child to end and return its exit status; None if it had to be killed."""
    handle = os.pidfd_open(pid)
    try:
        if select.select([handle], [], [], patience_s)[0]:
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        reap(pid, patience_s)
        return None
    finally:
        os.close(handle)
