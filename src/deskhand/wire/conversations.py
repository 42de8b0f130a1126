"""Conversations: their resource and the bodies about them (API reference, "Conversations")."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)
]
NewItems = Annotated[list[dict[str, Any]], Meta(max_length=20)]
"""Items that are checked one by one afterwards."""


class CreateConversation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/conversations`."""

    items: NewItems | None = None
    metadata: Metadata | None = None


class UpdateConversation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/conversations/{id}`. Null is no metadata."""

    metadata: Metadata | None


class CreateItems(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/conversations/{id}/items`."""

    items: NewItems


class Conversation(Struct, frozen=True, kw_only=True):
    """A conversation resource."""

    id: str
    created_at: int
    metadata: dict[str, str]
    object: Literal["conversation"] = "conversation"
