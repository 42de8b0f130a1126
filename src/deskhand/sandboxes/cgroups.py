"""Memory, process and CPU ceilings of a container through cgroups: version 2 (delegated), version 1, or none.

A container's group is made when it starts and joined by its first process only, before that process runs anything:
the first write to `cgroup.procs` after a pause waits for an RCU grace period (measured: about 11 ms), so it is done
once and beside other work, never per command.

Sources: the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/{memory,pids}.rst; systemd's
CGROUP_DELEGATION.md for who may write where.
"""

import os
import signal
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from deskhand.ports.sandbox import Limits

from .fairness import Groups

CONTROLLERS: Final = ("memory", "pids", "cpu")
ACCOUNTING: Final = "cpuacct"
"""What counts processor time under v1, mostly at the same place as `cpu`; under v2 `cpu` does."""

CPU_PERIOD_US: Final = 100_000
AGENT_PROCESSES: Final = 1
TCP_SHARE: Final = 8
FALLBACK_MEND: Final = (
    "run Deskhand as root, or as a systemd service with Delegate=yes (for a user service: "
    "systemd-run --user -p Delegate=yes deskhand serve)"
)

IDLE: Final = "cpu.idle"

SWAP: Final = ("memsw", "swap")
"""In the names of files that exist only with swap accounting."""

Version = Literal["v1", "v2", "none"]


@dataclass(frozen=True, slots=True)
class Group:
    """Where the ceilings of one container live: a directory for each controller (under v2 always the same one)."""

    version: Version
    directories: Mapping[str, str]


class Cgroups(Groups, Protocol):
    """A way to set ceilings, and who gives way. Blocking; called from a worker thread."""

    @property
    def version(self) -> Version: ...

    @property
    def missing(self) -> Sequence[str]:
        """Controllers that this host does not offer to this process."""
        ...

    def plan(self, name: str) -> Group:
        """Name the group of a container without making it, so that it can be written down first."""
        ...

    def create(self, group: Group, limits: Limits) -> None:
        """Make the group with its ceilings. Raises `OSError`."""
        ...


def detect(installation: str) -> Cgroups:
    """Choose what this host offers. `installation` keeps the groups of different servers apart."""
    wanted = (*CONTROLLERS, ACCOUNTING)
    mounts = parse_mounts(Path("/proc/self/mountinfo").read_text(), wanted)
    own = parse_own(Path("/proc/self/cgroup").read_text())
    first = {
        name: Path(mounts[name], own.get(name, "/").lstrip("/"))
        for name in wanted
        if name in mounts and os.access(Path(mounts[name], own.get(name, "/").lstrip("/")), os.W_OK)
    }
    if first:
        return V1({name: path / f"deskhand-{installation}" for name, path in first.items()})
    if "" in mounts:
        base = delegated_base(Path(mounts[""]), own.get("", "/"))
        if base is not None:
            return V2(base, installation)
    return NoCgroups()


def parse_mounts(mountinfo: str, controllers: Collection[str] = CONTROLLERS) -> dict[str, str]:
    """Read from mountinfo where each of these v1 controllers, and the v2 hierarchy (as ""), is mounted."""
    found: dict[str, str] = {}
    for where, kind, options in _mounted(mountinfo):
        if kind == "cgroup2":
            found.setdefault("", where)
        elif kind == "cgroup":
            for option in options.split(","):
                if option in controllers:
                    found.setdefault(option, where)
    return found


def everywhere(name: str, mountinfo: str) -> Group:
    """The group of this name at the top of every hierarchy of this host."""
    return Group("v1", {where: str(Path(where, name)) for where, _, _ in _mounted(mountinfo)})


def _mounted(mountinfo: str) -> Iterator[tuple[str, str, str]]:
    """Where, of which kind and with which options hierarchies are mounted."""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind in {"cgroup", "cgroup2"}:
            yield before.split(" ")[4], kind, options


