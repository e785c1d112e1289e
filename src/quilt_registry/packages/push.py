"""Pushing a package, or a part of one.

The order of effects: objects reach the store first (over URLs that the dry run signs); the push looks them all up;
then one transaction claims the name, stores the manifest and its objects' names, and records what happened. A manifest
never names an object that is not in the store, and a push that dies anywhere leaves nothing behind but objects that
the next try finds.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from msgspec import Struct

from quilt.manifest import Bounds
from quilt_registry import events
from quilt_registry.bodies import Packed
from quilt_registry.database import Connection, Database
from quilt_registry.errors import Conflict, Unavailable
from quilt_registry.objects import Objects as Store, final_key, staging_key
from quilt_registry.offload import Offload
from quilt_registry.packages import access, instances, manifests, pages, search, storing, texts, uploads
from quilt_registry.packages.access import Member, Package
from quilt_registry.packages.instances import LATEST
from quilt_registry.packages.manifests import Asked, Manifest
from quilt_registry.packages.pages import Objects, Stored
from quilt_registry.packages.storing import PackageReplaced
from quilt_registry.signing import Signer

URLS_AT_ONCE = 10_000
TRIES = 5  # when the package is made or deleted meanwhile


class Services(Struct, frozen=True):
    """The outside things that a push touches, and the rules it follows."""

    db: Database
    store: Store
    offload: Offload
    bounds: Bounds
    team_id: str


class Target(Struct, frozen=True):
    """Where a push goes: a package, whole (`top_hash`) or at a path of names in it."""

    owner: str
    name: str
    top_hash: str = ""
    path: list[str] = []


class Pushed(Struct, frozen=True):
    """A push that was stored."""

    top_hash: str


async def push(to: Services, member: Member, target: Target, body: Packed) -> Pushed | AsyncIterator[bytes]:
    """Push: store what was sent, or for a dry run answer with JSON text: upload URLs for all its objects.

    Raises Invalid, Forbidden, NotFound, Conflict, TooLarge, Unavailable.
    """
    storing.check_name(target.name)
    for _ in range(TRIES):
        package = await access.find(to.db, member, target.owner, target.name)
        asked, manifest = await _read(to, target, package, body)
        await _check_rights(to, member, target, package, asked)
        if asked.dry_run:
            await _check_way(to, target, package)
            return _upload_urls(to, member, target, asked.objects)
        with contextlib.suppress(PackageReplaced):
            if manifest is None:
                return await _store_part(to, member, target, package, body, asked)
            return await _store_whole(to, member, target, package, asked, manifest)
    raise Conflict("The package is being deleted and made again. Try again when that is done.")


async def _known_pages(db: Database | Connection, package_id: int) -> frozenset[bytes]:
    """The pages that the package has: whoever pushes one of them names nothing new."""
    rows = await db.fetch("SELECT page FROM package_page WHERE package_id = $1", package_id)
    return frozenset(row["page"] for row in rows)


async def _read(to: Services, target: Target, package: Package | None, body: Packed) -> tuple[Asked, Manifest | None]:
    weight = len(body.data) // 100
    if target.path:
        reading = await to.offload.run(weight, manifests.read_part, body, to.bounds, target.path)
    else:
        known = await _known_pages(to.db, package.id) if package else frozenset()
        reading = await to.offload.run(weight, manifests.read_whole, body, to.bounds, target.top_hash, known)
    return reading.asked, reading.manifest


async def _check_rights(to: Services, member: Member, target: Target, package: Package | None, asked: Asked) -> None:
    access.check_push(member, target.owner, package)
    access.check_visibility(
        member.switches, to.team_id, package, target.owner, target.name, asked.is_public, asked.is_team
    )
    if package is None:
        await storing.check_free(to.db, member.account.id, member.name, target.name)


async def _store_whole(
    to: Services, member: Member, target: Target, package: Package | None, asked: Asked, manifest: Manifest
) -> Pushed:
    """Verify the objects of a whole push, then store it. No tag moves: the client moves `latest` when it is done."""
    staged = await uploads.verify(
        to.db, to.store, to.offload, member, target.owner, manifest.fresh_objects, manifest.readme
    )
    owner_id = package.owner_id if package else member.account.id
    written = await texts.read(to.db, to.store, owner_id, target.owner, manifest)
    async with to.db.transaction() as connection:
        claimed = await storing.claim(connection, member, package, target.name, asked.is_public, asked.is_team)
        await storing.store(
            connection, to.offload, member, claimed, manifest, to.store.state(bool(staged)), written, asked.is_public
        )
    await _clear(to.store, target.owner, member.name, staged)
    return Pushed(manifest.top_hash.hex())


async def _store_part(
    to: Services, member: Member, target: Target, package: Package | None, body: Packed, asked: Asked
) -> Pushed:
    """Merge a part into what `latest` points at, and move `latest` to the result.

    All of it while the package is held, so that concurrent parts are all kept.
    """
    async with to.db.transaction() as connection:
        claimed = await storing.claim(connection, member, package, target.name, asked.is_public, asked.is_team)
        base = await instances.tagged(connection, claimed.id, LATEST)
        stored = await instances.read_pages(connection, base) if base else Stored([], [])
        known = await _known_pages(connection, claimed.id)
        weight = len(body.data) // 100 + (base.entries if base else 0)
        manifest = await to.offload.run(weight, manifests.merge, body, to.bounds, stored.bodies, target.path, known)
        staged = await uploads.verify(
            connection, to.store, to.offload, member, target.owner, manifest.fresh_objects, manifest.readme
        )
        written = await texts.read(connection, to.store, claimed.owner_id, target.owner, manifest)
        instance_id = await storing.store(
            connection, to.offload, member, claimed, manifest, to.store.state(bool(staged)), written, asked.is_public
        )
        await instances.tag(connection, claimed.id, LATEST, instance_id)
        await events.record(connection, "TAG_SET", member.name, claimed, manifest.top_hash, {"tag": LATEST})
        await search.index(connection, claimed.id, claimed.owner, claimed.name)
    await _clear(to.store, target.owner, member.name, staged)
    return Pushed(manifest.top_hash.hex())


async def _clear(store: Store, owner: str, uploader: str, staged: list[str]) -> None:
    """Remove staged uploads that count now. What stays behind does no harm."""
    with contextlib.suppress(Unavailable):
        await store.remove(staging_key(owner, uploader, name) for name in staged)


# ------------------------------------------------------------------------------------------------ dry run


async def _check_way(to: Services, target: Target, package: Package | None) -> None:
    """In a dry run of a part, raises NotFound if a leaf stands in its way."""
    base = package and target.path and await instances.tagged(to.db, package.id, LATEST)
    if base:
        stored = await instances.read_pages(to.db, base)
        await to.offload.run(base.entries, pages.check_way, stored, target.path, manifests.not_a_group)


async def _upload_urls(to: Services, member: Member, target: Target, objects: Objects) -> AsyncIterator[bytes]:
    """The answer to a dry run: for every object a URL that tells by HEAD whether it is there, and one to PUT it.

    A known object answers HEAD and takes a PUT without harm. What the owner lacks goes to its final place if the owner
    sends it. Everything else is staged, and its HEAD tells only what the member staged.
    """
    final = final_key(target.owner, "")
    staged = staging_key(target.owner, member.name, "")
    # A directory takes no wrong bytes, so a PUT may end where it belongs, and mends what is damaged there.
    again = final if to.store.directory else staged
    first = final if member.name == target.owner else staged
    lead = b'{"upload_urls":{'
    for batch in objects.batches(URLS_AT_ONCE):
        known = await uploads.known(to.db, member, target.owner, batch)
        yield lead + await to.offload.run(
            len(batch), _urls_json, to.store.signer, batch.digests, known.digests, (final, again), (first, first)
        )
        lead = b","
    yield b"}}" if len(objects) else lead + b"}}"


def _urls_json(
    signer: Signer, digests: bytes, known: bytes, places: tuple[str, str], new_places: tuple[str, str]
) -> bytes:
    """Members of `upload_urls`; `places` are where known objects answer HEAD and take a PUT, then the others."""
    known_names = set(pages.split(known))
    parts = []
    for names, (head, put) in (
        ([digest.hex() for digest in pages.split(digests) if digest in known_names], places),
        ([digest.hex() for digest in pages.split(digests) if digest not in known_names], new_places),
    ):
        heads, puts = signer.upload_urls([head + name for name in names], [put + name for name in names])
        parts += [f'"{n}":{{"head":"{h}","put":"{p}"}}' for n, h, p in zip(names, heads, puts, strict=True)]
    return ",".join(parts).encode()
