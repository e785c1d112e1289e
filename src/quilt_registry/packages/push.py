"""The push of a package, or of a part of one.

The order of effects: the client uploads the objects first, with presigned URLs from the dry run. The push looks all of
them up. Then one transaction claims the name, checks that what was looked up still holds, stores the manifest and its
objects, and records the event. A manifest never names an object that is not in the store. A push that fails leaves only
objects behind, which the next attempt finds.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from contextlib import aclosing

from msgspec import Struct

from quilt.manifest import Bounds
from quilt_registry import audit
from quilt_registry.background import ahead
from quilt_registry.bodies import Packed
from quilt_registry.database import Connection, Database
from quilt_registry.errors import Conflict, NotFound, Unavailable
from quilt_registry.manifests import pages, pushed, tree
from quilt_registry.manifests.pages import ObjectList, PageBodies
from quilt_registry.manifests.pushed import Manifest, PushOptions
from quilt_registry.offload import MAX_LIGHT_WEIGHT
from quilt_registry.packages import access, commit, descriptions, instances, search, uploads
from quilt_registry.packages.access import Member, Package
from quilt_registry.packages.commit import LockedPackage, VerifiedPush
from quilt_registry.packages.instances import LATEST
from quilt_registry.packages.search import IndexTexts
from quilt_registry.packages.uploads import PushOutdated
from quilt_registry.services import Services
from quilt_registry.storage.objects import ObjectStore, final_key, staging_key
from quilt_registry.storage.signed_urls import Signer

URLS_PER_BATCH = 10_000
# When the package has changed in the meantime: parts that other processes push move `latest`. Fewer if each takes long.
MAX_ATTEMPTS, MAX_HEAVY_ATTEMPTS = 20, 5


class PushServices(Services, frozen=True, kw_only=True):
    """Services, the bounds of trees, and the team's ID for messages."""

    bounds: Bounds
    team_id: str


class Target(Struct, frozen=True):
    """The target of a push: a whole package with its top hash, or a path of node names in it."""

    owner: str
    name: str
    top_hash: str = ""
    path: list[str] = []


class Base(Struct, frozen=True):
    """What a part is merged into: an instance with its pages, or nothing."""

    instance_id: int | None
    digests: list[bytes]
    pages: PageBodies


class Pushed(Struct, frozen=True):
    """A push that was stored."""

    top_hash: str


async def push(services: PushServices, member: Member, target: Target, body: Packed) -> Pushed | AsyncGenerator[bytes]:
    """Store a push, or return the response to a dry run as JSON text: upload URLs of all its objects.

    Raise Invalid, Forbidden, NotFound, Conflict, TooLarge, Unavailable.
    """
    part = await _parse_part(services, target, body) if target.path else None
    for _ in range(MAX_ATTEMPTS if body.weight <= MAX_LIGHT_WEIGHT else MAX_HEAVY_ATTEMPTS):
        package = await check_rights(services, member, target)
        with contextlib.suppress(PushOutdated):
            if part:
                return await _push_part(services, member, target, package, body, part)
            return await _push_whole(services, member, target, package, body)
    raise Conflict("The package changed again and again during the push. Push again in a moment.")


async def check_rights(services: PushServices, member: Member, target: Target) -> Package | None:
    """Return the package of a push, None if it is new. Raise Invalid or Forbidden, as far as no body is needed."""
    commit.check_name(target.name)
    package = await access.find(services.db, member, target.owner, target.name)
    access.check_push(member, target.owner, package)
    return package


async def _push_whole(
    services: PushServices, member: Member, target: Target, package: Package | None, body: Packed
) -> Pushed | AsyncGenerator[bytes]:
    known = await _known_pages(services.db, package.id) if package else frozenset()
    parsed = await services.offload.run(body.weight, pushed.parse_whole, body, services.bounds, target.top_hash, known)
    await _check_options(services, member, target, package, parsed.options)
    if parsed.options.dry_run:
        return _upload_urls(services, member, target, parsed.options.objects)
    assert parsed.manifest is not None
    return await _store_whole(services, member, target, package, parsed.options, parsed.manifest)


async def _parse_part(services: PushServices, target: Target, body: Packed) -> PushOptions:
    return await services.offload.run(body.weight, pushed.parse_part, body, services.bounds, target.path)


