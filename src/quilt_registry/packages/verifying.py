"""Reading back what old clients put into a bucket: they send no checksum, so the store could not check.

An object is read once, when the last URL that could overwrite it has expired. What has other bytes than its name says
is damaged: installs say so, and the next push uploads it anew. In a directory nothing is ever unverified.
"""

from __future__ import annotations

import asyncio
import logging

from quilt_registry.database import Connection, Database
from quilt_registry.errors import Conflict, Unavailable
from quilt_registry.objects import DAMAGED, PRESENT, VERIFIED, Objects as Store, final_key
from quilt_registry.offload import Offload
from quilt_registry.packages import pages
from quilt_registry.packages.access import Package
from quilt_registry.packages.pages import Span

log = logging.getLogger(__name__)

EVERY = 600  # seconds between rounds
AT_ONCE = 100
LOCK = 0x564552494659  # "VERIFY": one worker at a time, of all processes


async def keep_verifying(db: Database, store: Store, lifetime: int) -> None:
    """Verify for ever, in rounds; `lifetime` is how long signed URLs live, in seconds."""
    while True:
        try:
            while await verify_some(db, store, lifetime):
                pass
        except Unavailable as error:
            log.warning("Objects could not be verified: %s", error)
        except Exception:  # nobody waits for this task: without a word it would be gone for good
            log.exception("Verifying objects failed; the next round tries again.")
        await asyncio.sleep(EVERY)


async def verify_some(db: Database, store: Store, lifetime: int) -> int:
    """Read and hash some unverified objects that nobody can overwrite any more; returns how many."""
    async with db.connection() as connection:
        if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
            return 0
        try:
            rows = await connection.fetch(
                f"""
                SELECT o.id, o.digest, a.name FROM object o JOIN account a ON a.id = o.owner_id
                WHERE o.state = {PRESENT} AND o.created_at < now() - make_interval(secs => $1)
                ORDER BY o.created_at LIMIT {AT_ONCE}
                """,
                float(lifetime),
            )
            for row in rows:
                name = row["digest"].hex()
                key = final_key(row["name"], name)
                if await store.is_intact(key, name):
                    await connection.execute("UPDATE object SET state = $2 WHERE id = $1", row["id"], VERIFIED)
                else:
                    log.error("The object %s of %s is damaged in the store.", name, row["name"])
                    await store.remove([key])
                    await _condemn(connection, row["id"])
            return len(rows)
        finally:
            await connection.execute("SELECT pg_advisory_unlock($1)", LOCK)


async def _condemn(connection: Connection, object_id: int) -> None:
    """Let the next push of an object upload it anew: no page vouches for it, and it is not known any more.

    Its bytes were removed before: from now on a push counts what lies there, and that must stay.
    """
    async with connection.transaction():
        await connection.execute("UPDATE object SET state = $2 WHERE id = $1", object_id, DAMAGED)
        await connection.execute(
            """
            DELETE FROM package_page g USING package_object o
            WHERE o.object_id = $1 AND g.package_id = o.package_id
            """,
            object_id,
        )


async def check_undamaged(
    db: Database, offload: Offload, package: Package, bodies: list[bytes], entries: int, span: Span, meta_only: bool
) -> None:
    """Raises Conflict naming an object that an install would send and that is damaged."""
    rows = await db.fetch(f"SELECT digest FROM object WHERE owner_id = $1 AND state = {DAMAGED}", package.owner_id)
    if not rows:  # always, but for a bucket that lost something
        return
    damaged = {row["digest"] for row in rows}
    rendered = await offload.run(entries, pages.render, bodies, 0, True, span, meta_only)
    for digest, _ in rendered.objects:
        if digest in damaged:
            raise Conflict(
                f"The object {digest.hex()} is damaged in the store. Whoever has its bytes can push this package again."
            )
