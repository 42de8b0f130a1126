"""What of the host a container sees, and where: one list for every launcher. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deskhand.ports.sandbox import SKILLS, WORKDIR

from .launcher import Blueprint
from .rootfs import EGRESS, HOME, KIT, SUPPORT, VENV
from .roots import HostRoot, ImageRoot

MASKED: Final = ("/proc/kcore", "/proc/keys", "/proc/key-users", "/proc/kallsyms", "/proc/kmsg", "/proc/timer_list",
                 "/proc/sched_debug", "/proc/vmallocinfo", "/proc/kpagecount", "/proc/kpageflags")  # fmt: skip
"""What of /proc tells of the host or its kernel."""

POINTS: Final = ("/usr", "/etc", "/proc", "/sys", "/dev/shm", "/tmp", "/run", "/var", HOME, WORKDIR, SKILLS, VENV,
                 SUPPORT, EGRESS, KIT, "/opt/agent")  # fmt: skip
"""The folders that something is mounted on, outside of what is mounted itself."""


@dataclass(frozen=True, slots=True)
class Bind:
    """A file or folder of the host at `target` in the container; without set-user-id bits and devices."""

    source: Path
    target: str
    writable: bool = False


def system(blueprint: Blueprint) -> Sequence[Bind]:
    """The programs and the configuration that a container has in common with all others."""
    shared = blueprint.shared
    match blueprint.root:
        case HostRoot(folders=folders, kit=kit):
            host = [Path("/usr"), *(Path("/", name) for name in folders)]
            etc = [Bind(Path("/etc", name), f"/etc/{name}") for name in shared.binds]
            packages = [Bind(kit, KIT)] if kit is not None else []
            return [*(Bind(path, str(path)) for path in host), Bind(shared.etc, "/etc"), *etc, *packages]
        case ImageRoot():
            return []


def own(blueprint: Blueprint) -> Sequence[Bind]:
    """What is this container's alone; to be mounted after /dev."""
    place = blueprint.place
    folders = {"shm": "/dev/shm", "tmp": "/tmp", "run": "/run", "home": HOME, "venv": VENV, "data": WORKDIR}
    return [
        Bind(blueprint.shared.support, SUPPORT),
        *(Bind(place.disk / name, target, writable=True) for name, target in folders.items()),
        *([Bind(place.disk / "tmp", "/var/tmp", writable=True)] if isinstance(blueprint.root, ImageRoot) else []),
        Bind(place.skills, SKILLS),
        Bind(place.egress, EGRESS),
    ]
