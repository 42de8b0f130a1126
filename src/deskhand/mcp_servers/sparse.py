"""Answers of few values: between the MCP library, which makes objects of all of them at once, and the transport."""

import re
from collections.abc import AsyncIterator
from typing import Final

import httpx2

_SAID: Final = rb'"(?:[^"\\\n]++|\\[^\n])*+'
_STRING: Final = re.compile(rb'%s(?:"|(?=\\?\n))|(%s\\?\Z)' % (_SAID, _SAID))
"""A string of JSON, or one that goes on. At a raw line end it is over, so that no event reaches into the next one.

Whatever follows a quotation mark is either: the search would begin again at each of those inside.
"""


class TooManyValues(httpx2.StreamError):
    """An answer has more values than are read."""

    def __init__(self, most: int) -> None:
        super().__init__(f"the answer has more than {most} values")


class Sparse(httpx2.AsyncBaseTransport):
    """Passes on answers with at most so many values of JSON each; lines count as well."""

    def __init__(self, below: httpx2.AsyncBaseTransport, most: int) -> None:
        self._below = below
        self._most = most

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._below.handle_async_request(request)
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        stream = _Counted(response.stream, self._most)
        return httpx2.Response(response.status_code, headers=response.headers, stream=stream, request=request)

    async def aclose(self) -> None:
        await self._below.aclose()


class _Counted(httpx2.AsyncByteStream):
    def __init__(self, below: httpx2.AsyncByteStream, most: int) -> None:
        self._below = below
        self._most = most

    async def __aiter__(self) -> AsyncIterator[bytes]:
        values = Values()
        async for piece in self._below:
            if values.add(piece) > self._most:
                raise TooManyValues(self._most)
            yield piece

    async def aclose(self) -> None:
        await self._below.aclose()


class Values:
    """Counts values of JSON, or of events that have such, as it comes: at least as many as there are."""

    def __init__(self) -> None:
        self._count = 0
        self._open = b""

    def add(self, piece: bytes) -> int:
        """Take in a piece; how many there have been so far."""
        bare = _STRING.sub(rb"\1", self._open + piece)
        start = bare.find(b'"')
        self._open = b"" if start < 0 else _opened(bare[start:])
        outside = bare if start < 0 else bare[:start]
        self._count += sum(outside.count(mark) for mark in (b"[", b"{", b",", b"\n"))
        return self._count


def _opened(string: bytes) -> bytes:
    """What has to be known of a string that goes on in the next piece."""
    return b'"' + b"\\" * ((len(string) - len(string.rstrip(b"\\"))) % 2)
