"""Instances of packages, their tags, and the pages of their manifests."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from msgspec import Struct

from quilt.manifest import is_object_name
from quilt_registry.database import Connection, Database
from quilt_registry.manifests.pages import PageBodies
from quilt_registry.packages import access
from quilt_registry.packages.access import Caller, Package

LATEST = "latest"  # the tag that pushes move; search and the catalog show its instance


class Instance(Struct, frozen=True):
    """A state of a package, identified by its top hash."""

    id: int
    top_hash: bytes
    entries: int
    created_by: str
    created_at: datetime
    updated_by: str
    updated_at: datetime


COLUMNS = "i.id, i.top_hash, i.entries, i.created_by, i.created_at, i.updated_by, i.updated_at"


def parse_top_hash(top_hash: str) -> bytes | None:
    """Return a full top hash as bytes. Return None, which no instance has, for any other text."""
    return bytes.fromhex(top_hash) if is_object_name(top_hash) else None


async def get_readable(
    db: Database | Connection, caller: Caller, owner: str, name: str, top_hash: str
) -> tuple[Package, Instance]:
    """Return a package that the caller may read and its instance with a full top hash. Raise NotFound."""
    found = await access.find_with(
        db, caller, owner, name,
        f"SELECT ROW({COLUMNS}) FROM instance i WHERE i.package_id = p.id AND i.top_hash = $4",
        parse_top_hash(top_hash),
    )  # fmt: skip
    if found is None or not found[1]:
        raise access.instance_not_found()
    package, (row,) = found
    return package, Instance(*row)


async def find_tagged(db: Database | Connection, package_id: int, tag: str) -> Instance | None:
    """Return the instance that a tag points at, if any."""
    row = await db.fetchrow(
        f"SELECT {COLUMNS} FROM tag t JOIN instance i ON i.id = t.instance_id WHERE t.package_id = $1 AND t.name = $2",
        package_id,
        tag,
    )
    return Instance(*row) if row else None


async def read_pages(db: Database | Connection, instance_id: int) -> tuple[list[bytes], PageBodies]:
    """Return the digests of an instance's pages, and the pages. Raise NotFound if the instance was just deleted."""
    rows = await db.fetch(
        """
        SELECT substr(i.pages, n * 32 - 31, 32), g.body, g.entries
        FROM instance i CROSS JOIN generate_series(1, length(i.pages) / 32) n
        LEFT JOIN page g ON g.name = substr(i.pages, n * 32 - 31, 32)
        WHERE i.id = $1 ORDER BY n
        """,
        instance_id,
    )
    digests, bodies, counts = [list(column) for column in zip(*rows, strict=True)] or ([], [], [])
    if not digests or None in bodies:  # every instance has a page
        raise access.instance_not_found()
    return digests, PageBodies(bodies, counts)


async def read_index(db: Database | Connection, instance_id: int) -> tuple[list[bytes], list[int]]:
    """Return the digests of an instance's pages and their numbers of entries. Raise NotFound as `read_pages`."""
    rows = await db.fetch(
        """
        SELECT substr(i.pages, n * 32 - 31, 32), g.entries
        FROM instance i CROSS JOIN generate_series(1, length(i.pages) / 32) n
        LEFT JOIN page g ON g.name = substr(i.pages, n * 32 - 31, 32)
        WHERE i.id = $1 ORDER BY n
        """,
        instance_id,
    )
    digests, counts = [list(column) for column in zip(*rows, strict=True)] or ([], [])
    if not digests or None in counts:
        raise access.instance_not_found()
    return digests, counts


async def read_bodies(db: Database, digests: Collection[bytes]) -> dict[bytes, bytes]:
    """Return the bodies of those pages with these digests that exist."""
    rows = await db.fetch("SELECT name, body FROM page WHERE name = ANY($1::bytea[])", digests)
    return {row["name"]: row["body"] for row in rows}


async def set_tag(db: Database | Connection, package_id: int, name: str, instance_id: int) -> None:
    """Create or move a tag."""
    await db.execute(
        """
        INSERT INTO tag (package_id, name, instance_id) VALUES ($1, $2, $3)
        ON CONFLICT (package_id, name) DO UPDATE SET instance_id = excluded.instance_id
        """,
        package_id, name, instance_id,
    )  # fmt: skip


def provenance(instance: Instance) -> dict[str, Any]:
    """Return the users who first and last pushed an instance, and when, as API fields."""
    return {
        "created_by": instance.created_by,
        "created_at": instance.created_at.timestamp(),
        "updated_by": instance.updated_by,
        "updated_at": instance.updated_at.timestamp(),
    }
