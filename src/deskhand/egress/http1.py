"""HTTP/1.1 messages over a stream, read and written by h11: what leaves is always spelled out anew."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Final

import h11

from .secrets import Headers
from .streams import CHUNK, Stream

LONGEST_HEAD: Final = 64 << 10
"""Bytes of a request's or response's head."""
MOST_LINES: Final = 256
"""Lines of a head: thousands of headers are few bytes, and the work of a tenth of a second."""
EVENTS_AT_ONCE: Final = 100
"""Pieces of a body that are read before others get their turn: 64 KiB may hold ten thousand of them."""
MOST_INFORMATIONAL: Final = 16
"""Answers of class 1xx that are read before the one that counts."""

_BLANK_LINE: Final = re.compile(rb"\n\r?\n")
_HOP_BY_HOP: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"te",
     b"trailer", b"transfer-encoding", b"upgrade", b"expect", b"http2-settings")
)  # fmt: skip
"""RFC 9110, 7.6.1, and `Expect`, which the proxy answers itself."""

Turn = Callable[[], Awaitable[None]]
"""Returns when a peer may go on."""

OurEvent = h11.Request | h11.InformationalResponse | h11.Response | h11.Data | h11.EndOfMessage


async def next_round() -> None:
    """Let others have the loop once."""
    await asyncio.sleep(0)


class Peer:
    """One side of HTTP/1.1 over a stream. Raises `h11.ProtocolError` and `OSError`."""

    def __init__(self, stream: Stream, role: type[h11.CLIENT] | type[h11.SERVER], turn: Turn = next_round) -> None:
        self.stream = stream
        self._turn = turn
        self.http = h11.Connection(role, max_incomplete_event_size=LONGEST_HEAD)

    async def next_event(self) -> h11.Event:
        """The next event; the end of the stream is `ConnectionClosed`, or an error inside a message."""
        await self._turn()  # what is here already is read without a pause
        while True:
            self._check_lines()
            event = self.http.next_event()
            if event is h11.NEED_DATA:
                if self.http.they_are_waiting_for_100_continue:
                    await self.send(h11.InformationalResponse(status_code=100, headers=[]))
                self.http.receive_data(await self.stream.read())
                continue
            if event is h11.PAUSED:
                raise h11.RemoteProtocolError("a message came before its turn")
            assert not isinstance(event, type)
            if isinstance(event, h11.Request | h11.Response) and head_size(event.headers) > LONGEST_HEAD:
                raise h11.RemoteProtocolError("the head of a message is too long", error_status_hint=431)
            return event

    async def send(self, event: OurEvent) -> None:
        """Write one event."""
        if data := self.http.send(event):
            await self.stream.write(data)

    async def response(self) -> h11.Response:
        """The head of the answer, after whatever informs of it."""
        for _ in range(MOST_INFORMATIONAL):
            match await self.next_event():
                case h11.Response() as response:
                    return response
                case h11.InformationalResponse():
                    continue
                case _:
                    break
        raise h11.RemoteProtocolError("there is no answer")

    async def body(self) -> AsyncIterator[bytes]:
        """The pieces of the message whose head was read last; those that are here already are one."""
        gathered, crumbs = bytearray(), 0
        while True:
            event = self.http.next_event() if gathered else await self.next_event()
            if isinstance(event, h11.Data):
                gathered += event.data
                crumbs += 1
                if len(gathered) < CHUNK and crumbs < EVENTS_AT_ONCE:
                    continue
            if gathered:
                yield bytes(gathered)
                gathered, crumbs = bytearray(), 0
            match event:
                case h11.Data() | h11.NEED_DATA:
                    continue
                case h11.EndOfMessage():
                    return
                case _:
                    raise h11.RemoteProtocolError("a message was cut off")

    def _check_lines(self) -> None:
        """Raise if a head has more lines than it may, before each of them is looked at."""
        if self.http.their_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        waiting = self.http.trailing_data[0]
        end = _BLANK_LINE.search(waiting)
        if waiting.count(b"\n", 0, end.start() if end else None) > MOST_LINES:
            raise h11.RemoteProtocolError("the head of a message has too many lines", error_status_hint=431)

    @property
    def rest(self) -> bytes:
        """What came behind the last message, after the protocol was switched."""
        return bytes(self.http.trailing_data[0])

    @property
    def reusable(self) -> bool:
        """True if both messages are whole and another exchange may follow."""
        return self.http.our_state is h11.DONE and self.http.their_state is h11.DONE


def passed_on(headers: Iterable[tuple[bytes, bytes]], without: Iterable[bytes] = ()) -> list[tuple[bytes, bytes]]:
    """Headers but those that concern one connection only, those that `Connection` names, and those in `without`."""
    given = [(bytes(name), bytes(value)) for name, value in headers]
    named = {token.strip().lower() for name, value in given if name == b"connection" for token in value.split(b",")}
    left_out = _HOP_BY_HOP | (named - {b"content-length"}) | set(without)  # a body stays as long as it was said to be
    return [(name, value) for name, value in given if name not in left_out]


def values(headers: Headers, name: bytes) -> list[bytes]:
    """Every value of a header, lists taken apart, in lower case."""
    return [part.strip().lower() for key, value in headers if key == name for part in value.split(b",")]


def wants_websocket(headers: Headers) -> bool:
    """True if a request asks for a WebSocket (RFC 6455, 4.1)."""
    return values(headers, b"upgrade") == [b"websocket"] and b"upgrade" in values(headers, b"connection")


def has_body(headers: Headers) -> bool:
    """True if a request says that a body follows."""
    lengths = values(headers, b"content-length")
    return bool(values(headers, b"transfer-encoding")) or any(length != b"0" for length in lengths)


def head_size(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """The bytes of headers as they are sent."""
    return sum(len(name) + len(value) + 4 for name, value in headers)
