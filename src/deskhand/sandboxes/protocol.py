"""Frames between the server and the agent inside a container.

A frame is a payload length (`>I`), a type byte and the payload. The server sends `settings` once on the agent's
standard input, then `exec` and `ping` frames on connections; a connection runs one command at a time. What comes back
is written by a process that shares a container with hostile code, so it is parsed into the closed union `Reply` with
every size bounded, and `Transcript` checks that a command's replies come in a possible order and amount.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from deskhand.ports.sandbox import Cell, Command, Dropped, Output, Picture, Session, Stream, Window

MAX_FRAME: Final = 16 << 20
HEADER: Final = struct.Struct(">IB")
STREAMS: Final[Mapping[int, Stream]] = {1: "stdout", 2: "stderr"}


class ProtocolError(Exception):
    """The agent sent something that no honest agent sends. The container is not to be trusted any further."""


Shortage = Literal["", "processes", "memory", "files"]
SHORTAGES: Final[Sequence[Shortage]] = ("", "processes", "memory", "files")


@dataclass(frozen=True, slots=True)
class Ended:
    """The first process of the command ended, or could not be started for want of `shortage`."""

    code: int
    signal: int
    shortage: Shortage


@dataclass(frozen=True, slots=True)
class Expired:
    """The command's time was up and its processes are dead."""


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a ping."""


CellOutcome = Literal["completed", "failed", "interrupted"]
CELL_OUTCOMES: Final[Sequence[CellOutcome]] = ("completed", "failed", "interrupted")
Loss = Literal["ended", "deadline", "broken", "not started"]
LOSSES: Final[Sequence[Loss]] = ("ended", "deadline", "broken", "not started")
MAX_WISHES: Final = 3
"""Interpreters that one cell may ask for: what it waited for may have ended before its turn."""
PNG: Final = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The container has no interpreter: supply one. `again` if it had one before."""

    again: bool


@dataclass(frozen=True, slots=True)
class Finished:
    """The cell is over, and the interpreter waits for the next."""

    outcome: CellOutcome


@dataclass(frozen=True, slots=True)
class Lost:
    """The interpreter is gone: it ended with `code` or `signal`, or could not be started for want of `shortage`."""

    loss: Loss
    code: int
    signal: int
    shortage: Shortage


Reply = Output | Dropped | Ended | Expired | Pong | Wanted | Picture | Finished | Lost
CommandReply = Output | Dropped | Ended | Expired
CellReply = Wanted | Output | Dropped | Picture | Finished | Lost


@dataclass(frozen=True, slots=True)
class Settings:
    """What the agent must know before anything runs. Zero means "leave as inherited".

    `filter` is the system call filter and `address` the socket to listen on, both empty if the launcher has seen to it.
    `relay` is `port:path`: connections to that port of the container's loopback are joined to the Unix socket at that
    path, as the container sees it; empty if there is no way out.
    """

    open_files: int
    processes: int
    file_bytes: int
    data_bytes: int
    env: Mapping[str, str]
    filter: bytes = b""
    address: str = ""
    relay: str = ""


def settings_frame(settings: Settings) -> bytes:
    """Encode the one frame for the agent's standard input (it has a length and no type)."""
    limits = struct.pack(">QQQQ", settings.open_files, settings.processes, settings.file_bytes, settings.data_bytes)
    payload = (
        limits
        + _strings(_flat(settings.env))
        + _blobs([settings.filter, settings.address.encode(), settings.relay.encode()])
    )
    return struct.pack(">I", len(payload)) + payload


def exec_frame(command: Command) -> bytes:
    """Encode a command. Raises `ValueError` for a NUL byte, which no argument or variable can hold."""
    words = [*command.argv, *_flat(command.env)]
    if any("\0" in word for word in words):
        raise ValueError("a command or its environment contains a NUL byte")
    numbers = struct.pack(">dQQ", command.timeout_s, command.head_bytes, command.tail_bytes)
    return _frame(b"X", numbers + _strings(command.argv) + _strings(_flat(command.env)))


def cell_frame(cell: Cell) -> bytes:
    """Encode a cell."""
    numbers = struct.pack(">dQQII", cell.timeout_s, cell.head_bytes, cell.tail_bytes, cell.images, cell.image_bytes)
    return _frame(b"Y", numbers + _strings([cell.code]))


def adopt_frame(pid: int) -> bytes:
    """Encode the offer of an interpreter: its pid in the container. Its socket and its pipe come along (SCM_RIGHTS)."""
    return _frame(b"A", struct.pack(">I", pid))


def start_frame() -> bytes:
    """Encode the order that the agent shall start an interpreter itself."""
    return _frame(b"S", b"")


def terminal_frame(session: Session) -> bytes:
    """Encode an interactive program. Raises `ValueError` for a NUL byte, which no argument or variable can hold."""
    flat = _flat(session.env)
    if any("\0" in word for word in (*session.argv, *flat)):
        raise ValueError("a command or its environment contains a NUL byte")
    return _frame(b"T", _window(session.window) + _strings(session.argv) + _strings(flat))


def typed_frame(data: bytes) -> bytes:
    """Encode what was typed on a terminal."""
    return _frame(b"I", data)


def resize_frame(window: Window) -> bytes:
    """Encode a new size of a terminal."""
    return _frame(b"R", _window(window))


