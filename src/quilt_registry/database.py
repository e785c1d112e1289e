"""The way to PostgreSQL: a pool, transactions, migrations, and what a lost database looks like to the rest."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import asyncpg
import msgspec

from quilt_registry.errors import Unavailable
from quilt_registry.migrations import TablesInUse

if TYPE_CHECKING:
    from alembic.config import Config

log = logging.getLogger(__name__)
Method = TypeVar("Method", bound=Callable[..., Any])

Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy

# Seconds: to get a connection (a database that restarts is waited for), for one statement, for an idle transaction.
ACQUIRE, STATEMENT, IDLE_IN_TRANSACTION = 10.0, 120, 120
SHOWN = 300  # characters of a slow statement that are logged

_GONE = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.IdleInTransactionSessionTimeoutError,
)


class Database:
    """A pool of connections to one database. Statements that take `slow_ms` milliseconds or longer are logged."""

    def __init__(self, url: str, size: int, slow_ms: int = 500):
        self.url, self.size, self.slow_ms = plain(url), size, slow_ms
        self._pool: asyncpg.Pool | None = None
        # Connections taken, seconds waited for them, slow statements: totals, for the metrics.
        self.acquired, self.waited, self.slow = 0, 0.0, 0

    async def open(self) -> None:
        """Connect. Raises Unavailable when the database does not answer."""
        try:
            self._pool = await asyncpg.create_pool(
                self.url,
                min_size=1,
                max_size=self.size,
                timeout=ACQUIRE,
                init=self._prepare,
                connection_class=_Timed,
                reset=_as_it_is,
                server_settings={
                    "application_name": "quilt-registry",
                    "statement_timeout": f"{STATEMENT}s",
                    "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION}s",
                    "timezone": "UTC",
                    "jit": "off",  # short queries: compiling them costs more than it gains
                },
            )
        except Exception as error:
            _translate(error)
            raise

    async def close(self) -> None:
        if self._pool is not None:
            try:
                await asyncio.wait_for(self._pool.close(), 10)
            except TimeoutError:
                self._pool.terminate()

    def connection(self) -> _Held:
        """A connection for statements that each stand alone. Raises Unavailable when there is none to be had."""
        assert self._pool is not None
        return _Held(self, self._pool)

    def connections(self) -> dict[str, int]:
        """How many connections are used, are open, and may be open."""
        opened = self._pool.get_size() if self._pool else 0
        idle = self._pool.get_idle_size() if self._pool else 0
        return {"used": opened - idle, "open": opened, "limit": self.size}

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection in a transaction that commits at the end of the block, or leaves nothing behind."""
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

    async def execute(self, query: str, *values: Any) -> str:
        async with self.connection() as connection:
            return await connection.execute(query, *values)

    async def _prepare(self, connection: asyncpg.Connection) -> None:
        assert isinstance(connection, _Timed)
        connection.slow, connection.note = self.slow_ms / 1000, self._note
        await connection.set_type_codec(
            "jsonb",
            encoder=lambda value: msgspec.json.encode(value).decode(),
            decoder=msgspec.json.decode,
            schema="pg_catalog",
        )

    def _note(self, query: str, seconds: float) -> None:
        """Log a slow statement: its text, in which there are no values."""
        self.slow += 1
        sql = " ".join(query.split())[:SHOWN]
        log.warning("slow query", extra={"ms": round(seconds * 1000, 1), "sql": sql})


def plain(url: str) -> str:
    """A database address in libpq's own form, without the `+driver` that SQLAlchemy knows."""
    scheme, separator, rest = url.partition("://")
    return scheme.partition("+")[0] + separator + rest


async def _as_it_is(_: asyncpg.Connection) -> None:
    """Between uses of a connection: nothing here changes a session, and resetting it would double the round trips."""


async def _acquire(pool: asyncpg.Pool) -> Any:
    """A live connection. A database that restarts is waited for, so that people see a pause and no error."""
    async with asyncio.timeout(ACQUIRE):
        while True:
            try:
                return await pool.acquire()
            except _GONE:
                await asyncio.sleep(0.2)


def _timed(method: Method) -> Method:
    async def run(self: _Timed, query: str, *values: Any, **options: Any) -> Any:
        began = time.perf_counter()
        try:
            return await method(self, query, *values, **options)
        finally:
            seconds = time.perf_counter() - began
            if seconds >= self.slow:
                self.note(query, seconds)

    return cast(Method, run)


