"""Copies of whole databases, taken while servers use them, and made databases again. SQLite's are here."""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..core.errors import DeskhandError
from .database import Connection, Driver
from .migrate import REVISIONS
from .queries import load
from .sqlite import SqliteDatabase, connect, explained


class DumpFailed(DeskhandError):
    """A database cannot be copied, or not be made of a copy. The message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Blobs:
    """The keys of bytes that records name."""

    files: frozenset[str]
    skills: frozenset[str]


class Snapshot(Protocol):
    """A database as it was at one moment."""

    @property
    def blobs(self) -> Blobs:
        """What of the bytes belongs to it."""
        ...

    def dump(self, file: Path) -> None:
        """Copy it into a file that is there and empty."""
        ...


class Dumps(Protocol):
    """Copies the database of an installation into a file, and back."""

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """The database as it is now, while the block runs; servers go on."""
        ...

    def check_empty(self) -> None:
        """Raise `DumpFailed` if there is something in the database."""
        ...

    def load(self, file: Path) -> Blobs:
        """Make the database of a copy, which is not trusted, and take the file away."""
        ...


class SqliteDumps:
    """The `Dumps` of a database in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """The database in one transaction: writers go on, and nothing has to be begun again because of them."""
        if not self._path.exists():
            raise DumpFailed(f"There is no database at {str(self._path)!r}. Check --data-dir.")
        try:
            with closing(connect(self._path)) as connection:
                connection.execute("BEGIN")
                yield _SqliteSnapshot(connection, named_blobs(connection, SqliteDatabase.driver))
        except sqlite3.Error as error:
            raise explained(error) from error

    def check_empty(self) -> None:
        """Raise `DumpFailed` if the file is there."""
        if self._path.exists():
            raise DumpFailed(f"There is a database at {str(self._path)!r} already.")

    def load(self, file: Path) -> Blobs:
        """Move the file into its place, if it is a whole database of a revision that is known."""
        try:
            with closing(sqlite3.connect(file)) as copy:
                copy.execute("PRAGMA trusted_schema = OFF")
                if copy.execute("PRAGMA quick_check").fetchall() != [("ok",)]:
                    raise DumpFailed("The database in the backup is damaged. Use another backup.")
                check_revision(copy)
                blobs = named_blobs(copy, SqliteDatabase.driver)
        except sqlite3.Error as error:
            raise DumpFailed(f"The database in the backup cannot be read ({error}). Use another backup.") from error
        os.rename(file, self._path)
        return blobs


@dataclass(frozen=True, slots=True)
class _SqliteSnapshot:
    _connection: sqlite3.Connection
    blobs: Blobs

    def dump(self, file: Path) -> None:
        """Copy it, in the transaction that the connection is in."""
        with closing(sqlite3.connect(file)) as target:
            self._connection.backup(target, pages=-1)
            target.execute("PRAGMA journal_mode = DELETE")


def check_revision(connection: Connection) -> None:
    """Raise `DumpFailed` if this version does not know the revision of a copy."""
    revision = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    if revision is None or revision[0] not in REVISIONS:
        raise DumpFailed(
            f"The database in the backup is at revision {revision and revision[0]!r}, which this version of Deskhand "
            "does not know. Restore it with the version that made it, or a newer one."
        )


def named_blobs(connection: Connection, driver: Driver) -> Blobs:
    """What of the bytes belongs to the records."""
    sql = load("backup", driver)
    return Blobs(_keys([*sql.blobs_of_files(connection)]), _keys([*sql.blobs_of_skills(connection)]))


def _keys(rows: Sequence[tuple[str]]) -> frozenset[str]:
    return frozenset(key for (key,) in rows)
