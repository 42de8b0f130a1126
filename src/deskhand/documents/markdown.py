"""A small Markdown: headings, paragraphs, lists, tables. Pure."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from ..ports.documents import Section

DEEPEST_HEADING: Final = 6
WIDEST_TABLE: Final = 200
"""Columns; what stands further to the right is left out, and said to be."""
_SPACE: Final = re.compile(r"\s+")


def squeezed(text: str) -> str:
    """`text` in one line, with single spaces."""
    return _SPACE.sub(" ", text).strip()


def heading(level: int, text: str) -> str:
    """A heading of a level from 1."""
    line = squeezed(text)
    return f"{'#' * min(max(level, 1), DEEPEST_HEADING)} {line}" if line else ""


def bullet(text: str, level: int = 0) -> str:
    """An entry of a list, indented by its level from 0."""
    return f"{'  ' * min(max(level, 0), 8)}- {text}" if text else ""


def table(rows: Iterable[Sequence[str]]) -> str:
    """Rows as a table whose first row is its head; "" if there is nothing in them."""
    kept = [_trimmed([_cell(cell) for cell in row[:WIDEST_TABLE]]) for row in rows]
    while kept and not kept[-1]:
        kept.pop()
    width = max(map(len, kept), default=0)
    if not width:
        return ""
    lines = [_line([*row, *[""] * (width - len(row))]) for row in kept]
    return "\n".join([lines[0], _line(["---"] * width), *lines[1:]])


def sections(blocks: Iterable[str]) -> Iterator[Section]:
    """Blocks of Markdown, cut before each heading. Entries of a list that follow each other stay together."""
    gathered: list[str] = []
    for block in blocks:
        if not block:
            continue
        if block.startswith("#") and gathered:
            yield Section("".join(gathered))
            gathered = []
        if gathered:
            gathered.append("\n" if _is_entry(block) and _is_entry(gathered[-1]) else "\n\n")
        gathered.append(block)
    if gathered:
        yield Section("".join(gathered))


def _is_entry(block: str) -> bool:
    return block.lstrip(" ").startswith(("- ", "1. "))


def _cell(text: str) -> str:
    return squeezed(text).replace("|", "\\|")


def _trimmed(row: list[str]) -> list[str]:
    while row and not row[-1]:
        row.pop()
    return row


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
