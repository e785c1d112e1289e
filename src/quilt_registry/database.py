"""The way to PostgreSQL: a pool, transactions, migrations, and what a lost database looks like to the rest."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from quilt_registry.errors import Unavailable

Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy

# Seconds: to get a connection (a database that restarts is waited for), for one statement, for an idle transaction.
ACQUIRE, STATEMENT, IDLE_IN_TRANSACTION = 10.0, 120, 120

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
    """A pool of connections to one database."""

    def __init__(self, url: str, size: int):
        self.url, self.size = plain(url), size
        self._pool: asyncpg.Pool | None = None

    async def open(self) -> None:
        """Connect. Raises Unavailable when the database does not answer."""
        try:
            self._pool = await asyncpg.create_pool(
                self.url,
                min_size=1,
                max_size=self.size,
                timeout=ACQUIRE,
                init=_prepare,
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
        return _Held(self._pool)

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


def plain(url: str) -> str:
    """A database address in libpq's own form, without the `+driver` that SQLAlchemy knows."""
    scheme, separator, rest = url.partition("://")
    return scheme.partition("+")[0] + separator + rest


async def _prepare(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec(
        "jsonb",
        encoder=lambda value: msgspec.json.encode(value).decode(),
        decoder=msgspec.json.decode,
        schema="pg_catalog",
    )


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


class _Held:
    """A connection for the length of a block, out of which failures of the database come as Unavailable.

    A class, since the generator form took a tenth of the time of a small request.
    """

    def __init__(self, pool: asyncpg.Pool):
        self.pool = pool

    async def __aenter__(self) -> Connection:
        try:
            self.connection = await _acquire(self.pool)
        except Exception as error:
            _translate(error)
            raise
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
    if isinstance(error, (*_GONE, TimeoutError)):
        raise Unavailable("The database does not answer. Try again in a moment.") from error


# ------------------------------------------------------------------------------------------------ migrations


def _alembic(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["url"] = plain(url)
    return config


def migrate(url: str) -> None:
    """Bring the schema to this release's. Two at once are safe: the second waits, then finds nothing to do."""
    command.upgrade(_alembic(url), "head")


def head() -> str:
    """The schema revision that this release needs."""
    revision = ScriptDirectory.from_config(_alembic("")).get_current_head()
    assert revision is not None
    return revision


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
