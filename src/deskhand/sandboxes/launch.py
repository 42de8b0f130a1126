"""Build the command line that starts a container: pure, no I/O.

The server never runs bubblewrap as host root: bubblewrap would map the container's user to host uid 0, and files owned
by root, such as /proc/sys/kernel/core_pattern, would be writable by plain file permissions. As root it is started
through setpriv(1) under a host uid that belongs to this container alone, without groups or capabilities.

Source: bwrap(1), setpriv(1).
"""

from dataclasses import dataclass
from typing import Final

from deskhand.ports.sandbox import WORKDIR

from .launcher import Blueprint
from .rootfs import AGENT, EGRESS, HOME, HOSTNAME, SKILLS, SUPPORT, UID, VENV

LISTENER_FD: Final = 3
SECCOMP_FD: Final = 4
INFO_FD: Final = 5

ROOT_FOLDERS: Final = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
BLANKED: Final = ("/proc/kcore", "/proc/keys", "/proc/key-users", "/proc/kallsyms", "/proc/kmsg", "/proc/timer_list",
                  "/proc/sched_debug", "/proc/vmallocinfo", "/proc/kpagecount", "/proc/kpageflags")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Host:
    """What the launch depends on, found out once: tools, root folders, entries of /proc, bubblewrap's abilities."""

    bwrap: str
    setpriv: str
    links: tuple[tuple[str, str], ...]
    folders: tuple[str, ...]
    proc: frozenset[str]
    disables_userns: bool


def command_line(host: Host, blueprint: Blueprint) -> list[str]:
    """Return the whole argv."""
    uid = blueprint.uid
    return [*(_drop(host, uid) if uid is not None else []), host.bwrap, *_namespaces(host), *_files(host, blueprint),
            "--chdir", WORKDIR, "--", *AGENT]  # fmt: skip


def _drop(host: Host, uid: int) -> list[str]:
    identity = ["--reuid", str(uid), "--regid", str(uid), "--clear-groups"]
    return [host.setpriv, *identity, "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", "--"]


def _namespaces(host: Host) -> list[str]:
    kinds = ["--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-net"]
    identity = ["--uid", str(UID), "--gid", str(UID), "--hostname", HOSTNAME]
    nested = ["--disable-userns"] if host.disables_userns else []
    # --as-pid-1: bubblewrap's own init would be readable by the container's processes, environment included.
    process = ["--as-pid-1", "--new-session", "--clearenv", "--cap-drop", "ALL"]
    return [*kinds, "--unshare-cgroup-try", *identity, *nested, *process,
            "--info-fd", str(INFO_FD), "--seccomp", str(SECCOMP_FD)]  # fmt: skip


def _files(host: Host, blueprint: Blueprint) -> list[str]:
    shared, place = blueprint.shared, blueprint.place
    args = [word for path in ("/home", "/mnt", "/opt") for word in ("--perms", "0755", "--dir", path)]
    args += ["--ro-bind", "/usr", "/usr"]
    for name, target in host.links:
        args += ["--symlink", target, f"/{name}"]
    for name in host.folders:
        args += ["--ro-bind", f"/{name}", f"/{name}"]
    args += ["--ro-bind", str(shared.etc), "/etc"]
    for name in shared.binds:
        args += ["--ro-bind", f"/etc/{name}", f"/etc/{name}"]
    args += ["--proc", "/proc"]
    for path in BLANKED:
        if path in host.proc:
            args += ["--ro-bind", str(shared.blank), path]
    args += ["--dev", "/dev"]
    args += ["--ro-bind", str(shared.support), SUPPORT]
    for folder, target in (
        ("shm", "/dev/shm"), ("tmp", "/tmp"), ("run", "/run"), ("home", HOME), ("venv", VENV), ("data", WORKDIR)
    ):  # fmt: skip
        args += ["--bind", str(place.disk / folder), target]
    args += ["--ro-bind", str(place.skills), SKILLS, "--ro-bind", str(place.egress), EGRESS]
    # What is left of the root and of /dev is in memory: read-only, so that nothing can be stored there.
    return [*args, "--dir", "/var", "--symlink", "/tmp", "/var/tmp", "--symlink", "/run", "/var/run",
            "--remount-ro", "/dev", "--remount-ro", "/"]  # fmt: skip
