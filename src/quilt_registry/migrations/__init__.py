"""The schema's history, written as SQL.

A migration runs while the release before it serves, and that release must run on what it leaves. So a migration only
adds; what nobody needs any more goes one release later. And nobody may notice it, so it is one of two things:

- a *change*: one transaction of statements that are fast however large the tables are. New tables, columns without a
  default or with a constant one, functions, triggers. `change` names the tables in use that it touches.
- *steps*, for what takes its time: an index of a table in use, values in old rows. They run outside of a transaction,
  each can be repeated, and all of them are when the migration was killed. `steps`, with `build_index`, `drop_index` and
  `fill`.

Both wait for nothing in SQL while requests wait behind them, and migrations and backups take turns (`take_turn`). What
migrations are written with is in writing.py.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)

LOCK = 0x5155494C54  # "QUILT": the advisory lock of whoever migrates, restores or (shared) backs up
ASK = 0.2  # seconds between two questions for it

TRIES, PAUSE = 60, 1.0  # of changes that find their tables in use; seconds between them
IN_USE = ("55P03", "57014", "40P01")  # no lock to be had, too slow, deadlock


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
