"""Readiness of the database, its schema and the object store."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from datetime import UTC, datetime

import asyncpg

from quilt_registry import schema
from quilt_registry.database import Database
from quilt_registry.errors import Unavailable
from quilt_registry.storage.objects import ObjectStore

log = logging.getLogger(__name__)

OK = "ok"
CHECK_TIMEOUT = 2.0  # seconds for each part
CACHE_LIFETIME = 1.0  # seconds, so that frequent requests cause no load


async def _latency(check: Awaitable[str]) -> float | None:
    """Return how many milliseconds a check takes; None if the part does not respond."""
    began = time.perf_counter()
    try:
        async with asyncio.timeout(CHECK_TIMEOUT):
            is_ok = await check == OK
    except TimeoutError:
        return None
    return (time.perf_counter() - began) * 1000 if is_ok else None


class Readiness:
    """The state of the parts. Concurrent requests share one check."""

    def __init__(self, db: Database, store: ObjectStore):
        self.db, self.store = db, store
        self.started_at = datetime.now(UTC)
        self._lock = asyncio.Lock()
        self._store_check: asyncio.Task[str] | None = None
        self._state: dict[str, str] = {}
        self._reasons: dict[str, BaseException] = {}
        self._expires_at = 0.0

    async def state(self) -> dict[str, str]:
        """Return for each part `ok` or a sentence about the problem, which contains no secrets."""
        async with self._lock:
            if time.monotonic() > self._expires_at:
                (db, migrations), store = await asyncio.gather(self._check_database(), self._check_store())
                self._update({"database": db, "store": store, "migrations": migrations})
                self._expires_at = time.monotonic() + CACHE_LIFETIME
            return self._state

    async def latencies(self) -> dict[str, float]:
        """Return for each part that responds how many milliseconds it took."""
        parts = {"database": self._database_state(), "store": self._probe_store()}
        measured = await asyncio.gather(*map(_latency, parts.values()))
        return {part: found for part, found in zip(parts, measured, strict=True) if found is not None}

    async def _database_state(self) -> str:
        state, _ = await self._check_database()
        return state

    def _update(self, state: dict[str, str]) -> None:
        """Log what has changed, with the reason, which only operators may see."""
        for part, message in state.items():
            if message == self._state.get(part, OK):
                continue
            if message == OK:
                log.info("Ready again: %s.", part)
            else:
                log.warning("Not ready: %s (%r)", message, self._reasons.get(part))
        self._state = state

    async def _check_database(self) -> tuple[str, str]:
        """Return the states of the database and of its schema."""
        try:
            async with asyncio.timeout(CHECK_TIMEOUT):
                revision = await self.db.fetchval("SELECT version_num FROM alembic_version")
        except asyncpg.UndefinedTableError:
            revision = None
        except (Unavailable, TimeoutError, asyncpg.PostgresError) as error:
            self._reasons["database"] = error.__cause__ or error
            return "The database does not respond.", "Unknown while the database does not respond."
        if schema.is_behind(revision):
            return OK, schema.describe_revision(revision)
        return OK, OK

    async def _check_store(self) -> str:
        # A check of a directory that hangs cannot be cancelled, so it continues and no second one starts beside it.
        if self._store_check is None or self._store_check.done():
            self._store_check = asyncio.create_task(self._probe_store())
        done, _ = await asyncio.wait({self._store_check}, timeout=CHECK_TIMEOUT)
        return self._store_check.result() if done else "The object store does not respond."

    async def _probe_store(self) -> str:
        try:
            await self.store.probe()
        except Unavailable as error:
            self._reasons["store"] = error
            return "The object store cannot be used."
        return OK
