"""Tags, versions and the log of a package."""

from __future__ import annotations

from datetime import datetime

import asyncpg
from msgspec import Struct
from packaging.version import InvalidVersion, Version

from quilt_registry import audit
from quilt_registry.database import Database
from quilt_registry.errors import Conflict, Invalid, NotFound
from quilt_registry.packages import access, instances, search
from quilt_registry.packages.access import Caller, Member, Package
from quilt_registry.packages.instances import LATEST, Instance

LONGEST = 64  # characters of a tag or version, before and after normalising


class TagEntry(Struct):
    tag: str
    hash: str


class VersionEntry(Struct):
    version: str
    hash: str


class LogEntry(Struct):
    """A push. `tags` and `versions` are those that its instance has now; None where there are none."""

    hash: str
    created: float
    author: str
    tags: list[str] | None
    versions: list[str] | None


# ------------------------------------------------------------------------------------------------ tags


def check_tag_name(tag: str) -> None:
    """Raises Invalid for what cannot be a tag."""
    if not tag or len(tag) > LONGEST:
        raise Invalid(f"A tag has 1 to {LONGEST} characters.")


async def put_tag(db: Database, member: Member, owner: str, name: str, tag: str, top_hash: str) -> None:
    """Make or move a tag. Raises NotFound, Forbidden, Invalid."""
    check_tag_name(tag)
    package, instance = await instances.get_readable(db, member, owner, name, top_hash)
    access.check_tag(member, package)
    try:
        async with db.transaction() as connection:
            # The package first, as in pushes and deletions: otherwise they and this could block each other.
            await connection.execute("SELECT FROM package WHERE id = $1 FOR NO KEY UPDATE", package.id)
            await instances.tag(connection, package.id, tag, instance.id)
            await audit.record(connection, "TAG_SET", member.name, package, instance.top_hash, tag=tag)
            if tag == LATEST:
                await search.index(connection, package.id, owner, name)
    except asyncpg.ForeignKeyViolationError:  # deleted this moment
        raise access.instance_not_found() from None


async def get_tag(db: Database, caller: Caller, owner: str, name: str, tag: str) -> tuple[Package, Instance]:
    """What a tag points at. Raises NotFound."""
    row = await db.fetchrow(  # in one query: clients ask this more often than anything else
        f"""
        SELECT {access.COLUMNS}, {instances.COLUMNS}
        FROM package p LEFT JOIN tag t ON t.package_id = p.id AND t.name = $4
        LEFT JOIN instance i ON i.id = t.instance_id
        WHERE p.owner = $2 AND p.name = $3 AND {access.READABLE}
        """,
        caller.grants, owner, name, tag,
    )  # fmt: skip
    if row is None:
        raise access.package_not_found(caller, owner, name)
    package = Package(*row[: len(Package.__struct_fields__)])
    if row["top_hash"] is None:
        raise NotFound(f"Tag {tag!r} does not exist")
    return package, Instance(*row[len(Package.__struct_fields__) :])


async def list_tags(db: Database, caller: Caller, owner: str, name: str) -> list[TagEntry]:
    """All tags, by name."""
    package = await access.get_readable(db, caller, owner, name)
    rows = await db.fetch(
        """
        SELECT t.name, encode(i.top_hash, 'hex') FROM tag t JOIN instance i ON i.id = t.instance_id
        WHERE t.package_id = $1 ORDER BY t.name
        """,
        package.id,
    )
    return [TagEntry(*row) for row in rows]


async def delete_tag(db: Database, member: Member, owner: str, name: str, tag: str) -> None:
    """Remove a tag. Raises Forbidden, NotFound."""
    access.check_owner(member, owner, "delete tags")
    package = await access.get_readable(db, member, owner, name)
    async with db.transaction() as connection:
        instance_id = await connection.fetchval(
            "DELETE FROM tag WHERE package_id = $1 AND name = $2 RETURNING instance_id", package.id, tag
        )
        if instance_id is None:
            raise NotFound(f"Package {owner}/{name} tag {tag!r} does not exist")
        top_hash = await connection.fetchval("SELECT top_hash FROM instance WHERE id = $1", instance_id)
        await audit.record(connection, "TAG_DELETE", member.name, package, top_hash, tag=tag)
        if tag == LATEST:
            await connection.execute("DELETE FROM package_search WHERE package_id = $1", package.id)


