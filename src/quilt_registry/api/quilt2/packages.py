"""Push, install, lists, preview and deletion of packages (protocol §9 to §12)."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from litestar import Response
from litestar.params import FromPath

from quilt_registry.api import params
from quilt_registry.api.messages import json, read_large, read_packed, stream
from quilt_registry.api.quilt2 import schemas
from quilt_registry.errors import Invalid
from quilt_registry.manifests import requested
from quilt_registry.packages import (
    install as installing,
    instances,
    listing,
    object_urls,
    push as pushing,
    search as searching,
)
from quilt_registry.packages.access import Caller, Member
from quilt_registry.packages.install import Selection
from quilt_registry.packages.push import Pushed, Target
from quilt_registry.registry import Registry
from quilt_registry.web.requests import AnyRequest, Injected, raw_path

_BOOLEANS = {
    **dict.fromkeys(("", "false", "0", "no", "off"), False),
    **dict.fromkeys(("true", "1", "yes", "on"), True),
}


async def push(
    request: AnyRequest,
    member: Injected[Member],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
    top_hash: FromPath[str],
) -> Response[Any]:
    """Push a package: with `dry_run`, return upload URLs of its objects; without, store the package."""
    return await _push(request, member, registry, Target(owner, name, top_hash=top_hash))


async def push_part(
    request: AnyRequest,
    member: Injected[Member],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
) -> Response[Any]:
    """Push a part of a package to a path, and move the tag `latest` to the result."""
    # The raw path, because the router folds double slashes, which stand for a node with an empty name.
    path = [unquote(name) for name in raw_path(request).split("/")[5:]]
    if "" in path:
        raise Invalid("The path contains an empty name.")
    return await _push(request, member, registry, Target(owner, name, path=path))


async def _push(
    request: AnyRequest, member: Injected[Member], registry: Injected[Registry], target: Target
) -> Response[Any]:
    await pushing.check_rights(registry, member, target)  # before the body costs anything
    body = await read_large(request, registry.settings)
    answer = await pushing.push(registry, member, target, body)
    if isinstance(answer, Pushed):
        url = f"{registry.settings.catalog_url}/package/{target.owner}/{target.name}"
        return json(schemas.PushResult(url, answer.top_hash))
    return await stream(request, answer)


async def install(  # noqa: PLR0913  the path alone names three of them
    request: AnyRequest,
    caller: Injected[Caller],
    registry: Injected[Registry],
    record: Injected[bool],
    owner: FromPath[str],
    name: FromPath[str],
    top_hash: FromPath[str],
) -> Response[Any]:
    """Return the tree of an instance, and presigned URLs of the selected objects."""
    package, instance = await instances.get_readable(registry.db, caller, owner, name, top_hash)
    selection = Selection(request.query_params.get("subpath", ""), _boolean(request, "meta_only"))
    answer = installing.install(registry, caller, package, instance, selection, record=record)
    response = await stream(request, answer)
    return json({}) if request.method == "HEAD" else response


def _boolean(request: AnyRequest, name: str) -> bool:
    text = request.query_params.get(name, "").lower()
    if text not in _BOOLEANS:
        raise Invalid(f"{name} must be true or false.")
    return _BOOLEANS[text]


async def get_objects(request: AnyRequest, caller: Injected[Caller], registry: Injected[Registry]) -> Response[Any]:
    """Return presigned URLs of the given objects, as far as the caller may read them."""
    body = await read_packed(request, requested.MAX_BYTES, requested.MAX_BYTES)
    return await stream(request, await object_urls.get_objects(registry, caller, body))


async def list_packages(
    request: AnyRequest, caller: Injected[Caller], registry: Injected[Registry], owner: FromPath[str]
) -> Response[Any]:
    """List the packages of an owner that the caller may read, by name: all, or a page with `limit` or `after`."""
    return json(await listing.list_packages(registry.db, caller, owner, params.paging(request)))


async def list_hashes(
    caller: Injected[Caller], registry: Injected[Registry], owner: FromPath[str], name: FromPath[str]
) -> Response[Any]:
    """List the top hashes of all instances of a package."""
    return json(schemas.HashList(await listing.list_top_hashes(registry.db, caller, owner, name)))


async def delete_package(
    member: Injected[Member], registry: Injected[Registry], owner: FromPath[str], name: FromPath[str]
) -> Response[Any]:
    """Delete a package with its history, but not its events in the audit trail."""
    await listing.delete(registry.db, member, owner, name)
    return json({})


async def preview(
    caller: Injected[Caller],
    registry: Injected[Registry],
    record: Injected[bool],
    owner: FromPath[str],
    name: FromPath[str],
    top_hash: FromPath[str],
) -> Response[Any]:
    """Return a summary of an instance: the upper levels of its tree, README, size and file types."""
    return json(await listing.preview(registry, caller, owner, name, top_hash, record=record))


async def search(request: AnyRequest, caller: Injected[Caller], registry: Injected[Registry]) -> Response[Any]:
    """List packages whose names, nodes, README or metadata contain all words of a query.

    Search covers the instance that the tag `latest` points to.
    """
    page = searching.parse_page(request.query_params.get("limit"), request.query_params.get("after"))
    return json(await searching.search(registry.db, caller, params.text(request, "q") or "", page))
