"""Verification of a push's objects: each must be known or uploaded, and have the size and digest that the push claims.

A member may name only objects that they can read already or that they uploaded. Otherwise a push and an install would
give them objects of other users.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping

from msgspec import Struct

from quilt.manifest import is_object_name
from quilt_registry.database import Database
from quilt_registry.errors import Forbidden, Invalid
from quilt_registry.maintenance import damage
from quilt_registry.manifests import pages
from quilt_registry.manifests.pages import ObjectList
from quilt_registry.offload import MAX_INLINE_WEIGHT, Offload
from quilt_registry.packages import access
from quilt_registry.packages.access import READABLE, Member
from quilt_registry.services import Services
from quilt_registry.storage.directory import Directory
from quilt_registry.storage.objects import MAX_HEADS, DigestMismatch, ObjectState, ObjectStore, final_key, staging_key

log = logging.getLogger(__name__)

MAX_NAMES_IN_ERROR = 10
MAX_HASHED_BYTES = 1_000_000_000  # of objects that a push hashes because their sizes differ: some seconds


class PushOutdated(Exception):
    """What a push relied on has changed since it looked: the package, its pages, or its objects. It must look again."""


class SizesDiffer(Invalid):
    """Sizes in the store differ from those in the push: some objects are damaged, or the push is wrong.

    `suspects` are the objects that the message names: their keys with their sizes in the store.
    """

    def __init__(self, message: str, suspects: Mapping[str, int] | None = None):
        super().__init__(message)  # which is all that unpickling passes; it sets the suspects afterwards
        self.suspects = suspects or {}


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

# Joined numbers, 8 bytes each, in parameter 2.
UNPACKED_NUMBERS = """
    SELECT ('x' || encode(substr($2::bytea, i * 8 - 7, 8), 'hex'))::bit(64)::bigint AS number
    FROM generate_series(1, length($2::bytea) / 8) i
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


async def find_size(db: Database, key: str) -> int | None:
    """Return the size in bytes that an undamaged object with a final key must have. None for any other key."""
    folder, owner, *_, sha256 = key.split("/")
    if folder != "objs":
        return None
    size: int | None = await db.fetchval(
        f"""
        SELECT o.size FROM object o JOIN account a ON a.id = o.owner_id
        WHERE a.name = $1 AND o.digest = $2 AND o.state <> {ObjectState.DAMAGED}
        """,
        owner, bytes.fromhex(sha256),
    )  # fmt: skip
    return size


async def verify(
    services: Services, member: Member, owner: str, objects: ObjectList, readme: bytes | None
) -> VerifiedObjects:
    """Verify that every object of a push is known or was uploaded, promote staged ones, and make uploads durable.

    Raise Invalid if objects are missing or differ in size; nothing is stored then. Damaged objects are set aside, so
    that they are missing in the next push, too. Raise Forbidden, as the original registry does, if the README is
    missing. Raise PushOutdated if another push of the member has promoted the same uploads meanwhile.
    """
    try:
        return await _verify(services, member, owner, objects, readme)
    except FileNotFoundError:  # of a staged upload
        raise PushOutdated from None
    except SizesDiffer as error:
        damaged = await damage.set_aside_damaged(services.db, services.store, _to_hash(error.suspects))
        if not damaged:
            raise
        raise Invalid(_not_uploaded([key[-64:] for key in damaged])) from None


async def _verify(
    services: Services, member: Member, owner: str, objects: ObjectList, readme: bytes | None
) -> VerifiedObjects:
    known = await find_known(services.db, member, owner, objects.digests)
    new = await services.offload.run(len(objects) if len(known) else 0, leave_out_known, objects, known)
    is_own, store = access.may_upload_directly(member, owner), services.store
    if store.directory:
        await _check_files(services.offload, store.directory, final_key(owner, ""), known, readme)
    else:
        await _restore_lost(services, member, owner)
    if not len(new):
        return VerifiedObjects(known, new)
    prefix = final_key(owner, "") if is_own else staging_key(owner, member.name, "")
    try:
        if store.directory:
            await _check_files(services.offload, store.directory, prefix, new, readme)
        else:
            await _check_bucket(services, owner if is_own else None, prefix, new, readme)
    except (Invalid, Forbidden):
        if not is_own and len(await find_known(services.db, member, owner, new.digests)):
            raise PushOutdated from None
        raise
    staged = {} if is_own else {digest.hex(): size for digest, size in new}
    if staged:
        await _promote_staged(store, owner, member.name, staged)
    await store.fsync(owner)
    return VerifiedObjects(known, new, [*staged])


def _to_hash(suspects: Mapping[str, int]) -> list[str]:
    """Return the keys of those objects that a push may hash. Others are left to the scrub and to `verify-objects`."""
    keys, rest = [], MAX_HASHED_BYTES
    for key, size in suspects.items():
        if size > rest:
            log.warning("A push states another size of the object %s, which is too large to be hashed meanwhile.", key)
            continue
        keys.append(key)
        rest -= size
    return keys


