"""Reading back what old clients put into a bucket: they send no checksum, so the store could not check.

An object is read once, when the last URL that could overwrite it has expired. What has other bytes than its name says
is damaged: installs say so, and the next push uploads it anew. In a directory nothing is ever unverified.
"""

from __future__ import annotations

import logging

from quilt_registry import background
from quilt_registry.database import Connection, Database
from quilt_registry.storage.objects import ObjectState, ObjectStore, final_key

log = logging.getLogger(__name__)

INTERVAL = 600  # seconds between rounds
AT_ONCE = 100
LOCK = 0x564552494659  # "VERIFY": one worker at a time, of all processes


async def scrub_forever(db: Database, store: ObjectStore, lifetime: int) -> None:
    """Scrub in rounds, for ever; `lifetime` is how long presigned URLs live, in seconds."""

    async def scrub() -> None:
        while await scrub_batch(db, store, lifetime):
            pass

    await background.repeat(scrub, interval=INTERVAL, failure="Objects could not be verified.")


async def scrub_batch(db: Database, store: ObjectStore, lifetime: int) -> int:
    """Read and hash some unverified objects that nobody can overwrite any more; returns how many."""
    async with db.connection() as connection:
        if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
            return 0
        try:
            rows = await connection.fetch(
                f"""
                SELECT o.id, o.digest, a.name FROM object o JOIN account a ON a.id = o.owner_id
                WHERE o.state = {ObjectState.PRESENT} AND o.created_at < now() - make_interval(secs => $1)
                ORDER BY o.created_at LIMIT {AT_ONCE}
                """,
                float(lifetime),
            )
            for row in rows:
                name = row["digest"].hex()
                key = final_key(row["name"], name)
                if await store.is_intact(key, name):
                    await connection.execute(
                        "UPDATE object SET state = $2 WHERE id = $1", row["id"], ObjectState.VERIFIED
                    )
                else:
                    log.error("The object %s of %s is damaged in the store.", name, row["name"])
                    await store.remove([key])
                    await _mark_damaged(connection, row["id"])
            return len(rows)
        finally:
            await connection.execute("SELECT pg_advisory_unlock($1)", LOCK)


async def _mark_damaged(connection: Connection, object_id: int) -> None:
    """Let the next push of an object upload it anew: no page vouches for it, and it is not known any more.

    Its bytes were removed before: from now on a push counts what lies there, and that must stay.
    """
    async with connection.transaction():
        await connection.execute("UPDATE object SET state = $2 WHERE id = $1", object_id, ObjectState.DAMAGED)
        await connection.execute(
            """
            DELETE FROM package_page g USING package_object o
            WHERE o.object_id = $1 AND g.package_id = o.package_id
            """,
            object_id,
        )
