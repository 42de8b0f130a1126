"""A response's events as server-sent events (WHATWG HTML, section 9.2): `event:` repeats the type, `data:` is JSON."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from ..wire.codec import encode
from ..wire.events import Event
from ..wire.request import CreateResponse
from .view import View

DONE = b"data: [DONE]\n\n"
"""The last frame of a stream of the older endpoints."""

CHUNK_BYTES = 1 << 18
"""Of frames that are sent at once: as much is in memory for each reader."""
_PADDED = ".delta"
_LINE_ENDS = {"\x85".encode(): b"\\u0085", "\u2028".encode(): b"\\u2028", "\u2029".encode(): b"\\u2029"}
"""What some clients take for the end of a line though the standard does not, as Python's `str.splitlines` does."""


async def frames(events: AsyncIterator[Sequence[Event]], view: View, padding: str) -> AsyncIterator[bytes]:
    """Chunks of frames, not much larger than `CHUNK_BYTES` but for one event; `padding` is as for `event_fields`."""
    async for batch in events:
        chunk = bytearray()
        for event in batch:
            chunk += _frame(view.event(event), padding)
            if len(chunk) >= CHUNK_BYTES:
                yield bytes(chunk)
                chunk.clear()
        if chunk:
            yield bytes(chunk)


def _frame(event: Event, padding: str) -> bytes:
    data = _one_line(encode(event_fields(event, padding)))
    return b"event: %b\ndata: %b\n\n" % (event.type.encode(), data)


def event_fields(event: Event, padding: str) -> dict[str, Any]:
    """The event as it is sent, over whatever. Deltas are padded, unless `padding` is "".

    Padding hides the length of a token from who can only see packet sizes (API reference, 3.8). It comes from a value
    that only the two ends know, the response's id, so that an event that is read again is the same to the byte.
    """
    fields = event.wire()
    if padding and event.type.endswith(_PADDED):
        digest = hashlib.blake2b(f"{padding}:{event.sequence_number}".encode(), digest_size=17).hexdigest()
        fields["obfuscation"] = digest[2 : 3 + int(digest[:2], 16) % 16]
    return fields


def padding_of(request: CreateResponse, response_id: str) -> str:
    """What the deltas of a response are padded from; "" if the request wants none."""
    options = request.stream_options
    return "" if options is not None and options.include_obfuscation is False else response_id


def data_frame(value: object) -> bytes:
    """A frame without a name, as the older endpoints send them."""
    return b"data: %b\n\n" % _one_line(encode(value))


def _one_line(data: bytes) -> bytes:
    if not data.isascii():
        for end, escaped in _LINE_ENDS.items():
            data = data.replace(end, escaped)
    return data
