"""The install of an instance: its whole tree and presigned URLs of the selected objects, generated while sent."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import msgspec
from msgspec import Struct

from quilt_registry import audit
from quilt_registry.errors import Conflict, NotFound
from quilt_registry.manifests import pages, render, tree
from quilt_registry.manifests.pages import ObjectList, PageBodies, Span
from quilt_registry.manifests.tree import PathNotFound
from quilt_registry.offload import Offload
from quilt_registry.packages import instances
from quilt_registry.packages.access import Caller, Package
from quilt_registry.packages.instances import Instance, provenance
from quilt_registry.services import Services
from quilt_registry.storage.objects import ObjectState, final_key
from quilt_registry.storage.signed_urls import Signer

PAGES_PER_BATCH = 16
URLS_PER_BATCH = 10_000


class Selection(Struct, frozen=True):
    """The objects that an install requests: those below a path of node names ("" for all), or only metadata objects."""

    subpath: str = ""
    meta_only: bool = False


async def install(
    services: Services, caller: Caller, package: Package, instance: Instance, selection: Selection, *, record: bool
) -> AsyncGenerator[bytes]:
    """Yield the response to an install as JSON text: contents, and URLs and sizes of the selected objects.

    The contents are always the whole tree, because the client checks its top hash. `record` records the event INSTALL.
    Before the first text, raise NotFound for a subpath that does not exist, Conflict if a selected object is damaged.
    """
    async with services.streamed.use(instance.entries):
        _, stored = await instances.read_pages(services.db, instance.id)
        span = await _span(services.offload, stored, instance, selection.subpath)
        await _check_undamaged(services, package, stored, span, meta_only=selection.meta_only)
        if record:
            subpath = selection.subpath or None
            await audit.record(services.db, "INSTALL", caller.name, package, instance.top_hash, subpath=subpath)
        async for text in _stream(services, package, instance, stored, span, meta_only=selection.meta_only):
            yield text


async def _span(offload: Offload, stored: PageBodies, instance: Instance, subpath: str) -> Span:
    if not subpath:
        return 0, instance.entries
    try:
        return await offload.run(instance.entries, tree.find_span, stored, subpath.split("/"))
    except PathNotFound as error:
        raise NotFound(f"Invalid subpath: {error.name!r}") from None


async def _check_undamaged(
    services: Services, package: Package, stored: PageBodies, span: Span, *, meta_only: bool
) -> None:
    rows = await services.db.fetch(
        f"SELECT digest FROM object WHERE owner_id = $1 AND state = {ObjectState.DAMAGED}", package.owner_id
    )
    if not rows:  # nearly always
        return
    damaged = {row["digest"] for row in rows}
    rendered = await services.offload.run(
        sum(stored.counts), render.render, stored.bodies, span=span, meta_only=meta_only
    )
    for digest, _ in rendered.objects:
        if digest in damaged:
            raise Conflict(
                f"The object {digest.hex()} is damaged in the store. "
                "To repair it, push this package again from a computer that has the object."
            )


async def _stream(
    services: Services, package: Package, instance: Instance, stored: PageBodies, span: Span, *, meta_only: bool
) -> AsyncGenerator[bytes]:
    yield b'{"contents":'
    depth, first, start = 0, True, 0
    lists: list[ObjectList] = []
    for i in range(0, len(stored.bodies), PAGES_PER_BATCH):
        batch = slice(i, i + PAGES_PER_BATCH)
        count = sum(stored.counts[batch])
        batch_span = span[0] - start, span[1] - start
        rendered = await services.offload.run(
            count, render.render, stored.bodies[batch], depth, first=first, span=batch_span, meta_only=meta_only
        )
        yield rendered.json
        depth, first, start = rendered.depth, rendered.first, start + count
        lists.append(rendered.objects)
    yield render.close(depth)
    objects = await services.offload.run(sum(map(len, lists)), pages.distinct, lists)
    async for text in _stream_objects(services, package.owner, objects):
        yield text
    yield b"," + msgspec.json.encode(provenance(instance))[1:]


async def _stream_objects(services: Services, owner: str, objects: ObjectList) -> AsyncGenerator[bytes]:
    yield b',"urls":{'
    async for text in _batches(services.offload, objects, _urls_json, services.store.signer, final_key(owner, "")):
        yield text
    yield b'},"sizes":{'
    async for text in _batches(services.offload, objects, _sizes_json):
        yield text
    yield b"}"


async def _batches(offload: Offload, objects: ObjectList, function: Any, *args: Any) -> AsyncGenerator[bytes]:
    lead = b""
    for batch in objects.batches(URLS_PER_BATCH):
        yield lead + await offload.run(len(batch), function, batch, *args)
        lead = b","


def _urls_json(objects: ObjectList, signer: Signer, prefix: str) -> bytes:
    hashes = [digest.hex() for digest in pages.split(objects.digests)]
    urls = signer.urls([prefix + sha256 for sha256 in hashes])
    return ",".join([f'"{sha256}":"{url}"' for sha256, url in zip(hashes, urls, strict=True)]).encode()


def _sizes_json(objects: ObjectList) -> bytes:
    return ",".join([f'"{digest.hex()}":{size}' for digest, size in objects]).encode()
