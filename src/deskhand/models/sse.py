"""Server-sent events, as far as model servers use them: bytes in, `data` payloads out.

Only `data` fields matter here; event names, ids and comments are skipped, as every model server repeats the type inside
the JSON. Line ends may be LF, CRLF or CR (WHATWG HTML, section 9.2.6). No I/O.
"""

from typing import Final

LONGEST_EVENT: Final = 32 << 20


class EventTooLong(Exception):
    """One event is longer than the limit."""


class EventSplitter:
    """Cuts a stream of bytes into events. The cost is linear in the bytes fed, however they are cut."""

    def __init__(self, longest: int = LONGEST_EVENT) -> None:
        self._longest = longest
        self._partial: list[bytes] = []
        self._partial_size = 0
        self._carriage_return = False
        self._data: list[bytes] = []
        self._data_size = 0
        self._started = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The payloads that `chunk` completes. Raises `EventTooLong`."""
        if not self._started and chunk:
            self._started = True
            chunk = chunk.removeprefix(b"\xef\xbb\xbf")
        if self._carriage_return or b"\r" in chunk:
            chunk = self._with_line_feeds(chunk)
        if not self._partial_size and not self._data and chunk.find(b"\n\n") == len(chunk) - 2:
            # Nearly every read of a streamed answer is one whole event of one line.
            if chunk.startswith(b"data: ") and chunk.find(b"\n") == len(chunk) - 2 and len(chunk) <= self._longest:
                return [chunk[6:-2]]
        self._partial.append(chunk)
        self._partial_size += len(chunk)
        if b"\n" not in chunk:
            self._check(self._partial_size + self._data_size)
            return []
        lines = b"".join(self._partial).split(b"\n")
        rest = lines.pop()
        self._partial, self._partial_size = [rest], len(rest)
        return self._events(lines)

    def finish(self) -> list[bytes]:
        """The payload of a last event that the stream's end cut off before its blank line."""
        lines = b"".join(self._partial).split(b"\n")
        self._partial, self._partial_size, self._carriage_return = [], 0, False
        return self._events([*lines, b""])

    def _with_line_feeds(self, chunk: bytes) -> bytes:
        # A CR at the end of a chunk may be the first half of a CRLF, so it waits for the next byte.
        if self._carriage_return:
            chunk = b"\r" + chunk
        self._carriage_return = chunk.endswith(b"\r")
        if self._carriage_return:
            chunk = chunk[:-1]
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _events(self, lines: list[bytes]) -> list[bytes]:
        events = []
        data = self._data
        for line in lines:
            if not line:
                if data:
                    events.append(data[0] if len(data) == 1 else b"\n".join(data))
                    data.clear()
                    self._data_size = 0
            elif line.startswith(b"data:"):
                payload = line[6:] if line[5:6] == b" " else line[5:]
                data.append(payload)
                self._data_size += len(payload)
                self._check(self._data_size)
        return events

    def _check(self, size: int) -> None:
        if size > self._longest:
            raise EventTooLong(f"an event is longer than {self._longest} bytes")
