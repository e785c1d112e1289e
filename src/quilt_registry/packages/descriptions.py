"""Descriptive texts of a package for the catalog and search: its README, and the user metadata of its nodes.

Both are objects of the package. A push reads each of them once from the store and keeps it as text, after it has
verified that the member may name them (protocol A1, A2).
"""

from __future__ import annotations

import asyncio
import codecs
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

MAX_README_BYTES = 640 * 1024
MAX_METADATA_BYTES = 64 * 1024  # a longer object is not indexed
MAX_METADATA_WORD_BYTES = 10_000  # of the words of one object
CONCURRENT_READS = 16


class Texts(Struct, frozen=True):
    """A README, None if there is none, and the words of metadata objects by digest."""

    readme: str | None
    metadata: dict[bytes, str]


async def read(db: Database, store: ObjectStore, owner_id: int, owner: str, manifest: Manifest) -> Texts:
    """Return the texts of a manifest that are not stored yet.

    Raise Forbidden if the README is not in the store, Unavailable.
    """
    readme = await _read_readme(db, store, owner_id, owner, manifest.readme) if manifest.readme else None
    return Texts(readme, await _read_metadata(db, store, owner_id, owner, manifest.metadata))


async def load(db: Database, owner_id: int, readme: bytes | None, metadata: bytes, fresh: Texts | None = None) -> Texts:
    """Return the stored texts of a README and of joined metadata digests, and those of `fresh`, in their order."""
    text = await db.fetchval("SELECT text FROM readme WHERE owner_id = $1 AND digest = $2", owner_id, readme)
    rows = await db.fetch(
        "SELECT digest, text FROM metadata WHERE owner_id = $1 AND digest = ANY($2)", owner_id, pages.split(metadata)
    )
    found = {row["digest"]: row["text"] for row in rows} | (fresh.metadata if fresh else {})
    ordered = {digest: found[digest] for digest in pages.split(metadata) if digest in found}
    return Texts(fresh.readme if fresh and fresh.readme is not None else text, ordered)


async def store(connection: Connection, owner_id: int, manifest: Manifest, texts: Texts) -> None:
    """Store texts that were read."""
    if manifest.readme and texts.readme is not None:
        await connection.execute(
            "INSERT INTO readme VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", owner_id, manifest.readme, texts.readme
        )
    if texts.metadata:
        await connection.execute(
            "INSERT INTO metadata SELECT $1, * FROM unnest($2::bytea[], $3::text[]) ON CONFLICT DO NOTHING",
            owner_id, sorted(texts.metadata), [texts.metadata[digest] for digest in sorted(texts.metadata)],
        )  # fmt: skip


async def _read_readme(db: Database, store: ObjectStore, owner_id: int, owner: str, digest: bytes) -> str | None:
    """Return the beginning of a README, or None if it is known."""
    if await db.fetchval("SELECT EXISTS (SELECT FROM readme WHERE owner_id = $1 AND digest = $2)", owner_id, digest):
        return None
    data = await _read_beginning(store, owner, digest, MAX_README_BYTES)
    if data is None:
        raise Forbidden("Failed to download the README: File does not exist")
    return _decode(data).replace("\0", "")


def _decode(data: bytes) -> str:
    """Return a text that is UTF-8, or UTF-16 with a byte order mark. Bytes that are neither are left out."""
    is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if is_utf16 else "utf-8-sig", "ignore")


async def _read_metadata(
    db: Database, store: ObjectStore, owner_id: int, owner: str, digests: bytes
) -> dict[bytes, str]:
    """Return the words of each unknown metadata object; "" for an object that is too long or not JSON."""
    if not digests:
        return {}
    known = await db.fetch(
        "SELECT digest FROM metadata WHERE owner_id = $1 AND digest = ANY($2)", owner_id, pages.split(digests)
    )
    found: dict[bytes, str] = {}
    waiting = iter(set(pages.split(digests)) - {row["digest"] for row in known})

    async def work() -> None:
        for digest in waiting:
            data = await _read_beginning(store, owner, digest, MAX_METADATA_BYTES + 1)
            if data is not None:
                found[digest] = _metadata_words(data)

    await asyncio.gather(*(work() for _ in range(CONCURRENT_READS)))
    return found


async def _read_beginning(store: ObjectStore, owner: str, digest: bytes, limit: int) -> bytes | None:
    data = await store.beginning(final_key(owner, digest.hex()), limit)
    if data and data[:2] == b"\x1f\x8b":  # gzip, which old clients stored
        with contextlib.suppress(zlib.error):
            return zlib.decompressobj(wbits=31).decompress(data, limit)
    return data


def _metadata_words(data: bytes) -> str:
    # `json` instead of msgspec, because released clients also write NaN.
    if len(data) > MAX_METADATA_BYTES:
        return ""
    try:
        value = json.loads(data, parse_int=str)
    except (ValueError, RecursionError):
        return ""
    return words.distinct(" ".join(_strings(value)), MAX_METADATA_WORD_BYTES)


def _strings(value: Any) -> list[str]:
    """Return all keys and strings of a JSON value, in its order. Integers were decoded as strings."""
    found, stack = [], [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            stack += [part for pair in reversed(item.items()) for part in reversed(pair)]
        elif isinstance(item, list):
            stack += reversed(item)
        elif isinstance(item, str):
            found.append(item)
    return found
