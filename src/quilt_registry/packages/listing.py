"""Lists of packages and instances, previews of them, and the deletion of packages."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, Literal

import asyncpg
import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from quilt_registry import audit
from quilt_registry.database import Database
from quilt_registry.packages import access, instances, locks
from quilt_registry.packages.access import AccessPolicy, Caller, Member, Package, Visibility
from quilt_registry.packages.instances import LATEST, Instance, provenance
from quilt_registry.packages.paging import Paging
from quilt_registry.services import Services
from quilt_registry.storage.objects import final_key


class PackageSummary(Struct):
    """A package in a list. The flags tell whether a `public` or `team` entry applies to the caller."""

    name: str
    is_public: bool
    is_team: bool


class PackageList(Struct):
    """Packages, by name. If a page was requested, `next` is the `after` of the next page, None for the last page."""

    packages: list[PackageSummary]
    next: str | UnsetType | None = UNSET


async def list_packages(db: Database, caller: Caller, owner: str, paging: Paging) -> PackageList:
    """Return an owner's packages that the caller may read, by name."""
    rows = await db.public.fetch(
        f"""
        SELECT {access.COLUMNS} FROM package p WHERE p.owner = $2 AND p.name > $3 AND {access.READABLE}
        ORDER BY p.name LIMIT $4
        """,
        caller.grants, owner, paging.after, paging.fetched,
    )  # fmt: skip
    return _page(caller, rows, paging)


async def list_all_packages(db: Database, admin: Member, owner: str, paging: Paging) -> PackageList:
    """Return all packages of an owner, by name, for admins, who may see that they exist but not read them."""
    rows = await db.fetch(
        f"SELECT {access.COLUMNS} FROM package p WHERE p.owner = $1 AND p.name > $2 ORDER BY p.name LIMIT $3",
        owner, paging.after, paging.fetched,
    )  # fmt: skip
    return _page(admin, rows, paging)


def _page(caller: Caller, rows: list[asyncpg.Record], paging: Paging) -> PackageList:
    packages, last = paging.cut([_summarize(caller, Package(*row)) for row in rows])
    return PackageList(packages, paging.next(last.name if last else None))


def _summarize(caller: Caller, package: Package) -> PackageSummary:
    return PackageSummary(package.name, access.is_public(caller, package), access.is_team(caller, package))


class RecentPackage(Struct):
    """A package and when it was last pushed."""

    owner: str
    name: str
    updated_at: datetime


async def list_recent(db: Database, policy: AccessPolicy, limit: int) -> list[RecentPackage]:
    """Return packages that the widest audience may read, most recently pushed first."""
    rows = await db.public.fetch(
        """
        SELECT p.owner, p.name, p.updated_at FROM package p
        WHERE EXISTS (SELECT FROM access a WHERE a.package_id = p.id AND a.grantee = $1)
        ORDER BY p.updated_at DESC, p.id DESC LIMIT $2
        """,
        access.widest_audience(policy), limit,
    )  # fmt: skip
    return [RecentPackage(*row) for row in rows]


# ------------------------------------------------------------------------------------------------ rows of pages

Sort = Literal["pushed", "name", "size"]

README_EXCERPT_LENGTH = 2000  # characters
MAX_PUSHES = 200  # of a member, among which packages are looked for


class PackageRow(Struct, frozen=True):
    """A package in a list on a page, with the version that its own page shows.

    `version` is the newest name of that version, `size` is in bytes. Fields of the version are None before the first
    push is complete. `updated_at` and `updated_by` are of the last push.
    """

    owner: str
    name: str
    visibility: Visibility
    version: str | None
    top_hash: bytes | None
    size: int | None
    files: int
    updated_at: datetime
    updated_by: str | None
    readme: str | None  # its beginning


# Joins the instance that is shown of a package `p`: that tagged `latest`, otherwise the newest push.
SHOWN_INSTANCE = f"""
    LEFT JOIN tag t ON t.package_id = p.id AND t.name = '{LATEST}'
    LEFT JOIN instance i ON i.id = coalesce(t.instance_id, (
        SELECT u.instance_id FROM push u WHERE u.package_id = p.id ORDER BY u.id DESC LIMIT 1))
"""
# Of packages `p` with the column `size` of that instance.
ORDERS: dict[str, str] = {
    "pushed": "p.updated_at DESC, p.id DESC",
    "name": "lower(p.name), p.owner, p.id",
    "size": "p.size DESC NULLS LAST, p.id DESC",
}


