"""Describe a container to an OCI runtime: its config.json. Pure, no I/O.

Source: the OCI runtime specification 1.0.2, config.md and config-linux.md.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from deskhand.ports.sandbox import WORKDIR

from . import mounts
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


def config(blueprint: Blueprint, skeleton: Path, cgroup: str, agent_folder: Bind | None) -> Mapping[str, Any]:
    """Return the whole document.

    `skeleton` is an empty root with what the host's files are mounted on; `cgroup` is the group that a runtime which
    insists on one shall make, "" for none; `agent_folder` is where an agent that is given no socket makes it.
    """
    match blueprint.root:
        case HostRoot():
            root = skeleton
        case ImageRoot(path=path):
            root = path
    binds = [*mounts.own(blueprint), *([agent_folder] if agent_folder is not None else [])]
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
        "mounts": [*map(_bind, mounts.system(blueprint)), *_kernel(), *map(_bind, binds)],
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


def _kernel() -> list[Mapping[str, Any]]:
    proc = {"destination": "/proc", "type": "proc", "source": "proc", "options": list(SAFE)}
    # Of the container's root, who no process inside is: nothing can be stored there.
    small = ["nosuid", "noexec", "strictatime", "mode=755", "size=64k"]
    dev = {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": small}
    terminals = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
    pts = {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": terminals}
    # gVisor would show a /sys of its own, the others none.
    sys = {"destination": "/sys", "type": "tmpfs", "source": "tmpfs", "options": ["ro", *SAFE, "mode=555", "size=4k"]}
    return [proc, dev, pts, sys]


def _bind(bind: Bind) -> Mapping[str, Any]:
    options = ["rbind", "rw" if bind.writable else "ro", "nosuid", "nodev"]
    return {"destination": bind.target, "type": "bind", "source": str(bind.source), "options": options}
