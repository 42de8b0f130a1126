"""Snapshots of containers: Deskhand's extension of the containers API."""

from typing import Annotated, Literal

from msgspec import Meta, Struct


class CreateSnapshot(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/containers/{id}/snapshots`."""

    name: Annotated[str, Meta(max_length=256)] = ""


class ForkContainer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/containers/{id}/fork`."""

    name: Annotated[str, Meta(min_length=1, max_length=256)] | None = None


class RestoreContainer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/containers/{id}/restore`: one of the two."""

    snapshot_id: str | None = None
    response_id: str | None = None


class ContainerSnapshot(Struct, frozen=True, kw_only=True):
    """The files of a container as they were at one moment. An `automatic` one was taken after a stored response."""

    id: str
    container_id: str
    created_at: int
    name: str
    bytes: int
    automatic: bool
    object: Literal["container.snapshot"] = "container.snapshot"
