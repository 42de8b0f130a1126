"""What all containers of an engine stand on: the read-only files they share, their filter, this host's cgroups."""

from dataclasses import dataclass

from deskhand.ports.sandbox import SandboxUnavailable

from . import seccomp
from .cgroups import Cgroups
from .rootfs import Shared
from .roots import Root


@dataclass(frozen=True, slots=True)
class Ground:
    """What all containers of this engine stand on; found out at the first start. `filter` is a classic BPF program."""

    shared: Shared
    root: Root
    filter: bytes
    cgroups: Cgroups


def system_call_filter(machine: str) -> bytes:
    """The filter for hosts of this architecture (uname(2)). Raises `SandboxUnavailable` if there is none."""
    if not seccomp.supported(machine):
        raise SandboxUnavailable(f"there is no system call filter for {machine!r}, only for x86_64 and aarch64")
    return seccomp.program(machine)
