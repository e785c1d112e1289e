"""The report about all packages, for admins, who may see that they exist but not read them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Struct

from quilt_registry.audit import Kind
from quilt_registry.database import Database
from quilt_registry.packages import access, listing
from quilt_registry.packages.access import Member, Package, Visibility

Sort = Literal["name", "versions", "size", "pushes", "installs", "views", "pushed", "installed"]


class PackageReport(Struct, frozen=True):
    """A package and its events so far. A deleted one has no versions, size and visibility.

    `versions` counts distinct contents, `size` is that of the version that its page shows, in bytes. `readable`: the
    admin may read it as a member.
    """

    owner: str
    name: str
    deleted_at: datetime | None
    pushes: int
    installs: int
    views: int
    last_push: datetime | None
    last_install: datetime | None
    versions: int
    size: int | None
    readable: bool
    visibility: Visibility | None


class Totals(Struct, frozen=True):
    """Numbers of all packages, the bytes of their objects, and the pushes and installs of the last seven days."""

    packages: int
    storage: int
    pushes: int
    installs: int


async def totals(db: Database) -> Totals:
    """Return the numbers of all packages."""
    row = await db.fetchrow(
        """
        SELECT (SELECT count(*) FROM package), (SELECT coalesce(sum(size), 0)::bigint FROM object),
               (SELECT count(*) FROM event WHERE kind = 'PUSH' AND created_at > now() - interval '7 days'),
               (SELECT count(*) FROM event WHERE kind = 'INSTALL' AND created_at > now() - interval '7 days')
        """
    )
    assert row is not None
    return Totals(*row)


# All packages `p`, and as far as events tell the deleted ones, which have no row any more.
_ALL = """(
    SELECT p.id, p.owner, p.name, NULL::timestamptz AS deleted_at FROM package p
    UNION ALL
    SELECT e.package_id, e.owner, e.package, e.created_at FROM event e
    WHERE e.kind = 'DELETE' AND NOT EXISTS (SELECT FROM package p WHERE p.id = e.package_id)
) p"""
_MATCHES = "($1 = '' OR strpos(lower(p.owner || '/' || p.name), lower($1)) > 0)"


def _count(kind: Kind) -> str:
    return f"(SELECT count(*) FROM event e WHERE e.package_id = p.id AND e.kind = '{kind}')"


def _latest(kind: Kind) -> str:
    return f"(SELECT max(e.created_at) FROM event e WHERE e.package_id = p.id AND e.kind = '{kind}')"


_VERSIONS = "(SELECT count(*) FROM instance i WHERE i.package_id = p.id)"
_SIZE = f"(SELECT i.size FROM (SELECT p.id) p {listing.SHOWN_INSTANCE})"
_ORDERS: dict[Sort, str] = {
    "name": "p.owner",
    "versions": f"{_VERSIONS} DESC",
    "size": f"{_SIZE} DESC NULLS LAST",
    "pushes": f"{_count('PUSH')} DESC",
    "installs": f"{_count('INSTALL')} DESC",
    "views": f"{_count('PREVIEW')} DESC",
    "pushed": f"{_latest('PUSH')} DESC NULLS LAST",
    "installed": f"{_latest('INSTALL')} DESC NULLS LAST",
}


async def count_packages(db: Database, text: str) -> int:
    """Return how many packages, existing or deleted, have a text in their full name."""
    return await db.value(int, f"SELECT count(*) FROM {_ALL} WHERE {_MATCHES}", text)


async def find_packages(
    db: Database, admin: Member, text: str, sort: Sort, *, offset: int, limit: int
) -> list[PackageReport]:
    """Return packages, existing or deleted, that have a text in their full name."""
    rows = await db.fetch(
        f"""
        SELECT p.id, p.owner, p.name, p.deleted_at, {_count("PUSH")}, {_count("INSTALL")}, {_count("PREVIEW")},
               {_latest("PUSH")}, {_latest("INSTALL")}, {_VERSIONS}, {_SIZE}
        FROM (
            SELECT p.*, row_number() OVER (ORDER BY {_ORDERS[sort]}, p.owner, p.name, p.id) AS place
            FROM {_ALL} WHERE {_MATCHES} ORDER BY place LIMIT $2 OFFSET $3
        ) p
        ORDER BY p.place
        """,
        text, limit, offset,
    )  # fmt: skip
    access_of = await _find_access(db, admin, [row["id"] for row in rows])
    return [PackageReport(*values, *access_of.get(package_id, (False, None))) for package_id, *values in rows]


async def _find_access(db: Database, admin: Member, ids: list[int]) -> dict[int, tuple[bool, Visibility]]:
    """Return whether the admin may read each existing package, and how far it is shared."""
    rows = await db.fetch(
        f"""
        SELECT {access.COLUMNS},
               EXISTS (SELECT FROM access a WHERE a.package_id = p.id AND a.grantee NOT IN (p.owner, 'team', 'public')),
               {access.READABLE}
        FROM package p WHERE p.id = ANY($2::bigint[])
        """,
        admin.grants, ids,
    )  # fmt: skip
    return {
        row["id"]: (readable, access.visibility(admin, Package(*package), shared=shared))
        for row in rows
        for *package, shared, readable in [row]
    }
