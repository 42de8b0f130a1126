"""A real PostgreSQL for tests, from the host's package: made, stopped, killed and started again by them."""

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql

from deskhand.store.migrate import migrate_postgres

SERVER_URL = "DESKHAND_TEST_DATABASE_URL"
"""The variable with the URL of a cluster that launched servers use. Unset: they use SQLite."""
USER, PASSWORD = "deskhand", "p@ss/word"
QUOTED_PASSWORD = "p%40ss%2Fword"
START_SECONDS = 30.0
MIGRATED = "migrated"
"""A database that others are copied from, as migrating each would take longer than most tests."""
FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
SAFE = ("fsync=on",)


def programs() -> Path | None:
    """Where `initdb` and `postgres` are; None if there is no PostgreSQL. Debian has versions side by side."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(versions, key=lambda path: int(path.parent.parent.name), default=None)
    return newest and newest.parent


@dataclass
class Cluster:
    """A PostgreSQL server on a port of its own."""

    directory: Path
    bin: Path
    port: int
    settings: tuple[str, ...]
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    def url(self, database: str = "postgres") -> str:
        """The URL of a database."""
        return f"postgresql://{USER}:{QUOTED_PASSWORD}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start the server, and wait until it takes connections."""
        options = [f"port={self.port}", f"unix_socket_directories={self.directory}", "max_connections=400"]
        options += ["listen_addresses=127.0.0.1", "logging_collector=off", *self.settings]
        command = [str(self.bin / "postgres"), "-D", str(self.directory / "data")]
        command += [part for option in options for part in ("-c", option)]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, user=_user(), group=_user(), cwd="/")
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self.process.poll() is None, (self.directory / "log").read_text()[-2000:]
            assert time.monotonic() < deadline, (self.directory / "log").read_text()[-2000:]
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop it as an operator does: connections are ended, what was committed is there."""
        self._end(signal.SIGINT)

    def crash(self) -> None:
        """Stop it as a crash does, all of its processes at once, so that it has to recover."""
        self._end(signal.SIGQUIT)

    def create(self, name: str) -> str:
        """The URL of a database, made if there is none yet."""
        return create_database(self.url(), name)

    def create_empty(self, name: str) -> str:
        """The URL of a new database with nothing in it."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)

    def drop(self, name: str) -> None:
        """Remove a database, whoever uses it."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _end(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(START_SECONDS)


def database_of(data_dir: Path) -> str:
    """The name of the database of a data directory."""
    return f"d_{hashlib.sha1(str(data_dir).encode(), usedforsecurity=False).hexdigest()[:20]}"


def create_database(server_url: str, name: str) -> str:
    """The URL of a database of a cluster, copied from the one that is migrated if there is none yet."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        # One at a time, as a database that is copied may not be in use.
        connection.execute("SELECT pg_advisory_lock(1)")
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone() is None:
            statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
            connection.execute(statement.format(sql.Identifier(name), sql.Identifier(MIGRATED)))
    return f"{server_url.rpartition('/')[0]}/{name}"


@contextmanager
def cluster(settings: tuple[str, ...] = FAST, bin_: Path | None = None) -> Iterator[Cluster]:
    """A server that is gone with its data when the block ends; of the host's programs, or of those in `bin_`."""
    bin_ = bin_ or programs()
    assert bin_ is not None, "there is no PostgreSQL: apt-get install postgresql"
    # Not below pytest's directories: those are root's alone, and PostgreSQL does not run as root.
    directory = Path(tempfile.mkdtemp(prefix="deskhand-postgres-"))
    made = Cluster(directory, bin_, _free_port(), settings)
    try:
        _initialise(made)
        made.start()
        made.create_empty(MIGRATED)
        with psycopg.connect(made.url(MIGRATED), autocommit=True) as connection:
            migrate_postgres(connection)
        yield made
    finally:
        if made.process is not None and made.process.poll() is None:
            made.stop()
        shutil.rmtree(directory, ignore_errors=True)


def _initialise(made: Cluster) -> None:
    password = made.directory / "password"
    password.write_text(PASSWORD)
    if user := _user():
        shutil.chown(made.directory, user, user)
        shutil.chown(password, user, user)
    command = [str(made.bin / "initdb"), "-D", str(made.directory / "data"), "-U", USER, "--auth=scram-sha-256"]
    command += [f"--pwfile={password}", "--encoding=UTF8", "--no-sync", "--no-locale"]
    subprocess.run(command, check=True, capture_output=True, user=_user(), group=_user(), cwd="/")


def _user() -> str | None:
    """Whom the server runs as: not root, which it refuses."""
    return "postgres" if os.geteuid() == 0 else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
