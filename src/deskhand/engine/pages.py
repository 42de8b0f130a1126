"""A page of what is in memory already; lists in the database cut theirs in SQL. Pure."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from ..core.errors import not_found
from ..ports.store import Listing, Page


class _HasId(Protocol):
    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=_HasId)


def cut(entries: Sequence[T], page: Page, what: str) -> Listing[T]:
    """The part of `entries` that `page` wants; they are in its order. Raises `ApiError` (404) on an unknown `after`."""
    start = 0
    if page.after is not None:
        ids = [entry.id for entry in entries]
        if page.after not in ids:
            raise not_found(what, page.after, param="after")
        start = ids.index(page.after) + 1
    end = start + page.limit
    return Listing(entries[start:end], len(entries) > end)
