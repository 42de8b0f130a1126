"""`deskhand restore`: what `deskhand backup` has written, into a data directory and a database that are empty.

An archive may be hostile, as backups lie around: only names that a backup has are taken, nothing is followed, every
size is bounded by what is free, bytes must fit the digest that is their name, and nothing is in its place before all
of it has been looked at.
"""

import hashlib
import os
import re
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

import msgspec

from .backup import DATABASE, END, FOLDERS, FORMAT, KEYS, START, Show, Summary, database_kind, dumps_of
from .core.errors import DeskhandError
from .settings import Settings

T = TypeVar("T")

STAGING: Final = ".restoring"
MAX_TEXT_BYTES: Final = 1 << 16
MAX_READ_BYTES: Final = 1 << 20
"""At once. What a header of an archive claims to need is read in one piece otherwise."""

_BLOB: Final = re.compile(rf"({'|'.join(FOLDERS)})/([0-9a-f]{{64}})")
_KEY: Final = re.compile(rf"keys/({'|'.join(map(re.escape, KEYS))})")
# What there may be in a directory that counts as empty.
_NOTHING: Final = frozenset({"lost+found", "lock"})


class BadBackup(DeskhandError):
    """A file cannot be restored. The message says why, and nothing was changed."""


class _About(msgspec.Struct):
    format: int
    deskhand: str
    database: str
    blobs: str


class _End(msgspec.Struct):
    blobs: int
    missing: int


def restore(settings: Settings, file: Path, show: Show) -> Summary:
    """Fill the data directory and the database from `file`. The caller holds the data directory.

    Raises `BadBackup`, `DumpFailed`, `StoreUnavailable`, `OSError`; then both are as empty as before.
    """
    check_empty(settings.data_dir)
    dumps = dumps_of(settings)
    dumps.check_empty()
    staging = settings.data_dir / STAGING
    for folder in (staging, staging / "keys", *(staging / folder for folder in FOLDERS)):
        folder.mkdir(mode=0o700)
    try:
        about, end = _Restore(settings, staging, show).read(file)
        show("database", 0, 1)
        named = dumps.load(staging / DATABASE)
        show("database", 1, 1)
        kept = _drop_unnamed(staging, {"blobs": named.files, "skills": named.skills})
        for part in (*(staging / "keys").iterdir(), *(staging / folder for folder in FOLDERS)):
            os.rename(part, settings.data_dir / part.name)
        elsewhere = about.blobs == "s3"
        return Summary(kept, 0 if elsewhere else len(named.files) + len(named.skills) - kept, elsewhere)
    finally:
        shutil.rmtree(staging)


def check_empty(data_dir: Path) -> None:
    """Raise `BadBackup` if there is something in a data directory."""
    if data_dir.exists() and {path.name for path in data_dir.iterdir()} - _NOTHING:
        raise BadBackup(
            f"{str(data_dir)!r} is not empty. Restore into a new directory (--data-dir), or move this one away."
        )


