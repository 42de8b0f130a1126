"""A PostgreSQL database, which several processes on several hosts may share.

What is committed is known even if the connection is lost before the answer: each transaction also writes its number
into the row of its writer, which is read again then. The server's own `pg_xact_status` cannot tell: a server that was
killed forgets the last transaction ids, and gives them to others.
"""

import random
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from types import MappingProxyType
from typing import Any, Final

import psycopg
import structlog
from aiosql.adapters.pyformat import PyFormatAdapter
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus

from ..core.errors import StoreUnavailable
from .database import Driver, IntegrityViolated
from .migrate import migrate_postgres
from .threads import DatabaseThreads

log = structlog.get_logger()

READERS = 2
PATIENCE_SECONDS = 3.0
"""How long a call waits for a database that is gone. Longer than a restart takes, and shorter than clients wait."""
RECONNECT_SECONDS = 1.0
"""Between attempts to connect while calls are refused."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, MOST_TRIES = 0.01, 0.5, 12

_DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {
        "application_name": "deskhand",
        "client_encoding": "UTF8",
        "connect_timeout": 3,
        # A server that has vanished is noticed in half a minute, and unanswered bytes in a quarter.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 15_000,
    }
)
_LIMITS: Final = (
    "SET statement_timeout = '30s'; SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '60s'"
)
_READ_ONLY: Final = "SET default_transaction_read_only = on"
# In one round trip. The values are our own: a hexadecimal name and a number.
_BEGIN: Final = (
    "BEGIN ISOLATION LEVEL SERIALIZABLE; INSERT INTO commits (writer, number, at) VALUES ('{writer}', {number}, now()) "
    "ON CONFLICT (writer) DO UPDATE SET number = excluded.number, at = excluded.at"
)
# It writes, so it waits for a transaction of the same writer that is still under way on a connection that was lost.
_LAST_COMMIT: Final = (
    "INSERT INTO commits (writer, number, at) VALUES (%s, 0, now()) "
    "ON CONFLICT (writer) DO UPDATE SET at = excluded.at RETURNING number"
)
_FORGET_WRITERS: Final = "DELETE FROM commits WHERE at < now() - interval '7 days'"

_RESTARTING: Final = "The database server is stopping or starting. Nothing needs to be done if it comes back."
_UNREACHABLE: Final = "The database server cannot be reached"
_ANSWER_LOST: Final = (
    "The connection to the database was lost while it committed: what was to be stored may be stored or not. "
    "Look before you try again."
)
_TROUBLE: Mapping[str, str] = MappingProxyType(
    {
        "08": "The connection to the database was lost.",
        "25006": "The database is read-only. Check that DESKHAND_DATABASE_URL names the primary, not a standby.",
        "28": "The database refuses the user or the password of DESKHAND_DATABASE_URL. Correct them.",
        "3D000": "There is no such database. Make it (createdb), or correct DESKHAND_DATABASE_URL.",
        "42501": "The user of DESKHAND_DATABASE_URL may not do this. Make it the owner of the database.",
        "40": "Too many wrote the same at the same time.",
        "53100": "The disk of the database is full. Free some space; nothing else needs to be done.",
        "53200": "There was no memory left for the database.",
        "53300": "The database has too many connections. Raise its max_connections, or run fewer servers on it.",
        "53": "The database has too little of something that it needs. See its log.",
        "55P03": "Somebody holds what is to be written for too long. See pg_stat_activity of the database.",
        "57014": "The database took too long. See its log and pg_stat_activity.",
        "57": _RESTARTING,
        "58": "The disk of the database reports an error. Check the disk and the system's log.",
        "XX": "The database is damaged, or has an error in itself. See its log.",
    }
)
"""Advice by SQLSTATE, or by its class (PostgreSQL documentation, appendix A)."""
_REASONS: Mapping[str, str] = MappingProxyType(
    {
        "password authentication failed": _TROUBLE["28"],
        "no password supplied": _TROUBLE["28"],
        "pg_hba.conf": _TROUBLE["28"],
        "authentication failed": _TROUBLE["28"],
        "does not exist": "There is no such database, or no such user. Make it, or correct DESKHAND_DATABASE_URL.",
        "too many": _TROUBLE["53300"],
        "remaining connection slots": _TROUBLE["53300"],
        "is starting up": _RESTARTING,
        "is shutting down": _RESTARTING,
        "in recovery mode": _RESTARTING,
        "Connection refused": f"{_UNREACHABLE}: the connection was refused. Check that it runs.",
        "No such file": f"{_UNREACHABLE}: there is no such socket. Check that it runs.",
        "timeout expired": f"{_UNREACHABLE}: it does not answer. Check the network and that it runs.",
        "failed to resolve": f"{_UNREACHABLE}: its name does not resolve. Characters such as @ in a password must be "
        "percent-encoded in DESKHAND_DATABASE_URL.",
        "certificate": f"{_UNREACHABLE}: its certificate is not trusted. Set sslrootcert in DESKHAND_DATABASE_URL.",
        "SSL": f"{_UNREACHABLE}: TLS failed. Check sslmode in DESKHAND_DATABASE_URL.",
    }
)
"""Advice by what the text of a failed connection has, as that has no SQLSTATE. The text itself may have a password."""


class _Unreachable(StoreUnavailable):
    """There is no connection. There may be one soon."""


class PsycopgAdapter(PyFormatAdapter):
    """Named queries for psycopg, which takes `%` for the begin of a parameter."""

    def process_sql(self, query_name: str, op_type: Any, sql: str) -> str:
        """The query with psycopg's parameters."""
        # aiosql's adapters have no types.
        return str(super().process_sql(query_name, op_type, sql.replace("%", "%%")))  # type: ignore[no-untyped-call]


