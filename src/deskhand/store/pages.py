"""One page of a list, by the creation time and then by the order of insertion."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ..core.errors import not_found
from ..ports.store import Listing, Page
from .database import Connection
from .text import column

T = TypeVar("T")

# Beyond every time and every sequence number, on both sides.
_FIRST, _LAST = -(2**62), 2**62


@dataclass(frozen=True, slots=True)
class ListQueries:
    """The named queries of a list: where an object stands, and the rows on either side of a place."""

    place: Callable[..., tuple[int, int] | None]
    newer: Callable[..., Iterable[tuple[Any, ...]]]
    older: Callable[..., Iterable[tuple[Any, ...]]]


def list_page(
    connection: Connection,
    queries: ListQueries,
    page: Page,
    what: str,
    filters: Mapping[str, str | None],
    record: Callable[..., T],
) -> Listing[T]:
    """The page, made of `record`s. `what` is the noun of the 404 that an unknown `page.after` or `before` raises."""
    upwards = (page.order == "asc") == (page.before is None)
    select, edge = (queries.newer, _FIRST) if upwards else (queries.older, _LAST)
    place = (edge, edge)
    known = page.after if page.before is None else page.before
    if known is not None:
        found = queries.place(connection, id=column(known), owner=filters["owner"])
        if found is None:
            raise not_found(what, known, param="after" if page.before is None else "before")
        place = found
    rows = list(select(connection, **filters, created_at=place[0], seq=place[1], limit=page.limit + 1))
    wanted = rows[: page.limit] if page.before is None else rows[: page.limit][::-1]
    return Listing([record(*row) for row in wanted], has_more=len(rows) > page.limit)
