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

from deskhand.ports.sandbox import Command, Dropped, Output, Stream

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


Reply = Output | Dropped | Ended | Expired | Pong


@dataclass(frozen=True, slots=True)
class Settings:
    """What the agent must know before anything runs. Zero means "leave as inherited"."""

    open_files: int
    processes: int
    file_bytes: int
    data_bytes: int
    env: Mapping[str, str]


def settings_frame(settings: Settings) -> bytes:
    """Encode the one frame for the agent's standard input (it has a length and no type)."""
    limits = struct.pack(">QQQQ", settings.open_files, settings.processes, settings.file_bytes, settings.data_bytes)
    payload = limits + _strings(_flat(settings.env))
    return struct.pack(">I", len(payload)) + payload


def exec_frame(command: Command) -> bytes:
    """Encode a command. Raises `ValueError` for a NUL byte, which no argument or variable can hold."""
    words = [*command.argv, *_flat(command.env)]
    if any("\0" in word for word in words):
        raise ValueError("a command or its environment contains a NUL byte")
    numbers = struct.pack(">dQQ", command.timeout_s, command.head_bytes, command.tail_bytes)
    return _frame(b"X", numbers + _strings(command.argv) + _strings(_flat(command.env)))


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
        case _:
            raise ProtocolError(f"a frame of type {kind} with {len(payload)} bytes")


class Transcript:
    """The replies to one command, checked: no more output than was asked for, one `Dropped` a stream, one ending."""

    def __init__(self, head_bytes: int, tail_bytes: int) -> None:
        self._left = head_bytes + tail_bytes
        self._dropped: set[Stream] = set()

    def admit(self, reply: Reply) -> Output | Dropped | Ended | Expired:
        """Return `reply` if it may come now. Raises `ProtocolError`."""
        match reply:
            case Output(data=data):
                self._left -= len(data)
                if self._left < 0:
                    raise ProtocolError("more output than was asked for")
                return reply
            case Dropped(stream=stream):
                if stream in self._dropped:
                    raise ProtocolError("a second count of dropped output")
                self._dropped.add(stream)
                return reply
            case Ended() | Expired():
                return reply
            case Pong():
                raise ProtocolError("a pong in the middle of a command")


def _stream(number: int) -> Stream:
    if number not in STREAMS:
        raise ProtocolError(f"stream {number}")
    return STREAMS[number]


def _frame(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload


def _strings(words: Sequence[str]) -> bytes:
    encoded = [word.encode("utf-8", "surrogateescape") for word in words]
    return struct.pack(">I", len(words)) + b"".join(struct.pack(">I", len(word)) + word for word in encoded)


def _flat(env: Mapping[str, str]) -> list[str]:
    return [word for pair in env.items() for word in pair]
