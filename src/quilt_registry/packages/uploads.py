"""The objects of a push: which are known, which were uploaded for it, and whether they are what they claim to be.

An object may be named only by somebody who could read it already, or who uploaded it. Whoever could name more would
read, by pushing and installing, what belongs to others.
"""

from __future__ import annotations

import asyncio

from msgspec import Struct

from quilt_registry.database import Connection, Database
from quilt_registry.errors import Forbidden, Invalid
from quilt_registry.manifests import pages
from quilt_registry.manifests.pages import ObjectList
from quilt_registry.packages import access
from quilt_registry.packages.access import READABLE, Member
from quilt_registry.services import Services
from quilt_registry.storage.objects import DigestMismatch, ObjectState, ObjectStore, final_key, staging_key

NAMED_IN_ERRORS = 10


class Known(Struct, frozen=True):
    """Some of the objects that were asked about: digests joined, and one whose size is not the one claimed."""

    digests: bytes
    wrong_size: bytes | None


# Digests travel joined in one value each way: a hundred thousand cost milliseconds so.
UNPACKED = """
    SELECT substr($2::bytea, i * 32 - 31, 32) AS digest,
           ('x' || encode(substr($3::bytea, i * 8 - 7, 8), 'hex'))::bit(64)::bigint AS size
    FROM generate_series(1, length($2::bytea) / 32) i
"""


async def known(db: Database | Connection, member: Member, owner: str, objects: ObjectList) -> Known:
    """Those of the objects that count for the owner, are not damaged, and may be read by the member.

    An owner may read everything of theirs, whatever package it is in.
    """
    row = await db.fetchrow(
        f"""
        SELECT coalesce(string_agg(o.digest, ''), ''),
               (array_agg(o.digest ORDER BY o.digest) FILTER (WHERE o.size <> n.size))[1]
        FROM ({UNPACKED}) n
        JOIN object o ON o.digest = n.digest AND o.owner_id = (SELECT id FROM account WHERE name = $4)
        WHERE o.state <> {ObjectState.DAMAGED} AND ($5 OR EXISTS (
            SELECT FROM package_object po JOIN package p ON p.id = po.package_id
            WHERE po.object_id = o.id AND {READABLE}))
        """,
        member.grants, objects.digests, objects.sizes, owner, access.may_name_all(member, owner),
    )  # fmt: skip
    assert row is not None
    return Known(*row)


async def verify(
    services: Services,
    db: Database | Connection,
    member: Member,
    owner: str,
    objects: ObjectList,
    readme: bytes | None,
) -> list[str]:
    """Make sure that every object of a push is known or was uploaded, and durable; returns the names of staged ones.

    Raises Invalid naming those that are missing or have another size than claimed; nothing is stored then. (Forbidden
    if the README is missing: that is how the original said it.)
    """
    already = await known(db, member, owner, objects)
    if already.wrong_size:
        raise Invalid(f"The size of {already.wrong_size.hex()} is not that of the object in the store.")
    rest = await services.offload.run(len(objects) if already.digests else 0, pages.without, objects, already.digests)
    if not len(rest):
        return []
    own, store = access.may_name_all(member, owner), services.store
    prefix = final_key(owner, "") if own else staging_key(owner, member.name, "")
    names = await asyncio.to_thread(_names, rest)
    found = await store.sizes([prefix + name for name in names], await _estimate_count(db, owner) if own else 0)
    await asyncio.to_thread(_compare, rest, prefix, found, readme)
    if not own:
        await _promote_staged(store, owner, member.name, names)
    await store.fsync(owner)
    return [] if own else names


def _names(objects: ObjectList) -> list[str]:
    return [digest.hex() for digest, _ in objects]


async def _estimate_count(db: Database | Connection, owner: str) -> int:
    """About how many objects the owner has, from what is at hand: the largest instance of each package."""
    return await db.value(
        int,
        """
        SELECT coalesce(sum(most), 0)::bigint FROM (
            SELECT max(i.entries) AS most FROM package p JOIN instance i ON i.package_id = p.id
            WHERE p.owner = $1 GROUP BY p.id) largest
        """,
        owner,
    )


def _compare(objects: ObjectList, prefix: str, found: dict[str, int], readme: bytes | None) -> None:
    """Hold what was claimed against what the store has."""
    missing, wrong = [], []
    for digest, size in objects:
        there = found.get(prefix + digest.hex())
        if there is None:
            missing.append(digest)
        elif there != size:
            wrong.append(f"{digest.hex()} ({there:,} bytes, not {size:,})")
    if missing:
        sentence = f"Objects that were not uploaded: {_some([digest.hex() for digest in missing])}. Push again."
        if readme in missing:
            raise Forbidden(f"Failed to download the README: File does not exist. {sentence}")
        raise Invalid(sentence)
    if wrong:
        raise Invalid(f"Objects in the store that have another size than the push says: {_some(wrong)}.")


def _some(names: list[str]) -> str:
    more = len(names) - NAMED_IN_ERRORS
    return ", ".join(sorted(names)[:NAMED_IN_ERRORS]) + (f" and {more:,} more" if more > 0 else "")


async def _promote_staged(store: ObjectStore, owner: str, uploader: str, names: list[str]) -> None:
    prefix = final_key(owner, "")
    taken = {key.removeprefix(prefix) for key in await store.sizes([prefix + name for name in names])}
    try:
        await store.promote(owner, uploader, names, taken)
    except DigestMismatch as error:
        raise Invalid(f"Objects whose bytes are not those that they are named by: {_some(error.names)}.") from None
