"""Idempotency keys in the database."""

from collections.abc import Sequence

from ..ports.idempotency import KeyRecord
from .database import Connection, Database
from .queries import load
from .text import column


class SqlIdempotency:
    """The `IdempotencyStore` of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = load("idempotency", database.driver)

    async def claim(self, wanted: KeyRecord, now: int, most: int) -> KeyRecord:
        """Take a key for `wanted` if it is free, and return its record as it is then."""
        owner, key = column(wanted.owner), column(wanted.key)
        row = {
            "owner": owner,
            "key": key,
            "token": wanted.token,
            "lease_until": wanted.lease_until,
            "expires_at": wanted.expires_at,
            "sealed": wanted.sealed,
        }

        def unit(connection: Connection) -> KeyRecord:
            found = None
            while found is None:  # released between the two statements, where statements see each other's ends
                if self._sql.claim_key(connection, **row, now=now):
                    self._sql.forget_surplus_keys(connection, owner=owner, others=most - 1)
                found = self._sql.key(connection, owner=owner, key=key)
            return _record(*found)

        return await self._database.write(unit)

    async def name(self, token: str, response_id: str, sealed: bytes) -> None:
        """Note the response that the request of a claim makes."""
        row = {"token": token, "response_id": column(response_id), "sealed": sealed}
        await self._database.write(lambda connection: self._sql.name_response(connection, **row))

    async def settle(self, token: str, sealed: bytes) -> None:
        """Note that the request of a claim has ended, and what is kept of it."""
        await self._database.write(lambda connection: self._sql.settle_key(connection, token=token, sealed=sealed))

    async def release(self, token: str) -> None:
        """Forget a claim."""
        await self._database.write(lambda connection: self._sql.release_key(connection, token=token))

    async def renew(self, tokens: Sequence[str], lease_until: int) -> None:
        """Set the leases of requests that are under way."""
        rows = [{"token": token, "lease_until": lease_until} for token in tokens]
        if rows:
            await self._database.write(lambda connection: self._sql.renew_keys(connection, rows))

    async def forget_expired(self, now: int, most: int) -> int:
        """Remove keys whose time is over."""
        return int(await self._database.write(lambda c: self._sql.forget_expired_keys(c, now=now, most=most)))


def _record(
    owner: str,
    key: str,
    token: str,
    ended: int,
    lease_until: int,
    expires_at: int,
    response_id: str,
    sealed: bytes,
) -> KeyRecord:
    return KeyRecord(owner, key, token, bool(ended), lease_until, expires_at, response_id, bytes(sealed))
