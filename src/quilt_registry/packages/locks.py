"""Transactions that change a package. Each locks the package's row first.

Deletion locks the row and then deletes what belongs to it, so a writer that took another lock before could deadlock
with it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from quilt_registry.database import Connection, Database
from quilt_registry.packages import access
from quilt_registry.packages.access import Caller, Package


@asynccontextmanager
async def exclusive(db: Database, caller: Caller, package: Package) -> AsyncIterator[Connection]:
    """Open a transaction that no push, tag, version or deletion of the package runs beside. Raise NotFound."""
    async with db.local_lock(local_key(package.owner, package.name)), db.transaction() as connection:
        await _lock(connection, caller, package, "NO KEY UPDATE")
        yield connection


@asynccontextmanager
async def shared(db: Database, caller: Caller, package: Package) -> AsyncIterator[Connection]:
    """Open a transaction during which the package cannot be deleted. Pushes run beside it. Raise NotFound."""
    async with db.transaction() as connection:
        await _lock(connection, caller, package, "KEY SHARE")
        yield connection


async def _lock(connection: Connection, caller: Caller, package: Package, strength: str) -> None:
    if not await connection.fetchval(f"SELECT id FROM package WHERE id = $1 FOR {strength}", package.id):
        raise access.package_not_found(caller, package.owner, package.name)


def local_key(owner: str, name: str) -> str:
    """Return the key of a package's lock within this process (`Database.local_lock`)."""
    return f"package {owner}/{name}"
