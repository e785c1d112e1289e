"""The push of a package, or of a part of one.

The order of effects: the client uploads the objects first, with presigned URLs from the dry run. The push looks all of
them up. Then one transaction claims the name, stores the manifest and its objects, and records the event. A manifest
never names an object that is not in the store. A push that fails leaves only objects behind, which the next attempt
finds.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from msgspec import Struct

from quilt.manifest import Bounds
from quilt_registry import audit
from quilt_registry.bodies import Packed
from quilt_registry.database import Connection, Database
from quilt_registry.errors import Conflict, Unavailable
from quilt_registry.manifests import pages, pushed, tree
from quilt_registry.manifests.pages import ObjectList, PageBodies
from quilt_registry.manifests.pushed import Manifest, PushOptions
from quilt_registry.packages import access, commit, descriptions, instances, search, uploads
from quilt_registry.packages.access import Member, Package
from quilt_registry.packages.commit import PackageReplaced, VerifiedPush
from quilt_registry.packages.instances import LATEST
from quilt_registry.services import Services
from quilt_registry.storage.objects import ObjectStore, final_key, staging_key
from quilt_registry.storage.signed_urls import Signer

URLS_PER_BATCH = 10_000
MAX_ATTEMPTS = 5  # when the package is created or deleted in the meantime


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


class Pushed(Struct, frozen=True):
    """A push that was stored."""

    top_hash: str


async def push(services: PushServices, member: Member, target: Target, body: Packed) -> Pushed | AsyncIterator[bytes]:
    """Store a push, or return the response to a dry run as JSON text: upload URLs of all its objects.

    Raise Invalid, Forbidden, NotFound, Conflict, TooLarge, Unavailable.
    """
    push_to = _push_part if target.path else _push_whole
    for _ in range(MAX_ATTEMPTS):
        package = await check_rights(services, member, target)
        with contextlib.suppress(PackageReplaced):
            return await push_to(services, member, target, package, body)
    raise Conflict("The package is being deleted and created again. Try again when that is done.")


async def check_rights(services: PushServices, member: Member, target: Target) -> Package | None:
    """Return the package of a push, None if it is new. Raise Invalid or Forbidden, as far as no body is needed."""
    commit.check_name(target.name)
    package = await access.find(services.db, member, target.owner, target.name)
    access.check_push(member, target.owner, package)
    return package


async def _push_whole(
    services: PushServices, member: Member, target: Target, package: Package | None, body: Packed
) -> Pushed | AsyncIterator[bytes]:
    known = await _known_pages(services.db, package.id) if package else frozenset()
    parsed = await services.offload.run(body.weight, pushed.parse_whole, body, services.bounds, target.top_hash, known)
    await _check_options(services, member, target, package, parsed.options)
    if parsed.options.dry_run:
        return _upload_urls(services, member, target, parsed.options.objects)
    assert parsed.manifest is not None
    return await _store_whole(services, member, target, package, parsed.options, parsed.manifest)


async def _push_part(
    services: PushServices, member: Member, target: Target, package: Package | None, body: Packed
) -> Pushed | AsyncIterator[bytes]:
    options = await services.offload.run(body.weight, pushed.parse_part, body, services.bounds, target.path)
    await _check_options(services, member, target, package, options)
    if options.dry_run:
        await _check_no_leaf_on_path(services, target, package)
        return _upload_urls(services, member, target, options.objects)
    return await _store_part(services, member, target, package, body, options)


async def _known_pages(db: Database | Connection, package_id: int) -> frozenset[bytes]:
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
    owner_id = package.owner_id if package else member.account.id
    verified = await _verify(services, services.db, member, target.owner, owner_id, manifest)
    async with services.db.transaction() as connection:
        locked = await commit.claim(
            connection, member, package, target.name, public=options.is_public, team=options.is_team
        )
        await commit.store(connection, services.offload, member, locked, verified, public=options.is_public)
    await _remove_staged(services.store, target.owner, member.name, verified.staged)
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

    All of it while the package is locked, so that concurrent parts are all kept.
    """
    async with services.db.transaction() as connection:
        locked = await commit.claim(
            connection, member, package, target.name, public=options.is_public, team=options.is_team
        )
        base = await instances.find_tagged(connection, locked.id, LATEST)
        stored = await instances.read_pages(connection, base) if base else PageBodies([], [])
        known = await _known_pages(connection, locked.id)
        weight = body.weight + (base.entries if base else 0)
        manifest = await services.offload.run(
            weight, pushed.merge, body, services.bounds, stored.bodies, target.path, known
        )
        verified = await _verify(services, connection, member, target.owner, locked.owner_id, manifest)
        public = options.is_public
        instance_id = await commit.store(connection, services.offload, member, locked, verified, public=public)
        await instances.set_tag(connection, locked.id, LATEST, instance_id)
        await audit.record(connection, "TAG_SET", member.name, locked, manifest.top_hash, tag=LATEST)
        await search.index(connection, locked.id, locked.owner, locked.name)
    await _remove_staged(services.store, target.owner, member.name, verified.staged)
    return Pushed(manifest.top_hash.hex())


async def _verify(
    services: PushServices, db: Database | Connection, member: Member, owner: str, owner_id: int, manifest: Manifest
) -> VerifiedPush:
    """Look up all new objects of a manifest, and read its README and metadata."""
    staged = await uploads.verify(services, db, member, owner, manifest.fresh_objects, manifest.readme)
    texts = await descriptions.read(db, services.store, owner_id, owner, manifest)
    return VerifiedPush(manifest, texts, services.store.state(staged=bool(staged)), staged)


async def _remove_staged(store: ObjectStore, owner: str, uploader: str, staged: list[str]) -> None:
    """Remove staged uploads that were promoted. Failures are ignored, because leftovers do no harm."""
    with contextlib.suppress(Unavailable):
        await store.remove(staging_key(owner, uploader, sha256) for sha256 in staged)


# ------------------------------------------------------------------------------------------------ dry run


async def _check_no_leaf_on_path(services: PushServices, target: Target, package: Package | None) -> None:
    """Raise NotFound if the path of a part leads through a leaf."""
    base = package and await instances.find_tagged(services.db, package.id, LATEST)
    if base:
        stored = await instances.read_pages(services.db, base)
        await services.offload.run(base.entries, tree.check_no_leaf_on_path, stored, target.path, pushed.not_a_group)


async def _upload_urls(
    services: PushServices, member: Member, target: Target, objects: ObjectList
) -> AsyncIterator[bytes]:
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
    for batch in objects.batches(URLS_PER_BATCH):
        known = await uploads.find_known(services.db, member, target.owner, batch)
        signer, prefixes = services.store.signer, ((final, known_put), (new, new))
        yield lead + await services.offload.run(len(batch), _urls_json, signer, batch.digests, known.digests, *prefixes)
        lead = b","
    yield b"}}" if len(objects) else lead + b"}}"


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
