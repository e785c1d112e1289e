"""Connection pool, transactions, and translation of connection errors into `Unavailable`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar, cast

import asyncpg
import msgspec

from quilt_registry.errors import Unavailable

log = logging.getLogger(__name__)
Method = TypeVar("Method", bound=Callable[..., Any])
T = TypeVar("T")

ACQUIRE_TIMEOUT = 10.0  # seconds to get a connection, which bridges a restart of the database
STATEMENT_TIMEOUT = IDLE_IN_TRANSACTION_TIMEOUT = 120  # seconds
MAX_LOGGED_SQL = 300  # characters of a slow statement

_CONNECTION_ERRORS = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.IdleInTransactionSessionTimeoutError,
)


def _timed(method: Method) -> Method:
    async def run(self: Connection, query: str, *values: Any, **options: Any) -> Any:
        began = time.perf_counter()
        try:
            return await method(self, query, *values, **options)
        finally:
            seconds = time.perf_counter() - began
            if seconds >= self.slow:
                self.on_slow(query, seconds)

    return cast(Method, run)


class Connection(asyncpg.Connection):
    """A connection of the pool. It times statements itself: asyncpg's query loggers took twice the time."""

    slow = math.inf  # seconds from which on a statement is reported
    on_slow: Callable[[str, float], None]
    recorded: Counter[str]  # audit events of each kind; shared by all connections of a pool

    fetch = _timed(asyncpg.Connection.fetch)
    fetchrow = _timed(asyncpg.Connection.fetchrow)
    fetchval = _timed(asyncpg.Connection.fetchval)
    execute = _timed(asyncpg.Connection.execute)

    async def value(self, type: type[T], query: str, *values: Any) -> T:  # noqa: ARG002  # `type` is for the type checker
        """Return the first value of the first row, which is a `type`."""
        return cast(T, await self.fetchval(query, *values))


class Database:
    """A pool of connections to one database. Statements that take `slow_ms` milliseconds or longer are logged."""

    def __init__(self, url: str, size: int, slow_ms: int = 500):
        self.url, self.size, self.slow_ms = libpq_url(url), size, slow_ms
        self._pool: asyncpg.Pool | None = None
        # Totals for the metrics: connections acquired, seconds waited for them, slow statements, audit events by kind.
        self.acquired, self.waited, self.slow, self.recorded = 0, 0.0, 0, Counter[str]()

    async def open(self) -> None:
        """Connect. Raise Unavailable if the database does not respond."""
        try:
            self._pool = await asyncpg.create_pool(
                self.url,
                min_size=1,
                max_size=self.size,
                timeout=ACQUIRE_TIMEOUT,
                init=self._prepare,
                connection_class=Connection,
                reset=_no_reset,
                server_settings={
                    "application_name": "quilt-registry",
                    "statement_timeout": f"{STATEMENT_TIMEOUT}s",
                    "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_TIMEOUT}s",
                    "timezone": "UTC",
                    "jit": "off",  # because compiling short queries costs more than it gains
                },
            )
        except Exception as error:
            translate(error)
            raise

    async def close(self) -> None:
        if self._pool is not None:
            try:
                await asyncio.wait_for(self._pool.close(), 10)
            except TimeoutError:
                self._pool.terminate()

    def connection(self) -> _Acquired:
        """Return a context manager of a connection for single statements. Raise Unavailable if there is none."""
        assert self._pool is not None
        return _Acquired(self, self._pool)

    def connections(self) -> dict[str, int]:
        """Return how many connections are used, are open, and may be open."""
        opened = self._pool.get_size() if self._pool else 0
        idle = self._pool.get_idle_size() if self._pool else 0
        return {"used": opened - idle, "open": opened, "limit": self.size}

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Open a transaction that commits at the end of the block, or rolls back."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def fetch(self, query: str, *values: Any) -> list[asyncpg.Record]:
        async with self.connection() as connection:
            return await connection.fetch(query, *values)

    async def fetchrow(self, query: str, *values: Any) -> asyncpg.Record | None:
        async with self.connection() as connection:
            return await connection.fetchrow(query, *values)

    async def fetchval(self, query: str, *values: Any) -> Any:
        async with self.connection() as connection:
            return await connection.fetchval(query, *values)

    async def value(self, type: type[T], query: str, *values: Any) -> T:  # noqa: ARG002  # `type` is for the type checker
        """Return the first value of the first row, which is a `type`."""
        return cast(T, await self.fetchval(query, *values))

    async def execute(self, query: str, *values: Any) -> str:
        async with self.connection() as connection:
            return await connection.execute(query, *values)

    async def _prepare(self, connection: asyncpg.Connection) -> None:
        assert isinstance(connection, Connection)
        connection.slow, connection.on_slow = self.slow_ms / 1000, self._log_slow
        connection.recorded = self.recorded
        await connection.set_type_codec(
            "jsonb",
            encoder=lambda value: msgspec.json.encode(value).decode(),
            decoder=msgspec.json.decode,
            schema="pg_catalog",
        )

    def _log_slow(self, query: str, seconds: float) -> None:
        """Log the text of a slow statement, which contains no values."""
        self.slow += 1
        sql = " ".join(query.split())[:MAX_LOGGED_SQL]
        log.warning("slow query", extra={"ms": round(seconds * 1000, 1), "sql": sql})


def libpq_url(url: str) -> str:
    """Return a database URL as libpq knows it, without the `+driver` of SQLAlchemy."""
    scheme, separator, rest = url.partition("://")
    return scheme.partition("+")[0] + separator + rest


async def _no_reset(_: asyncpg.Connection) -> None:
    """Leave a connection as it is between uses: nothing here changes a session, and a reset doubles the round trips."""


async def _acquire(pool: asyncpg.Pool) -> Any:
    """Return a live connection. Wait for a database that restarts, so that users see a pause and no error."""
    async with asyncio.timeout(ACQUIRE_TIMEOUT):
        while True:
            try:
                return await pool.acquire()
            except _CONNECTION_ERRORS:
                await asyncio.sleep(0.2)


class _Acquired:
    """A connection for the length of a block, out of which failures of the database come as Unavailable.

    A class, because the generator form took a tenth of the time of a small request.
    """

    def __init__(self, db: Database, pool: asyncpg.Pool):
        self.db, self.pool = db, pool

    async def __aenter__(self) -> Connection:
        began = time.perf_counter()
        try:
            self.connection = await _acquire(self.pool)
        except Exception as error:
            translate(error)
            raise
        finally:
            self.db.acquired += 1
            self.db.waited += time.perf_counter() - began
        return cast(Connection, self.connection)

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, asyncpg.InternalClientError):  # lost in the middle of a statement, so of no more use
            self.connection.terminate()
        try:
            await self.pool.release(self.connection)
        except Exception as lost:
            translate(lost)
            raise
        finally:
            if error is not None:
                translate(error)


def translate(error: BaseException) -> None:
    """Raise Unavailable for an error that comes from a lost or overloaded database; return for all others."""
    if isinstance(error, asyncpg.QueryCanceledError):
        raise Unavailable("The database took too long. Try again in a moment.") from error
    lost = isinstance(error, asyncpg.InterfaceError) and "closed" in str(error)
    if lost or isinstance(error, asyncpg.InternalClientError):
        raise Unavailable("The connection to the database was lost. Try again in a moment.") from error
    if isinstance(error, asyncpg.DeadlockDetectedError):
        raise Unavailable("Two changes blocked each other. Try again in a moment.") from error
    if isinstance(error, (*_CONNECTION_ERRORS, TimeoutError)):
        raise Unavailable("The database does not respond. Try again in a moment.") from error
