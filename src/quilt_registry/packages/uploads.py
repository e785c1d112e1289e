"""Verification of a push's objects: each must be known or uploaded, and have the size and digest that the push claims.

A member may name only objects that they can read already or that they uploaded. Otherwise a push and an install would
give them objects of other users.
"""

from __future__ import annotations

import asyncio

from msgspec import Struct

from quilt_registry.database import Database
from quilt_registry.errors import Forbidden, Invalid
from quilt_registry.manifests import pages
from quilt_registry.manifests.pages import ObjectList
from quilt_registry.packages import access
from quilt_registry.packages.access import READABLE, Member
from quilt_registry.services import Services
from quilt_registry.storage.objects import DigestMismatch, ObjectState, ObjectStore, final_key, staging_key

MAX_NAMES_IN_ERROR = 10


class VerifiedObjects(Struct, frozen=True):
    """The objects of a push: those that were known, and new ones, which were uploaded.

    `staged` has the SHA-256 of new ones that were promoted from staging keys.
    """

    known: ObjectList
    new: ObjectList
    staged: list[str] = []


# The joined digests in parameter 2 as an array. With `= ANY`, PostgreSQL looks them up in one sorted index scan, so
# that the time does not depend on the size of the table.
DIGESTS = "ARRAY(SELECT substr($2::bytea, i * 32 - 31, 32) FROM generate_series(1, length($2::bytea) / 32) i)"

# An ObjectList in parameters 2 and 3. Joined, a hundred thousand digests take only milliseconds in each direction.
UNPACKED_OBJECTS = """
    SELECT substr($2::bytea, i * 32 - 31, 32) AS digest,
           ('x' || encode(substr($3::bytea, i * 8 - 7, 8), 'hex'))::bit(64)::bigint AS size
    FROM generate_series(1, length($2::bytea) / 32) i
"""


async def find_known(db: Database, member: Member, owner: str, digests: bytes) -> ObjectList:
    """Return the objects that the owner has in the database, undamaged, and that the member may read."""
    row = await db.fetchrow(
        f"""
        SELECT coalesce(string_agg(o.digest, ''), ''), coalesce(string_agg(int8send(o.size), ''), '')
        FROM object o
        WHERE o.owner_id = (SELECT id FROM account WHERE name = $3) AND o.digest = ANY({DIGESTS})
          AND o.state <> {ObjectState.DAMAGED} AND ($4 OR EXISTS (
            SELECT FROM package_object po JOIN package p ON p.id = po.package_id
            WHERE po.object_id = o.id AND {READABLE}))
        """,
        member.grants, digests, owner, access.may_read_all_objects(member, owner),
    )  # fmt: skip
    assert row is not None
    return ObjectList(*row)


async def verify(
    services: Services, member: Member, owner: str, objects: ObjectList, readme: bytes | None
) -> VerifiedObjects:
    """Verify that every object of a push is known or was uploaded, promote staged ones, and make uploads durable.

    Raise Invalid if objects are missing or differ in size; nothing is stored then. Raise Forbidden, as the original
    registry does, if the README is missing.
    """
    known = await find_known(services.db, member, owner, objects.digests)
    new = await services.offload.run(len(objects) if len(known) else 0, _check_known, objects, known)
    if not len(new):
        return VerifiedObjects(known, new)
    is_own, store = access.may_upload_directly(member, owner), services.store
    prefix = final_key(owner, "") if is_own else staging_key(owner, member.name, "")
    hashes = await asyncio.to_thread(_hashes, new)
    among = await _estimate_count(services.db, owner) if is_own and not store.directory else 0
    stored = await store.sizes([prefix + sha256 for sha256 in hashes], among)
    await asyncio.to_thread(_check_stored, new, prefix, stored, readme)
    if not is_own:
        await _promote_staged(store, owner, member.name, hashes)
    await store.fsync(owner)
    return VerifiedObjects(known, new, [] if is_own else hashes)


def _check_known(objects: ObjectList, known: ObjectList) -> ObjectList:
    """Return the objects that are not known. Raise Invalid if the size of a known one differs."""
    if not len(known):
        return objects
    unknown = dict(objects)
    for digest, size in known:
        if unknown.pop(digest) != size:
            raise Invalid(f"The size of {digest.hex()} differs from that of the object in the store.")
    return ObjectList(b"".join(unknown), pages.pack_sizes(unknown.values()))


def _hashes(objects: ObjectList) -> list[str]:
    return [digest.hex() for digest, _ in objects]


async def _estimate_count(db: Database, owner: str) -> int:
    """Return about how many objects the owner has, estimated from the largest instance of each package."""
    return await db.value(
        int,
        """
        SELECT coalesce(sum(most), 0)::bigint FROM (
            SELECT max(i.entries) AS most FROM package p JOIN instance i ON i.package_id = p.id
            WHERE p.owner = $1 GROUP BY p.id) largest
        """,
        owner,
    )


def _check_stored(objects: ObjectList, prefix: str, stored: dict[str, int], readme: bytes | None) -> None:
    """Compare the sizes that the push claims with those in the store."""
    missing, wrong = [], []
    for digest, size in objects:
        stored_size = stored.get(prefix + digest.hex())
        if stored_size is None:
            missing.append(digest)
        elif stored_size != size:
            wrong.append(f"{digest.hex()} ({stored_size:,} bytes, not {size:,})")
    if missing:
        message = f"These objects were not uploaded: {_join([digest.hex() for digest in missing])}. Push again."
        if readme in missing:
            raise Forbidden(f"Failed to download the README: File does not exist. {message}")
        raise Invalid(message)
    if wrong:
        raise Invalid(f"Object sizes differ from those in the push: {_join(wrong)}. Build the package again.")


async def _promote_staged(store: ObjectStore, owner: str, uploader: str, hashes: list[str]) -> None:
    prefix = final_key(owner, "")
    existing = {key.removeprefix(prefix) for key in await store.sizes([prefix + sha256 for sha256 in hashes])}
    try:
        await store.promote(owner, uploader, hashes, existing)
    except DigestMismatch as error:
        raise Invalid(f"The SHA-256 of these objects does not match their contents: {_join(error.sha256s)}.") from None


def _join(names: list[str]) -> str:
    more = len(names) - MAX_NAMES_IN_ERROR
    return ", ".join(sorted(names)[:MAX_NAMES_IN_ERROR]) + (f" and {more:,} more" if more > 0 else "")