async def _push_part(
    services: PushServices, member: Member, target: Target, package: Package | None, body: Packed, options: PushOptions
) -> Pushed | AsyncGenerator[bytes]:
    await _check_options(services, member, target, package, options)
    if options.dry_run:
        await _check_no_leaf_on_path(services, target, package)
        return _upload_urls(services, member, target, options.objects)
    # One part of a package at a time, because each is merged into what the one before it has left.
    async with services.db.local_lock(f"part of {target.owner}/{target.name}"):
        return await _store_part(services, member, target, package, body, options)


async def _known_pages(db: Database, package_id: int) -> frozenset[bytes]:
    """Return the digests of the package's pages. Their objects need no verification."""
    rows = await db.fetch("SELECT page FROM package_page WHERE package_id = $1", package_id)
    return frozenset(row["page"] for row in rows)


async def _check_options(
    services: PushServices, member: Member, target: Target, package: Package | None, options: PushOptions
) -> None:
    full_name = f"{target.owner}/{target.name}"
    public, team = options.is_public, options.is_team
    access.check_visibility(member.policy, services.team_id, package, full_name, public=public, team=team)
    if package is None:
        await commit.check_free(services.db, member.account.id, member.name, target.name)


async def _store_whole(
    services: PushServices,
    member: Member,
    target: Target,
    package: Package | None,
    options: PushOptions,
    manifest: Manifest,
) -> Pushed:
    """Verify the objects of a whole push, then store it. No tag moves: the client moves `latest` afterwards."""
    verified = await _verify(services, member, target, package, manifest)
    transaction = commit.transaction(services.db, member, package, target.name, options, verified)
    async with transaction as (connection, locked):
        await commit.store(connection, member, locked, verified, public=options.is_public)
    await _remove_staged(services.store, target.owner, member.name, verified.objects.staged)
    return Pushed(manifest.top_hash.hex())


async def _store_part(
    services: PushServices,
    member: Member,
    target: Target,
    package: Package | None,
    body: Packed,
    options: PushOptions,
) -> Pushed:
    """Merge a part into what `latest` points at, and move `latest` to the result.

    Raise PushOutdated if `latest` has moved meanwhile, so that concurrent parts are all kept.
    """
    base = await _read_base(services.db, package)
    known = await _known_pages(services.db, package.id) if package else frozenset[bytes]()
    weight = body.weight + sum(base.pages.counts)
    manifest = await services.offload.run(
        weight, pushed.merge, body, services.bounds, base.pages.bodies, target.path, known
    )
    verified = await _verify(services, member, target, package, manifest)
    texts = await _index_texts(services.db, member, target, package, verified)
    transaction = commit.transaction(services.db, member, package, target.name, options, verified)
    async with transaction as (connection, locked):
        await _check_base(connection, locked, base)
        instance_id = await commit.store(connection, member, locked, verified, public=options.is_public)
        await instances.set_tag(connection, locked.id, LATEST, instance_id)
        await audit.record(connection, "TAG_SET", member.name, locked, manifest.top_hash, tag=LATEST)
        await search.index(connection, locked.id, texts)
    await _remove_staged(services.store, target.owner, member.name, verified.objects.staged)
    return Pushed(manifest.top_hash.hex())


async def _read_base(db: Database, package: Package | None) -> Base:
    """Return what `latest` points at. Raise PushOutdated if the package was just deleted."""
    instance = package and await instances.find_tagged(db, package.id, LATEST)
    if not instance:
        return Base(None, [], PageBodies([], []))
    try:
        return Base(instance.id, *await instances.read_pages(db, instance.id))
    except NotFound:
        raise PushOutdated from None


async def _check_base(connection: Connection, package: LockedPackage, base: Base) -> None:
    """Raise PushOutdated if `latest` does not point at the base any more, or other metadata was pushed to that."""
    row = await connection.fetchrow(
        """
        SELECT i.id, i.pages FROM tag t JOIN instance i ON i.id = t.instance_id
        WHERE t.package_id = $1 AND t.name = $2
        """,
        package.id, LATEST,
    )  # fmt: skip
    if (row["id"] if row else None, row["pages"] if row else b"") != (base.instance_id, b"".join(base.digests)):
        raise PushOutdated


