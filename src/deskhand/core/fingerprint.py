"""Whether two requests are the same: a digest of what they ask for, taken while the body goes by. Pure."""

import hashlib
from typing import Final

_MULTIPART: Final = "multipart/"


class Fingerprint:
    """The digest of a request.

    Clients that send a form again draw another boundary, so a boundary counts wherever it stands as one word of one
    letter: two forms that differ in nothing else are the same.
    """

    def __init__(self, method: str, target: bytes, content_type: str, boundary: bytes = b"") -> None:
        """`target` is the path with its query string; `boundary` is that of a multipart body."""
        kind = content_type.partition(";")[0].strip().lower()
        form = kind.startswith(_MULTIPART) and bool(boundary)
        self._boundary = boundary if form else b""
        self._kept = b""
        self._digest = hashlib.sha256()
        for part in (method.encode(), target, (kind if form else content_type.strip()).encode()):
            self._digest.update(len(part).to_bytes(8) + part)

    def feed(self, data: bytes) -> None:
        """Take the next piece of the body, however it was cut."""
        if not self._boundary:
            self._digest.update(data)
            return
        *before, rest = (self._kept + data).split(self._boundary)
        for piece in before:
            self._digest.update(piece + b"\0")
        # What may be the beginning of a boundary waits for the rest of it.
        held = min(len(rest), len(self._boundary) - 1)
        self._digest.update(rest[: len(rest) - held])
        self._kept = rest[len(rest) - held :]

    def value(self) -> bytes:
        """The digest of all that came so far."""
        digest = self._digest.copy()
        digest.update(self._kept)
        return digest.digest()
