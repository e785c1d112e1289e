"""Instances of packages, their tags, and the pages of their manifests."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

from quilt.manifest import is_object_name
from quilt_registry.database import Connection, Database
from quilt_registry.manifests import pages
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


async def get_readable(
    db: Database | Connection, caller: Caller, owner: str, name: str, top_hash: str
) -> tuple[Package, Instance]:
    """Return a package that the caller may read and its instance with a full top hash. Raise NotFound."""
    package = await access.find(db, caller, owner, name)
    row = package and await db.fetchrow(
        f"SELECT {COLUMNS} FROM instance i WHERE i.package_id = $1 AND i.top_hash = $2",
        package.id,
        bytes.fromhex(top_hash) if is_object_name(top_hash) else None,
    )
    if not package or not row:
        raise access.instance_not_found()
    return package, Instance(*row)


async def find_tagged(db: Database | Connection, package_id: int, tag: str) -> Instance | None:
    """Return the instance that a tag points at, if any."""
    row = await db.fetchrow(
        f"SELECT {COLUMNS} FROM tag t JOIN instance i ON i.id = t.instance_id WHERE t.package_id = $1 AND t.name = $2",
        package_id,
        tag,
    )
    return Instance(*row) if row else None


async def read_pages(db: Database | Connection, instance: Instance) -> PageBodies:
    """Return the pages of an instance."""
    return await read_bodies(db, await page_digests(db, instance))


async def page_digests(db: Database | Connection, instance: Instance) -> list[bytes]:
    """Return the digests of an instance's pages, in order."""
    return pages.split(await db.fetchval("SELECT pages FROM instance WHERE id = $1", instance.id) or b"")


async def read_bodies(db: Database | Connection, digests: list[bytes]) -> PageBodies:
    """Return the pages with these digests, in their order."""
    rows = await db.fetch("SELECT name, entries, body FROM page WHERE name = ANY($1::bytea[])", digests)
    found = {row["name"]: row for row in rows}
    return PageBodies([found[digest]["body"] for digest in digests], [found[digest]["entries"] for digest in digests])


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
