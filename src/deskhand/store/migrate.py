"""The database's shape, brought up to date. Forward only.

SQLAlchemy and alembic are imported only when there is something to migrate: they cost 0.4 s, and a database that is
current should open at once.
"""

import logging
import sqlite3
from pathlib import Path

from ..core.errors import StoreUnavailable

REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010", "0011", "0012")
"""Every revision, oldest first; `migrations/versions` holds one file for each."""

_MIGRATIONS = Path(__file__).parent / "migrations"


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the database to the newest revision, in one transaction.

    Safe if another process does the same. Raises `StoreUnavailable` if a newer version has written it.
    """
    revision = stored_revision(connection)
    if revision == REVISIONS[-1]:
        return
    if revision is not None and revision not in REVISIONS:
        raise StoreUnavailable(
            f"The database is at revision {revision!r}, which this version of Deskhand does not know (its newest is "
            f"{REVISIONS[-1]!r}). Run the newer version that wrote it, or use another data directory."
        )
    _upgrade(connection)


def stored_revision(connection: sqlite3.Connection) -> str | None:
    """The revision that the database is at; None for a new one."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone() is None:
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else str(row[0])


def _upgrade(connection: sqlite3.Connection) -> None:
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import StaticPool, create_engine

    config = Config()
    config.set_main_option("path_separator", "os")
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with engine.begin() as bound:
        # By hand: the driver would begin transactions for rows only, and leave a killed migration half done.
        bound.exec_driver_sql("BEGIN IMMEDIATE")
        config.attributes["connection"] = bound
        command.upgrade(config, "head")
