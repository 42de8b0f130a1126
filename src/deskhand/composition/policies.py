"""What the settings mean to each room. Pure."""

from ..core.errors import DeskhandError
from ..egress.hosts import BadHost, normalise
from ..engine.container_order import ContainerPolicy
from ..engine.part_uploads import MAX_PART_BYTES
from ..engine.run import Ceilings
from ..engine.snapshots import SnapshotPolicy
from ..mcp_servers.bounds import McpBounds
from ..ports.sandbox import Limits
from ..settings import Settings
from ..tools.commands import CommandLimits


class BadNetworkSetting(DeskhandError):
    """A setting of the network cannot be used."""


def private_hosts(settings: Settings) -> frozenset[str]:
    """Hosts with private addresses that may be called. Raises `BadNetworkSetting`."""
    try:
        return frozenset(normalise(host) for host in settings.allow_private_hosts)
    except BadHost as exc:
        raise BadNetworkSetting(f"allow_private_hosts: {exc}") from None


def mcp_hosts(settings: Settings) -> frozenset[str]:
    """Hosts that MCP servers may have; any if there are none. Raises `BadNetworkSetting`."""
    try:
        return frozenset(
            f"*.{normalise(host[2:])}" if host.startswith("*.") else normalise(host)
            for host in settings.mcp_allowed_hosts
        )
    except BadHost as exc:
        raise BadNetworkSetting(f"mcp_allowed_hosts: {exc}") from None


def mcp_bounds(settings: Settings) -> McpBounds:
    """How long MCP servers are waited for."""
    seconds = settings.mcp_timeout_seconds
    return McpBounds(call_s=seconds, listing_s=min(seconds, McpBounds().listing_s))


def largest_body(settings: Settings) -> int:
    """The largest request body of any kind: a form has a file and some fields."""
    return max(settings.max_body_bytes, max(settings.max_file_bytes, MAX_PART_BYTES) + (1 << 20))


def container_policy(settings: Settings) -> ContainerPolicy:
    """What containers are like."""
    limits = Limits(
        pids=settings.container_pids,
        cpus=settings.container_cpus,
        disk_bytes=settings.container_disk_bytes,
        disk_inodes=settings.container_disk_inodes,
    )
    return ContainerPolicy(
        settings.container_idle_minutes,
        settings.container_max_memory,
        settings.max_live_containers,
        settings.container_on_expired,
        limits,
    )


def snapshot_policy(settings: Settings) -> SnapshotPolicy:
    """How many snapshots are kept, and how long."""
    return SnapshotPolicy(
        settings.snapshots_per_container, settings.snapshot_retention_days, settings.snapshot_max_bytes
    )


def command_limits(settings: Settings) -> CommandLimits:
    """How long commands run, and how much of their output is kept."""
    return CommandLimits(
        timeout_s=settings.command_timeout_seconds,
        max_timeout_s=settings.command_max_timeout_seconds,
        output_characters=settings.command_output_characters,
        max_output_characters=settings.command_max_output_characters,
    )


def ceilings(settings: Settings) -> Ceilings:
    """What a run may use up."""
    return Ceilings(settings.max_turns, settings.max_run_seconds, settings.max_run_tokens)
