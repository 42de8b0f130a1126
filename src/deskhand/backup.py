"""`deskhand backup`: one archive of all that is kept but computers, made while the server runs.

The archive is a tar of: `backup.json`, `keys/*`, `blobs/*`, `skills/*`, `database`, `end.json`. The last one says that
nothing is missing. Bytes never change under their key, so only the database has to be of one moment; bytes that are
deleted between that moment and their turn are told from lost ones by looking at the database again.
"""

import io
import os
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from . import __version__
from .egress.authority import CA_FILE
from .egress.sealing import KEY_FILE
from .keys import FILE as API_KEY_FILE
from .settings import Settings, needed_for
from .store.dumps import Blobs, Dumps, SqliteDumps
from .wire.codec import encode

FORMAT: Final = 1
START, DATABASE, END = "backup.json", "database", "end.json"
KEYS: Final = (API_KEY_FILE, KEY_FILE, CA_FILE, "host_id")
FOLDERS: Final = ("blobs", "skills")
LOOKS: Final = 100
"""At the database, until no bytes are deleted in between."""
FEW: Final = 1000
"""Bytes that are added while the database is held as it was."""

Show = Callable[[str, int, int], None]
"""Shows progress: of what, how many are done, of how many."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a backup has."""

    blobs: int
    missing: int
    """Bytes that records name and that are not there: they were lost before."""
    elsewhere: bool
    """Whether the bytes of files and skills are in S3, and so not in the backup."""


def dumps_of(settings: Settings) -> Dumps:
    """What copies the database that the settings name. Raises `MissingPackage`."""
    if settings.database_url is None:
        return SqliteDumps(settings.data_dir / "deskhand.sqlite")
    with needed_for("database_url", "postgres"):
        from .store.postgres_dumps import PostgresDumps
    return PostgresDumps(settings.database_url)


def database_kind(settings: Settings) -> str:
    """The kind of the database that the settings name."""
    return "sqlite" if settings.database_url is None else "postgresql"


def back_up(settings: Settings, file: Path, show: Show) -> Summary:
    """Write `file`, of mode 0600, whole or not at all.

    Raises `DumpFailed`, `StoreUnavailable`, `OSError`; `FileExistsError` if it is there already.
    """
    if file.exists():
        raise FileExistsError(f"{str(file)!r} is there already. Choose another name.")
    draft, dump = file.with_name(f".{file.name}.{os.getpid()}.part"), file.with_name(f".{file.name}.{os.getpid()}.dump")
    try:
        with _private(draft) as stream, tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
            summary = _Backup(settings, archive, show).write(dump)
        os.rename(draft, file)
    finally:
        for leftover in (draft, dump):
            with suppress(FileNotFoundError):
                leftover.unlink()
    return summary


class _Backup:
    """An archive that is being written."""

    def __init__(self, settings: Settings, archive: tarfile.TarFile, show: Show) -> None:
        self._settings = settings
        self._archive = archive
        self._show = show
        self._done: set[tuple[str, str]] = set()

    def write(self, dump: Path) -> Summary:
        """Write everything; the database is copied to `dump` first."""
        elsewhere = self._settings.blob_url is not None
        about = {
            "format": FORMAT,
            "deskhand": __version__,
            "made_at": int(time.time()),
            "database": database_kind(self._settings),
            "blobs": "s3" if elsewhere else "disk",
        }
        self._add_text(START, encode(about))
        for name in KEYS:
            with suppress(FileNotFoundError):
                self._add_text(f"keys/{name}", (self._settings.data_dir / name).read_bytes())
        dump.touch(mode=0o600)
        missing = self._add_blobs(dump)
        self._add_file(DATABASE, dump)
        self._show("database", 1, 1)
        self._add_text(END, encode({"blobs": len(self._done), "missing": len(missing)}))
        return Summary(len(self._done), len(missing), elsewhere)

    def _add_blobs(self, dump: Path) -> set[tuple[str, str]]:
        """Add what the records name, and copy the database in which nothing else is named. What is not there."""
        dumps = dumps_of(self._settings)
        missing: set[tuple[str, str]] = set()
        for left in reversed(range(LOOKS)):
            with dumps.snapshot() as snapshot:
                named = set() if self._settings.blob_url else _named(snapshot.blobs)
                wanted = named - self._done
                # Many are added without a snapshot: a database that is held as it was for long grows.
                if len(wanted - missing) <= FEW or not left:
                    before, missing = missing, self._add_named(wanted)
                    # What is not there although the database named it twice was not deleted in between.
                    if missing <= before or not left:
                        self._show("database", 0, 1)
                        snapshot.dump(dump)
                        return missing
                    continue
            missing = self._add_named(wanted)
        raise AssertionError("the last look returns")

    def _add_named(self, named: set[tuple[str, str]]) -> set[tuple[str, str]]:
        missing = set()
        for number, (folder, key) in enumerate(sorted(named)):
            self._show(folder, number, len(named))
            try:
                self._add_file(f"{folder}/{key}", self._settings.data_dir / folder / key[:2] / key)
                self._done.add((folder, key))
            except FileNotFoundError:
                missing.add((folder, key))
        return missing

    def _add_text(self, name: str, data: bytes) -> None:
        self._archive.addfile(_entry(name, len(data)), io.BytesIO(data))

    def _add_file(self, name: str, path: Path) -> None:
        # Opened before anything is written: the entry of a file that is gone would be half there.
        with path.open("rb") as file:
            self._archive.addfile(_entry(name, os.fstat(file.fileno()).st_size), file)


def _named(blobs: Blobs) -> set[tuple[str, str]]:
    return {("blobs", key) for key in blobs.files} | {("skills", key) for key in blobs.skills}


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, 0o600, int(time.time())
    return entry


@contextmanager
def _private(path: Path) -> Iterator[io.BufferedWriter]:
    """A new file of mode 0600, on disk when the block ends."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())