async def _index_texts(
    db: Database, member: Member, target: Target, package: Package | None, push: VerifiedPush
) -> IndexTexts:
    """Return the words of a push for search, before it is stored."""
    owner_id, manifest = _owner_id(member, package), push.manifest
    texts = await descriptions.load(db, owner_id, manifest.readme, manifest.metadata, push.texts)
    return await search.make_texts(target.owner, target.name, manifest.names, texts)


async def _verify(
    services: Services, member: Member, target: Target, package: Package | None, manifest: Manifest
) -> VerifiedPush:
    """Look up all new objects of a manifest, read its README and metadata, and compare it with a known top hash."""
    objects = await uploads.verify(services, member, target.owner, manifest.fresh_objects, manifest.readme)
    texts = await descriptions.read(services.db, services.store, _owner_id(member, package), target.owner, manifest)
    state = services.store.state(staged=bool(objects.staged))
    rows = await commit.make_rows(services, _owner_id(member, package), objects.new, state)
    same_tree = await commit.find_same_tree(services, package, manifest)
    return VerifiedPush(manifest, objects, rows, texts, state, same_tree)


def _owner_id(member: Member, package: Package | None) -> int:
    return package.owner_id if package else member.account.id


async def _remove_staged(store: ObjectStore, owner: str, uploader: str, staged: list[str]) -> None:
    """Remove staged uploads that were promoted. Failures are ignored, because leftovers do no harm."""
    with contextlib.suppress(Unavailable):
        await store.remove(staging_key(owner, uploader, sha256) for sha256 in staged)


# ------------------------------------------------------------------------------------------------ dry run


async def _check_no_leaf_on_path(services: PushServices, target: Target, package: Package | None) -> None:
    """Raise NotFound if the path of a part leads through a leaf."""
    base = await _read_base(services.db, package)
    if base.instance_id:
        weight = sum(base.pages.counts)
        await services.offload.run(weight, tree.check_no_leaf_on_path, base.pages, target.path, pushed.not_a_group)


async def _upload_urls(
    services: PushServices, member: Member, target: Target, objects: ObjectList
) -> AsyncGenerator[bytes]:
    """Yield the response to a dry run: for every object a URL for HEAD, which tells whether it is stored, and for PUT.

    A known object answers HEAD with 200, and a PUT to it does no harm. New objects go to their final keys if the owner
    pushes. Those of other members are staged, and HEAD tells only what the member staged.
    """
    final = final_key(target.owner, "")
    staged = staging_key(target.owner, member.name, "")
    # A directory verifies every PUT, so it may go to the final key, where it repairs a damaged object.
    known_put = final if services.store.directory else staged
    new = final if access.may_upload_directly(member, target.owner) else staged
    lead = b'{"upload_urls":{'
    prefixes = (final, known_put), (new, new)
    found = ahead(_known_batches(services.db, member, target.owner, objects))
    async with services.streamed.use(len(objects)), aclosing(found) as batches:
        async for digests, known in batches:
            signer, count = services.store.signer, len(digests) // 32
            yield lead + await services.offload.run(count, _urls_json, signer, digests, known, *prefixes)
            lead = b","
    yield b"}}" if len(objects) else lead + b"}}"


async def _known_batches(
    db: Database, member: Member, owner: str, objects: ObjectList
) -> AsyncGenerator[tuple[bytes, bytes]]:
    """Yield the digests of objects in batches, and those of each batch that are known."""
    for batch in objects.batches(URLS_PER_BATCH):
        yield batch.digests, (await uploads.find_known(db, member, owner, batch.digests)).digests


def _urls_json(
    signer: Signer, digests: bytes, known: bytes, known_prefixes: tuple[str, str], new_prefixes: tuple[str, str]
) -> bytes:
    """Return members of `upload_urls`. The prefixes are those of the keys for HEAD and for PUT."""
    known_digests = set(pages.split(known))
    members = []
    for hashes, (head, put) in (
        ([digest.hex() for digest in pages.split(digests) if digest in known_digests], known_prefixes),
        ([digest.hex() for digest in pages.split(digests) if digest not in known_digests], new_prefixes),
    ):
        heads, puts = signer.upload_urls([head + sha256 for sha256 in hashes], [put + sha256 for sha256 in hashes])
        members += [f'"{s}":{{"head":"{h}","put":"{p}"}}' for s, h, p in zip(hashes, heads, puts, strict=True)]
    return ",".join(members).encode()