class _Restore:
    """An archive that is being read into a directory of its own."""

    def __init__(self, settings: Settings, staging: Path, show: Show) -> None:
        self._settings = settings
        self._staging = staging
        self._show = show
        self._blobs = 0

    def read(self, file: Path) -> tuple[_About, _End]:
        """Read all of it. What it says of itself at its begin and at its end."""
        try:
            with file.open("rb") as stream:
                return self._read(_Bounded(stream), file.stat().st_size)
        except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
            raise BadBackup(f"This is not a backup of Deskhand, or it is damaged ({error!s:.200}).") from error

    def _read(self, stream: "_Bounded", size: int) -> tuple[_About, _End]:
        about: _About | None = None
        for entry, data in _entries(stream):
            self._show("MB", stream.tell() >> 20, size >> 20)
            if about is None:
                about = self._begin(entry, data)
            elif entry.name == END:
                return about, self._end(data.read(MAX_TEXT_BYTES))
            else:
                self._take(entry, data)
        raise BadBackup("The backup is cut off: its end is missing. Use another one.")

    def _begin(self, entry: tarfile.TarInfo, data: Any) -> _About:
        if entry.name != START:
            raise BadBackup("This is not a backup of Deskhand.")
        about = _decoded(data.read(MAX_TEXT_BYTES), _About)
        if about.format != FORMAT:
            raise BadBackup(f"The backup is of a newer version ({about.deskhand!r:.40}). Restore it with that one.")
        if about.database != database_kind(self._settings):
            raise BadBackup(
                f"The backup has a database of the kind {about.database!r:.40}: "
                "set DESKHAND_DATABASE_URL for 'postgresql', and unset it for 'sqlite'."
            )
        return about

    def _end(self, text: bytes) -> _End:
        end = _decoded(text, _End)
        if end.blobs != self._blobs or not (self._staging / DATABASE).exists():
            raise BadBackup("The backup is not whole. Use another one.")
        return end

    def _take(self, entry: tarfile.TarInfo, data: Any) -> None:
        if found := _BLOB.fullmatch(entry.name):
            folder, key = found.groups()
            if self._write(f"{folder}/{key[:2]}/{key}", entry, data) != key:
                raise BadBackup(f"Bytes in the backup are damaged: {entry.name}. Use another one.")
            self._blobs += 1
        elif _KEY.fullmatch(entry.name) and entry.size <= MAX_TEXT_BYTES or entry.name == DATABASE:
            self._write(entry.name, entry, data)
        else:
            raise BadBackup(f"The backup has something that no backup has: {entry.name!r:.200}.")

    def _write(self, name: str, entry: tarfile.TarInfo, data: Any) -> str:
        """Write an entry to a file; the SHA-256 of it."""
        if shutil.disk_usage(self._staging).free < entry.size:
            raise BadBackup(f"There is no room for {entry.name} of {entry.size} bytes.")
        path, digest, left = self._staging / name, hashlib.sha256(), entry.size
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # New: one that comes twice is an attack, or damage.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            while left:
                chunk = data.read(min(left, MAX_READ_BYTES))
                if not chunk:
                    raise BadBackup("The backup is cut off. Use another one.")
                digest.update(chunk)
                out.write(chunk)
                left -= len(chunk)
            out.flush()
            os.fsync(out.fileno())
        return digest.hexdigest()


class _Bounded:
    """A file that gives little at once, whatever an archive's header asks for."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        """At most so many bytes."""
        if not 0 <= size <= MAX_READ_BYTES:
            raise BadBackup("A header of the backup is too large. Use another one.")
        return self._file.read(size)

    def seek(self, place: int, whence: int = 0) -> int:
        """Go there."""
        return self._file.seek(place, whence)

    def tell(self) -> int:
        """Where it is."""
        return self._file.tell()


def _entries(file: _Bounded) -> Iterator[tuple[tarfile.TarInfo, Any]]:
    """The regular files of an archive. Raises `BadBackup` for anything else, and what `tarfile` raises."""
    with tarfile.open(fileobj=file, mode="r:") as archive:  # type: ignore[call-overload]  # it is all that is used
        while (entry := archive.next()) is not None:
            archive.members = []  # kept for nothing, and there may be millions
            if entry.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or entry.sparse is not None:
                raise BadBackup(f"The backup has something that is no plain file: {entry.name!r:.200}.")
            yield entry, archive.extractfile(entry)


def _decoded(text: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.DecodeError as error:
        raise BadBackup("This is not a backup of Deskhand, or it is damaged.") from error


def _drop_unnamed(staging: Path, named: dict[str, frozenset[str]]) -> int:
    """Remove bytes that no record names, as they were deleted while the backup was made; how many are left."""
    kept = 0
    for folder, keys in named.items():
        for path in (staging / folder).glob("*/*"):
            if path.name in keys:
                kept += 1
            else:
                path.unlink()
    return kept
