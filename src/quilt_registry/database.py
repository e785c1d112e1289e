"""Connection pool, transactions, and translation of connection errors into `Unavailable`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import re
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar, cast
from urllib.parse import parse_qs, urlsplit
from weakref import WeakValueDictionary

import asyncpg
import msgspec

from quilt_registry.errors import Unavailable
from quilt_registry.turns import Turns

log = logging.getLogger(__name__)
Method = TypeVar("Method", bound=Callable[..., Any])
T = TypeVar("T")

ACQUIRE_TIMEOUT = 10.0  # seconds to get a connection, which bridges a restart of the database
# A server that hangs keeps connections open and no statement_timeout ends what waits for it. After so many seconds of
# waiting the worker pings it, and if no answer comes in time, it ends all waiting and refuses requests until one comes.
PATIENCE, PING_TIMEOUT, PING_INTERVAL = 1.0, 5.0, 0.5
STATEMENT_TIMEOUT = IDLE_IN_TRANSACTION_TIMEOUT = 120  # seconds
PUBLIC_TIMEOUT = 5  # seconds for a statement that any client can cause
MAX_LOGGED_SQL = 300  # characters of a slow statement

NO_RESPONSE = "The database does not respond. Try again in a moment."

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
        options.setdefault("timeout", self.limit)
        try:
            return await method(self, query, *values, **options)
        except TimeoutError as error:  # asyncpg has canceled the statement
            raise Unavailable("The database took too long. Ask for less, or try again in a moment.") from error
        finally:
            seconds = time.perf_counter() - began
            if seconds >= self.slow:
                self.on_slow(query, seconds)

    return cast(Method, run)


class Connection(asyncpg.Connection):
    """A connection of the pool. It times statements itself: asyncpg's query loggers took twice the time."""

    limit: float | None = None  # seconds that a statement may take, without the round trip that a setting takes
    slow = math.inf  # seconds from which on a statement is reported
    on_slow: Callable[[str, float], None]
    recorded: Counter[str]  # audit events of each kind; shared by all connections of a pool

    def limit_to(self, seconds: float | None) -> None:
        self.limit = seconds

    fetch = _timed(asyncpg.Connection.fetch)
    fetchrow = _timed(asyncpg.Connection.fetchrow)
    fetchval = _timed(asyncpg.Connection.fetchval)
    execute = _timed(asyncpg.Connection.execute)

    async def value(self, type: type[T], query: str, *values: Any) -> T:  # noqa: ARG002  # `type` is for the type checker
        """Return the first value of the first row, which is a `type`."""
        return cast(T, await self.fetchval(query, *values))


_CONNECT: dict[str, Any] = {
    "timeout": ACQUIRE_TIMEOUT,
    "connection_class": Connection,
    "server_settings": {
        "application_name": "quilt-registry",
        "statement_timeout": f"{STATEMENT_TIMEOUT}s",
        "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_TIMEOUT}s",
        "timezone": "UTC",
        "jit": "off",  # because compiling short queries costs more than it gains
    },
}


class Statements(ABC):
    """Single statements, each on a connection of its own."""

    @abstractmethod
    def connection(self) -> _Acquired:
        """Return a context manager of a connection for single statements. Raise Unavailable if there is none."""

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