class PostgresDatabase(DatabaseThreads):
    """The `Database` of a URL. Get one from `PostgresDatabase.open`."""

    driver: Final[Driver] = PsycopgAdapter

    def __init__(self, url: str) -> None:
        parameters = parsed(url)
        reading = [PostgresLink(parameters, f"{_LIMITS}; {_READ_ONLY}") for _ in range(READERS)]
        super().__init__(PostgresLink(parameters, _LIMITS), reading)

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator["PostgresDatabase"]:
        """Open the database, migrated if need be, until the block ends.

        Writes that are queued when the block ends are still done. Raises `StoreUnavailable`, also for a database that
        a newer version has written.
        """
        # Not on a thread: alembic is global to the process, and nothing is served yet.
        _migrate(url)
        database = cls(url)
        async with database.running():
            yield database

    async def scrub(self) -> None:
        """Nothing: the server's autovacuum and its write-ahead log have rules of their own."""


class PostgresLink:
    """The `Link` of a connection that is made when it is needed, and again when it was lost.

    `setup` is what a new connection is told first.
    """

    def __init__(self, parameters: Mapping[str, Any], setup: str) -> None:
        self._parameters = parameters
        self._setup = setup
        self._connection: psycopg.Connection | None = None
        self._writer = secrets.token_hex(8)
        self._number = 0
        self._waiting_since = 0.0
        self._trouble = ""
        self._given_up = False
        self._next_attempt = 0.0

    def connection(self) -> psycopg.Connection:
        """The connection, made again if it was lost. While calls are refused, that is tried once a second."""
        if self._connection is not None and not self._connection.closed:
            return self._connection
        if self._given_up and time.monotonic() < self._next_attempt:
            raise _Unreachable(self._trouble)
        self._next_attempt = time.monotonic() + RECONNECT_SECONDS
        try:
            self._connection = connect(self._parameters, self._setup)
        except StoreUnavailable as error:
            self._connection, self._trouble = None, str(error)
            raise _Unreachable(self._trouble) from error
        if self._given_up:
            log.warning("database.back")
        self._given_up = False
        return self._connection

    def begin(self) -> None:
        """Begin a serializable transaction that writes down its number."""
        self._number += 1
        self._open().execute(_BEGIN.format(writer=self._writer, number=self._number), prepare=False)

    def commit(self) -> None:
        """Commit, and find out what became of it if the answer is lost."""
        try:
            self._open().execute("COMMIT", prepare=False)
        except psycopg.Error as error:
            if not self._is_lost(error):
                raise
            if not self._was_committed():
                # There is a connection again, on which this may be done again.
                raise _Unreachable(_TROUBLE["08"]) from error

    def rollback(self) -> None:
        """Roll back, if the connection is there."""
        if self._connection is not None and self.in_transaction():
            with suppress(psycopg.Error):
                self._connection.execute("ROLLBACK", prepare=False)

    def in_transaction(self) -> bool:
        """Whether the connection is there, in a transaction."""
        if self._connection is None or self._connection.closed:
            return False
        return self._connection.info.transaction_status != TransactionStatus.IDLE

    def passes(self, error: Exception) -> bool:
        """Whether others were in the way, or the connection was lost."""
        match error:
            case psycopg.errors.SerializationFailure() | psycopg.errors.DeadlockDetected():
                return True
            case psycopg.Error():
                return self._is_lost(error)
            case _:
                return isinstance(error, _Unreachable)

    def wait(self, tries: int) -> bool:
        """Wait longer each time, for `PATIENCE_SECONDS` together, and not at all while calls are refused."""
        now = time.monotonic()
        if tries == 1:
            self._waiting_since = now
        if self._given_up or tries > MOST_TRIES or now - self._waiting_since > PATIENCE_SECONDS:
            if self._connection is None and not self._given_up:
                self._given_up = True
                log.warning("database.gone", trouble=self._trouble)
            return False
        # Not all at once: those who were in each other's way would be again.
        time.sleep(random.uniform(0.5, 1) * min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**tries))
        return True

    def explained(self, error: Exception) -> Exception:
        """Trouble of the server, or of the way to it."""
        return explained(error)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    def _open(self) -> psycopg.Connection:
        if self._connection is None:
            raise psycopg.InterfaceError("there is no connection")
        return self._connection

    def _is_lost(self, error: psycopg.Error) -> bool:
        if self._connection is None or self._connection.closed:
            return True
        # Said before the connection is closed, which is noticed with the next use of it.
        return (error.sqlstate or "")[:3] in {"57P", "080"}

    def _was_committed(self) -> bool:
        """Ask what became of the transaction. Raises `StoreUnavailable` if nobody can say."""
        tries = 0
        while (number := self._last_commit()) is None:
            tries += 1
            if not self.wait(tries):
                raise StoreUnavailable(_ANSWER_LOST)
        return number == self._number

    def _last_commit(self) -> int | None:
        with suppress(StoreUnavailable, psycopg.Error):
            row = self.connection().execute(_LAST_COMMIT, (self._writer,)).fetchone()
            return None if row is None else int(row[0])
        return None


