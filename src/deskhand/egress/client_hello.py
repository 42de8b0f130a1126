"""The server's name in the first message of a TLS connection (RFC 8446, 4.1.2; RFC 6066, 3). Pure.

Needed where TLS is not terminated. A hello that cannot be read, names several servers, or hides the real one behind
encrypted client hello (extension 0xfe0d) is not vouched for.
"""

from dataclasses import dataclass
from typing import Final

LONGEST_HELLO: Final = 1 << 14
_HANDSHAKE, _CLIENT_HELLO = 22, 1
_SERVER_NAME, _ENCRYPTED_HELLO = 0, 0xFE0D


@dataclass(frozen=True, slots=True)
class Hello:
    """A client's hello; `server` is the name as it was sent, None if there was none."""

    server: str | None
    encrypted: bool = False


class NotHello(ValueError):
    """This is not the beginning of a TLS connection, or one that is not read here."""


class _Short(Exception):
    pass


def parse_hello(data: bytes) -> Hello | None:
    """The hello at the start of `data`; None if more bytes are needed. Raises `NotHello`."""
    if data and data[0] != _HANDSHAKE:
        raise NotHello("the first byte is not that of a TLS handshake")
    try:
        return _hello(_message(data))
    except _Short:
        if len(data) > LONGEST_HELLO:
            raise NotHello("the hello is too long") from None
        return None


def _message(data: bytes) -> bytes:
    """The first handshake message, put together from its records."""
    message = b""
    at = 0
    while True:
        if len(data) < at + 5:
            raise _Short
        kind, major, size = data[at], data[at + 1], int.from_bytes(data[at + 3 : at + 5])
        if kind != _HANDSHAKE or major != 3 or not 0 < size <= LONGEST_HELLO:
            raise NotHello("a record is not one of a TLS handshake")
        if len(data) < at + 5 + size:
            raise _Short
        message += data[at + 5 : at + 5 + size]
        at += 5 + size
        if message[0] != _CLIENT_HELLO:
            raise NotHello("the first message is not a client's hello")
        if len(message) >= 4 and len(message) >= 4 + int.from_bytes(message[1:4]):
            return message[4 : 4 + int.from_bytes(message[1:4])]
        if len(message) > LONGEST_HELLO:
            raise NotHello("the hello is too long")


def _hello(body: bytes) -> Hello:
    reader = _Reader(body)
    reader.take(2 + 32)
    reader.vector(1)
    reader.vector(2)
    reader.vector(1)
    if reader.at_end:
        return Hello(None)
    extensions = _Reader(reader.vector(2))
    if not reader.at_end:
        raise NotHello("there is something behind the hello's extensions")
    server: str | None = None
    encrypted = False
    while not extensions.at_end:
        kind = int.from_bytes(extensions.take(2))
        content = extensions.vector(2)
        if kind == _SERVER_NAME:
            if server is not None:
                raise NotHello("the hello names two servers")
            server = _server_name(content)
        encrypted = encrypted or kind == _ENCRYPTED_HELLO
    return Hello(server, encrypted)


def _server_name(content: bytes) -> str:
    names = _Reader(content)
    entries = _Reader(names.vector(2))
    kind = entries.take(1)
    name = entries.vector(2)
    if kind != b"\0" or not entries.at_end or not names.at_end or not name.isascii():
        raise NotHello("the hello's server name cannot be read")
    return name.decode()


class _Reader:
    """Takes fields off a message that is whole: what is missing in it is an error."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def at_end(self) -> bool:
        return self._at == len(self._data)

    def take(self, count: int) -> bytes:
        if self._at + count > len(self._data):
            raise NotHello("a field of the hello is cut off")
        self._at += count
        return self._data[self._at - count : self._at]

    def vector(self, length_bytes: int) -> bytes:
        return self.take(int.from_bytes(self.take(length_bytes)))