def parse_own(text: str) -> dict[str, str]:
    """Read /proc/self/cgroup: the path of this process for each controller, "" being the v2 hierarchy."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for name in controllers.split(","):
            found[name] = path
    return found


def delegated_base(mount: Path, own: str) -> Path | None:
    """Find the v2 directory under which this process may make groups; None if there is none.

    Root uses the top of the hierarchy, which is exempt from the rule that inner groups hold no processes. Anyone else
    needs a delegated subtree (marked by systemd with an extended attribute, or simply owned by this user).
    """
    here = mount / own.lstrip("/")
    if here.name == "deskhand-server":
        return here.parent
    if _is_delegated(here):
        return here
    if os.geteuid() == 0 and os.access(mount / "cgroup.subtree_control", os.W_OK):
        return mount
    return None


@dataclass(frozen=True, slots=True)
class NoCgroups:
    """No ceilings that cover a whole container."""

    version: Version = "none"
    missing: Sequence[str] = CONTROLLERS
    gives_way: bool = False

    def plan(self, name: str) -> Group:
        return Group("none", {})

    def create(self, group: Group, limits: Limits) -> None:
        return

    def containers(self) -> Sequence[str]:
        return ()

    def used_s(self, name: str = "") -> float:
        return 0.0

    def crowding(self, name: str) -> float:
        return 0.0

    def set_idle(self, name: str, idle: bool) -> None:
        return

    def set_weight(self, weight: float) -> None:
        return


class V1:
    """One hierarchy for each controller; groups nest below the server's own, whose ceilings go on applying."""

    version: Version = "v1"

    def __init__(self, bases: Mapping[str, Path]) -> None:
        self._bases = bases
        self.missing: Sequence[str] = [name for name in CONTROLLERS if name not in bases]

    def plan(self, name: str) -> Group:
        return Group("v1", {controller: str(base / name) for controller, base in self._bases.items()})

    def create(self, group: Group, limits: Limits) -> None:
        for directory in group.directories.values():
            Path(directory).mkdir(parents=True, exist_ok=True)
        for controller, file, value in settings_v1(limits):
            if controller in group.directories:
                _set(Path(group.directories[controller], file), value)

    @property
    def gives_way(self) -> bool:
        return ACCOUNTING in self._bases and "cpu" in self._bases and (self._bases["cpu"] / IDLE).exists()

    def containers(self) -> Sequence[str]:
        return _groups(self._bases["cpu"])

    def used_s(self, name: str = "") -> float:
        return int((self._bases[ACCOUNTING] / name / "cpuacct.usage").read_text()) / 1e9

    def crowding(self, name: str) -> float:
        return _crowding(self._bases["pids"] / name) if "pids" in self._bases else 0.0

    def set_idle(self, name: str, idle: bool) -> None:
        (self._bases["cpu"] / name / IDLE).write_text(str(int(idle)))

    def set_weight(self, weight: float) -> None:
        (self._bases["cpu"] / "cpu.shares").write_text(str(int(weight * 1024)))


class V2:
    """The unified hierarchy, in a subtree that belongs to this server."""

    version: Version = "v2"

    def __init__(self, base: Path, installation: str) -> None:
        self._base = base
        self._root = base / f"deskhand-{installation}"
        available = (base / "cgroup.controllers").read_text().split()
        self.missing: Sequence[str] = [name for name in CONTROLLERS if name not in available]

    def plan(self, name: str) -> Group:
        return Group("v2", dict.fromkeys(CONTROLLERS, str(self._root / name)))

    def create(self, group: Group, limits: Limits) -> None:
        if not self._root.exists():
            self._open_subtree()
        path = Path(group.directories["memory"])
        path.mkdir(exist_ok=True)
        for file, value in settings_v2(limits):
            _set(path / file, value)

    @property
    def gives_way(self) -> bool:
        return (self._root / IDLE).exists()

    def containers(self) -> Sequence[str]:
        return _groups(self._root)

    def used_s(self, name: str = "") -> float:
        return _counter((self._root / name / "cpu.stat").read_text(), "usage_usec") / 1e6

    def crowding(self, name: str) -> float:
        return 0.0 if "pids" in self.missing else _crowding(self._root / name)

    def set_idle(self, name: str, idle: bool) -> None:
        (self._root / name / IDLE).write_text(str(int(idle)))

    def set_weight(self, weight: float) -> None:
        (self._root / "cpu.weight").write_text(str(int(weight * 100)))

    def _open_subtree(self) -> None:
        """Hand the controllers down. A group that does so may hold no process, so the server moves to a leaf."""
        wanted = " ".join(f"+{name}" for name in CONTROLLERS if name not in self.missing)
        if (self._base / "cgroup.type").exists():  # absent at the top of the hierarchy, the one exception to the rule
            leaf = self._base / "deskhand-server"
            leaf.mkdir(exist_ok=True)
            for pid in (self._base / "cgroup.procs").read_text().split():
                (leaf / "cgroup.procs").write_text(pid)
        self._root.mkdir(exist_ok=True)
        for directory in (self._base, self._root):
            (directory / "cgroup.subtree_control").write_text(wanted)


