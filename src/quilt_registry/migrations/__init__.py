"""Migrations of the schema, written as SQL.

A migration runs while the previous release serves, and that release must run on the new schema. So a migration only
adds; obsolete tables and columns are dropped one release later. It must not delay requests, so it is one of two things:

- a *change*: one transaction of statements that are fast however large the tables are. New tables, columns without a
  default or with a constant one, functions, triggers. `change` gets the tables in use that it alters.
- *steps*, for slow work: an index of a table in use, values in old rows. They run outside of a transaction. Each can be
  repeated, because a killed migration starts again with the first. See `steps`, `build_index`, `drop_index` and `fill`.

Neither waits in SQL while requests wait for it. Migrations and backups take turns (`take_turn`). writing.py has the
functions that migrations use.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)

LOCK_ID = 0x5155494C54  # "QUILT": the advisory lock of migrations, restores and (shared) backups
LOCK_POLL_INTERVAL = 0.2  # seconds

MAX_ATTEMPTS, RETRY_INTERVAL = 60, 1.0  # of a change whose tables are in use; seconds between attempts
IN_USE_SQLSTATES = ("55P03", "57014", "40P01")  # lock not available, query canceled, deadlock detected


class TablesInUse(Exception):
    """A change failed in all attempts, because it would have blocked requests."""


async def take_turn(connection: Any, *, shared: bool = False, report: Callable[[str], None] = log.warning) -> None:
    """Wait for other migrations, restores and backups, and block them until the connection closes.

    Backups share the lock, so they do not block each other. The lock is polled outside of transactions, because a
    waiting statement holds a snapshot, and building an index waits for all snapshots.
    """
    query = f"SELECT pg_try_advisory_lock{'_shared' if shared else ''}($1)"
    if await connection.fetchval(query, LOCK_ID):
        return
    report("Waiting for the end of another migration, restore or backup of this database.")
    while not await connection.fetchval(query, LOCK_ID):  # noqa: ASYNC110
        await asyncio.sleep(LOCK_POLL_INTERVAL)