def leave_out_known(objects: ObjectList, known: ObjectList) -> ObjectList:
    """Return the objects that are not known. Raise Invalid if the size of a known one differs."""
    if not len(known):
        return objects
    unknown = dict(objects)
    for digest, size in known:
        if unknown.pop(digest) != size:
            raise Invalid(f"The size of {digest.hex()} differs from that of the object in the store.")
    return ObjectList(b"".join(unknown), pages.pack_sizes(unknown.values()))


async def _check_files(
    offload: Offload, directory: Directory, prefix: str, objects: ObjectList, readme: bytes | None
) -> None:
    """Look for the files of objects. Raise as `verify`."""
    if len(objects) > MAX_INLINE_WEIGHT:
        await offload.run(len(objects), _check_directory, directory, prefix, objects, readme)
    else:  # not at once, because a disk may be slow
        await asyncio.to_thread(_check_directory, directory, prefix, objects, readme)


def _check_directory(directory: Directory, prefix: str, objects: ObjectList, readme: bytes | None) -> None:
    _check_stored(objects, prefix, directory.sizes(_keys(prefix, objects)), readme)


async def _check_bucket(
    services: Services, owner: str | None, prefix: str, objects: ObjectList, readme: bytes | None
) -> None:
    """Look for objects in the bucket. Raise as `verify`. `owner` is None for staged uploads, of which there are few."""
    keys = await asyncio.to_thread(_keys, prefix, objects)
    among = await _estimate_count(services.db, owner) if owner and len(keys) > MAX_HEADS else 0
    await asyncio.to_thread(_check_stored, objects, prefix, await services.store.sizes(keys, among), readme)


async def _restore_lost(services: Services, member: Member, owner: str) -> None:
    """Promote the member's uploads of known objects that a bucket has lost.

    Clients upload a known object only if its final key does not answer HEAD, or with --reupload. Such uploads go to
    staging keys, so one short listing tells whether there are any. Looking for all known objects would take a HEAD for
    each, or a listing of the owner's whole prefix, in every push.
    """
    uploads = await services.store.staged(owner, member.name)
    staged = {bytes.fromhex(sha256): size for sha256, size in uploads.items() if is_object_name(sha256)}
    if not staged:
        return
    known = await find_known(services.db, member, owner, b"".join(staged))
    sizes = {digest.hex(): staged[digest] for digest, _ in known}
    lost = sizes.keys() - await _find_existing(services.store, owner, sizes)
    with contextlib.suppress(DigestMismatch):  # such an upload repairs nothing; the others are promoted
        await services.store.promote(owner, member.name, list(lost), set())
    await services.store.remove(staging_key(owner, member.name, sha256) for sha256 in sizes)


def _keys(prefix: str, objects: ObjectList) -> list[str]:
    return [prefix + digest.hex() for digest in pages.split(objects.digests)]


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
    missing, wrong = [], {}
    for digest, size in objects:
        key = prefix + digest.hex()
        stored_size = stored.get(key)
        if stored_size is None:
            missing.append(digest)
        elif stored_size != size:
            wrong[key] = f"{digest.hex()} ({stored_size:,} bytes, not {size:,})"
    if missing:
        message = _not_uploaded([digest.hex() for digest in missing])
        if readme in missing:
            raise Forbidden(f"Failed to download the README: File does not exist. {message}")
        raise Invalid(message)
    if wrong:
        message = f"Object sizes differ from those in the push: {_join([*wrong.values()])}. Build the package again."
        raise SizesDiffer(message, {key: stored[key] for key in sorted(wrong)[:MAX_NAMES_IN_ERROR]})


def _not_uploaded(hashes: list[str]) -> str:
    return f"These objects were not uploaded: {_join(hashes)}. Push again."


async def _promote_staged(store: ObjectStore, owner: str, uploader: str, sizes: dict[str, int]) -> None:
    """Promote staged objects, given by SHA-256 with their sizes."""
    existing = await _find_existing(store, owner, sizes)
    try:
        await store.promote(owner, uploader, list(sizes), existing)
    except DigestMismatch as error:
        raise Invalid(f"The SHA-256 of these objects does not match their contents: {_join(error.sha256s)}.") from None


async def _find_existing(store: ObjectStore, owner: str, sizes: dict[str, int]) -> set[str]:
    """Return the SHA-256 of those objects that have final keys and the right size."""
    prefix = final_key(owner, "")
    stored = await store.sizes([prefix + sha256 for sha256 in sizes])
    return {sha256 for sha256, size in sizes.items() if stored.get(prefix + sha256) == size}


def _join(names: list[str]) -> str:
    more = len(names) - MAX_NAMES_IN_ERROR
    return ", ".join(sorted(names)[:MAX_NAMES_IN_ERROR]) + (f" and {more:,} more" if more > 0 else "")
