"""Deleting what is old from the database."""

from .database import Connection, Database
from .queries import load


class SqlRetention:
    """The `RetentionStore` of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = load("retention", database.driver)

    async def expire_responses(self, before: int, most: int) -> int:
        """Delete or hide at most `most` ended responses from before a time."""

        def unit(connection: Connection) -> int:
            old = list(self._sql.old_responses(connection, before=before, most=most))
            for id_, owner in old:
                self._expire(connection, id_, owner)
            return len(old)

        return await self._database.write(unit)

    async def expire_traces(self, before: int, most: int) -> int:
        """Delete at most `most` traces from before a time."""

        def unit(connection: Connection) -> int:
            return int(self._sql.expire_traces(connection, before=before, most=most))

        return await self._database.write(unit)

    async def scrub(self) -> None:
        """Move what was committed out of the write-ahead log, and empty it: it holds what pages were before."""
        await self._database.scrub()

    def _expire(self, connection: Connection, id_: str, owner: str) -> None:
        gone = [{"id": row[0]} for row in list(self._sql.gone_with(connection, id=id_, owner=owner))]
        if gone:
            self._sql.forget_links(connection, gone)
            self._sql.delete_responses(connection, gone)
        else:
            self._sql.hide_response(connection, id=id_)
