"""Tags, versions, log (protocol §13)."""

from __future__ import annotations

from typing import Any

from litestar import Response
from litestar.params import FromPath
from msgspec import Struct

from quilt_registry.api.messages import json, read
from quilt_registry.api.quilt2 import schemas
from quilt_registry.packages import history
from quilt_registry.packages.access import Caller, Member
from quilt_registry.packages.instances import Instance, provenance
from quilt_registry.registry import Registry
from quilt_registry.web.requests import AnyRequest, Injected


class Pointer(Struct):
    """Where a tag or version is to point; other fields are ignored."""

    hash: str


def _instance(instance: Instance) -> dict[str, Any]:
    return {"hash": instance.top_hash.hex(), **provenance(instance)}


async def list_tags(
    caller: Injected[Caller], registry: Injected[Registry], owner: FromPath[str], name: FromPath[str]
) -> Response[Any]:
    """All tags, by name."""
    return json(schemas.Tags(await history.list_tags(registry.db, caller, owner, name)))


async def get_tag(
    caller: Injected[Caller],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
    tag: FromPath[str],
) -> Response[Any]:
    """The instance that a tag points at. The flags tell of any such entry in the access list."""
    package, instance = await history.get_tag(registry.db, caller, owner, name, tag)
    return json(schemas.Tagged(**_instance(instance), is_public=package.has_public, is_team=package.has_team))


async def put_tag(
    request: AnyRequest,
    member: Injected[Member],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
    tag: FromPath[str],
) -> Response[Any]:
    """Make a tag, or move it."""
    asked = await read(request, Pointer)
    await history.put_tag(registry.db, member, owner, name, tag, asked.hash)
    return json({})


async def delete_tag(
    member: Injected[Member],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
    tag: FromPath[str],
) -> Response[Any]:
    """Remove a tag."""
    await history.delete_tag(registry.db, member, owner, name, tag)
    return json({})


async def list_versions(
    caller: Injected[Caller], registry: Injected[Registry], owner: FromPath[str], name: FromPath[str]
) -> Response[Any]:
    """All versions, in the order of PEP 440."""
    return json(schemas.Versions(await history.list_versions(registry.db, caller, owner, name)))


async def get_version(
    caller: Injected[Caller],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
    version: FromPath[str],
) -> Response[Any]:
    """The instance of a version."""
    return json(schemas.Instance(**_instance(await history.get_version(registry.db, caller, owner, name, version))))


async def put_version(
    request: AnyRequest,
    member: Injected[Member],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
    version: FromPath[str],
) -> Response[Any]:
    """Give an instance a version, for good."""
    asked = await read(request, Pointer)
    await history.put_version(registry.db, member, owner, name, version, asked.hash)
    return json({})


async def log(
    caller: Injected[Caller], registry: Injected[Registry], owner: FromPath[str], name: FromPath[str]
) -> Response[Any]:
    """Every push, oldest first, with the tags and versions that its instance has now."""
    return json(schemas.Log(await history.log(registry.db, caller, owner, name)))
