"""Describe a container to an OCI runtime: its config.json. Pure, no I/O.

Source: the OCI runtime specification 1.0.2, config.md and config-linux.md.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from deskhand.ports.sandbox import WORKDIR

from . import mounts, terminals
from .launcher import Blueprint
from .layout import root_uid
from .mounts import MASKED, Bind
from .rootfs import HOSTNAME, UID, agent
from .roots import HostRoot, ImageRoot

NAMESPACES: Final = ("pid", "ipc", "uts", "mount", "network", "cgroup", "user")
CAPABILITY_SETS: Final = ("bounding", "effective", "permitted", "inheritable", "ambient")
MORE_MASKED: Final = ("/proc/acpi", "/proc/asound", "/proc/scsi", "/sys/firmware")
READ_ONLY: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
SAFE: Final = ("nosuid", "noexec", "nodev")


Mount = Mapping[str, Any]

NO_SYS: Final[Mount] = {
    "destination": "/sys", "type": "tmpfs", "source": "tmpfs", "options": ["ro", *SAFE, "mode=555", "size=4k"]
}  # fmt: skip
"""For gVisor, which shows a /sys of its own making if nothing else is there."""


def config(blueprint: Blueprint, skeleton: Path, cgroup: str, extra: Sequence[Mount]) -> Mapping[str, Any]:
    """Return the whole document.

    `skeleton` is an empty root with what the host's files are mounted on; `cgroup` is the group that a runtime which
    insists on one shall make, "" for none; `extra` is what this runtime's containers see besides.
    """
    match blueprint.root:
        case HostRoot():
            root = skeleton
        case ImageRoot(path=path):
            root = path
    own = [bind(found) for found in mounts.own(blueprint)]
    return {
        "ociVersion": "1.0.2",
        "hostname": HOSTNAME,
        "root": {"path": str(root), "readonly": True},
        "process": {
            "terminal": False,
            "user": {"uid": UID, "gid": UID},
            "cwd": WORKDIR,
            "args": list(agent(blueprint.root.python)),
            "env": [],
            "noNewPrivileges": True,
            "capabilities": {name: [] for name in CAPABILITY_SETS},
        },
        "mounts": [*map(bind, mounts.system(blueprint)), *_kernel(), *own, *extra],
        "linux": {
            "namespaces": [{"type": kind} for kind in NAMESPACES],
            **_users(blueprint.uid),
            **({"cgroupsPath": cgroup} if cgroup else {}),
            "maskedPaths": [*MASKED, *MORE_MASKED],
            "readonlyPaths": list(READ_ONLY),
        },
    }


def _users(uid: int | None) -> Mapping[str, Any]:
    """Map the container's user to its own host user, and the root that sets it up to the other one that it has."""
    if uid is None:
        return {}
    pairs = ((0, root_uid(uid)), (UID, uid))
    ids = [{"containerID": inside, "hostID": outside, "size": 1} for inside, outside in pairs]
    return {"uidMappings": ids, "gidMappings": ids}


def bind(found: Bind) -> Mount:
    """Describe a bind mount."""
    options = ["rbind", "rw" if found.writable else "ro", "nosuid", "nodev"]
    return {"destination": found.target, "type": "bind", "source": str(found.source), "options": options}


def _kernel() -> list[Mount]:
    proc = {"destination": "/proc", "type": "proc", "source": "proc", "options": list(SAFE)}
    # Of the container's root, who no process inside is: nothing can be stored there.
    small = ["nosuid", "noexec", "strictatime", "mode=755", "size=64k"]
    dev = {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": small}
    options = ["nosuid", "noexec", *terminals.OPTIONS]
    pts = {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": options}
    return [proc, dev, pts]
