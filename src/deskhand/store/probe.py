"""Trying the database."""

from .database import Database
from .queries import load


class SqlProbe:
    """The `StorageProbe` of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = load("probe", database.driver)

    async def probe(self, now: int) -> None:
        """Write something and have it on disk."""
        await self._database.write(lambda connection: self._sql.probe(connection, now=now))
