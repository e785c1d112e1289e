"""Push, install, lists, preview, deletion (protocol §9 to §12)."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from litestar import Response

from quilt.manifest import is_object_name
from quilt_registry import bodies
from quilt_registry.errors import Invalid
from quilt_registry.packages import install as installing, instances, listing, push as pushing, search as searching
from quilt_registry.packages.push import Pushed, Target
from quilt_registry.parts import Parts
from quilt_registry.wire import queries, shapes
from quilt_registry.wire.calling import AnyCaller, AnyRequest, Registry, SignedIn, address
from quilt_registry.wire.messages import json, read_large, stream

_BOOLEANS = {
    "": False,
    "false": False,
    "0": False,
    "no": False,
    "off": False,
    "true": True,
    "1": True,
    "yes": True,
    "on": True,
}


async def push(
    request: AnyRequest,
    member: SignedIn,
    parts: Registry,
    owner: str,
    name: str,
    top_hash: str,
) -> Response[Any]:
    """Push a package: first with `dry_run`, which answers with upload URLs for its objects, then for real."""
    return await _push(request, member, parts, Target(owner, name, top_hash=top_hash))


async def push_part(request: AnyRequest, member: SignedIn, parts: Registry, owner: str, name: str) -> Response[Any]:
    """Push a part to a path, and move the tag `latest` to the result."""
    # From the address as it came: the router folds double slashes, which stand for a node without a name.
    path = [unquote(name) for name in address(request).split("/")[5:]]
    if "" in path:
        raise Invalid("The path holds an empty name.")
    return await _push(request, member, parts, Target(owner, name, path=path))


async def _push(request: AnyRequest, member: SignedIn, parts: Parts, target: Target) -> Response[Any]:
    body = await read_large(request, parts.settings)
    answer = await pushing.push(parts.pushing, member, target, body)
    if isinstance(answer, Pushed):
        url = f"{parts.settings.catalog_url}/package/{target.owner}/{target.name}"
        return json(shapes.Pushed(url, answer.top_hash))
    return await stream(request, answer)


async def install(
    request: AnyRequest, caller: AnyCaller, parts: Registry, owner: str, name: str, top_hash: str
) -> Response[Any]:
    """An instance: its whole tree, and signed URLs to the objects that are asked for."""
    package, instance = await instances.to_read(parts.db, caller, owner, name, top_hash)
    subpath = request.query_params.get("subpath", "")
    meta_only = _boolean(request, "meta_only")
    answer = await installing.install(
        parts.db,
        parts.store,
        parts.offload,
        caller,
        package,
        instance,
        subpath,
        meta_only,
        record=request.method == "GET",
    )
    if request.method == "HEAD":
        return json({})
    return await stream(request, answer)


def _boolean(request: AnyRequest, name: str) -> bool:
    text = request.query_params.get(name, "").lower()
    if text not in _BOOLEANS:
        raise Invalid(f"{name} must be true or false.")
    return _BOOLEANS[text]


async def get_objects(request: AnyRequest, caller: AnyCaller, parts: Registry) -> Response[Any]:
    """Signed URLs to objects by name, of any package the caller may read. Others are left out."""
    names = bodies.decode(await read_large(request, parts.settings), list[str])
    for name in names:
        if not is_object_name(name):
            raise Invalid(f"{name!r:.80} is not an object name: 64 lower-case hex digits are.")
    return json(await installing.get_objects(parts.db, parts.store, caller, names))


async def list_owner(caller: AnyCaller, parts: Registry, owner: str) -> Response[Any]:
    """An owner's packages that the caller may read, by name."""
    return json(shapes.OfOwner(await listing.of_owner(parts.db, caller, owner)))


async def list_hashes(caller: AnyCaller, parts: Registry, owner: str, name: str) -> Response[Any]:
    """The top hashes of all instances of a package."""
    return json(shapes.Hashes(await listing.hashes(parts.db, caller, owner, name)))


async def search(request: AnyRequest, caller: AnyCaller, parts: Registry) -> Response[Any]:
    """Packages that hold all words of a query, in names, nodes, README or metadata of what `latest` points at."""
    span = searching.read_span(request.query_params.get("limit"), request.query_params.get("after"))
    return json(await searching.search(parts.db, caller, queries.text(request, "q") or "", span))


async def delete(member: SignedIn, parts: Registry, owner: str, name: str) -> Response[Any]:
    """Delete a package with all its history. What happened to it stays in the audit."""
    await listing.delete(parts.db, member, owner, name)
    return json({})


async def preview(
    request: AnyRequest, caller: AnyCaller, parts: Registry, owner: str, name: str, top_hash: str
) -> Response[Any]:
    """What a page about an instance shows."""
    record = request.method == "GET"
    return json(await listing.preview(parts.db, parts.store, caller, owner, name, top_hash, record))
