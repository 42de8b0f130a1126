"""The named SQL queries in `sql/`, as methods that take a connection and named parameters.

The dialect is what SQLite and PostgreSQL share, so that there is one of each.
"""

from pathlib import Path
from typing import Any

import aiosql

from .database import Driver

_SQL = Path(__file__).parent / "sql"


def load(name: str, driver: Driver) -> Any:
    """The queries of `sql/<name>.sql` for a driver.

    What a query returns is written behind its name: `^` one row or None, `!` the number of changed rows, `*!` the same
    for a list of parameters; nothing there means an iterator of rows, which must be used up before the next query.
    """
    return aiosql.from_path(_SQL / f"{name}.sql", driver, encoding="utf-8")
