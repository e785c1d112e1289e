"""The schema's history, written as SQL.

A migration runs while the release before it serves, and that release must run on what it leaves. So a migration only
adds; what nobody needs any more goes one release later. And nobody may notice it, so it is one of two things:

- a *change*: one transaction of statements that are fast however large the tables are. New tables, columns without a
  default or with a constant one, functions, triggers. `change` names the tables in use that it touches.
- *steps*, for what takes its time: an index of a table in use, values in old rows. They run outside of a transaction,
  each can be repeated, and all of them are when the migration was killed. `steps`, with `build_index`, `drop_index` and
  `fill`.

Both wait for nothing in SQL while requests wait behind them, and migrations and backups take turns (`take_turn`).
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

from alembic import context, op

log = logging.getLogger(__name__)

LOCK = 0x5155494C54  # "QUILT": the advisory lock of whoever migrates, restores or (shared) backs up
ASK = 0.2  # seconds between two questions for it

# How long requests may wait for a change: less than a second, at which PostgreSQL begins to break up deadlocks, so that
# it is always the change that gives way.
MOMENT = "500ms"
VACUUMS = "5s"  # to end, which they do for whoever waits a second. Nobody waits behind this
TRIES, PAUSE = 60, 1.0  # of changes that find their tables in use; seconds between them
IN_USE = ("55P03", "57014", "40P01")  # no lock to be had, too slow, deadlock

BATCH = 250  # rows that a step holds at a time


class TablesInUse(Exception):
    """A change could not be made without holding up requests, however often it was tried."""


async def take_turn(connection: Any, shared: bool = False, tell: Callable[[str], None] = log.warning) -> None:
    """Wait until nobody else migrates, restores or backs up, and keep them out until the connection closes.

    Those who share it, backups, are kept out by the others only. Asked for again and again, outside of transactions:
    a statement that waits has a snapshot, and whoever builds an index waits for all of those.
    """
    ask = f"SELECT pg_try_advisory_lock{'_shared' if shared else ''}($1)"
    if await connection.fetchval(ask, LOCK):
        return
    tell("Waiting for the end of a migration, restore or backup of this database.")
    while not await connection.fetchval(ask, LOCK):  # noqa: ASYNC110
        await asyncio.sleep(ASK)


# ------------------------------------------------------------------------------------------------ what migrations say


def run(sql: str) -> None:
    """Run statements that end with a semicolon at the end of a line."""
    for statement in sql.split(";\n"):
        if statement.strip():
            op.get_bind().exec_driver_sql(statement)


def change(tables: str, sql: str) -> None:
    """Run fast statements on tables that are in use: all of them soon, or none, and then the migration is tried again.

    All locks are taken at once, since requests wait from the first one on.
    """
    run(f"""
SET LOCAL lock_timeout = '{VACUUMS}';
LOCK TABLE {tables} IN SHARE UPDATE EXCLUSIVE MODE;
SET LOCAL statement_timeout = '{MOMENT}';
LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE;
""")
    run(sql)


def steps() -> contextlib.AbstractContextManager[None]:
    """A block whose statements each stand alone and can be repeated."""
    return op.get_context().autocommit_block()


def build_index(name: str, definition: str) -> None:
    """A step: an index, `definition` being what follows its name. What a killed run left of it is no use."""
    _tell(f"Building the index {name}.")
    half = "SELECT 1 FROM pg_index WHERE indexrelid = to_regclass($1) AND NOT indisvalid"
    if op.get_bind().exec_driver_sql(half, (name,)).first() is not None:
        drop_index(name)
    run(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} {definition}")


def drop_index(name: str) -> None:
    """A step: one that nobody reads through."""
    run(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


def fill(table: str, key: str, sql: str) -> None:
    """A step: an UPDATE of a table's rows whose whole-number key is BETWEEN $1 AND $2, repeated for all of them."""
    _tell(f"Filling {table}.")
    last = op.get_bind().exec_driver_sql(f"SELECT max({key}) FROM {table}").scalar() or 0
    for first in range(1, last + 1, BATCH):
        op.get_bind().exec_driver_sql(sql, (first, first + BATCH - 1))


def _tell(says: str) -> None:
    context.config.attributes["tell"](says)
