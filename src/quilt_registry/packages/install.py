"""Installing: the whole tree, and signed URLs to the objects that are asked for, sent while they are made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from quilt_registry import audit
from quilt_registry.database import Database
from quilt_registry.errors import Conflict, NotFound
from quilt_registry.manifests import pages, render, tree
from quilt_registry.manifests.pages import ObjectList, PageBodies, Span
from quilt_registry.manifests.tree import PathMissing
from quilt_registry.offload import Offload
from quilt_registry.packages import instances
from quilt_registry.packages.access import READABLE, Caller, Package
from quilt_registry.packages.instances import Instance, provenance
from quilt_registry.packages.uploads import UNPACKED
from quilt_registry.services import Services
from quilt_registry.storage.objects import ObjectState, ObjectStore, final_key
from quilt_registry.storage.signed_urls import Signer

PAGES_AT_ONCE = 16
URLS_AT_ONCE = 10_000


class Selection(Struct, frozen=True):
    """Which objects an install asks for: those below a path of node names ("": all), or metadata objects only."""

    subpath: str = ""
    meta_only: bool = False


async def install(
    services: Services, caller: Caller, package: Package, instance: Instance, selection: Selection, *, record: bool
) -> AsyncIterator[bytes]:
    """Return the answer to an install as JSON text: contents, and URLs and sizes of the selected objects.

    The contents are always the whole tree, because the client checks its hash. `record` adds the event INSTALL.
    Raise NotFound for a subpath that does not exist, Conflict for damaged objects.
    """
    stored = await instances.read_pages(services.db, instance)
    span = await _span(services.offload, stored, instance, selection.subpath)
    await check_undamaged(services, package, instance, stored.bodies, span, meta_only=selection.meta_only)
    if record:
        subpath = selection.subpath or None
        await audit.record(services.db, "INSTALL", caller.name, package, instance.top_hash, subpath=subpath)
    return _write(services, package, instance, stored, span, meta_only=selection.meta_only)


async def _span(offload: Offload, stored: PageBodies, instance: Instance, subpath: str) -> Span:
    if not subpath:
        return 0, instance.entries
    try:
        return await offload.run(instance.entries, tree.find, stored, subpath.split("/"))
    except PathMissing as error:
        raise NotFound(f"Invalid subpath: {error.name!r}") from None


async def _write(
    services: Services, package: Package, instance: Instance, stored: PageBodies, span: Span, *, meta_only: bool
) -> AsyncIterator[bytes]:
    yield b'{"contents":'
    depth, first, start = 0, True, 0
    found: list[ObjectList] = []
    for i in range(0, len(stored.bodies), PAGES_AT_ONCE):
        some = slice(i, i + PAGES_AT_ONCE)
        count = sum(stored.counts[some])
        here = span[0] - start, span[1] - start
        rendered = await services.offload.run(
            count, render.render, stored.bodies[some], depth, first=first, span=here, meta_only=meta_only
        )
        yield rendered.json
        depth, first, start = rendered.depth, rendered.first, start + count
        found.append(rendered.objects)
    yield render.close(depth)
    objects = await services.offload.run(sum(map(len, found)), pages.distinct, found)
    async for text in _write_objects(services, package.owner, objects):
        yield text
    yield b"," + msgspec.json.encode(provenance(instance))[1:]


async def _write_objects(services: Services, owner: str, objects: ObjectList) -> AsyncIterator[bytes]:
    yield b',"urls":{'
    async for text in _batches(services.offload, objects, _urls_json, services.store.signer, final_key(owner, "")):
        yield text
    yield b'},"sizes":{'
    async for text in _batches(services.offload, objects, _sizes_json):
        yield text
    yield b"}"


async def _batches(offload: Offload, objects: ObjectList, function: Any, *args: Any) -> AsyncIterator[bytes]:
    lead = b""
    for batch in objects.batches(URLS_AT_ONCE):
        yield lead + await offload.run(len(batch), function, batch, *args)
        lead = b","


def _urls_json(objects: ObjectList, signer: Signer, prefix: str) -> bytes:
    names = [digest.hex() for digest in pages.split(objects.digests)]
    urls = signer.urls([prefix + name for name in names])
    return ",".join([f'"{name}":"{url}"' for name, url in zip(names, urls, strict=True)]).encode()


def _sizes_json(objects: ObjectList) -> bytes:
    return ",".join([f'"{digest.hex()}":{size}' for digest, size in objects]).encode()


async def get_objects(
    db: Database, store: ObjectStore, caller: Caller, names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """URLs and sizes of those objects that occur in any package the caller may read, whoever owns it.

    Records an INSTALL of each package that they are read from.
    """
    digests = bytes.fromhex("".join(names))
    rows = await db.fetch(
        f"""
        SELECT DISTINCT ON (o.digest) o.digest, o.size, p.id, p.owner, p.name
        FROM ({UNPACKED}) n JOIN object o ON o.digest = n.digest
        JOIN package_object po ON po.object_id = o.id JOIN package p ON p.id = po.package_id
        WHERE o.state <> {ObjectState.DAMAGED} AND {READABLE}
        ORDER BY o.digest, p.id
        """,
        caller.grants, digests, b"",
    )  # fmt: skip
    urls = store.signer.urls([final_key(row["owner"], row["digest"].hex()) for row in rows])
    for package_id in {row["id"] for row in rows}:
        mine = [row for row in rows if row["id"] == package_id]
        package = Package(package_id, 0, mine[0]["owner"], mine[0]["name"], 0, False, False)
        await audit.record(db, "INSTALL", caller.name, package, objects=len(mine))
    return {
        "urls": {row["digest"].hex(): url for row, url in zip(rows, urls, strict=True)},
        "sizes": {row["digest"].hex(): row["size"] for row in rows},
    }


async def check_undamaged(
    services: Services, package: Package, instance: Instance, bodies: list[bytes], span: Span, *, meta_only: bool
) -> None:
    """Raises Conflict naming an object that an install would send and that is damaged."""
    rows = await services.db.fetch(
        f"SELECT digest FROM object WHERE owner_id = $1 AND state = {ObjectState.DAMAGED}", package.owner_id
    )
    if not rows:  # always, but for a bucket that lost something
        return
    damaged = {row["digest"] for row in rows}
    rendered = await services.offload.run(instance.entries, render.render, bodies, span=span, meta_only=meta_only)
    for digest, _ in rendered.objects:
        if digest in damaged:
            raise Conflict(
                f"The object {digest.hex()} is damaged in the store. Whoever has its bytes can push this package again."
            )
