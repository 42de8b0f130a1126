"""The database's shape, brought up to date. Forward only.

SQLAlchemy and alembic are imported only when there is something to migrate: they cost 0.4 s, and a database that is
current should open at once.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from ..core.errors import StoreUnavailable
from .database import Connection

REVISIONS = (
    "0001",
    "0002",
    "0003",
    "0004",
    "0005",
    "0006",
    "0007",
    "0008",
    "0009",
    "0010",
    "0011",
    "0012",
    "0013",
    "0014",
    "0015",
    "0016",
    "0017",
    "0018",
)
"""Every revision, oldest first; `migrations/versions` holds one file for each."""

_MIGRATIONS = Path(__file__).parent / "migrations"


_LOCK = 5_723_904_418_026
"""Under which processes that share a PostgreSQL migrate one after the other: any number that nobody else takes."""


def migrate_sqlite(connection: Connection) -> None:
    """Bring a database to the newest revision, in one transaction.

    Safe if another process does the same. Raises `StoreUnavailable` if a newer version has written it.
    """
    found = "SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'"
    if _is_old(connection, found):
        # By hand: the driver would begin transactions for rows only, and leave a killed migration half done.
        _upgrade(connection, "sqlite://", ("BEGIN IMMEDIATE",))


def migrate_postgres(connection: Connection) -> None:
    """The same for PostgreSQL. `connection` commits by itself."""
    found = "SELECT 1 WHERE to_regclass('alembic_version') IS NOT NULL"
    if _is_old(connection, found):
        _upgrade(connection, "postgresql+psycopg://", ("BEGIN", f"SELECT pg_advisory_xact_lock({_LOCK})"))


def _is_old(connection: Connection, found: str) -> bool:
    """Whether there is something to migrate; `found` selects a row if the table of the revision is there."""
    revision = _revision(connection, found)
    if revision is not None and revision not in REVISIONS:
        raise StoreUnavailable(
            f"The database is at revision {revision!r}, which this version of Deskhand does not know (its newest is "
            f"{REVISIONS[-1]!r}). Run the newer version that wrote it, or use another data directory or database."
        )
    return revision != REVISIONS[-1]


def _revision(connection: Connection, found: str) -> str | None:
    if connection.execute(found).fetchone() is None:
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else str(row[0])


def _upgrade(connection: Connection, dialect: str, begin: Sequence[str]) -> None:
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import StaticPool, create_engine

    config = Config()
    config.set_main_option("path_separator", "os")
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    engine = create_engine(dialect, creator=lambda: connection, poolclass=StaticPool)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with engine.begin() as bound:
        for statement in begin:
            bound.exec_driver_sql(statement)
        config.attributes["connection"] = bound
        command.upgrade(config, "head")