class _Timed(asyncpg.Connection):
    """A connection that tells how long its statements take. asyncpg's own query loggers took twice the time."""

    slow = math.inf  # seconds
    note: Callable[[str, float], None]

    fetch = _timed(asyncpg.Connection.fetch)
    fetchrow = _timed(asyncpg.Connection.fetchrow)
    fetchval = _timed(asyncpg.Connection.fetchval)
    execute = _timed(asyncpg.Connection.execute)


class _Held:
    """A connection for the length of a block, out of which failures of the database come as Unavailable.

    A class, since the generator form took a tenth of the time of a small request.
    """

    def __init__(self, db: Database, pool: asyncpg.Pool):
        self.db, self.pool = db, pool

    async def __aenter__(self) -> Connection:
        began = time.perf_counter()
        try:
            self.connection = await _acquire(self.pool)
        except Exception as error:
            _translate(error)
            raise
        finally:
            self.db.acquired += 1
            self.db.waited += time.perf_counter() - began
        return self.connection  # type: ignore[no-any-return]

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, asyncpg.InternalClientError):  # lost in the middle of a statement: of no more use
            self.connection.terminate()
        try:
            await self.pool.release(self.connection)
        except Exception as lost:
            _translate(lost)
            raise
        finally:
            if error is not None:
                _translate(error)


def _translate(error: BaseException) -> None:
    """Raises Unavailable for what a lost or overloaded database looks like."""
    if isinstance(error, asyncpg.QueryCanceledError):
        raise Unavailable("The database took too long. Try again in a moment.") from error
    lost = isinstance(error, asyncpg.InterfaceError) and "closed" in str(error)
    if lost or isinstance(error, asyncpg.InternalClientError):
        raise Unavailable("The connection to the database was lost. Try again in a moment.") from error
    if isinstance(error, asyncpg.DeadlockDetectedError):
        raise Unavailable("Two changes got in each other's way. Try again in a moment.") from error
    if isinstance(error, (*_GONE, TimeoutError)):
        raise Unavailable("The database does not answer. Try again in a moment.") from error


# ------------------------------------------------------------------------------------------------ migrations


MIGRATIONS = Path(__file__).parent / "migrations"


def _alembic(url: str, tell: Callable[[str], None] = log.info) -> Config:
    # Imported only by those who migrate: it takes a third of a second and 25 MB.
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes |= {"url": plain(url), "tell": tell}
    return config


def migrate(url: str, tell: Callable[[str], None] = log.info) -> None:
    """Bring the schema to this release's, beside whoever uses it; a schema of a newer release is left as it is.

    Two at once are safe: the second waits, then finds nothing to do. One that is killed can be repeated. `tell` hears
    of each step. Raises Unavailable when the database does not answer, or is too busy to be changed.
    """
    if not is_behind(asyncio.run(revision(url))):
        return
    from alembic import command

    try:
        command.upgrade(_alembic(url, tell), "head")
    except TablesInUse as error:
        raise Unavailable(str(error)) from error
    except Exception as error:
        _translate(error)
        raise


@functools.cache
def revisions() -> tuple[str, ...]:
    """The schema revisions that this release knows, its own first. Their files are named and sorted by them."""
    found = [path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py")]
    return tuple(sorted(found, reverse=True))


def head() -> str:
    """The schema revision of this release."""
    return revisions()[0]


def is_behind(found: str | None) -> bool:
    """Whether a schema is of a release before this one, or there is none: this release cannot run on it."""
    return found is None or found in revisions()[1:]


def is_ahead(found: str | None) -> bool:
    """Whether a schema is of a newer release. If that is the next one, this release runs on it."""
    return found is not None and found not in revisions()


def standing(found: str | None) -> str:
    """What schema there is, and which one this release has."""
    return f"The database has the schema {found or 'of nothing yet'}, this release needs {head()}."


async def revision(url: str) -> str | None:
    """The schema revision of a database; None where there is none. Raises Unavailable."""
    try:
        connection = await asyncpg.connect(plain(url), timeout=ACQUIRE)
    except Exception as error:
        _translate(error)
        raise
    try:
        if not await connection.fetchval("SELECT to_regclass('alembic_version') IS NOT NULL"):
            return None
        return await connection.fetchval("SELECT version_num FROM alembic_version")  # type: ignore[no-any-return]
    finally:
        await connection.close()
