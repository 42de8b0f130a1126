"""A text in chunks that overlap, cut where it pauses. Pure.

Sizes are in tokens as the API has them ("Vector stores": chunks of 800 tokens that overlap by 400 unless the caller
says otherwise), estimated as everywhere here by the bytes of UTF-8, since each embedding model counts its own.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

BYTES_PER_TOKEN: Final = 4

_PAUSES: Final = (re.compile(r"\n\s*\n"), re.compile(r"[.!?](?=\s)|[。！？]|\n"), re.compile(r"\s"))
"""Where a chunk ends best: a paragraph, a sentence or a line, a word."""


@dataclass(frozen=True, slots=True)
class ChunkSizes:
    """Tokens of a chunk, and how many of them the next one repeats: at most half."""

    tokens: int = 800
    overlap: int = 400


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a text. Its first `repeated` characters end the chunk before it."""

    text: str
    repeated: int = 0


def chunks(text: str, sizes: ChunkSizes) -> Iterator[Chunk]:
    """The chunks of `text`. What each does not repeat makes the whole text again."""
    most, overlap = sizes.tokens * BYTES_PER_TOKEN, sizes.overlap * BYTES_PER_TOKEN
    start, done = 0, 0
    while done < len(text):
        end = _fitting(text, start, most)
        if end < len(text):
            end = _pause(text, max(done + 1, start + (end - start) * 2 // 3), end)
        yield Chunk(text[start:end], done - start)
        done = end
        start = _restart(text, start, end, overlap)


def estimated_tokens(text: str) -> int:
    """About how many tokens a text has."""
    return -(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN)


def _fitting(text: str, start: int, size: int) -> int:
    """The end of what fits `size` bytes from `start` on, at least one character."""
    piece = text[start : start + size]
    if piece.isascii():
        return start + len(piece)
    return start + max(1, len(piece.encode("utf-8", "replace")[:size].decode("utf-8", "ignore")))


def _pause(text: str, least: int, end: int) -> int:
    """The last good place to cut between `least` and `end`."""
    for pattern in _PAUSES:
        ends = [match.end() for match in pattern.finditer(text, least, end)]
        if ends:
            return ends[-1]
    return end


def _restart(text: str, start: int, end: int, overlap: int) -> int:
    """Where the chunk after one from `start` to `end` begins: at a word, `overlap` bytes before the end."""
    if not overlap:
        return end
    tail = text[max(start + 1, end - overlap) : end]
    if not tail.isascii():
        tail = tail.encode("utf-8", "replace")[-overlap:].decode("utf-8", "ignore")
    begin = max(start + 1, end - len(tail))
    word = re.compile(r"\s\S").search(text, max(0, begin - 1), end)
    return word.start() + 1 if word else begin
