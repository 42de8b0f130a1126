"""Bodies without their content encoding (RFC 9110, 8.4.1), in pieces of bounded size. Pure.

Only needed for servers that compress although they were asked not to: what cannot be read cannot be masked.
"""

import zlib
from collections.abc import Iterator
from typing import Final, Protocol

import brotli  # type: ignore[import-untyped]  # it has no types

PIECE: Final = 64 << 10


class BadEncoding(ValueError):
    """The body is not what its encoding says."""


class Decoder(Protocol):
    """Undoes one encoding. Raises `BadEncoding`."""

    def feed(self, data: bytes) -> Iterator[bytes]: ...
    def finish(self) -> None:
        """Raise if the body was cut off."""
        ...


def decoder(encodings: list[bytes]) -> Decoder:
    """What undoes a response's `Content-Encoding`. Raises `BadEncoding` for one that is not known here."""
    match [encoding for encoding in encodings if encoding not in (b"", b"identity")]:
        case []:
            return _Identity()
        case [b"gzip" | b"x-gzip"]:
            return _Zlib(zlib.MAX_WBITS | 16)
        case [b"deflate"]:
            return _Zlib(zlib.MAX_WBITS)
        case [b"br"]:
            return _Brotli()
        case _:
            raise BadEncoding("the response is encoded in a way that cannot be read here")


class _Identity:
    def feed(self, data: bytes) -> Iterator[bytes]:
        yield data

    def finish(self) -> None:
        return


class _Zlib:
    def __init__(self, window: int) -> None:
        self._window = window
        self._inflate = zlib.decompressobj(window)
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        if data and not self._begun:
            self._begun = True
            if self._window == zlib.MAX_WBITS and data[0] & 0x0F != 8:  # servers that mean a bare deflate stream
                self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        while data:
            if self._inflate.eof:  # gzip: the members of a file follow each other
                if self._window == zlib.MAX_WBITS:
                    raise BadEncoding("something follows the compressed body")
                self._inflate = zlib.decompressobj(self._window)
            try:
                piece = self._inflate.decompress(data, PIECE)
            except zlib.error:
                raise BadEncoding("the compressed body cannot be read") from None
            if piece:
                yield piece
            data = self._inflate.unconsumed_tail or self._inflate.unused_data

    def finish(self) -> None:
        if self._begun and not self._inflate.eof:
            raise BadEncoding("the compressed body was cut off")


class _Brotli:
    def __init__(self) -> None:
        self._inflate = brotli.Decompressor()
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._begun = self._begun or bool(data)
        while not self._inflate.is_finished():
            try:
                piece = self._inflate.process(data, output_buffer_limit=PIECE)
            except brotli.error:
                raise BadEncoding("the compressed body cannot be read") from None
            data = b""
            if piece:
                yield piece
            elif self._inflate.can_accept_more_data():
                return

    def finish(self) -> None:
        if self._begun and not self._inflate.is_finished():
            raise BadEncoding("the compressed body was cut off")
