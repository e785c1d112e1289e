"""Scrubbing of a bucket: hash the objects that clients uploaded without a checksum, which the store could not verify.

An object is read once, after the last presigned URL that could overwrite it has expired. If its SHA-256 is wrong, it is
damaged: installs report it, and the next push uploads it again. A directory verifies every upload itself.
"""

from __future__ import annotations

import logging

from quilt_registry import background
from quilt_registry.database import Connection, Database
from quilt_registry.storage.objects import ObjectState, ObjectStore, final_key

log = logging.getLogger(__name__)

INTERVAL = 600  # seconds between rounds
BATCH_SIZE = 100
ADVISORY_LOCK = 0x564552494659  # "VERIFY": only one process scrubs at a time


async def scrub_forever(db: Database, store: ObjectStore, lifetime: int) -> None:
    """Scrub all objects now and every ten minutes. `lifetime` is that of presigned URLs, in seconds."""

    async def scrub() -> None:
        while await scrub_batch(db, store, lifetime):
            pass

    await background.repeat(scrub, interval=INTERVAL, failure="Objects could not be verified.")


async def scrub_batch(db: Database, store: ObjectStore, lifetime: int) -> int:
    """Hash a batch of unverified objects that cannot be overwritten any more, and return its size."""
    async with db.session() as connection:
        if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", ADVISORY_LOCK):
            return 0
        try:
            rows = await connection.fetch(
                f"""
                SELECT o.id, o.digest, a.name FROM object o JOIN account a ON a.id = o.owner_id
                WHERE o.state = {ObjectState.PRESENT} AND o.created_at < now() - make_interval(secs => $1)
                ORDER BY o.created_at LIMIT {BATCH_SIZE}
                """,
                float(lifetime),
            )
            for row in rows:
                sha256 = row["digest"].hex()
                key = final_key(row["name"], sha256)
                if await store.is_intact(key, sha256):
                    await connection.execute(
                        "UPDATE object SET state = $2 WHERE id = $1", row["id"], ObjectState.VERIFIED
                    )
                else:
                    log.error("The object %s of %s is damaged in the store.", sha256, row["name"])
                    await store.remove([key])
                    await _mark_damaged(connection, row["id"])
            return len(rows)
        finally:
            await connection.execute("SELECT pg_advisory_unlock($1)", ADVISORY_LOCK)


async def _mark_damaged(connection: Connection, object_id: int) -> None:
    """Mark an object as damaged, so that it is unknown to the next push, and forget the pages that vouch for it.

    The caller has removed it from the store before, because from now on a push may upload it there again.
    """
    async with connection.transaction():
        # Packages first, as in all writers. A push of another package that names the object just now holds its row.
        await connection.execute(
            """
            SELECT FROM package p WHERE p.id IN (SELECT package_id FROM package_object WHERE object_id = $1)
            ORDER BY p.id FOR NO KEY UPDATE
            """,
            object_id,
        )
        await connection.execute("UPDATE object SET state = $2 WHERE id = $1", object_id, ObjectState.DAMAGED)
        await connection.execute(
            """
            DELETE FROM package_page g USING package_object o
            WHERE o.object_id = $1 AND g.package_id = o.package_id
            """,
            object_id,
        )
