"""WebSocket frames (RFC 6455, 5.2) from a server, with values blotted out of what they carry. Pure.

What may be the beginning of a value is held back until its frame ends, and no longer: whoever is to answer a message
would else wait for its last byte. A value that is split over frames is not found.
"""

from typing import Final

from .secrets import Mask, Masking

MOST_AT_ONCE: Final = 100
"""Frames that are looked at before others get their turn: 64 KiB may hold twenty thousand of them."""

_LONGER: Final = {126: 2, 127: 8}
"""Bytes in which a length is that has no place in the first two."""


class Frames:
    """Masks frames that come in pieces; `mask` changes no length."""

    def __init__(self, mask: Mask) -> None:
        self.masking = Masking(mask)
        self._waiting = b""
        self._left = 0

    def feed(self, data: bytes) -> None:
        """Take what has come."""
        self._waiting += data

    def next(self) -> bytes:
        """What can be passed on of some frames; empty if more has to come first."""
        waiting, at, told = self._waiting, 0, []
        for _ in range(MOST_AT_ONCE):
            if not self._left:
                size = _head_size(waiting, at)
                if len(waiting) < at + size:
                    break
                self._left = _payload(waiting, at)
                told.append(waiting[at : at + size])
                at += size
            piece = waiting[at : at + self._left]
            at += len(piece)
            self._left -= len(piece)
            told.append(self.masking.feed(piece))
            if self._left:
                break
            told.append(self.masking.finish())
        self._waiting = waiting[at:]
        return b"".join(told)

    def finish(self) -> bytes:
        """What was held back."""
        rest, self._waiting = self.masking.finish() + self._waiting, b""
        return rest


def _head_size(data: bytes, at: int) -> int:
    """The bytes of the head at this place, as far as can be told."""
    if len(data) < at + 2:
        return 2
    length = data[at + 1] & 0x7F
    key = 4 if data[at + 1] & 0x80 else 0
    return 2 + key + _LONGER.get(length, 0)


def _payload(data: bytes, at: int) -> int:
    length = data[at + 1] & 0x7F
    more = _LONGER.get(length)
    return length if more is None else int.from_bytes(data[at + 2 : at + 2 + more])
