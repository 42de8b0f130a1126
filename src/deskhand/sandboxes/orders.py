"""What the host and the agent of a container agree on before it starts: its limits, its environment, its way out."""

from collections.abc import Collection, Mapping
from typing import Final

from deskhand.ports.sandbox import Outlet, SandboxSpec

from . import cgroups, rootfs
from .layout import DiskKind, Place
from .protocol import Settings

PROXY_SOCKET: Final = "proxy.sock"
PROXY_PORT: Final = 3128
SMALLEST_OPEN_FILES: Final = 64


def settings(spec: SandboxSpec, kind: DiskKind, missing: Collection[str], environment: Mapping[str, str]) -> Settings:
    """Decide what the agent limits by itself: what no cgroup or file system limits for the whole container."""
    limits = spec.limits
    return Settings(
        open_files=max(limits.open_files, SMALLEST_OPEN_FILES) if limits.open_files else 0,
        processes=limits.pids + cgroups.AGENT_PROCESSES if limits.pids else 0,
        file_bytes=limits.disk_bytes if kind == "directory" else 0,
        data_bytes=limits.memory_bytes if "memory" in missing else 0,
        env={**rootfs.ENVIRONMENT, **environment, **spec.env},
        relay=f"{PROXY_PORT}:{rootfs.EGRESS}/{PROXY_SOCKET}" if spec.proxied else "",
    )


def outlet(place: Place) -> Outlet:
    """Where a container's way out is on the host, and inside, once the agent relays it."""
    return Outlet(place.egress / PROXY_SOCKET, rootfs.EGRESS, f"http://127.0.0.1:{PROXY_PORT}")
