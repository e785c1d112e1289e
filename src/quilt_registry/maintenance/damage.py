"""Damaged objects: set aside in the store, and unknown to pushes, so that the next push uploads them again."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from quilt_registry.database import Connection, Database
from quilt_registry.storage.objects import ObjectState, ObjectStore

log = logging.getLogger(__name__)

# The objects with the final keys of which parameters 1 and 2 have the owners and the digests.
_OBJECTS = """
    SELECT o.id FROM unnest($1::text[], $2::bytea[]) k (owner, digest)
    JOIN account a ON a.name = k.owner JOIN object o ON o.owner_id = a.id AND o.digest = k.digest
"""


async def set_aside_damaged(db: Database, store: ObjectStore, keys: Sequence[str]) -> list[str]:
    """Set aside and mark as damaged those objects whose contents do not have their SHA-256. Return their keys.

    They leave the store before they are marked. Otherwise a concurrent push could find one, count it, and lose it.
    Raise Unavailable.
    """
    damaged = await store.set_aside(keys)
    for key in damaged:
        log.error("The object %s is damaged in the store.", key)
    await mark_damaged(db, damaged)
    # A directory verifies uploads, so what clients have uploaded since is whole again.
    if store.directory and (back := list(await store.sizes(damaged))):
        await mark_intact(db, back)
    return damaged


async def mark_damaged(db: Database, keys: Sequence[str]) -> None:
    """Mark objects as damaged, so that they are unknown to the next push, and forget the pages that vouch for them."""
    names = _split(keys)
    if not names[0]:
        return
    async with db.transaction() as connection:
        await _lock_packages(connection, names)
        # A push that names one of them just now holds its row. Afterwards its pages are among those to be forgotten.
        await connection.execute(
            f"SELECT FROM object WHERE id IN ({_OBJECTS}) ORDER BY digest FOR NO KEY UPDATE", *names
        )
        await connection.execute(f"UPDATE object SET state = {ObjectState.DAMAGED} WHERE id IN ({_OBJECTS})", *names)
        await connection.execute(
            f"""
            DELETE FROM package_page g USING package_object po
            WHERE po.object_id IN ({_OBJECTS}) AND g.package_id = po.package_id
            """,
            *names,
        )


async def _lock_packages(connection: Connection, names: tuple[list[str], list[bytes]]) -> None:
    """Lock the packages that reference objects, because each writer locks the package first."""
    await connection.execute(
        f"""
        SELECT FROM package WHERE id IN (SELECT package_id FROM package_object WHERE object_id IN ({_OBJECTS}))
        ORDER BY id FOR NO KEY UPDATE
        """,
        *names,
    )


async def mark_intact(db: Database, keys: Sequence[str]) -> None:
    """Mark damaged objects as verified again, because their contents have been found intact."""
    await db.execute(
        f"""
        UPDATE object SET state = {ObjectState.VERIFIED}
        WHERE state = {ObjectState.DAMAGED} AND id IN ({_OBJECTS})
        """,
        *_split(keys),
    )


def _split(keys: Sequence[str]) -> tuple[list[str], list[bytes]]:
    """Return the owners and the digests in final keys. Uploads with staging keys have no rows."""
    parts = [key.split("/") for key in keys if key.startswith("objs/")]
    return [owner for _, owner, _ in parts], [bytes.fromhex(sha256) for *_, sha256 in parts]
