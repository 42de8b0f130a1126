"""V4A diffs: hunks that are found by their context, not by line numbers. Pure.

A new file is lines that begin with `+`. A change is hunks: optional `@@ anchor` lines, each a line of the file after
which to look, then lines that begin with ` ` (kept), `-` (removed) or `+` (added), and `*** End of File` if the hunk
must end there. Context is looked for from the end of the last hunk on: exactly, then without trailing blanks, then
without any blanks around, as models often lose those.

Source: the API's guide to `apply_patch`; the form is that of Codex's `apply_patch` without its envelope.
"""

from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from ..core.errors import ToolFailure

END_OF_FILE = "*** End of File"
SHOWN_LINES = 3
MAX_LINES = 200_000
"""Of a file that is changed: each is several objects here, however short it is."""
MAX_SEARCHES = 200
"""Hunks and anchors of one diff: each may be looked for in the whole file, several times."""

_LOOSER: Sequence[Callable[[str], str]] = (str, str.rstrip, str.strip)


@dataclass(slots=True)
class Hunk:
    """Lines to look for and to write: pairs of ` `, `-` or `+` and the line."""

    anchors: list[str] = field(default_factory=list)
    lines: list[tuple[str, str]] = field(default_factory=list)
    at_end: bool = False

    @property
    def old(self) -> list[str]:
        """What the file must hold."""
        return [text for kind, text in self.lines if kind != "+"]


def create(diff: str) -> str:
    """The text of a new file. Raises `ToolFailure` if a line does not begin with `+`."""
    lines = _lines(diff)
    for number, line in enumerate(lines, 1):
        if not line.startswith("+"):
            raise ToolFailure(f"line {number} of the diff of a new file does not begin with '+': {line[:80]!r}")
    return "".join(f"{line[1:]}\n" for line in lines)


def update(text: str, diff: str) -> str:
    """`text` with the hunks of `diff` applied. Raises `ToolFailure` that says which lines were not found."""
    if text.count("\n") > MAX_LINES:
        raise ToolFailure(f"the file has more than {MAX_LINES} lines, the most that edits go up to; use the shell")
    newline = "\r\n" if "\r\n" in text else "\n"
    lines = text.replace("\r\n", "\n").split("\n")
    views = [_View([plain(line) for line in lines], plain) for plain in _LOOSER]
    done: list[str] = []
    at = 0
    for number, hunk in enumerate(_hunks(diff), 1):
        start = _place(views, hunk, at, number)
        done += lines[at:start]
        at = start
        for kind, line in hunk.lines:
            if kind == "+":
                done.append(line)
                continue
            if kind == " ":
                done.append(lines[at])  # the file's own spelling, not the diff's
            at += 1
    return newline.join([*done, *lines[at:]])


class _View:
    """A file's lines as `plain` makes them, to be searched in linear time whatever they hold."""

    def __init__(self, lines: Sequence[str], plain: Callable[[str], str]) -> None:
        self._plain = plain
        self._text = "\n" + "\n".join(lines) + "\n"
        self._offsets = array("q", accumulate((len(line) + 1 for line in lines), initial=0))
        self.end = len(lines) - 1 if lines[-1] == "" else len(lines)
        """Where a line is appended: before the nothing that follows the last newline."""

    def find(self, wanted: Sequence[str], begin: int) -> int | None:
        """The index of the first of the lines `wanted`, at `begin` or later."""
        needle = "\n" + "\n".join(map(self._plain, wanted)) + "\n"
        found = self._text.find(needle, self._offsets[begin])
        return None if found < 0 else bisect_left(self._offsets, found)


def _hunks(diff: str) -> list[Hunk]:
    hunks: list[Hunk] = []
    hunk: Hunk | None = None
    for number, line in enumerate(_lines(diff), 1):
        if line.startswith("@@"):
            if hunk is None or hunk.lines:
                hunk = Hunk()
                hunks.append(hunk)
            if anchor := line[2:].strip():
                hunk.anchors.append(anchor.removesuffix("@@").rstrip())
            continue
        if hunk is None:
            hunk = Hunk()
            hunks.append(hunk)
        if line.strip() == END_OF_FILE:
            hunk.at_end = True
        elif line == "":
            hunk.lines.append((" ", ""))
        elif line[0] in " -+":
            hunk.lines.append((line[0], line[1:]))
        else:
            raise ToolFailure(f"line {number} of the diff begins with none of ' ', '-', '+', '@@': {line[:80]!r}")
    hunks = [hunk for hunk in hunks if hunk.lines]
    if not any(kind != " " for hunk in hunks for kind, _ in hunk.lines):
        raise ToolFailure("the diff changes nothing: it has no line that begins with '+' or '-'")
    if sum(1 + len(hunk.anchors) for hunk in hunks) > MAX_SEARCHES:
        raise ToolFailure(f"the diff has more than {MAX_SEARCHES} hunks and anchors: make it several edits")
    return hunks


def _place(views: Sequence[_View], hunk: Hunk, begin: int, number: int) -> int:
    """The index of the line that `hunk` begins at."""
    for anchor in hunk.anchors:
        found = _find(views, [anchor], begin)
        if found is None:
            raise ToolFailure(f"hunk {number}: there is no line {anchor[:80]!r} {_after(begin)}; read the file again")
        begin = found + 1
    old, end = hunk.old, views[0].end
    if not old:
        return begin if hunk.anchors else max(begin, end)
    start = _find(views, old, max(begin, end - len(old)) if hunk.at_end else begin)
    if start is None:
        shown = "\n".join(line[:80] for line in old[:SHOWN_LINES])
        raise ToolFailure(f"hunk {number}: these lines are not in the file {_after(begin)}; read it again:\n{shown}")
    return start


def _find(views: Sequence[_View], wanted: Sequence[str], begin: int) -> int | None:
    return next((found for view in views if (found := view.find(wanted, begin)) is not None), None)


def _after(begin: int) -> str:
    return f"after line {begin}" if begin else "at all"


def _lines(diff: str) -> list[str]:
    return diff.replace("\r\n", "\n").removesuffix("\n").split("\n") if diff else []
