"""Tags, versions and the log of a package."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import asyncpg
import msgspec
from msgspec import Struct
from packaging.version import InvalidVersion, Version

from quilt.manifest import find_bad_name
from quilt_registry import audit
from quilt_registry.database import Database
from quilt_registry.errors import Conflict, Invalid, NotFound
from quilt_registry.packages import access, instances, locks, search
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


class Push(Struct, frozen=True):
    """A push, with what its instance has now. `repeats`: an earlier push had the same content."""

    id: int
    pushed_at: datetime
    author: str
    repeats: bool
    top_hash: bytes
    files: int
    size: int  # bytes
    tags: list[str]
    versions: list[str]


# ------------------------------------------------------------------------------------------------ tags


def check_tag_name(tag: str) -> None:
    """Raise Invalid for an invalid tag."""
    if not tag or len(tag) > MAX_TAG_LENGTH:
        raise Invalid(f"A tag must have 1 to {MAX_TAG_LENGTH} characters.")
    if find_bad_name([tag]) is not None:
        raise Invalid("A tag must not be '.' or '..', and must not contain '/', NUL or a lone surrogate.")


async def put_tag(db: Database, member: Member, owner: str, name: str, tag: str, top_hash: str) -> None:
    """Create or move a tag. Raise NotFound, Forbidden, Invalid."""
    check_tag_name(tag)
    package, instance = await instances.get_readable(db, member, owner, name, top_hash)
    access.check_tag(member, package)
    texts = await search.read_texts(db, package, instance.id) if tag == LATEST else None
    async with locks.exclusive(db, member, package) as connection:
        await instances.set_tag(connection, package.id, tag, instance.id)
        await audit.record(connection, "TAG_SET", member.name, package, instance.top_hash, tag=tag)
        if texts:
            await search.index(connection, package.id, texts)


async def get_tag(db: Database, caller: Caller, owner: str, name: str, tag: str) -> tuple[Package, Instance]:
    """Return the instance that a tag points at, and its package. Raise NotFound."""
    rows = f"""
        SELECT ROW({instances.COLUMNS}) FROM tag t JOIN instance i ON i.id = t.instance_id
        WHERE t.package_id = p.id AND t.name = $4"""
    package, found = await access.get_readable_with(db, caller, owner, name, rows, tag)
    if not found:
        raise NotFound(f"Tag {tag!r} does not exist")
    return package, Instance(*found[0])


async def list_tags(db: Database, caller: Caller, owner: str, name: str) -> list[TagEntry]:
    """Return all tags, by name. Raise NotFound."""
    rows = """
        SELECT ROW(t.name, encode(i.top_hash, 'hex')) FROM tag t JOIN instance i ON i.id = t.instance_id
        WHERE t.package_id = p.id ORDER BY t.name"""
    _, tags = await access.get_readable_with(db.public, caller, owner, name, rows)
    return [TagEntry(*row) for row in tags]


async def delete_tag(db: Database, member: Member, owner: str, name: str, tag: str) -> None:
    """Delete a tag. Raise Forbidden, NotFound."""
    access.check_owner(member, owner, "delete tags")
    package = await access.get_readable(db, member, owner, name)
    async with locks.exclusive(db, member, package) as connection:
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
    if len(version) <= MAX_VERSION_LENGTH:  # checked first, because Python refuses to parse numbers of 4,301 digits
        try:
            normal = str(Version(version))
        except InvalidVersion:
            raise Invalid("Malformed version") from None
        if len(normal) <= MAX_VERSION_LENGTH:
            return normal
    raise Invalid(f"Malformed version: longer than {MAX_VERSION_LENGTH} characters")


def normalize_or_keep(version: str) -> str:
    """Normalize a version by PEP 440; a text that is none stays as it is, for lookups that find nothing."""
    try:
        return normalize(version)
    except Invalid:
        return version


async def put_version(db: Database, member: Member, owner: str, name: str, version: str, top_hash: str) -> None:
    """Give an instance a version, which can never change. Raise Forbidden, Invalid, NotFound, Conflict."""
    access.check_owner(member, owner, "create versions")
    normal = normalize(version)
    package, instance = await instances.get_readable(db, member, owner, name, top_hash)
    try:
        async with locks.exclusive(db, member, package) as connection:
            await connection.execute(
                "INSERT INTO version (package_id, name, typed, instance_id, created_by) VALUES ($1, $2, $3, $4, $5)",
                package.id, normal, version, instance.id, member.name,
            )  # fmt: skip
            await audit.record(connection, "VERSION_SET", member.name, package, instance.top_hash, version=normal)
    except asyncpg.UniqueViolationError:
        raise Conflict("Version already exists") from None


async def get_version(db: Database, caller: Caller, owner: str, name: str, version: str) -> Instance:
    """Return the instance of a version. Raise Invalid, NotFound."""
    normal = normalize(version)
    rows = f"""
        SELECT ROW({instances.COLUMNS}) FROM version v JOIN instance i ON i.id = v.instance_id
        WHERE v.package_id = p.id AND v.name = $4"""
    _, found = await access.get_readable_with(db, caller, owner, name, rows, normal)
    if not found:
        raise NotFound(f"Version {normal} does not exist")
    return Instance(*found[0])


async def list_versions(db: Database, caller: Caller, owner: str, name: str) -> list[VersionEntry]:
    """Return all versions, in the order of PEP 440. Raise NotFound."""
    rows = """
        SELECT ROW(v.typed, encode(i.top_hash, 'hex')) FROM version v JOIN instance i ON i.id = v.instance_id
        WHERE v.package_id = p.id"""
    _, versions = await access.get_readable_with(db.public, caller, owner, name, rows)
    return sorted((VersionEntry(*row) for row in versions), key=lambda row: Version(row.version))


# ------------------------------------------------------------------------------------------------ log


async def log(db: Database, caller: Caller, owner: str, name: str) -> list[LogEntry]:
    """Return every push of a package, oldest first. Raise NotFound."""
    rows = """
        SELECT ROW(encode(i.top_hash, 'hex'), u.created_at, u.author,
                   (SELECT array_agg(t.name ORDER BY t.name) FROM tag t WHERE t.instance_id = i.id),
                   (SELECT array_agg(v.name ORDER BY v.created_at) FROM version v WHERE v.instance_id = i.id))
        FROM push u JOIN instance i ON i.id = u.instance_id
        WHERE u.package_id = p.id ORDER BY u.id"""
    _, pushes = await access.get_readable_with(db.public, caller, owner, name, rows)
    return [
        LogEntry(top_hash, created.timestamp(), author, tags, versions)
        for top_hash, created, author, tags, versions in pushes
    ]


async def list_pushes(db: Database, package: Package, *, offset: int, limit: int) -> list[Push]:
    """Return at most `limit` pushes of a package, newest first, without the newest `offset`."""
    rows = await db.public.fetch(
        """
        SELECT u.id, u.created_at, u.author,
               EXISTS (SELECT FROM push e WHERE e.instance_id = i.id AND e.id < u.id),
               i.top_hash, i.file_types, i.size,
               ARRAY(SELECT t.name FROM tag t WHERE t.instance_id = i.id ORDER BY t.name),
               ARRAY(SELECT v.name FROM version v WHERE v.instance_id = i.id ORDER BY v.created_at)
        FROM (SELECT * FROM push WHERE package_id = $1 ORDER BY id DESC OFFSET $2 LIMIT $3) u
        JOIN instance i ON i.id = u.instance_id ORDER BY u.id DESC
        """,
        package.id, offset, limit,
    )  # fmt: skip
    return [_push(*row) for row in rows]


def _push(*row: Any) -> Push:
    *head, file_types, size, tags, versions = row
    files = sum(msgspec.json.decode(file_types, type=dict[str, int]).values())
    values = [*head, files, size, tags, versions]
    return Push(*values)