# ------------------------------------------------------------------------------------------------ versions


def normalise(version: str) -> str:
    """A version by the rules of PEP 440; trailing zeros stay: 1, 1.0 and 1.0.0 are three. Raises Invalid."""
    try:
        normal = str(Version(version))
    except InvalidVersion:
        raise Invalid("Malformed version") from None
    if len(version) > LONGEST or len(normal) > LONGEST:
        raise Invalid(f"Malformed version: longer than {LONGEST} characters")
    return normal


async def put_version(db: Database, member: Member, owner: str, name: str, version: str, top_hash: str) -> None:
    """Give an instance a version, for ever. Raises Forbidden, Invalid, NotFound, Conflict."""
    access.check_owner(member, owner, "create versions")
    normal = normalise(version)
    package, instance = await instances.get_readable(db, member, owner, name, top_hash)
    try:
        async with db.transaction() as connection:
            await connection.execute(
                "INSERT INTO version (package_id, name, typed, instance_id, created_by) VALUES ($1, $2, $3, $4, $5)",
                package.id, normal, version, instance.id, member.name,
            )  # fmt: skip
            await audit.record(connection, "VERSION_SET", member.name, package, instance.top_hash, version=normal)
    except asyncpg.UniqueViolationError:
        raise Conflict("Version already exists") from None
    except asyncpg.ForeignKeyViolationError:  # deleted this moment
        raise access.instance_not_found() from None


async def get_version(db: Database, caller: Caller, owner: str, name: str, version: str) -> Instance:
    """The instance of a version. Raises Invalid, NotFound."""
    normal = normalise(version)
    package = await access.get_readable(db, caller, owner, name)
    row = await db.fetchrow(
        f"""
        SELECT {instances.COLUMNS} FROM version v JOIN instance i ON i.id = v.instance_id
        WHERE v.package_id = $1 AND v.name = $2
        """,
        package.id,
        normal,
    )
    if row is None:
        raise NotFound(f"Version {normal} does not exist")
    return Instance(*row)


async def list_versions(db: Database, caller: Caller, owner: str, name: str) -> list[VersionEntry]:
    """All versions as they were typed, in the order of PEP 440."""
    package = await access.get_readable(db, caller, owner, name)
    rows = await db.fetch(
        """
        SELECT v.typed, encode(i.top_hash, 'hex') FROM version v JOIN instance i ON i.id = v.instance_id
        WHERE v.package_id = $1
        """,
        package.id,
    )
    return sorted((VersionEntry(*row) for row in rows), key=lambda row: Version(row.version))


# ------------------------------------------------------------------------------------------------ log


async def log(db: Database, caller: Caller, owner: str, name: str) -> list[LogEntry]:
    """Every push of a package, oldest first."""
    package = await access.get_readable(db, caller, owner, name)
    rows = await db.fetch(
        """
        SELECT encode(i.top_hash, 'hex'), u.created_at, u.author,
               (SELECT array_agg(t.name ORDER BY t.name) FROM tag t WHERE t.instance_id = i.id),
               (SELECT array_agg(v.name ORDER BY v.created_at) FROM version v WHERE v.instance_id = i.id)
        FROM push u JOIN instance i ON i.id = u.instance_id
        WHERE u.package_id = $1 ORDER BY u.id
        """,
        package.id,
    )
    return [
        LogEntry(top_hash, _seconds(created), author, tags, versions)
        for top_hash, created, author, tags, versions in rows
    ]


def _seconds(time: datetime) -> float:
    return time.timestamp()
