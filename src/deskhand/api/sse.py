"""A response's events as server-sent events (WHATWG HTML, section 9.2): `event:` repeats the type, `data:` is JSON."""

import secrets
from collections.abc import AsyncIterator, Sequence

from ..ports.log import EventLog
from ..wire.codec import encode
from ..wire.events import Event
from .view import View

_PADDED = ".delta"
_LINE_ENDS = {"\x85".encode(): b"\\u0085", "\u2028".encode(): b"\\u2028", "\u2029".encode(): b"\\u2029"}
"""What some clients take for the end of a line though the standard does not, as Python's `str.splitlines` does."""


async def frames(log: EventLog, view: View, *, obfuscate: bool) -> AsyncIterator[bytes]:
    """The log from its beginning, one chunk of frames per batch of events; ends after the terminal event."""
    async for batch in log.tail():
        yield _frames([view.event(event) for event in batch], obfuscate)


def _frames(batch: Sequence[Event], obfuscate: bool) -> bytes:
    return b"".join(_frame(event, obfuscate) for event in batch if event.type != "response.cancelled")


def _frame(event: Event, obfuscate: bool) -> bytes:
    body = event.wire()
    if obfuscate and event.type.endswith(_PADDED):
        # Random padding hides the length of a token from who can only see packet sizes (API reference, 3.8).
        body["obfuscation"] = secrets.token_urlsafe(12)[: 1 + secrets.randbelow(16)]
    return b"event: %b\ndata: %b\n\n" % (event.type.encode(), _one_line(encode(body)))


def _one_line(data: bytes) -> bytes:
    if not data.isascii():
        for end, escaped in _LINE_ENDS.items():
            data = data.replace(end, escaped)
    return data