def pause_frame() -> bytes:
    """Encode the order that every process of the container shall stand still until the connection ends."""
    return _frame(b"Z", b"")


def ping_frame() -> bytes:
    """Encode a ping."""
    return _frame(b"P", b"")


def parse_header(data: bytes) -> tuple[int, int]:
    """Return payload length and type of a frame. Raises `ProtocolError` if it is longer than `MAX_FRAME`."""
    size, kind = HEADER.unpack(data)
    if size > MAX_FRAME:
        raise ProtocolError(f"a frame of {size} bytes")
    return size, kind


def parse_reply(kind: int, payload: bytes) -> Reply:
    """Parse one frame of the agent. Raises `ProtocolError`."""
    match chr(kind), len(payload):
        case "O", size if size >= 2:
            return Output(_stream(payload[0]), payload[1:])
        case "D", 17:
            number, count, characters = struct.unpack(">BQQ", payload)
            if not 0 <= characters <= count or count == 0:
                raise ProtocolError("an impossible count of dropped output")
            return Dropped(_stream(number), count, characters)
        case "E", 3:
            code, signal, shortage = payload
            if signal > 64 or shortage >= len(SHORTAGES):
                raise ProtocolError("an impossible exit status")
            return Ended(code, signal, SHORTAGES[shortage])
        case "T", 0:
            return Expired()
        case "Q", 0:
            return Pong()
        case "N" | "I" | "F" | "L", _:
            return _parse_cell_reply(kind, payload)
        case _:
            raise ProtocolError(f"a frame of type {kind} with {len(payload)} bytes")


def _parse_cell_reply(kind: int, payload: bytes) -> Reply:
    match chr(kind), len(payload):
        case "N", 1:
            return Wanted(payload[0] != 0)
        case "I", _ if payload.startswith(PNG):
            return Picture(payload)
        case "F", 1 if payload[0] < len(CELL_OUTCOMES):
            return Finished(CELL_OUTCOMES[payload[0]])
        case "L", 4:
            loss, code, signal, shortage = payload
            if loss >= len(LOSSES) or signal > 64 or shortage >= len(SHORTAGES):
                raise ProtocolError("an impossible end of the interpreter")
            return Lost(LOSSES[loss], code, signal, SHORTAGES[shortage])
        case _:
            raise ProtocolError(f"a frame of type {kind} with {len(payload)} bytes")


class Transcript:
    """The replies to one command, checked: no more output than was asked for, one `Dropped` a stream, one ending."""

    def __init__(self, head_bytes: int, tail_bytes: int) -> None:
        self._left = head_bytes + tail_bytes
        self._dropped: set[Stream] = set()

    def admit(self, reply: Reply) -> CommandReply:
        """Return `reply` if it may come now. Raises `ProtocolError`."""
        match reply:
            case Output() | Dropped():
                return self.admit_output(reply)
            case Ended() | Expired():
                return reply
            case _:
                raise ProtocolError(f"a {type(reply).__name__} in the middle of a command")

    def admit_output(self, reply: Output | Dropped) -> Output | Dropped:
        """Return `reply` if so much may be printed. Raises `ProtocolError`."""
        match reply:
            case Output(data=data):
                self._left -= len(data)
                if self._left < 0:
                    raise ProtocolError("more output than was asked for")
            case Dropped(stream=stream):
                if stream in self._dropped:
                    raise ProtocolError("a second count of dropped output")
                self._dropped.add(stream)
        return reply


class CellTranscript:
    """The replies to one cell, checked: what a command's output must obey, and no more pictures than were asked for."""

    def __init__(self, cell: Cell) -> None:
        self._printed = Transcript(cell.head_bytes, cell.tail_bytes)
        self._wishes = MAX_WISHES
        self._images = cell.images
        self._image_bytes = cell.image_bytes

    def admit(self, reply: Reply) -> CellReply:
        """Return `reply` if it may come now. Raises `ProtocolError`."""
        match reply:
            case Output() | Dropped():
                return self._printed.admit_output(reply)
            case Picture(data):
                self._images -= 1
                self._image_bytes -= len(data)
                if self._images < 0 or self._image_bytes < 0:
                    raise ProtocolError("more pictures than were asked for")
                return reply
            case Wanted():
                self._wishes -= 1
                if self._wishes < 0:
                    raise ProtocolError("a wish for one more interpreter")
                return reply
            case Finished() | Lost():
                return reply
            case _:
                raise ProtocolError(f"a {type(reply).__name__} in the middle of a cell")


def _stream(number: int) -> Stream:
    if number not in STREAMS:
        raise ProtocolError(f"stream {number}")
    return STREAMS[number]


def _frame(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload


def _strings(words: Sequence[str]) -> bytes:
    return _blobs([word.encode("utf-8", "surrogateescape") for word in words])


def _blobs(blobs: Sequence[bytes]) -> bytes:
    return struct.pack(">I", len(blobs)) + b"".join(struct.pack(">I", len(blob)) + blob for blob in blobs)


def _window(window: Window) -> bytes:
    return struct.pack(">HH", window.rows, window.columns)


def _flat(env: Mapping[str, str]) -> list[str]:
    return [word for pair in env.items() for word in pair]
