"""Storage of a push, in one transaction that holds the lock on the package's row.

Everything that takes long was done before: the transaction checks again what that relied on, and raises PushOutdated if
it has changed. It awaits nothing but the database.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from msgspec import Struct

from quilt_registry import audit
from quilt_registry.database import Connection, Database
from quilt_registry.errors import Conflict, Forbidden, Invalid
from quilt_registry.manifests import diff, pages
from quilt_registry.manifests.pages import ObjectList
from quilt_registry.manifests.pushed import Manifest, PushOptions
from quilt_registry.offload import MAX_LIGHT_WEIGHT
from quilt_registry.packages import access, descriptions, instances, locks, object_rows
from quilt_registry.packages.access import Member, Package
from quilt_registry.packages.descriptions import Texts
from quilt_registry.packages.object_rows import ObjectRows
from quilt_registry.packages.uploads import (
    DIGESTS,
    UNPACKED_NUMBERS,
    UNPACKED_OBJECTS,
    PushOutdated,
    VerifiedObjects,
)
from quilt_registry.services import Services
from quilt_registry.storage.objects import ObjectState

MIN_COPIED_OBJECTS = 1000  # fewer are stored by one statement, which needs no IDs beforehand
_NAME = re.compile(r"[a-zA-Z]\w{0,63}")


class LockedPackage(Struct, frozen=True):
    """A package whose row is locked by the current transaction."""

    id: int
    owner_id: int
    owner: str
    name: str


class VerifiedPush(Struct, frozen=True):
    """A manifest whose objects are all in the store.

    `state` is that of its new objects. `same_tree` are the pages of the instance with the same top hash, if there was
    one: it has the same tree. `rows` are the rows of its new objects if there are many.
    """

    manifest: Manifest
    objects: VerifiedObjects
    rows: ObjectRows | None
    texts: Texts
    state: ObjectState
    same_tree: list[bytes] | None


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


@asynccontextmanager
async def transaction(
    db: Database, member: Member, package: Package | None, name: str, options: PushOptions, push: VerifiedPush
) -> AsyncIterator[tuple[Connection, LockedPackage]]:
    """Open a transaction that holds the package that was checked, or creates it. Raise PushOutdated, Forbidden."""
    lock = db.local_lock(locks.local_key(package.owner if package else member.name, name))
    heavy = len(push.manifest.fresh_objects) > MAX_LIGHT_WEIGHT
    async with lock, db.bulk.slot(heavy=heavy), db.transaction() as connection:
        yield connection, await _claim(connection, member, package, name, options)


async def _claim(
    connection: Connection, member: Member, package: Package | None, name: str, options: PushOptions
) -> LockedPackage:
    if package is not None:
        if not await connection.fetchval("SELECT id FROM package WHERE id = $1 FOR NO KEY UPDATE", package.id):
            raise PushOutdated
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
        raise PushOutdated
    created = LockedPackage(package_id, owner_id, owner, name)
    pseudo_users = [*([access.PUBLIC] if options.is_public else []), *([access.TEAM] if options.is_team else [])]
    await connection.execute("INSERT INTO access SELECT $1, unnest($2::text[])", package_id, [owner, *pseudo_users])
    for grantee in pseudo_users:
        await audit.record(connection, "ACCESS_GRANT", owner, created, subject=grantee)
    return created


async def find_same_tree(services: Services, package: Package | None, manifest: Manifest) -> list[bytes] | None:
    """Compare a manifest with the instance of the same top hash, and return that one's pages; None if there is none.

    Raise Conflict if it is another tree: a top hash does not tell to which node a metadata hash belongs.
    """
    if package is None:
        return None
    stored = await services.db.fetchval(
        "SELECT pages FROM instance WHERE package_id = $1 AND top_hash = $2", package.id, manifest.top_hash
    )
    if stored is None:
        return None
    digests = pages.split(stored)
    if digests != manifest.pages:
        bodies = await instances.read_bodies(services.db, [*{*digests, *manifest.pages}])
        bodies |= {page.digest: page.body for page in manifest.fresh_pages}
        if not bodies.keys() >= {*digests, *manifest.pages}:
            raise PushOutdated
        ours, theirs = ([bodies[digest] for digest in each] for each in (digests, manifest.pages))
        if not await services.offload.run(2 * manifest.entries, diff.same_outside_metadata, ours, theirs):
            raise Conflict(
                "This top hash already identifies another tree of this package, which has the same metadata on another "
                "node. Change a metadata value and push again."
            )
    return digests


async def make_rows(services: Services, owner_id: int, objects: ObjectList, state: ObjectState) -> ObjectRows | None:
    """Reserve IDs for an owner's new objects and encode their rows; None for few objects."""
    if len(objects) < MIN_COPIED_OBJECTS:
        return None
    ids = await services.db.value(
        bytes,
        """
        SELECT string_agg(int8send(nextval(pg_get_serial_sequence('object', 'id'))), '')
        FROM generate_series(1, $1::int)
        """,
        len(objects),
    )
    return await services.offload.run(len(objects), object_rows.encode, objects, ids, owner_id, int(state))


async def store(
    connection: Connection, member: Member, package: LockedPackage, push: VerifiedPush, *, public: bool
) -> int:
    """Store a verified manifest, record its push, and return the instance's id. Raise PushOutdated."""
    manifest = push.manifest
    await _check_known_pages(connection, package, manifest)
    await _store_objects(connection, package, push)
    await _store_pages(connection, package, manifest)
    await descriptions.store(connection, package.owner_id, manifest, push.texts)
    instance_id = await _store_instance(connection, member, package, push)
    await connection.execute(
        "INSERT INTO push (package_id, instance_id, author) VALUES ($1, $2, $3)", package.id, instance_id, member.name
    )
    await connection.execute("UPDATE package SET pushes = pushes + 1, updated_at = now() WHERE id = $1", package.id)
    await audit.record(connection, "PUSH", member.name, package, manifest.top_hash, public=public)
    return instance_id


