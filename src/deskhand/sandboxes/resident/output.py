"""What is said to a client of what a command or a cell prints: the beginning at once, the end when it has ended."""

from __future__ import annotations

import _struct

from .tail import Tail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .connection import Connection


class Output:
    """The first `head` bytes go out as they come; of the rest the last `tail` bytes, and how much lies between."""

    def __init__(self, connection: Connection, head: int, tail: int) -> None:
        self.connection = connection
        self.head = head
        self.tail = Tail(tail)

    def take(self, stream: int, data: bytes) -> None:
        first = data[: self.head]
        if first:
            self.head -= len(first)
            self.connection.send(b"O", bytes((stream,)) + first)
        if len(first) < len(data):
            self.tail.push(stream, data[len(first) :])

    def finish(self) -> None:
        self.tail.trim()
        for stream, (count, characters) in self.tail.dropped.items():
            if count:
                self.connection.send(b"D", _struct.pack(">BQQ", stream, count, characters))
        for stream, data in self.tail.chunks:
            self.connection.send(b"O", bytes((stream,)) + data)
