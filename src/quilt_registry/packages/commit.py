"""Storage of a push, in one transaction that holds the lock on the package's row."""

from __future__ import annotations

import re

from msgspec import Struct

from quilt_registry import audit
from quilt_registry.database import Connection, Database
from quilt_registry.errors import Conflict, Forbidden, Invalid
from quilt_registry.manifests import diff
from quilt_registry.manifests.pages import ObjectList
from quilt_registry.manifests.pushed import Manifest
from quilt_registry.offload import Offload
from quilt_registry.packages import access, descriptions, instances
from quilt_registry.packages.access import Member, Package
from quilt_registry.packages.descriptions import Texts
from quilt_registry.packages.instances import Instance
from quilt_registry.packages.uploads import UNPACKED_OBJECTS
from quilt_registry.storage.objects import ObjectState

_NAME = re.compile(r"[a-zA-Z]\w{0,63}")


class PackageReplaced(Exception):
    """The package was created or deleted after the checks of a push, which must be repeated."""


class LockedPackage(Struct, frozen=True):
    """A package whose row is locked by the current transaction."""

    id: int
    owner_id: int
    owner: str
    name: str


class VerifiedPush(Struct, frozen=True):
    """A manifest whose objects are all in the store.

    `state` is that of its new objects, `staged` has the SHA-256 of those that were promoted.
    """

    manifest: Manifest
    texts: Texts
    state: ObjectState
    staged: list[str]


def check_name(name: str) -> None:
    """Raise Invalid for an invalid package name."""
    if not _NAME.fullmatch(name):
        raise Invalid("Invalid package name")


async def check_free(db: Database | Connection, owner_id: int, owner: str, name: str) -> None:
    """Raise Forbidden if the owner has a package whose name differs only in case."""
    other = await db.fetchval(
        "SELECT name FROM package WHERE owner_id = $1 AND lower(name) = lower($2) AND name <> $2", owner_id, name
    )
    if other:
        raise Forbidden(f"Package already exists: {owner}/{other}")


async def claim(
    connection: Connection, member: Member, package: Package | None, name: str, *, public: bool, team: bool
) -> LockedPackage:
    """Lock the package that was checked, or create it for the member. Raise PackageReplaced, Forbidden."""
    if package is not None:
        if not await connection.fetchval("SELECT id FROM package WHERE id = $1 FOR NO KEY UPDATE", package.id):
            raise PackageReplaced
        return LockedPackage(package.id, package.owner_id, package.owner, package.name)
    owner_id, owner = member.account.id, member.name
    package_id = await connection.fetchval(
        """
        INSERT INTO package (owner_id, owner, name) VALUES ($1, $2, $3)
        ON CONFLICT DO NOTHING RETURNING id
        """,
        owner_id, owner, name,
    )  # fmt: skip
    if package_id is None:
        await check_free(connection, owner_id, owner, name)
        raise PackageReplaced
    created = LockedPackage(package_id, owner_id, owner, name)
    pseudo_users = [*([access.PUBLIC] if public else []), *([access.TEAM] if team else [])]
    await connection.execute("INSERT INTO access SELECT $1, unnest($2::text[])", package_id, [owner, *pseudo_users])
    for grantee in pseudo_users:
        await audit.record(connection, "ACCESS_GRANT", owner, created, subject=grantee)
    return created


async def store(
    connection: Connection,
    offload: Offload,
    member: Member,
    package: LockedPackage,
    push: VerifiedPush,
    *,
    public: bool,
) -> int:
    """Store a verified manifest, record its push, and return the instance's id.

    Raise Conflict if the top hash already identifies another tree.
    """
    manifest = push.manifest
    await _store_objects(connection, package, manifest.fresh_objects, push.state)
    await _store_pages(connection, package, manifest)
    await descriptions.store(connection, package.owner_id, manifest, push.texts)
    instance_id = await _store_instance(connection, offload, member, package, manifest)
    await connection.execute(
        "INSERT INTO push (package_id, instance_id, author) VALUES ($1, $2, $3)", package.id, instance_id, member.name
    )
    await connection.execute("UPDATE package SET pushes = pushes + 1, updated_at = now() WHERE id = $1", package.id)
    await audit.record(connection, "PUSH", member.name, package, manifest.top_hash, public=public)
    return instance_id


