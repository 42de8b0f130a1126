"""Bounded command output: the beginning and the end of what was printed, with a marker between.

The cap is shared by both streams of one command. The head goes to whichever stream prints first; the tail is what the
command printed last. The marker states how many characters were removed, as OpenAI's own truncators do.
"""

from collections import deque
from dataclasses import dataclass


def marker(characters: int) -> str:
    """The words that stand for removed text."""
    return f"\n... {characters} chars truncated ...\n"


@dataclass(frozen=True, slots=True)
class Piece:
    """Text to show on one stream."""

    stream: str
    text: str


class BoundedOutput:
    """Keeps at most `cap` characters of one command's output and says what may be shown as it comes."""

    def __init__(self, cap: int) -> None:
        self._head_left = cap - cap // 2
        self._tail_cap = cap // 2
        self._tail: deque[Piece] = deque()
        self._tail_size = 0
        self._removed: dict[str, int] = {}

    def add(self, stream: str, text: str) -> Piece | None:
        """Take in text; return the part of it that belongs to the head and can be shown now."""
        head, rest = text[: self._head_left], text[self._head_left :]
        self._head_left -= len(head)
        if rest:
            self._tail.append(Piece(stream, rest))
            self._tail_size += len(rest)
            self._trim()
        return Piece(stream, head) if head else None

    def skip(self, stream: str, characters: int) -> None:
        """Count characters of a stream that never arrived. What comes after them is its tail."""
        held = [piece for piece in self._tail if piece.stream == stream]
        lost = sum(len(piece.text) for piece in held)
        self._tail = deque(piece for piece in self._tail if piece.stream != stream)
        self._tail_size -= lost
        self._removed[stream] = self._removed.get(stream, 0) + lost + characters
        self._head_left = 0

    def rest(self) -> list[Piece]:
        """What remains to be shown at the end: per stream, a marker if text was removed, and its tail."""
        streams = sorted({piece.stream for piece in self._tail} | set(self._removed), reverse=True)
        pieces = []
        for stream in streams:
            removed = self._removed.get(stream, 0)
            text = (marker(removed) if removed else "") + "".join(p.text for p in self._tail if p.stream == stream)
            if text:
                pieces.append(Piece(stream, text))
        return pieces

    def _trim(self) -> None:
        while (over := self._tail_size - self._tail_cap) > 0:
            oldest = self._tail.popleft()
            cut = min(over, len(oldest.text))
            self._removed[oldest.stream] = self._removed.get(oldest.stream, 0) + cut
            self._tail_size -= cut
            if cut < len(oldest.text):
                self._tail.appendleft(Piece(oldest.stream, oldest.text[cut:]))
