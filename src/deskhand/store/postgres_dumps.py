"""Copies of PostgreSQL databases."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .dumps import Blobs, DumpFailed, Snapshot, check_revision, named_blobs
from .postgres import PsycopgAdapter, connected, for_programs


class PostgresDumps:
    """The `Dumps` of a PostgreSQL database, by its own `pg_dump` and `pg_restore`."""

    def __init__(self, url: str) -> None:
        self._url = url

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """The database in one transaction, which `pg_dump` can look at too."""
        with connected(self._url) as connection:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            (name,) = connection.execute("SELECT pg_export_snapshot()").fetchone() or ("",)
            yield _PostgresSnapshot(self._url, name, named_blobs(connection, PsycopgAdapter))

    def check_empty(self) -> None:
        """Raise `DumpFailed` if there are tables."""
        with connected(self._url) as connection:
            found = connection.execute(
                "SELECT 1 FROM pg_class WHERE relkind = 'r' AND relnamespace = to_regnamespace('public') LIMIT 1"
            ).fetchone()
        if found is not None:
            raise DumpFailed("The database of DESKHAND_DATABASE_URL has tables. Make a new one (createdb).")

    def load(self, file: Path) -> Blobs:
        """Make the tables, all of them or none."""
        command = ["--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction", str(file)]
        _run(self._url, "pg_restore", *command)
        file.unlink()
        with connected(self._url) as connection:
            check_revision(connection)
            return named_blobs(connection, PsycopgAdapter)


@dataclass(frozen=True, slots=True)
class _PostgresSnapshot:
    _url: str
    _name: str
    blobs: Blobs

    def dump(self, file: Path) -> None:
        """Copy it by `pg_dump`."""
        options = ["--format=custom", "--no-owner", "--no-privileges", f"--snapshot={self._name}", f"--file={file}"]
        _run(self._url, "pg_dump", *options)


def _run(url: str, program: str, *arguments: str) -> None:
    """Run a program of PostgreSQL. The password is in its environment, as others can read its arguments."""
    if shutil.which(program) is None:
        raise DumpFailed(
            f"{program} is not here. Install it (Debian: postgresql-client), of the server's version or a newer "
            "one. For a database of a cloud provider, use the provider's backups, and copy the data directory."
        )
    connection, environment = for_programs(url)
    ran = subprocess.run(
        [program, "--no-password", f"--dbname={connection}", *arguments],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    if ran.returncode != 0:
        raise DumpFailed(f"{program} failed: {ran.stderr.strip()[-2000:]}")
