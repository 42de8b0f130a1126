"""A wire event: a type, a sequence number, and the fields that type carries (API reference, "Streaming events")."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

TERMINAL = frozenset({"response.completed", "response.failed", "response.incomplete"})
"""Event types that end a response. The API has none for a cancelled one (see `core.writer`)."""


class Event(Struct, frozen=True):
    """One event of a response's log. `fields` holds wire values."""

    type: str
    sequence_number: int
    fields: Mapping[str, Any]

    @property
    def terminal(self) -> bool:
        """True for the one event that ends a response."""
        return self.type in TERMINAL

    def wire(self) -> dict[str, Any]:
        """The event as the API sends it."""
        return {"type": self.type, **self.fields, "sequence_number": self.sequence_number}
