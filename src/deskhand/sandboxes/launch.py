"""Build the command line that starts a container: pure, no I/O.

The server never runs bubblewrap as host root: bubblewrap would map the container's user to host uid 0, and files owned
by root, such as /proc/sys/kernel/core_pattern, would be writable by plain file permissions. As root it is started
through setpriv(1) under a host uid that belongs to this container alone, without groups or capabilities.

Source: bwrap(1), setpriv(1).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deskhand.ports.sandbox import WORKDIR

from . import mounts
from .launcher import Blueprint
from .mounts import MASKED, Bind
from .rootfs import HOSTNAME, UID, agent
from .roots import HostRoot, ImageRoot, Root

READ_ONLY: Final = ("/proc/sys/kernel", "/proc/sys/fs/mqueue")
"""Settings of the container's own namespaces, which its user may otherwise change (Linux 5.19, ipc_namespaces(7))."""

LISTENER_FD: Final = 3
SECCOMP_FD: Final = 4
INFO_FD: Final = 5


@dataclass(frozen=True, slots=True)
class Host:
    """What the launch depends on, found out once: tools, entries of /proc, bubblewrap's abilities."""

    bwrap: str
    setpriv: str
    proc: frozenset[str]
    disables_userns: bool


def command_line(host: Host, blueprint: Blueprint, terminals: Path | None = None) -> list[str]:
    """Return the whole argv. Without `terminals`, a devpts on the host, bubblewrap mounts one of its own."""
    uid = blueprint.uid
    identity = _drop(host, uid) if uid is not None else []
    return [*identity, host.bwrap, *_namespaces(host), *_files(host, blueprint, terminals),
            "--chdir", WORKDIR, "--", *agent(blueprint.root.python)]  # fmt: skip


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


def _files(host: Host, blueprint: Blueprint, terminals: Path | None) -> list[str]:
    args = _skeleton(blueprint.root)
    for bind in mounts.system(blueprint):
        args += _bind(bind)
    args += ["--proc", "/proc"]
    for path in MASKED:
        if path in host.proc:
            args += ["--ro-bind", str(blueprint.shared.blank), path]
    for path in READ_ONLY:
        if path in host.proc:
            args += ["--ro-bind", path, path]
    args += ["--dev", "/dev"]
    if terminals is not None:
        args += ["--dev-bind", str(terminals), "/dev/pts"]
    for bind in mounts.own(blueprint):
        args += _bind(bind)
    # What is left of the root and of /dev is in memory: read-only, so that nothing can be stored there.
    return [*args, "--remount-ro", "/dev", "--remount-ro", "/"]


def _skeleton(root: Root) -> list[str]:
    match root:
        case HostRoot(links=links):
            args = [word for path in ("/home", "/mnt", "/opt", "/var") for word in ("--perms", "0755", "--dir", path)]
            for name, target in (*links, ("var/tmp", "/tmp"), ("var/run", "/run")):
                args += ["--symlink", target, f"/{name}"]
            return args
        case ImageRoot(path=path):
            return ["--ro-bind", str(path), "/"]


def _bind(bind: Bind) -> list[str]:
    return ["--bind" if bind.writable else "--ro-bind", str(bind.source), bind.target]
