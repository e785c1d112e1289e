"""Installing: the whole tree, and signed URLs to the objects that are asked for, sent while they are made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from quilt_registry import events
from quilt_registry.database import Database
from quilt_registry.errors import NotFound
from quilt_registry.objects import DAMAGED, Objects as Store, final_key
from quilt_registry.offload import Offload
from quilt_registry.packages import instances, pages, verifying
from quilt_registry.packages.access import READABLE, Caller, Package
from quilt_registry.packages.instances import Instance
from quilt_registry.packages.pages import Objects, PathMissing, Span, Stored
from quilt_registry.packages.uploads import UNPACKED
from quilt_registry.signing import Signer

PAGES_AT_ONCE = 16
URLS_AT_ONCE = 10_000


async def install(
    db: Database, store: Store, offload: Offload, caller: Caller, package: Package, instance: Instance,
    subpath: str, meta_only: bool, record: bool,
) -> AsyncIterator[bytes]:  # fmt: skip
    """The answer to an install, as JSON text: contents (always the whole tree, since the client checks its hash), and
    URLs and sizes of the objects below `subpath`, or of metadata objects only.

    `record` adds the event INSTALL. Raises NotFound for a subpath that leads nowhere, Conflict for damaged objects.
    """
    stored = await instances.read_pages(db, instance)
    span = await _span(offload, stored, instance, subpath)
    await verifying.check_undamaged(db, offload, package, stored.bodies, instance.entries, span, meta_only)
    if record:
        extra = {"subpath": subpath or None}
        await events.record(db, "INSTALL", caller.name, package, instance.top_hash, extra)
    return _write(store, offload, package, instance, stored, span, meta_only)


async def _span(offload: Offload, stored: Stored, instance: Instance, subpath: str) -> Span:
    if not subpath:
        return 0, instance.entries
    try:
        return await offload.run(instance.entries, pages.find, stored, subpath.split("/"))
    except PathMissing as error:
        raise NotFound(f"Invalid subpath: {error.name!r}") from None


async def _write(
    store: Store,
    offload: Offload,
    package: Package,
    instance: Instance,
    stored: Stored,
    span: Span,
    meta_only: bool,
) -> AsyncIterator[bytes]:
    yield b'{"contents":'
    depth, first, start = 0, True, 0
    found: list[Objects] = []
    for i in range(0, len(stored.bodies), PAGES_AT_ONCE):
        some = slice(i, i + PAGES_AT_ONCE)
        count = sum(stored.counts[some])
        here = span[0] - start, span[1] - start
        rendered = await offload.run(count, pages.render, stored.bodies[some], depth, first, here, meta_only)
        yield rendered.json
        depth, first, start = rendered.depth, rendered.first, start + count
        found.append(rendered.objects)
    yield pages.close(depth)
    objects = await offload.run(sum(map(len, found)), pages.distinct, found)
    async for text in _write_objects(store, offload, package.owner, objects):
        yield text
    yield b"," + msgspec.json.encode(stamps(instance))[1:]


async def _write_objects(store: Store, offload: Offload, owner: str, objects: Objects) -> AsyncIterator[bytes]:
    yield b',"urls":{'
    async for text in _batches(offload, objects, _urls_json, store.signer, final_key(owner, "")):
        yield text
    yield b'},"sizes":{'
    async for text in _batches(offload, objects, _sizes_json):
        yield text
    yield b"}"


async def _batches(offload: Offload, objects: Objects, function: Any, *args: Any) -> AsyncIterator[bytes]:
    lead = b""
    for batch in objects.batches(URLS_AT_ONCE):
        yield lead + await offload.run(len(batch), function, batch, *args)
        lead = b","


def _urls_json(objects: Objects, signer: Signer, prefix: str) -> bytes:
    names = [digest.hex() for digest in pages.split(objects.digests)]
    urls = signer.urls([prefix + name for name in names])
    return ",".join([f'"{name}":"{url}"' for name, url in zip(names, urls, strict=True)]).encode()


def _sizes_json(objects: Objects) -> bytes:
    return ",".join([f'"{digest.hex()}":{size}' for digest, size in objects]).encode()


def stamps(instance: Instance) -> dict[str, Any]:
    """Who made an instance and when, as answers carry it; times in seconds."""
    return {
        "created_by": instance.created_by,
        "created_at": instance.created_at.timestamp(),
        "updated_by": instance.updated_by,
        "updated_at": instance.updated_at.timestamp(),
    }


async def get_objects(db: Database, store: Store, caller: Caller, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """URLs and sizes of those objects that occur in any package the caller may read, whoever owns it.

    Records an INSTALL of each package that they are read from.
    """
    digests = bytes.fromhex("".join(names))
    rows = await db.fetch(
        f"""
        SELECT DISTINCT ON (o.digest) o.digest, o.size, p.id, p.owner, p.name
        FROM ({UNPACKED}) n JOIN object o ON o.digest = n.digest
        JOIN package_object po ON po.object_id = o.id JOIN package p ON p.id = po.package_id
        WHERE o.state <> {DAMAGED} AND {READABLE}
        ORDER BY o.digest, p.id
        """,
        caller.grants, digests, b"",
    )  # fmt: skip
    urls = store.signer.urls([final_key(row["owner"], row["digest"].hex()) for row in rows])
    for package_id in {row["id"] for row in rows}:
        mine = [row for row in rows if row["id"] == package_id]
        package = Package(package_id, 0, mine[0]["owner"], mine[0]["name"], 0, False, False)
        await events.record(db, "INSTALL", caller.name, package, None, {"objects": len(mine)})
    return {
        "urls": {row["digest"].hex(): url for row, url in zip(rows, urls, strict=True)},
        "sizes": {row["digest"].hex(): row["size"] for row in rows},
    }
