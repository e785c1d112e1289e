"""Scrubbing: hash objects in the store, and set those aside whose SHA-256 is wrong.

In a bucket, these are objects that clients uploaded without a checksum, which the store could not verify. Each is read
once, after the last presigned URL that could overwrite it has expired. A directory verifies every upload itself, but
disks lose bits, so all its objects are read again from time to time, slowly.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from quilt_registry import background
from quilt_registry.database import Database
from quilt_registry.errors import NotFound, Unavailable
from quilt_registry.maintenance import damage
from quilt_registry.storage.directory import BLOCK_SIZE, Directory
from quilt_registry.storage.objects import ObjectState, ObjectStore, final_key

log = logging.getLogger(__name__)

INTERVAL = 600  # seconds between rounds
BATCH_SIZE = 100
ADVISORY_LOCK = 0x564552494659  # "VERIFY": only one process scrubs a bucket at a time
PASS_INTERVAL = 30 * 86_400  # seconds between the end of a pass over a directory and the next one
BYTES_PER_SECOND = 16_000_000  # of a directory: a terabyte in 17 hours, beside requests
MIN_COST = 65_536  # bytes that opening an object counts as


async def scrub_forever(db: Database, store: ObjectStore, lifetime: int) -> None:
    """Scrub all objects now and every ten minutes. `lifetime` is that of presigned URLs, in seconds."""

    async def scrub() -> None:
        while await scrub_batch(db, store, lifetime):
            pass
        if store.directory:
            await scrub_directory(db, store, store.directory)

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
                elif not await damage.set_aside_damaged(db, store, [key]):
                    log.error("The object %s is not in the store.", key)
                    await damage.mark_damaged(db, [key])
            return len(rows)
        finally:
            await connection.execute("SELECT pg_advisory_unlock($1)", ADVISORY_LOCK)


# ------------------------------------------------------------------------------------------------ a directory


async def scrub_directory(db: Database, store: ObjectStore, directory: Directory) -> None:
    """Hash all objects of a directory, unless another process does or the last pass ended recently.

    The file `scrub` in the directory has the ID of the last object, so that a pass continues after a restart.
    """
    with _position(directory.root / "scrub") as position:
        if position is None:
            return
        last = _start(position)
        while last is not None and (rows := await _next_batch(db, last)):
            for row in rows:
                key = final_key(row["name"], row["digest"].hex())
                if not await _is_intact(directory, key):
                    await damage.set_aside_damaged(db, store, [key])
            last = rows[-1]["id"]
            _write(position, last)
        if last is not None:
            _write(position, 0)


@contextlib.contextmanager
def _position(path: Path) -> Iterator[TextIO | None]:
    """Open and lock the file of the position for the length of the block. None if another process has locked it.

    Raise Unavailable if it cannot be opened.
    """
    try:
        path.touch(mode=0o600)
        file = path.open("r+")
    except OSError as error:
        raise Unavailable(f"The object store cannot be written: {error.strerror}.") from error
    with file:
        yield file if _lock(file) else None


def _lock(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _start(position: TextIO) -> int | None:
    """Return the ID after which a pass continues, or None if the last one ended recently."""
    text = position.read()
    age = time.time() - os.fstat(position.fileno()).st_mtime
    if text == "0" and age < PASS_INTERVAL:
        return None
    return int(text) if text.isdecimal() else 0


def _write(position: TextIO, last: int) -> None:
    position.seek(0)
    position.truncate()
    position.write(str(last))
    position.flush()


async def _next_batch(db: Database, last: int) -> list[Any]:
    return await db.fetch(
        f"""
        SELECT o.id, o.digest, a.name FROM object o JOIN account a ON a.id = o.owner_id
        WHERE o.id > $1 AND o.state <> {ObjectState.DAMAGED} ORDER BY o.id LIMIT {BATCH_SIZE}
        """,
        last,
    )


async def _is_intact(directory: Directory, key: str) -> bool:
    """Return whether an object has its SHA-256.

    A missing object counts as intact, because clients are told to upload it anyway. So does one that cannot be read for
    another reason than a bad disk, such as its mode: its bytes may be good.
    """
    try:
        with directory.open(key) as file:
            return await _slow_sha256(file) == key[-64:]
    except NotFound:
        log.error("The object %s is not in the store.", key)
    except OSError as error:
        if error.errno == errno.EIO:
            return False
        log.error("The object %s cannot be read: %s.", key, error.strerror)
    return True


async def _slow_sha256(file: BinaryIO) -> str:
    """Return the SHA-256 of a file, read in pieces with pauses."""
    digest = hashlib.sha256()
    while True:
        block = await asyncio.to_thread(file.read, BLOCK_SIZE)
        await asyncio.to_thread(digest.update, block)
        await asyncio.sleep(max(len(block), MIN_COST) / BYTES_PER_SECOND)
        if not block:
            return digest.hexdigest()
