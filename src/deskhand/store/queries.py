"""The named SQL queries in `sql/`, as methods that take a connection and named parameters.

The dialect is what SQLite and PostgreSQL share, so that another database needs another driver and no other queries.
"""

from pathlib import Path
from typing import Any

import aiosql

_SQL = Path(__file__).parent / "sql"


def load(name: str) -> Any:
    """The queries of `sql/<name>.sql`.

    What a query returns is written behind its name: `^` one row or None, `!` the number of changed rows, `*!` the same
    for a list of parameters; nothing there means an iterator of rows, which must be used up before the next query.
    """
    return aiosql.from_path(_SQL / f"{name}.sql", "sqlite3", encoding="utf-8")