def settings_v1(limits: Limits) -> Sequence[tuple[str, str, str]]:
    """Translate limits to v1 files: controller, file, value. `memsw` after memory, or the kernel refuses it."""
    found = []
    if limits.memory_bytes:
        found.append(("memory", "memory.limit_in_bytes", str(limits.memory_bytes)))
        found.append(("memory", "memory.memsw.limit_in_bytes", str(limits.memory_bytes)))
        # Socket buffers are not in the limit above unless this one is set (cgroup-v1/memory.rst, 2.7.2).
        found.append(("memory", "memory.kmem.tcp.limit_in_bytes", str(limits.memory_bytes // TCP_SHARE)))
    if limits.pids:
        found.append(("pids", "pids.max", str(limits.pids + AGENT_PROCESSES)))
    if limits.cpus:
        found.append(("cpu", "cpu.cfs_period_us", str(CPU_PERIOD_US)))
        found.append(("cpu", "cpu.cfs_quota_us", str(int(limits.cpus * CPU_PERIOD_US))))
    return found


def settings_v2(limits: Limits) -> Sequence[tuple[str, str]]:
    """Translate limits to v2 files and values."""
    found = []
    if limits.memory_bytes:
        found.append(("memory.max", str(limits.memory_bytes)))
        found.append(("memory.swap.max", "0"))
    if limits.pids:
        found.append(("pids.max", str(limits.pids + AGENT_PROCESSES)))
    if limits.cpus:
        found.append(("cpu.max", f"{int(limits.cpus * CPU_PERIOD_US)} {CPU_PERIOD_US}"))
    return found


def apart(pid: int) -> Sequence[str]:
    """The directories of the groups that a process is in and this one is not, in every hierarchy. Raises `OSError`.

    They can be more than its ceilings: runc makes a group of its own in each.
    """
    theirs, ours = (parse_own(Path("/proc", who, "cgroup").read_text()) for who in (str(pid), "self"))
    mounts = parse_mounts(Path("/proc/self/mountinfo").read_text(), ours)
    different = [(name, path) for name, path in theirs.items() if path != ours.get(name) and name in mounts]
    return list(dict.fromkeys(str(Path(mounts[name], path.lstrip("/"))) for name, path in different))


def join(group: Group, pid: int) -> None:
    """Put a process, with its later children, under the ceilings. Raises `OSError`."""
    for directory in dict.fromkeys(group.directories.values()):
        Path(directory, "cgroup.procs").write_text(str(pid))


def oom_kills(group: Group) -> int:
    """Count the processes of the group that the kernel has killed for want of memory; 0 if nobody counts."""
    file = {"v1": "memory.oom_control", "v2": "memory.events"}.get(group.version, "")
    if not file or "memory" not in group.directories:
        return 0
    try:
        with open(f"{group.directories['memory']}/{file}", encoding="ascii") as counters:
            text = counters.read()
    except OSError:
        return 0
    return _counter(text, "oom_kill")


def remove(group: Group, patience_s: float = 5.0) -> bool:
    """Kill what is left in the group and remove it. False if something would not die in time."""
    deadline = time.monotonic() + patience_s
    done = True
    for directory in dict.fromkeys(group.directories.values()):
        done = _remove_directory(Path(directory), deadline) and done
        try:
            Path(directory).parent.rmdir()  # the last container takes the installation's directory with it
        except OSError:
            pass
    return done


def _remove_directory(path: Path, deadline: float) -> bool:
    while True:
        try:
            path.rmdir()
            return True
        except FileNotFoundError:
            return True
        except OSError:
            if time.monotonic() > deadline:
                return False
        _kill_members(path)
        time.sleep(0.002)


def _kill_members(path: Path) -> None:
    try:
        (path / "cgroup.kill").write_text("1")
        return
    except OSError:
        pass  # v1, or v2 before Linux 5.14
    try:
        members = (path / "cgroup.procs").read_text().split()
    except OSError:
        return  # removed meanwhile
    for pid in members:
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            pass


def _counter(text: str, name: str) -> int:
    """One of the numbers of a file that has a name and a number in each line; 0 if it is not among them."""
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} ")), 0)


def _crowding(group: Path) -> float:
    most = (group / "pids.max").read_text().strip()
    return int((group / "pids.current").read_text()) / int(most) if most.isdigit() else 0.0


def _groups(base: Path) -> Sequence[str]:
    """What groups are in this one. Raises `OSError`."""
    return [entry.name for entry in os.scandir(base) if entry.is_dir()]


def _set(path: Path, value: str) -> None:
    try:
        path.write_text(value)
    except OSError as exc:
        # Kernel memory accounting is on its way out: kernels without it answer in several ways.
        if not ("kmem" in path.name or (isinstance(exc, FileNotFoundError) and any(w in path.name for w in SWAP))):
            raise


def _is_delegated(path: Path) -> bool:
    for name in ("trusted.delegate", "user.delegate"):
        try:
            if os.getxattr(path, name) == b"1":
                return True
        except OSError:
            continue
    return os.geteuid() != 0 and path.is_dir() and path.stat().st_uid == os.geteuid()