def parsed(url: str) -> Mapping[str, Any]:
    """The parameters of a connection. Raises `StoreUnavailable`, without any part of the URL."""
    try:
        if not url.startswith(("postgresql://", "postgres://")):
            raise ValueError
        return {**_DEFAULTS, **conninfo_to_dict(url)}
    except (psycopg.Error, ValueError):
        raise StoreUnavailable(
            "DESKHAND_DATABASE_URL is not of the form postgresql://user:password@host:port/database. Characters such "
            "as @ in a password must be percent-encoded."
        ) from None


def for_programs(url: str) -> tuple[str, Mapping[str, str]]:
    """A connection string for PostgreSQL's own programs, and the variables that they need besides."""
    parameters = dict(parsed(url))
    password = parameters.pop("password", None)
    return make_conninfo(**parameters), {} if password is None else {"PGPASSWORD": str(password)}


@contextmanager
def connected(url: str) -> Iterator[psycopg.Connection]:
    """A connection for long work, while the block runs. Raises `StoreUnavailable`, also from the block."""
    connection = connect(parsed(url), "SET statement_timeout = 0; SET lock_timeout = '60s'")
    try:
        yield connection
    except psycopg.Error as error:
        raise explained(error) from error
    finally:
        connection.close()


def connect(parameters: Mapping[str, Any], setup: str) -> psycopg.Connection:
    """A connection that commits only when told to, for any thread. Raises `StoreUnavailable`."""
    try:
        connection = psycopg.connect(autocommit=True, **parameters)
    except psycopg.Error as error:
        # Without the cause: its text may have parts of the URL.
        raise StoreUnavailable(why_not_connected(str(error))) from None
    try:
        connection.execute(setup, prepare=False)
    except psycopg.Error as error:
        connection.close()
        raise StoreUnavailable(_advice(error) or f"{_UNREACHABLE}.") from error
    return connection


def why_not_connected(text: str) -> str:
    """The advice for the `text` of a connection that failed, without anything of it."""
    found = (advice for words, advice in _REASONS.items() if words in text)
    return next(found, f"{_UNREACHABLE}. Check DESKHAND_DATABASE_URL and that the server runs.")


def explained(error: Exception) -> Exception:
    """`error` as `StoreUnavailable` if the server or the way to it is the cause, as `IntegrityViolated`, or unchanged.

    The message names nothing of the operator's.
    """
    match error:
        case psycopg.IntegrityError():
            typed: Exception = IntegrityViolated(error.diag.message_primary or "a constraint is violated")
        case psycopg.Error() if advice := _advice(error):
            typed = StoreUnavailable(advice)
        case _:
            return error
    typed.__cause__ = error
    return typed


def _advice(error: psycopg.Error) -> str | None:
    state = error.sqlstate
    if state is None:
        return _TROUBLE["08"] if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) else None
    return _TROUBLE.get(state) or _TROUBLE.get(state[:2])


def _migrate(url: str) -> None:
    with connected(url) as connection:
        migrate_postgres(connection)
        connection.execute(_FORGET_WRITERS)
