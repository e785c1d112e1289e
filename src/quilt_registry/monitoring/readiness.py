"""Whether a registry can do its work: the database, its schema, the object store."""

from __future__ import annotations

import asyncio
import logging
import time

import asyncpg

from quilt_registry import schema
from quilt_registry.database import Database
from quilt_registry.errors import Unavailable
from quilt_registry.storage.objects import ObjectStore

log = logging.getLogger(__name__)

OK = "ok"
LIMIT = 2.0  # seconds that each part gets
KEPT = 1.0  # seconds that an answer is good for: asking often is no load


class Readiness:
    """Looks at the parts. However many ask, one look goes on at a time."""

    def __init__(self, db: Database, store: ObjectStore):
        self.db, self.store = db, store
        self._looking = asyncio.Lock()
        self._look_at_store: asyncio.Task[str] | None = None
        self._state: dict[str, str] = {}
        self._reasons: dict[str, BaseException] = {}
        self._good_until = 0.0

    async def state(self) -> dict[str, str]:
        """Of each part `ok`, or a sentence that says what is wrong, fit to be told to anybody."""
        async with self._looking:
            if time.monotonic() > self._good_until:
                (db, migrations), store = await asyncio.gather(self._database(), self._store())
                self._tell({"database": db, "store": store, "migrations": migrations})
                self._good_until = time.monotonic() + KEPT
            return self._state

    def _tell(self, state: dict[str, str]) -> None:
        """Log what has changed, with the reason that is for operators only."""
        for part, says in state.items():
            if says == self._state.get(part, OK):
                continue
            if says == OK:
                log.info("Ready again: %s.", part)
            else:
                log.warning("Not ready: %s (%r)", says, self._reasons.get(part))
        self._state = state

    async def _database(self) -> tuple[str, str]:
        """What is to be said of the database and of its schema."""
        try:
            async with asyncio.timeout(LIMIT):
                found = await self.db.fetchval("SELECT version_num FROM alembic_version")
        except asyncpg.UndefinedTableError:
            found = None
        except (Unavailable, TimeoutError, asyncpg.PostgresError) as error:
            self._reasons["database"] = error.__cause__ or error
            return "The database does not answer.", "Not known while the database does not answer."
        if schema.is_behind(found):
            return OK, schema.describe_revision(found)
        return OK, OK

    async def _store(self) -> str:
        # A directory that hangs cannot be left: the look goes on, and no second one is begun beside it.
        if self._look_at_store is None or self._look_at_store.done():
            self._look_at_store = asyncio.create_task(self._try_store())
        done, _ = await asyncio.wait({self._look_at_store}, timeout=LIMIT)
        return self._look_at_store.result() if done else "The object store does not answer."

    async def _try_store(self) -> str:
        try:
            await self.store.probe()
        except Unavailable as error:
            self._reasons["store"] = error
            return "The object store cannot be used."
        return OK