class Database(Statements):
    """A pool of connections to one database. A task with a connection awaits nothing else.

    Statements that take `slow_ms` milliseconds or longer are logged.
    """

    def __init__(self, url: str, size: int, slow_ms: int = 500):
        self.url, self.size, self.slow_ms = libpq_url(url), size, slow_ms
        self._pool: asyncpg.Pool | None = None
        self.public = PublicReads(self)
        self.is_hanging = False
        self.acquisitions: set[_Acquired] = set()  # those that wait for a connection or use one
        self._local_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        # The pool's own queue lets newcomers overtake those that it wakes, so that with 200 clients some wait for long.
        self.slots = asyncio.Semaphore(size)
        # Turns at the transactions of pushes, which may be long, so that they leave most of the pool to others.
        self.bulk = Turns(max(size // 3, min(2, size // 2)))
        # Totals for the metrics: connections acquired, seconds waited for them, slow statements, audit events by kind.
        self.acquired, self.waited, self.slow, self.recorded = 0, 0.0, 0, Counter[str]()

    async def open(self) -> None:
        """Connect. Raise Unavailable with the reason if that fails."""
        with reporting_host(self.url):
            self._pool = await asyncpg.create_pool(
                self.url, min_size=1, max_size=self.size, init=self._prepare, reset=_no_reset, **_CONNECT
            )

    async def watch(self) -> None:
        """If a request has waited for long, ping the server, and while it hangs let all requests fail at once.

        A background task calls this again and again.
        """
        patience_ends = time.perf_counter() - PATIENCE
        if not self.is_hanging and not any(each.began < patience_ends for each in self.acquisitions):
            return
        hung, self.is_hanging = self.is_hanging, await _hangs(self.url)
        if self.is_hanging:
            for each in tuple(self.acquisitions):
                each.give_up()
        if self.is_hanging and not hung:
            log.warning("The database does not respond. Requests get 503 until it does.")
        elif hung and not self.is_hanging:
            log.info("The database responds again.")

    async def close(self) -> None:
        if self._pool is not None:
            try:
                await asyncio.wait_for(self._pool.close(), 10)
            except TimeoutError:
                self._pool.terminate()

    def connection(self) -> _Acquired:
        assert self._pool is not None
        return _Acquired(self, self._pool)

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[Connection]:
        """Open a connection beside the pool, for work that keeps a lock while it awaits more than the database."""
        try:
            connection = await asyncpg.connect(self.url, **_CONNECT)
            try:
                await self._prepare(connection)
                yield connection
            finally:
                await connection.close(timeout=ACQUIRE_TIMEOUT)
        except Exception as error:
            translate(error)
            raise

    def connections(self) -> dict[str, int]:
        """Return how many connections are used, are open, and may be open."""
        opened = self._pool.get_size() if self._pool else 0
        idle = self._pool.get_idle_size() if self._pool else 0
        return {"used": opened - idle, "open": opened, "limit": self.size}

    def local_lock(self, key: str) -> asyncio.Lock:
        """Return a lock of this process, to be held around a transaction that waits for a row that many may want.

        Requests that wait for the lock hold no connection. It guarantees nothing: other processes have their own locks.
        """
        return self._local_locks.setdefault(key, asyncio.Lock())

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Open a transaction that commits at the end of the block, or rolls back."""
        async with self.connection() as connection, connection.transaction():
            yield connection

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


class PublicReads(Statements):
    """Statements that any client can cause: searches, lists. They get little time, and half of all connections.

    Users take turns at these connections, so that one user's many searches do not delay others.
    """

    def __init__(self, db: Database):
        self.db, self.turns = db, Turns(max(1, db.size // 2))

    def connection(self) -> _Acquired:
        assert self.db._pool is not None
        return _PublicAcquired(self.db, self.db._pool)


def libpq_url(url: str) -> str:
    """Return a database URL as libpq knows it, without the `+driver` of SQLAlchemy."""
    scheme, separator, rest = url.partition("://")
    return scheme.partition("+")[0] + separator + rest


async def _no_reset(_: asyncpg.Connection) -> None:
    """Leave a connection as it is between uses: nothing here changes a session, and a reset doubles the round trips."""


async def _hangs(url: str) -> bool:
    """Return whether a server neither answers a new connection nor refuses it."""
    try:
        async with asyncio.timeout(PING_TIMEOUT):
            connection = await asyncpg.connect(url)
            await connection.fetchval("SELECT 1")
            await connection.close()
    except TimeoutError:
        return True
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
        return False
    return False


class _Acquired:
    """A connection for the length of a block, out of which failures of the database come as Unavailable.

    A class, because the generator form took a tenth of the time of a small request.
    """

    def __init__(self, db: Database, pool: asyncpg.Pool):
        self.db, self.pool = db, pool
        self.began = 0.0
        self.connection: Any = None
        self._deadline: asyncio.Timeout | None = None

    async def __aenter__(self) -> Connection:
        if self.db.is_hanging:
            raise Unavailable(NO_RESPONSE)
        self.began = time.perf_counter()
        self.db.acquisitions.add(self)
        try:
            self.connection = await self._acquire()
        except BaseException as error:
            self.db.acquisitions.discard(self)
            translate(error)
            raise
        finally:
            self.db.acquired += 1
            self.db.waited += time.perf_counter() - self.began
        return cast(Connection, self.connection)

    async def _acquire(self) -> Any:
        """Return a live connection. Wait for a database that restarts, so that users see a pause and no error."""
        async with asyncio.timeout(ACQUIRE_TIMEOUT) as self._deadline:
            await self.db.slots.acquire()
            try:
                while True:
                    try:
                        return await self.pool.acquire()
                    except _CONNECTION_ERRORS:
                        await asyncio.sleep(0.2)
            except BaseException:
                self.db.slots.release()
                raise

    def give_up(self) -> None:
        """Let what waits for the connection, or for an answer to its statement, fail as if the server were lost."""
        if self.connection is not None:
            with contextlib.suppress(asyncpg.InterfaceError):  # released meanwhile
                self.connection.terminate()
        elif self._deadline is not None and not self._deadline.expired():
            self._deadline.reschedule(0)

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, asyncpg.InternalClientError):  # lost in the middle of a statement, so of no more use
            self.connection.terminate()
        try:
            await self.pool.release(self.connection)
        except Exception as lost:
            translate(lost)
            raise
        finally:
            self.db.slots.release()
            self.db.acquisitions.discard(self)
            if error is not None:
                translate(error)


class _PublicAcquired(_Acquired):
    """A connection of `PublicReads`."""

    async def __aenter__(self) -> Connection:
        try:
            async with asyncio.timeout(ACQUIRE_TIMEOUT):
                await self.db.public.turns.take(heavy=False)
        except TimeoutError as error:
            translate(error)
        try:
            connection = await super().__aenter__()
        except BaseException:
            self.db.public.turns.give_back(heavy=False)
            raise
        connection.limit_to(PUBLIC_TIMEOUT)
        return connection

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            with contextlib.suppress(asyncpg.InterfaceError):  # lost
                self.connection.limit_to(None)
            await super().__aexit__(kind, error, trace)
        finally:
            self.db.public.turns.give_back(heavy=False)


def translate(error: BaseException) -> None:
    """Raise Unavailable for an error that comes from a lost or overloaded database; return for all others."""
    if isinstance(error, asyncpg.QueryCanceledError):
        raise Unavailable("The database took too long. Try again in a moment.") from error
    # Nothing but a loss releases a connection inside of its block.
    lost = isinstance(error, asyncpg.InterfaceError) and ("closed" in str(error) or "released" in str(error))
    if lost or isinstance(error, asyncpg.InternalClientError):
        raise Unavailable("The connection to the database was lost. Try again in a moment.") from error
    if isinstance(error, asyncpg.DeadlockDetectedError):
        raise Unavailable("Two changes blocked each other. Try again in a moment.") from error
    if isinstance(error, (*_CONNECTION_ERRORS, TimeoutError)):
        raise Unavailable(NO_RESPONSE) from error


@contextlib.contextmanager
def reporting_host(url: str) -> Iterator[None]:
    """Raise Unavailable with the server's host and the reason if it cannot be connected to. For operators only."""
    try:
        yield
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise Unavailable(f"Cannot connect to the database at {_place(url)}: {_reason(error)}.") from error


def _place(url: str) -> str:
    """Return host and port of a database URL, or the directory of its socket, without username and password."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2] or ",".join(parse_qs(parts.query).get("host", ["localhost"]))
    return f"{host} (database {parts.path.lstrip('/')})" if parts.path.strip("/") else host


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no response within {ACQUIRE_TIMEOUT:.0f} seconds"
    if codes := re.findall(r"\[Errno (\d+)]", str(error)):  # one for each IP of the host, with asyncio's words
        return " and ".join(sorted({os.strerror(int(code)).lower() for code in codes}))
    return (getattr(error, "strerror", None) or str(error)).rstrip(".")
