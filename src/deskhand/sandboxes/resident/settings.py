"""The one frame that the server writes on descriptor 0 before anything runs, and the limits that it sets."""

from __future__ import annotations

import _struct
import posix as os
import resource
import sys

BAD_STRUCT: type[Exception] = getattr(_struct, "error")  # noqa: B009 - typeshed does not know it


class Settings:
    """The one frame that the server writes on descriptor 0 before anything runs."""

    def __init__(self, payload: bytes) -> None:
        reader = Reader(payload)
        self.open_files, self.processes, self.file_bytes, self.data_bytes = reader.take(">QQQQ")
        self.env = reader.pairs()
        self.filter, self.address, self.relay = reader.strings()


class Reader:
    """Take fields off a payload."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, form: str) -> tuple[int, ...]:
        fields: tuple[int, ...] = _struct.unpack_from(form, self.data, self.at)
        self.at += _struct.calcsize(form)
        return fields

    def strings(self) -> list[bytes]:
        found = []
        for _ in range(self.take(">I")[0]):
            size = self.take(">I")[0]
            found.append(bytes(self.data[self.at : self.at + size]))
            self.at += size
        if self.at > len(self.data):
            raise ValueError("short payload")
        return found

    def pairs(self) -> dict[bytes, bytes]:
        flat = self.strings()
        return dict(zip(flat[::2], flat[1::2]))  # noqa: B905 - strict= is newer than 3.9


def read_settings(fd: int) -> Settings:
    """Read the settings; end of file instead means that the server died before it had recorded this container."""
    data = b""
    while len(data) < 4 or len(data) < 4 + _struct.unpack_from(">I", data)[0]:
        chunk = os.read(fd, 1 << 16)
        if not chunk:
            sys.exit(3)
        data += chunk
    return Settings(data[4:])


def limit_resources(settings: Settings) -> None:
    # Not 0: a core_pattern that is a program is fed whatever the limit, unless that is 1 (core(5); fs/coredump.c).
    lower(resource.RLIMIT_CORE, 1)
    for kind, value in (
        (resource.RLIMIT_NOFILE, settings.open_files),
        (resource.RLIMIT_NPROC, settings.processes),
        (resource.RLIMIT_FSIZE, settings.file_bytes),
        (resource.RLIMIT_DATA, settings.data_bytes),
    ):
        if value:
            lower(kind, value)


def lower(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))
