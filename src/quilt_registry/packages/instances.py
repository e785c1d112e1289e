"""Instances of packages: finding one, and reading its manifest."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

from quilt_registry.database import Connection, Database
from quilt_registry.manifests import pages
from quilt_registry.manifests.pages import PageBodies
from quilt_registry.packages import access
from quilt_registry.packages.access import Caller, Package

LATEST = "latest"  # the tag that pushes move, and that search and pages look at


class Instance(Struct, frozen=True):
    """One state of a package."""

    id: int
    top_hash: bytes
    entries: int
    created_by: str
    created_at: datetime
    updated_by: str
    updated_at: datetime


COLUMNS = "i.id, i.top_hash, i.entries, i.created_by, i.created_at, i.updated_by, i.updated_at"


def digest(top_hash: str) -> bytes | None:
    """A top hash as bytes; None for a text that is none, which names no instance."""
    try:
        data = bytes.fromhex(top_hash)
    except ValueError:
        return None
    return data if len(top_hash) == 64 and data.hex() == top_hash else None


async def by_hash(db: Database | Connection, package: Package | None, top_hash: str) -> Instance:
    """The instance with a top hash (in full). Raises NotFound, also without a package."""
    row = package and await db.fetchrow(
        f"SELECT {COLUMNS} FROM instance i WHERE i.package_id = $1 AND i.top_hash = $2", package.id, digest(top_hash)
    )
    if not row:
        raise access.instance_not_found()
    return Instance(*row)


async def get_readable(
    db: Database | Connection, caller: Caller, owner: str, name: str, top_hash: str
) -> tuple[Package, Instance]:
    """The instance and its package, for reading. Raises NotFound."""
    package = await access.find(db, caller, owner, name)
    instance = await by_hash(db, package, top_hash)
    assert package is not None
    return package, instance


async def tagged(db: Database | Connection, package_id: int, tag: str) -> Instance | None:
    """The instance that a tag points at."""
    row = await db.fetchrow(
        f"SELECT {COLUMNS} FROM tag t JOIN instance i ON i.id = t.instance_id WHERE t.package_id = $1 AND t.name = $2",
        package_id,
        tag,
    )
    return Instance(*row) if row else None


async def read_pages(db: Database | Connection, instance: Instance) -> PageBodies:
    """The pages of an instance."""
    return await read_named(db, await page_names(db, instance))


async def page_names(db: Database | Connection, instance: Instance) -> list[bytes]:
    """The names of an instance's pages, in order."""
    return pages.split(await db.fetchval("SELECT pages FROM instance WHERE id = $1", instance.id) or b"")


async def read_named(db: Database | Connection, names: list[bytes]) -> PageBodies:
    """Pages, in the order asked for."""
    rows = await db.fetch("SELECT name, entries, body FROM page WHERE name = ANY($1::bytea[])", names)
    found = {row["name"]: row for row in rows}
    return PageBodies([found[name]["body"] for name in names], [found[name]["entries"] for name in names])


async def tag(db: Database | Connection, package_id: int, name: str, instance_id: int) -> None:
    """Make or move a tag."""
    await db.execute(
        """
        INSERT INTO tag (package_id, name, instance_id) VALUES ($1, $2, $3)
        ON CONFLICT (package_id, name) DO UPDATE SET instance_id = excluded.instance_id
        """,
        package_id, name, instance_id,
    )  # fmt: skip


def provenance(instance: Instance) -> dict[str, Any]:
    """Who made an instance and when, as answers carry it; times in seconds."""
    return {
        "created_by": instance.created_by,
        "created_at": instance.created_at.timestamp(),
        "updated_by": instance.updated_by,
        "updated_at": instance.updated_at.timestamp(),
    }
