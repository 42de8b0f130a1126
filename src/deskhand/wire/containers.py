"""Container resources (API reference, "Containers")."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from .network import NetworkPolicy
from .skills import HostedSkills
from .tools import Isolation, MemoryLimit, OnExpired


class ExpiresAfter(Struct, frozen=True, kw_only=True):
    """Minutes of inactivity after which a container expires; a year at most."""

    anchor: Literal["last_active_at"]
    minutes: Annotated[int, Meta(ge=1, le=525_600)]


class CreateContainer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/containers`."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    expires_after: ExpiresAfter | None = None
    file_ids: Annotated[list[str], Meta(max_length=50)] | None = None
    memory_limit: MemoryLimit | None = None
    network_policy: NetworkPolicy | None = None
    skills: HostedSkills | None = None
    on_expired: OnExpired | None = None
    """What its next use gets once it has expired. This and what follows are Deskhand's extensions."""
    isolation: Isolation | None = None
    """How well it is isolated at least."""
    snapshot_id: str | None = None
    """Begin with the files of a snapshot, …"""
    response_id: str | None = None
    """… or of the computer as it was after a response."""


class NetworkPolicyView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a container resource shows of its policy: never a secret."""

    type: str
    allowed_domains: list[str] | None = None


class Container(Struct, frozen=True, kw_only=True):
    """A container resource."""

    id: str
    created_at: int
    name: str
    status: str
    last_active_at: int
    expires_after: ExpiresAfter
    memory_limit: MemoryLimit
    network_policy: NetworkPolicyView
    object: Literal["container"] = "container"


class ContainerFile(Struct, frozen=True, kw_only=True):
    """A file in a container."""

    id: str
    bytes: int
    container_id: str
    created_at: int
    path: str
    source: Literal["user", "assistant"]
    object: Literal["container.file"] = "container.file"


class AddContainerFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The JSON body of `POST /v1/containers/{id}/files`."""

    file_id: str
