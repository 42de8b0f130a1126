"""Drafts: the four things that a model or a tool may say while it works.

Producers never see sequence numbers, output indexes or the response object; the writer stamps those. One vocabulary
for both kinds of producer keeps event assembly in one file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..wire.items import Item


@dataclass(frozen=True, slots=True)
class Opened:
    """A new item, as `response.output_item.added` shows it."""

    item: Item


@dataclass(frozen=True, slots=True)
class Progress:
    """An event about an open item: its type and the fields that only the producer knows."""

    item_id: str
    type: str
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Revised:
    """An event after which an open item is another one: what a call says must be stored before the call acts."""

    item: Item
    type: str
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Closed:
    """The whole item, as `response.output_item.done` shows it."""

    item: Item


Draft = Opened | Progress | Revised | Closed