async def _check_known_pages(connection: Connection, package: LockedPackage, manifest: Manifest) -> None:
    """Raise PushOutdated unless the package still has the pages that the push did not store: they vouch for objects."""
    known = {*manifest.pages} - {page.digest for page in manifest.fresh_pages}
    count = await connection.value(
        int,
        "SELECT count(*) FROM package_page WHERE package_id = $1 AND page = ANY($2::bytea[])",
        package.id,
        list(known),
    )
    if count != len(known):
        raise PushOutdated


async def _store_objects(connection: Connection, package: LockedPackage, push: VerifiedPush) -> None:
    """Insert the rows of new objects, and name all objects in the package. Raise PushOutdated if one was lost.

    Nearly always, all new objects are new: other pushes add the same ones only at the same moment. A damaged object
    counts as new.
    """
    new, known = push.objects.new, push.objects.known
    if push.rows and await _copy_objects(connection, package, push.rows):
        pass
    elif len(new) and await _add_objects(connection, package, new, push.state) < len(new):
        await _name_objects(connection, package, new)
    if len(known):
        await _name_objects(connection, package, known)


async def _copy_objects(connection: Connection, package: LockedPackage, rows: ObjectRows) -> bool:
    """Add objects and name them in the package. Return False, and do nothing, if one of them has a row."""
    try:
        async with connection.transaction():
            await connection.copy_to_table("object", source=rows.chunks(), columns=object_rows.COLUMNS, format="binary")
    except asyncpg.UniqueViolationError:
        return False
    await connection.execute(
        f"INSERT INTO package_object (package_id, object_id) SELECT $1, n.number FROM ({UNPACKED_NUMBERS}) n",
        package.id, rows.ids,
    )  # fmt: skip
    return True


async def _add_objects(connection: Connection, package: LockedPackage, objects: ObjectList, state: ObjectState) -> int:
    """Add objects and name them in the package. Return their number, without those that another push has added.

    The rows are inserted in the order of digests, so that two pushes with the same new objects cannot deadlock.
    """
    return await connection.value(
        int,
        f"""
        WITH added AS (
            INSERT INTO object (owner_id, digest, size, state)
            SELECT $1, n.digest, n.size, $4 FROM ({UNPACKED_OBJECTS}) n ORDER BY n.digest
            ON CONFLICT (digest, owner_id)
            DO UPDATE SET size = excluded.size, state = excluded.state, created_at = excluded.created_at
            WHERE object.state = {ObjectState.DAMAGED}
            RETURNING id
        ), named AS (
            INSERT INTO package_object (package_id, object_id)
            SELECT $5, id FROM added ON CONFLICT DO NOTHING
        )
        SELECT count(*) FROM added
        """,
        package.owner_id, objects.digests, objects.sizes, state, package.id,
    )  # fmt: skip


async def _name_objects(connection: Connection, package: LockedPackage, objects: ObjectList) -> None:
    """Name objects of the owner in the package. Raise PushOutdated if one of them was found damaged meanwhile.

    Their rows are locked, because a task that marks one as damaged then deletes the pages of packages that name it.
    """
    count = await connection.fetchval(
        f"""
        WITH known AS (
            SELECT id FROM object
            WHERE owner_id = $1 AND digest = ANY({DIGESTS}) AND state <> {ObjectState.DAMAGED} FOR SHARE
        ), named AS (
            INSERT INTO package_object (package_id, object_id) SELECT $3, id FROM known ON CONFLICT DO NOTHING
        )
        SELECT count(*) FROM known
        """,
        package.owner_id, objects.digests, package.id,
    )  # fmt: skip
    if count != len(objects):
        raise PushOutdated


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


async def _store_instance(connection: Connection, member: Member, package: LockedPackage, push: VerifiedPush) -> int:
    """Create the instance. If its top hash is known, replace its `metadata`, which the hash does not cover."""
    manifest = push.manifest
    row = await connection.fetchrow(
        "SELECT id, pages FROM instance WHERE package_id = $1 AND top_hash = $2", package.id, manifest.top_hash
    )
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
    instance_id: int = row["id"]
    digests = pages.split(row["pages"])
    if digests != manifest.pages:
        if digests != push.same_tree:
            raise PushOutdated
        if await _may_replace(connection, member, package, instance_id):
            await connection.execute(
                "UPDATE instance SET pages = $2, size = $3, file_types = $4 WHERE id = $1",
                instance_id, b"".join(manifest.pages), manifest.size, manifest.file_types,
            )  # fmt: skip
    # The words and metadata for search follow from the top hash, but an earlier release stored fewer of them.
    await connection.execute(
        "UPDATE instance SET names = $3, metadata = $4, updated_by = $2, updated_at = now() WHERE id = $1",
        instance_id, member.name, manifest.names, manifest.metadata,
    )  # fmt: skip
    return instance_id


async def _may_replace(connection: Connection, member: Member, package: LockedPackage, instance_id: int) -> bool:
    versioned = await connection.value(bool, "SELECT EXISTS (SELECT FROM version WHERE instance_id = $1)", instance_id)
    return access.may_replace(member, package.owner, versioned=versioned)