async def _store_objects(
    connection: Connection, package: LockedPackage, objects: ObjectList, state: ObjectState
) -> None:
    """Insert the missing rows of objects and of their packages. A damaged object counts as new.

    The rows are inserted in the order of digests, so that two pushes with the same new objects cannot deadlock.
    """
    await connection.execute(
        f"""
        INSERT INTO object (owner_id, digest, size, state)
        SELECT $1, n.digest, n.size, $4 FROM ({UNPACKED_OBJECTS}) n ORDER BY n.digest
        ON CONFLICT (digest, owner_id)
        DO UPDATE SET size = excluded.size, state = excluded.state, created_at = excluded.created_at
        WHERE object.state = {ObjectState.DAMAGED}
        """,
        package.owner_id, objects.digests, objects.sizes, state,
    )  # fmt: skip
    await connection.execute(
        f"""
        INSERT INTO package_object (package_id, object_id)
        SELECT $4, o.id FROM ({UNPACKED_OBJECTS}) n JOIN object o ON o.digest = n.digest AND o.owner_id = $1
        ORDER BY o.id ON CONFLICT DO NOTHING
        """,
        package.owner_id, objects.digests, objects.sizes, package.id,
    )  # fmt: skip


async def _store_pages(connection: Connection, package: LockedPackage, manifest: Manifest) -> None:
    fresh = sorted(manifest.fresh_pages, key=lambda page: page.digest)
    await connection.execute(
        """
        INSERT INTO page (name, entries, body) SELECT * FROM unnest($1::bytea[], $2::int[], $3::bytea[])
        ON CONFLICT DO NOTHING
        """,
        [page.digest for page in fresh], [page.entries for page in fresh], [page.body for page in fresh],
    )  # fmt: skip
    await connection.execute(
        "INSERT INTO package_page SELECT $1, unnest($2::bytea[]) ON CONFLICT DO NOTHING",
        package.id,
        [page.digest for page in fresh],
    )


async def _store_instance(
    connection: Connection, offload: Offload, member: Member, package: LockedPackage, manifest: Manifest
) -> int:
    """Create the instance. If its top hash is known, replace its `metadata`, which the hash does not cover."""
    row = await connection.fetchrow(
        f"SELECT {instances.COLUMNS} FROM instance i WHERE i.package_id = $1 AND i.top_hash = $2",
        package.id, manifest.top_hash,
    )  # fmt: skip
    if row is None:
        return await connection.value(
            int,
            """
            INSERT INTO instance (package_id, top_hash, pages, entries, size, preview, file_types, readme, names,
                                  metadata, created_by, updated_by)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11) RETURNING id
            """,
            package.id, manifest.top_hash, b"".join(manifest.pages), manifest.entries, manifest.size,
            manifest.preview, manifest.file_types, manifest.readme, manifest.names, manifest.metadata, member.name,
        )  # fmt: skip
    instance = Instance(*row)
    digests = await instances.page_digests(connection, instance)
    if digests != manifest.pages:
        await _check_same_tree(connection, offload, digests, manifest)
        if await _may_replace(connection, member, package, instance):
            await connection.execute(
                "UPDATE instance SET pages = $2, size = $3, file_types = $4 WHERE id = $1",
                instance.id, b"".join(manifest.pages), manifest.size, manifest.file_types,
            )  # fmt: skip
    # The words and metadata for search follow from the top hash, but an earlier release stored fewer of them.
    await connection.execute(
        "UPDATE instance SET names = $3, metadata = $4, updated_by = $2, updated_at = now() WHERE id = $1",
        instance.id, member.name, manifest.names, manifest.metadata,
    )  # fmt: skip
    return instance.id


async def _check_same_tree(connection: Connection, offload: Offload, digests: list[bytes], manifest: Manifest) -> None:
    # Two trees can have one top hash, because it does not tell to which node a metadata hash belongs.
    ours = await instances.read_bodies(connection, digests)
    theirs = await instances.read_bodies(connection, manifest.pages)
    if not await offload.run(2 * manifest.entries, diff.same_outside_metadata, ours.bodies, theirs.bodies):
        raise Conflict(
            "This top hash already identifies another tree of this package, which has the same metadata on another "
            "node. Change a metadata value and push again."
        )


async def _may_replace(connection: Connection, member: Member, package: LockedPackage, instance: Instance) -> bool:
    versioned = await connection.value(bool, "SELECT EXISTS (SELECT FROM version WHERE instance_id = $1)", instance.id)
    return access.may_replace(member, package.owner, versioned=versioned)