async def list_rows(
    db: Database, caller: Caller, *, owner: str | None = None, sort: Sort = "pushed", limit: int, offset: int = 0
) -> list[PackageRow]:
    """Return packages that the caller may read: those of an owner, or of all owners."""
    ids = f"""ARRAY(
        SELECT p.id FROM (SELECT p.*, i.size FROM package p {SHOWN_INSTANCE}) p
        WHERE {access.READABLE} AND ($2::text IS NULL OR p.owner = $2)
        ORDER BY {ORDERS[sort]} LIMIT $3 OFFSET $4)"""
    return await _fetch_rows(db, caller, ids, owner, limit, offset)


async def list_pushed_rows(db: Database, member: Member, limit: int) -> list[PackageRow]:
    """Return the packages that a member pushed to last. The audit trail has the index for it."""
    ids = f"""ARRAY(
        SELECT p.id FROM (
            SELECT e.package_id AS id, max(e.id) AS event FROM (
                SELECT id, package_id FROM event WHERE account = $2 AND kind = 'PUSH'
                ORDER BY created_at DESC, id DESC LIMIT {MAX_PUSHES}) e
            GROUP BY e.package_id) pushed JOIN package p USING (id)
        WHERE {access.READABLE} ORDER BY pushed.event DESC LIMIT $3)"""
    return await _fetch_rows(db, member, ids, member.name, limit)


async def list_shared_rows(db: Database, member: Member, limit: int) -> list[PackageRow]:
    """Return packages that other members share with this one by name, most recently pushed first."""
    ids = f"""ARRAY(
        SELECT p.id FROM access mine JOIN package p ON p.id = mine.package_id
        WHERE mine.grantee = $2 AND p.owner <> $2 ORDER BY {ORDERS["pushed"]} LIMIT $3)"""
    return await _fetch_rows(db, member, ids, member.name, limit)


async def load_rows(db: Database, caller: Caller, ids: list[int]) -> list[PackageRow]:
    """Return the packages with these IDs that the caller may read, in the order of the IDs."""
    return await _fetch_rows(db, caller, "$2::bigint[]", ids)


async def _fetch_rows(db: Database, caller: Caller, ids: str, *values: Any) -> list[PackageRow]:
    """Return rows of packages. `ids` is SQL for an array of their IDs, with `values` as its parameters from $2 on."""
    rows = await db.public.fetch(
        f"""
        SELECT {access.COLUMNS},
               EXISTS (SELECT FROM access a WHERE a.package_id = p.id AND a.grantee NOT IN (p.owner, 'team', 'public')),
               (SELECT v.name FROM version v WHERE v.instance_id = i.id ORDER BY v.created_at DESC LIMIT 1),
               i.top_hash, i.size, i.file_types, p.updated_at,
               (SELECT u.author FROM push u WHERE u.package_id = p.id ORDER BY u.id DESC LIMIT 1),
               left(r.text, {README_EXCERPT_LENGTH})
        FROM unnest({ids}) WITH ORDINALITY AS c (id, place) JOIN package p ON p.id = c.id AND {access.READABLE}
        {SHOWN_INSTANCE}
        LEFT JOIN readme r ON r.owner_id = p.owner_id AND r.digest = i.readme
        ORDER BY c.place
        """,
        caller.grants, *values,
    )  # fmt: skip
    return [_row(caller, *row) for row in rows]


def _row(caller: Caller, *values: Any) -> PackageRow:
    package = Package(*values[:7])
    shared, version, top_hash, size, file_types, updated_at, updated_by, readme = values[7:]
    return PackageRow(
        package.owner,
        package.name,
        access.visibility(caller, package, shared=shared),
        version,
        top_hash,
        size,
        sum(msgspec.json.decode(file_types or b"{}", type=dict[str, int]).values()),
        updated_at,
        updated_by,
        readme,
    )


class Totals(Struct, frozen=True):
    """Numbers of what the caller may read. `size` is that of the versions tagged `latest`, in bytes."""

    packages: int
    versions: int
    size: int
    members: int


async def count_readable(db: Database, caller: Caller, owner: str) -> int:
    """Return how many packages of an owner the caller may read."""
    query = f"SELECT count(*) FROM package p WHERE p.owner = $2 AND {access.READABLE}"
    return await db.public.value(int, query, caller.grants, owner)


