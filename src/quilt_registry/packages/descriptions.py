"""What people wrote about their data, as pages and search need it: the README, and the user metadata of nodes.

Both are objects of the package. They are read from the store at a push, once an object, and kept as text. The push
has verified before that its author may name them (protocol A1, A2).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import zlib
from typing import Any

from msgspec import Struct

from quilt_registry.database import Connection, Database
from quilt_registry.errors import Forbidden
from quilt_registry.manifests import pages, words
from quilt_registry.manifests.pushed import Manifest
from quilt_registry.storage.objects import ObjectStore, final_key

README_BYTES = 640 * 1024
METADATA_BYTES = 64 * 1024  # of one object; a longer one is not looked at
METADATA_WORDS = 10_000  # bytes kept of the words of one object
READS_AT_ONCE = 16


class Texts(Struct, frozen=True):
    """What was read for a push: the README, unless it is known or there is none, and metadata by its digest."""

    readme: str | None
    metadata: dict[bytes, str]


async def read(db: Database | Connection, store: ObjectStore, owner_id: int, owner: str, manifest: Manifest) -> Texts:
    """Read of a manifest what was not read before. Raises Forbidden if the README is not in the store, Unavailable."""
    readme = await _readme(db, store, owner_id, owner, manifest.readme) if manifest.readme else None
    return Texts(readme, await _metadata(db, store, owner_id, owner, manifest.metadata))


async def store(connection: Connection, owner_id: int, manifest: Manifest, texts: Texts) -> None:
    """Store what was read."""
    if manifest.readme and texts.readme is not None:
        await connection.execute(
            "INSERT INTO readme VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", owner_id, manifest.readme, texts.readme
        )
    if texts.metadata:
        await connection.execute(
            "INSERT INTO metadata SELECT $1, * FROM unnest($2::bytea[], $3::text[]) ON CONFLICT DO NOTHING",
            owner_id, sorted(texts.metadata), [texts.metadata[digest] for digest in sorted(texts.metadata)],
        )  # fmt: skip


async def _readme(
    db: Database | Connection, store: ObjectStore, owner_id: int, owner: str, digest: bytes
) -> str | None:
    """The beginning of a README that was not read before; None if it was."""
    if await db.fetchval("SELECT EXISTS (SELECT FROM readme WHERE owner_id = $1 AND digest = $2)", owner_id, digest):
        return None
    data = await _beginning(store, owner, digest, README_BYTES)
    if data is None:
        raise Forbidden("Failed to download the README: File does not exist")
    return data.decode("utf-8", "ignore").replace("\0", "")


async def _metadata(
    db: Database | Connection, store: ObjectStore, owner_id: int, owner: str, digests: bytes
) -> dict[bytes, str]:
    """The words in user metadata that was not read before; none for an object that is too long or no JSON."""
    if not digests:
        return {}
    known = await db.fetch(
        "SELECT digest FROM metadata WHERE owner_id = $1 AND digest = ANY($2)", owner_id, pages.split(digests)
    )
    found: dict[bytes, str] = {}
    waiting = iter(set(pages.split(digests)) - {row["digest"] for row in known})

    async def work() -> None:
        for digest in waiting:
            data = await _beginning(store, owner, digest, METADATA_BYTES + 1)
            if data is not None:
                found[digest] = _metadata_words(data)

    await asyncio.gather(*(work() for _ in range(READS_AT_ONCE)))
    return found


async def _beginning(store: ObjectStore, owner: str, digest: bytes, limit: int) -> bytes | None:
    data = await store.beginning(final_key(owner, digest.hex()), limit)
    if data and data[:2] == b"\x1f\x8b":  # stored by an old client, which compressed
        with contextlib.suppress(zlib.error):
            return zlib.decompressobj(wbits=31).decompress(data, limit)
    return data


def _metadata_words(data: bytes) -> str:
    """The distinct words of keys and texts in some JSON; the old client also wrote NaN, which this reader takes."""
    if len(data) > METADATA_BYTES:
        return ""
    try:
        value = json.loads(data, parse_int=str)
    except (ValueError, RecursionError):
        return ""
    return words.distinct(" ".join(_strings(value)), METADATA_WORDS)


def _strings(value: Any) -> list[str]:
    """All keys and texts in a JSON value, in its order. Numbers (left as text by the reader) count as texts."""
    found, left = [], [value]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            left += [part for pair in reversed(each.items()) for part in reversed(pair)]
        elif isinstance(each, list):
            left += reversed(each)
        elif isinstance(each, str):
            found.append(each)
    return found
