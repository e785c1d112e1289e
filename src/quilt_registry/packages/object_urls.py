"""Presigned URLs of objects that a caller names, from whatever packages the caller may read."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Sequence

from msgspec import Struct

from quilt_registry import audit
from quilt_registry.bodies import Packed
from quilt_registry.database import Database
from quilt_registry.manifests import pages, requested
from quilt_registry.manifests.pages import ObjectList
from quilt_registry.packages.access import READABLE, Caller
from quilt_registry.services import Services
from quilt_registry.storage.objects import ObjectState, final_key
from quilt_registry.storage.signed_urls import Signer

DIGESTS_PER_STATEMENT = 2_000  # some tenths of a second at worst: if the first packages of each are not readable


class Source(Struct, frozen=True):
    """A package that objects are read from."""

    id: int
    owner: str
    name: str


Found = list[tuple[Source, ObjectList]]


async def get_objects(services: Services, caller: Caller, body: Packed) -> AsyncGenerator[bytes]:
    """Return JSON text with URLs and sizes of the named objects that occur in packages that the caller may read.

    Record an INSTALL of each package that they are read from. Raise Invalid, TooLarge.
    """
    digests = await services.offload.run(body.weight, requested.parse, body)
    step = 32 * DIGESTS_PER_STATEMENT
    found = [await _find(services.db, caller, digests[start : start + step]) for start in range(0, len(digests), step)]
    await _record(services.db, caller, found)
    return _stream(services, found)


async def _find(db: Database, caller: Caller, digests: bytes) -> Found:
    """Return objects by package, each object in one of the packages that the caller may read.

    LIMIT in the lateral query makes PostgreSQL stop at the first package of each object.
    """
    rows = await db.public.fetch(
        f"""
        SELECT found.id, found.owner, found.name,
               string_agg(n.digest, '' ORDER BY n.digest), string_agg(int8send(found.size), '' ORDER BY n.digest)
        FROM (SELECT substr($2::bytea, i * 32 - 31, 32) AS digest FROM generate_series(1, length($2::bytea) / 32) i) n
        CROSS JOIN LATERAL (
            SELECT p.id, p.owner, p.name, o.size
            FROM object o JOIN package_object po ON po.object_id = o.id JOIN package p ON p.id = po.package_id
            WHERE o.digest = n.digest AND o.state <> {ObjectState.DAMAGED} AND {READABLE} LIMIT 1
        ) found
        GROUP BY found.id, found.owner, found.name
        """,
        caller.grants, digests,
    )  # fmt: skip
    return [(Source(*row[:3]), ObjectList(*row[3:])) for row in rows]


async def _record(db: Database, caller: Caller, found: Sequence[Found]) -> None:
    """Record an INSTALL of each package, with the number of its objects."""
    counts: Counter[Source] = Counter()
    for part in found:
        counts.update({source: len(objects) for source, objects in part})
    if counts:
        extras = [{"objects": count} for count in counts.values()]
        await audit.record_all(db, "INSTALL", caller.name, list(counts), extras)


async def _stream(services: Services, found: Sequence[Found]) -> AsyncGenerator[bytes]:
    async with services.streamed.use(sum(map(_count, found))):
        lead, sizes = b'{"urls":{', []
        for part in filter(None, found):
            prefixed = [(final_key(source.owner, ""), objects) for source, objects in part]
            urls, their_sizes = await services.offload.run(_count(part), _members, services.store.signer, prefixed)
            yield lead + urls
            lead = b","
            sizes.append(their_sizes)
        yield (b"" if sizes else lead) + b'},"sizes":{' + b",".join(sizes) + b"}}"


def _count(found: Found) -> int:
    return sum(len(objects) for _, objects in found)


def _members(signer: Signer, prefixed: Sequence[tuple[str, ObjectList]]) -> tuple[bytes, bytes]:
    """Return the members of `urls` and of `sizes` for objects with the prefix of their keys."""
    hashes = [[digest.hex() for digest in pages.split(objects.digests)] for _, objects in prefixed]
    urls = signer.urls([
        prefix + sha256 for (prefix, _), each in zip(prefixed, hashes, strict=True) for sha256 in each
    ])  # fmt: skip
    all_hashes = [sha256 for each in hashes for sha256 in each]
    sizes = [size for _, objects in prefixed for _, size in objects]
    return (
        ",".join([f'"{sha256}":"{url}"' for sha256, url in zip(all_hashes, urls, strict=True)]).encode(),
        ",".join([f'"{sha256}":{size}' for sha256, size in zip(all_hashes, sizes, strict=True)]).encode(),
    )
