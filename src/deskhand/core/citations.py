"""Citations of container files in a message: which files its text names, and where. Pure.

Wire facts: API reference, "container_file_citation"; in recorded streams the range covers the whole
`sandbox:/mnt/data/NAME` of a link.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MAX_CITATIONS = 100
SCHEME = "sandbox:"


@dataclass(frozen=True, slots=True)
class Citable:
    """A file in a container; `path` is absolute. `new` files are cited even where no text names them."""

    container_id: str
    file_id: str
    path: str
    new: bool = False

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]


def cite(text: str, files: Sequence[Citable], *, final: bool) -> list[dict[str, Any]]:
    """Annotations for the files that `text` names, in order of appearance; a `final` text also gets the new ones.

    A file is found by its link, its path, or its bare name if that has a suffix.
    """
    found: list[tuple[int, int, Citable]] = []
    for file in files:
        if file.name in text:
            found += [(start, end, file) for start, end in _mentions(text, file)]
    named = {file.file_id for _, _, file in found}
    found.sort(key=lambda mention: mention[0])
    if final:
        found += [(len(text), len(text), file) for file in files if file.new and file.file_id not in named]
    return [_annotation(*mention) for mention in found[:MAX_CITATIONS]]


def is_worth_citing(path: str) -> bool:
    """Tell whether a new file is something that the user may want, and not a by-product of a program."""
    return not any(part.startswith(".") or part == "__pycache__" for part in path.split("/"))


def _mentions(text: str, file: Citable) -> list[tuple[int, int]]:
    """Every link to the file, else the first mention of its path, else of its name."""
    path = re.escape(file.path)
    if links := [match.span() for match in re.finditer(rf"{SCHEME}{path}(?![\w/-])", text)]:
        return links
    patterns = [rf"{path}(?![\w/-])"]
    if "." in file.name.strip("."):
        patterns.append(rf"(?<![\w./-]){re.escape(file.name)}(?![\w/-]|\.\w)")
    for pattern in patterns:
        if match := re.search(pattern, text):
            return [match.span()]
    return []


def _annotation(start: int, end: int, file: Citable) -> dict[str, Any]:
    return {
        "type": "container_file_citation",
        "container_id": file.container_id,
        "file_id": file.file_id,
        "filename": file.name,
        "start_index": start,
        "end_index": end,
    }
