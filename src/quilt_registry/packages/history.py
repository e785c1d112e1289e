"""Tags, versions and the log of a package."""

from __future__ import annotations

import asyncpg
from msgspec import Struct
from packaging.version import InvalidVersion, Version

from quilt_registry import audit
from quilt_registry.database import Database
from quilt_registry.errors import Conflict, Invalid, NotFound
from quilt_registry.packages import access, instances, search
from quilt_registry.packages.access import Caller, Member, Package
from quilt_registry.packages.instances import LATEST, Instance

MAX_TAG_LENGTH = 64  # characters
MAX_VERSION_LENGTH = 64  # characters, before and after normalization


class TagEntry(Struct):
    """A tag and the top hash that it points at."""

    tag: str
    hash: str


class VersionEntry(Struct):
    """A version as the user typed it, and the top hash of its instance."""

    version: str
    hash: str


class LogEntry(Struct):
    """A push. `tags` and `versions` are those that its instance has now, or None."""

    hash: str
    created: float
    author: str
    tags: list[str] | None
    versions: list[str] | None


# ------------------------------------------------------------------------------------------------ tags


def check_tag_name(tag: str) -> None:
    """Raise Invalid for an invalid tag."""
    if not tag or len(tag) > MAX_TAG_LENGTH:
        raise Invalid(f"A tag must have 1 to {MAX_TAG_LENGTH} characters.")


async def put_tag(db: Database, member: Member, owner: str, name: str, tag: str, top_hash: str) -> None:
    """Create or move a tag. Raise NotFound, Forbidden, Invalid."""
    check_tag_name(tag)
    package, instance = await instances.get_readable(db, member, owner, name, top_hash)
    access.check_tag(member, package)
    try:
        async with db.transaction() as connection:
            # Lock the package first, as pushes and deletions do, so that they cannot deadlock with this.
            await connection.execute("SELECT FROM package WHERE id = $1 FOR NO KEY UPDATE", package.id)
            await instances.set_tag(connection, package.id, tag, instance.id)
            await audit.record(connection, "TAG_SET", member.name, package, instance.top_hash, tag=tag)
            if tag == LATEST:
                await search.index(connection, package.id, owner, name)
    except asyncpg.ForeignKeyViolationError:  # because the package was just deleted
        raise access.instance_not_found() from None


async def get_tag(db: Database, caller: Caller, owner: str, name: str, tag: str) -> tuple[Package, Instance]:
    """Return the instance that a tag points at, and its package. Raise NotFound."""
    row = await db.fetchrow(  # one query, because this is the most frequent request of clients
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
    """Return all tags, by name. Raise NotFound."""
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
    """Delete a tag. Raise Forbidden, NotFound."""
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


def normalize(version: str) -> str:
    """Normalize a version by PEP 440. Trailing zeros stay: 1, 1.0 and 1.0.0 are different. Raise Invalid."""
    try:
        normal = str(Version(version))
    except InvalidVersion:
        raise Invalid("Malformed version") from None
    if len(version) > MAX_VERSION_LENGTH or len(normal) > MAX_VERSION_LENGTH:
        raise Invalid(f"Malformed version: longer than {MAX_VERSION_LENGTH} characters")
    return normal


async def put_version(db: Database, member: Member, owner: str, name: str, version: str, top_hash: str) -> None:
    """Give an instance a version, which can never change. Raise Forbidden, Invalid, NotFound, Conflict."""
    access.check_owner(member, owner, "create versions")
    normal = normalize(version)
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
    except asyncpg.ForeignKeyViolationError:  # because the package was just deleted
        raise access.instance_not_found() from None


async def get_version(db: Database, caller: Caller, owner: str, name: str, version: str) -> Instance:
    """Return the instance of a version. Raise Invalid, NotFound."""
    normal = normalize(version)
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
    """Return all versions, in the order of PEP 440. Raise NotFound."""
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
    """Return every push of a package, oldest first. Raise NotFound."""
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
        LogEntry(top_hash, created.timestamp(), author, tags, versions)
        for top_hash, created, author, tags, versions in rows
    ]
