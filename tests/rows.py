"""The database of a launched server, looked into and changed behind its back, whichever it is."""

import os
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from .postgres import SERVER_URL, create_database, database_of

sqlite_only = pytest.mark.skipif(
    os.environ.get("DESKHAND_TEST_DATABASE") == "postgres", reason="looks at the files of an SQLite database"
)
SQLITE_COLUMNS = "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'"
POSTGRES_COLUMNS = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"


class Rows:
    """A connection; `?` in a statement is a value."""

    def __init__(self, connection: Any, spelled: Callable[[str], str], columns: str) -> None:
        self._connection = connection
        self._columns = columns
        self._spelled = spelled

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Any:
        """The cursor of a statement."""
        return self._connection.execute(self._spelled(statement), values)

    def columns(self) -> Mapping[str, set[str]]:
        """The columns of each table."""
        found: defaultdict[str, set[str]] = defaultdict(set)
        for table, column in self._connection.execute(self._columns):
            found[table].add(column)
        return found


@contextmanager
def rows_of(data_dir: Path) -> Iterator[Rows]:
    """The database of the server that has or had this directory. What was done is committed when the block ends."""
    if SERVER_URL in os.environ:
        with psycopg.connect(create_database(os.environ[SERVER_URL], database_of(data_dir))) as postgres:
            yield Rows(postgres, lambda statement: statement.replace("%", "%%").replace("?", "%s"), POSTGRES_COLUMNS)
    else:
        with closing(sqlite3.connect(data_dir / "deskhand.sqlite", timeout=20)) as sqlite, sqlite:
            yield Rows(sqlite, str, SQLITE_COLUMNS)


def all_bytes(data_dir: Path) -> bytes:
    """Every byte that the database of a server has: those of its files, or those of all its rows."""
    if SERVER_URL not in os.environ:
        return b"".join(path.read_bytes() for path in sorted(data_dir.glob("deskhand.sqlite*")))
    found: list[str] = []
    with psycopg.connect(create_database(os.environ[SERVER_URL], database_of(data_dir))) as connection:
        for (table,) in connection.execute(TABLES).fetchall():
            rows = connection.execute(sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(table)))
            found += [row[0] for row in rows]
    return "\n".join(found).encode()
