"""The end of a command's output, within bounds."""

from __future__ import annotations

SMALL, SLACK = 4 << 10, 64 << 10
CONTINUATION = bytes(range(0x80, 0xC0))


class Tail:
    """The last `size` bytes of both streams together, in order of arrival, and a count of what fell out."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.held = 0
        self.chunks: list[tuple[int, bytes]] = []
        self.dropped = {1: (0, 0), 2: (0, 0)}

    def push(self, stream: int, data: bytes) -> None:
        if len(data) > self.size:
            cut = len(data) - self.size
            while self.chunks:
                self.drop(*self.chunks.pop(0))
            self.held = 0
            self.drop(stream, data[:cut])
            data = data[cut:]
        if not data:
            return
        last = self.chunks[-1] if self.chunks else (0, b"")
        if last[0] == stream and len(last[1]) < SMALL:
            self.chunks[-1] = (stream, last[1] + data)
        else:
            self.chunks.append((stream, data))
        self.held += len(data)
        if self.held > self.size + SLACK:
            self.trim()

    def trim(self) -> None:
        while self.held > self.size:
            stream, data = self.chunks[0]
            cut = min(len(data), self.held - self.size)
            self.drop(stream, data[:cut])
            self.held -= cut
            if cut == len(data):
                self.chunks.pop(0)
            else:
                self.chunks[0] = (stream, data[cut:])

    def drop(self, stream: int, data: bytes) -> None:
        count, characters = self.dropped[stream]
        leads = len(data) if data.isascii() else len(data.translate(None, CONTINUATION))
        self.dropped[stream] = (count + len(data), characters + leads)
