"""Citations of files in a message: which files its text names, and where. Pure.

Wire facts: API reference, "container_file_citation"; in recorded streams the range covers the whole
`sandbox:/mnt/data/NAME` of a link. "file_citation" has only the place in the text behind the mention.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from ..wire.items import FileSearchCall, Item
from .queries import UNSPACED

MAX_CITATIONS = 100
MAX_FILES = 1_000
"""How many files are looked for: of more, the new ones and the least deep. A container may have any number."""
MAX_CHARACTERS = 1 << 17
"""How far into a text they are looked for: nobody else is served meanwhile."""
MAX_LOOKS = 1_000
"""At so many places where a file's name stands, most of which may be part of something longer."""
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


@dataclass(frozen=True, slots=True)
class Source:
    """A file that a search has found something in."""

    file_id: str
    name: str


_ANYWHERE: Final = re.compile("")
_PATH_END: Final = re.compile(r"(?![\w/-])")
_NAME_BEGIN: Final = re.compile(r"(?<![\w./-])")
_NAME_END: Final = re.compile(r"(?![\w/-]|\.\w)")
_WORD_BEGIN: Final = re.compile(rf"(?<![\w./-])|(?<=[{UNSPACED}])")
_WORD_END: Final = re.compile(rf"(?![\w/-]|\.\w)|(?=[{UNSPACED}])")
_OPENED: Final = re.compile("(?<=[(\\[`\"'“‘«「『（【])")
_CLOSED: Final = re.compile("(?=[)\\]`\"'”’»」』）】])")

Mention = tuple[int, int, Citable | Source]
"""Where a text names a file: from, to."""


def sources(items: Iterable[Item]) -> list[Source]:
    """The files that searches among `items` have found something in, each once."""
    results = [result for item in items if isinstance(item, FileSearchCall) for result in item.results or ()]
    found = {result.file_id: result.filename for result in results if result.file_id and result.filename}
    return [Source(file_id, name) for file_id, name in found.items()]


def cite(text: str, files: Sequence[Citable | Source], *, final: bool) -> list[dict[str, Any]]:
    """Annotations for the files that `text` names, in order of appearance; a `final` text also gets the new ones.

    A file of a container is found by its link, its path, or its bare name if that has a suffix; one that was searched
    wherever its name stands.
    """
    files, searched = sorted(files, key=_remoteness)[:MAX_FILES], text[:MAX_CHARACTERS]
    found = _outermost([(start, end, file) for file in files for start, end in _mentions(searched, file)])
    named = {file.file_id for _, _, file in found}
    if final:
        new = [file for file in files if isinstance(file, Citable) and file.new and file.file_id not in named]
        found += [(len(text), len(text), file) for file in new]
    return [_annotation(*mention) for mention in found[:MAX_CITATIONS]]


def is_worth_citing(path: str) -> bool:
    """Tell whether a new file is something that the user may want, and not a by-product of a program."""
    return not any(part.startswith(".") or part == "__pycache__" for part in path.split("/"))


def _remoteness(file: Citable | Source) -> int:
    """The less, the sooner a file is looked for."""
    return file.path.count("/") if isinstance(file, Citable) and not file.new else 0


def _links(text: str, file: Citable) -> list[tuple[int, int]]:
    """Every link to the file, else the first mention of its path, else of its name."""
    if links := list(_places(text, SCHEME + file.path, _ANYWHERE, _PATH_END)):
        return links
    mentions = _places(text, file.path, _ANYWHERE, _PATH_END)
    if (mention := next(mentions, None)) is None and _has_suffix(file.name):
        mention = next(_places(text, file.name, _NAME_BEGIN, _NAME_END), None)
    return [] if mention is None else [mention]


def _mentions(text: str, file: Citable | Source) -> list[tuple[int, int]]:
    if isinstance(file, Citable):
        return _links(text, file) if file.name in text else []
    # Names that come from a Mac have their accents apart, and models write them together.
    spellings = {file.name, *(unicodedata.normalize(form, file.name) for form in ("NFC", "NFD"))}
    return [span for name in spellings for span in _namings(text, name)]


def _namings(text: str, name: str) -> list[tuple[int, int]]:
    """Every mention of the name, and not of a longer one that it is part of. Scripts without spaces may surround it.

    One without a suffix may be any word: it is a mention in brackets or quotes, as the model is asked to write it.
    """
    around = (_WORD_BEGIN, _WORD_END) if _has_suffix(name) else (_OPENED, _CLOSED)
    return list(islice(_places(text, name, *around), MAX_CITATIONS))


def _places(text: str, name: str, begin: re.Pattern[str], end: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    """Where the name stands with what `begin` wants before it and `end` behind it; from, to."""
    at = text.find(name)
    for _ in range(MAX_LOOKS):
        if at < 0:
            return
        behind = at + len(name)
        is_whole = begin.match(text, at) is not None and end.match(text, behind) is not None
        if is_whole:
            yield at, behind
        at = text.find(name, behind if is_whole else at + 1)


def _has_suffix(name: str) -> bool:
    return "." in name.strip(".")


def _outermost(found: Sequence[Mention]) -> list[Mention]:
    """The mentions in order, without those that are part of a longer one."""
    kept: list[Mention] = []
    for mention in sorted(found, key=lambda one: (one[0], -one[1])):
        if not kept or mention[1] > kept[-1][1] or mention[:2] == kept[-1][:2]:
            kept.append(mention)
    return kept


def _annotation(start: int, end: int, file: Citable | Source) -> dict[str, Any]:
    if isinstance(file, Source):
        return {"type": "file_citation", "index": end, "file_id": file.file_id, "filename": file.name}
    return {
        "type": "container_file_citation",
        "container_id": file.container_id,
        "file_id": file.file_id,
        "filename": file.name,
        "start_index": start,
        "end_index": end,
    }
