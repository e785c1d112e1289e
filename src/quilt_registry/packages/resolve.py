"""Resolution of references to versions: a tag, a version, a hash, or none for the latest push."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct

from quilt_registry.database import Database
from quilt_registry.errors import NotFound
from quilt_registry.packages import access, history, instances
from quilt_registry.packages.access import Caller, Package
from quilt_registry.packages.instances import LATEST, Instance

MIN_HASH_LENGTH = 6  # characters of a hash that identify an instance
MAX_CANDIDATES = 10  # instances that are named for an ambiguous hash
_HASH = re.compile(rf"[0-9a-f]{{{MIN_HASH_LENGTH},64}}")


class Reference(Struct, frozen=True):
    """A reference to a version. `kind` None is the tag `latest`, or the newest push if there is no such tag."""

    kind: Literal["tag", "version", "hash"] | None = None
    value: str = ""


class Version(Struct, frozen=True):
    """An instance with what names it. `size` is in bytes; `file_types` counts files by extension."""

    instance: Instance
    size: int
    file_types: dict[str, int]
    tags: list[str]
    versions: list[str]

    @property
    def top_hash(self) -> str:
        return self.instance.top_hash.hex()

    @property
    def files(self) -> int:
        """The number of files and tables."""
        return sum(self.file_types.values())

    @property
    def is_latest(self) -> bool:
        return LATEST in self.tags


class PackageView(Struct, frozen=True):
    """What every page of a package shows: the package, a version, and numbers of what belongs to the package.

    `version` is None before the first push is complete, `latest` if no version has the tag. `readers` is the number of
    users with whom the package is shared, not counting pseudo-users and the owner.
    """

    package: Package
    reference: Reference
    version: Version | None
    latest: Version | None
    comments: int
    readers: int


class ReferenceNotFound(NotFound):
    """A package that the caller may read has no such version. `candidates` are the instances of an ambiguous hash."""

    def __init__(self, view: PackageView, candidates: list[Version]):
        kind = {"tag": "tag", "version": "version", "hash": "push with the hash", None: "push"}[view.reference.kind]
        name = f"{view.package.owner}/{view.package.name}"
        super().__init__(f"Package {name} has no {kind} {view.reference.value!r}.")
        self.view, self.candidates = view, candidates


async def resolve(db: Database, caller: Caller, owner: str, name: str, reference: Reference) -> PackageView:
    """Return a package and the version to which a reference leads. Raise NotFound, ReferenceNotFound.

    It is one statement, so that all of it is of the same moment.
    """
    condition, values = _condition(reference)
    rows = f"""
        SELECT ROW(c.wanted,
                   (SELECT count(*) FROM comment m WHERE m.package_id = p.id),
                   (SELECT count(*) FROM access a WHERE a.package_id = p.id
                    AND a.grantee NOT IN (p.owner, 'team', 'public')),
                   CASE WHEN i.id IS NOT NULL THEN ROW({instances.COLUMNS}) END, i.size, i.file_types,
                   ARRAY(SELECT t.name FROM tag t WHERE t.instance_id = i.id ORDER BY t.name),
                   ARRAY(SELECT v.name FROM version v WHERE v.instance_id = i.id ORDER BY v.created_at))
        FROM (SELECT false AS wanted, (SELECT t.instance_id FROM tag t
                                       WHERE t.package_id = p.id AND t.name = '{LATEST}') AS id
              UNION ALL ({condition})) c
        LEFT JOIN instance i ON i.id = c.id
        ORDER BY c.wanted, i.id DESC
    """
    package, found = await access.get_readable_with(db, caller, owner, name, rows, *values)
    comments, readers = found[0][1:3]
    latest = _version(found[0])
    wanted = [version for row in found[1:] if (version := _version(row))]
    view = PackageView(package, reference, wanted[0] if len(wanted) == 1 else None, latest, comments, readers)
    if len(wanted) > 1 or (reference.kind and not wanted):
        raise ReferenceNotFound(view, wanted)
    return view


def _condition(reference: Reference) -> tuple[str, list[Any]]:
    """Return SQL for the instances that a reference means, of a package `p`, and its parameters from $4 on."""
    if reference.kind == "tag":
        return "SELECT true, t.instance_id FROM tag t WHERE t.package_id = p.id AND t.name = $4", [reference.value]
    if reference.kind == "version":
        sql = "SELECT true, v.instance_id FROM version v WHERE v.package_id = p.id AND v.name = $4"
        return sql, [history.normalize_or_keep(reference.value)]
    if reference.kind == "hash":
        value = reference.value.lower()
        known = value if _HASH.fullmatch(value) else ""
        low, high = (bytes.fromhex(known.ljust(64, digit)) for digit in "0f") if known else (b"\1", b"\0")
        return (
            "SELECT true, i.id FROM instance i WHERE i.package_id = p.id AND i.top_hash BETWEEN $4 AND $5 "
            f"ORDER BY i.id DESC LIMIT {MAX_CANDIDATES}",
            [low, high],
        )
    return (
        f"""SELECT true, coalesce(
                (SELECT t.instance_id FROM tag t WHERE t.package_id = p.id AND t.name = '{LATEST}'),
                (SELECT u.instance_id FROM push u WHERE u.package_id = p.id ORDER BY u.id DESC LIMIT 1))""",
        [],
    )


def _version(row: tuple[Any, ...]) -> Version | None:
    instance, size, file_types, tags, versions = row[3:]
    if instance is None:
        return None
    return Version(Instance(*instance), size, msgspec.json.decode(file_types, type=dict[str, int]), tags, versions)


class VersionName(Struct, frozen=True):
    """A name of a version in the version picker: a version, a tag, or a push without either."""

    kind: Literal["version", "tag", "hash"]
    name: str
    top_hash: bytes
    at: datetime
    by: str


async def list_names(db: Database, package: Package, limit: int = 10) -> list[VersionName]:
    """Return a package's versions, newest first, its tags, and its last pushes, at most `limit` of each."""
    rows = await db.fetch(
        """
        (SELECT 'version', v.name, i.top_hash, v.created_at, v.created_by FROM version v
         JOIN instance i ON i.id = v.instance_id WHERE v.package_id = $1 ORDER BY v.created_at DESC LIMIT $2)
        UNION ALL
        (SELECT 'tag', t.name, i.top_hash, i.updated_at, i.updated_by FROM tag t
         JOIN instance i ON i.id = t.instance_id WHERE t.package_id = $1 ORDER BY t.name LIMIT $2)
        UNION ALL
        (SELECT 'hash', encode(i.top_hash, 'hex'), i.top_hash, i.updated_at, i.updated_by FROM instance i
         WHERE i.package_id = $1 ORDER BY i.updated_at DESC LIMIT $2)
        """,
        package.id, limit,
    )  # fmt: skip
    return [VersionName(*row) for row in rows]