async def find_existing(db: Database, ids: Collection[int]) -> set[int]:
    """Return the IDs of packages that exist, readable or not."""
    rows = await db.fetch("SELECT id FROM package WHERE id = ANY($1::bigint[])", list(ids))
    return {row["id"] for row in rows}


async def has_packages(db: Database) -> bool:
    """Return whether the registry has packages, readable or not."""
    return await db.value(bool, "SELECT EXISTS (SELECT FROM package)")


async def totals(db: Database, caller: Caller) -> Totals:
    """Return the numbers of packages and named versions that the caller may read, and of active accounts."""
    row = await db.public.fetchrow(
        f"""
        WITH readable AS MATERIALIZED (
            SELECT DISTINCT a.package_id AS id FROM access a WHERE a.grantee = ANY($1::text[]))
        SELECT (SELECT count(*) FROM readable),
               (SELECT count(*) FROM readable r JOIN version v ON v.package_id = r.id),
               (SELECT coalesce(sum(i.size), 0)::bigint FROM readable r
                JOIN tag t ON t.package_id = r.id AND t.name = '{LATEST}' JOIN instance i ON i.id = t.instance_id),
               (SELECT count(*) FROM account WHERE is_active)
        """,
        caller.grants,
    )
    assert row is not None
    return Totals(*row)


# ------------------------------------------------------------------------------------------------ single packages


async def list_top_hashes(db: Database, caller: Caller, owner: str, name: str) -> list[str]:
    """Return the top hashes of all instances of a package, oldest first. Raise NotFound."""
    rows = "SELECT encode(i.top_hash, 'hex') FROM instance i WHERE i.package_id = p.id ORDER BY i.created_at, i.id"
    _, hashes = await access.get_readable_with(db.public, caller, owner, name, rows)
    return hashes


async def preview(
    services: Services, caller: Caller, owner: str, name: str, top_hash: str, *, record: bool
) -> dict[str, Any]:
    """Return the preview of an instance (protocol §12), which was computed at the push.

    `record` records the event PREVIEW. Raise NotFound.
    """
    rows = f"{_SUMMARIES} WHERE i.package_id = p.id AND i.top_hash = $4"
    found = await access.find_with(services.db, caller, owner, name, rows, instances.parse_top_hash(top_hash))
    if found is None or not found[1]:
        raise access.instance_not_found()
    package, summary = found[0], _summary(found[1][0])
    if record:
        await audit.record(services.db, "PREVIEW", caller.name, package, summary.instance.top_hash)
    readme = summary.readme
    return {
        "preview": Raw(summary.preview),
        "readme_url": services.store.signer.urls([final_key(owner, readme.hex())])[0] if readme else None,
        "readme_preview": summary.text,
        **provenance(summary.instance),
        "is_public": access.is_public(caller, package),
        "is_team": access.is_team(caller, package),
        "total_size_uncompressed": summary.size,
        "file_types": Raw(summary.file_types),
        "log_count": package.pushes,
    }


async def delete(db: Database, member: Member, owner: str, name: str) -> None:
    """Delete a package with its history. Its objects and events stay. Raise Forbidden, NotFound."""
    access.check_owner(member, owner, "delete packages.")
    package = await access.get_readable(db, member, owner, name)
    async with locks.exclusive(db, member, package) as connection:
        await connection.execute("DELETE FROM package_object WHERE package_id = $1", package.id)
        await connection.execute("DELETE FROM package_page WHERE package_id = $1", package.id)
        await connection.execute("DELETE FROM package WHERE id = $1", package.id)
        await audit.record(connection, "DELETE", member.name, package)


class _Summary(Struct):
    """An instance, what a push computed of it, and the text of its README."""

    instance: Instance
    preview: bytes
    file_types: bytes
    size: int
    readme: bytes | None
    text: str | None


_SUMMARIES = f"""
    SELECT ROW(ROW({instances.COLUMNS}), i.preview, i.file_types, i.size, i.readme, r.text)
    FROM instance i LEFT JOIN readme r ON r.owner_id = p.owner_id AND r.digest = i.readme
"""


def _summary(row: tuple[Any, ...]) -> _Summary:
    return _Summary(Instance(*row[0]), *row[1:])
