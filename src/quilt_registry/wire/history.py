"""Tags, versions, log (protocol §13)."""

from __future__ import annotations

from typing import Any

from litestar import Response
from msgspec import Struct

from quilt_registry.packages import history
from quilt_registry.packages.install import stamps
from quilt_registry.packages.instances import Instance
from quilt_registry.wire import shapes
from quilt_registry.wire.calling import AnyCaller, AnyRequest, Registry, SignedIn
from quilt_registry.wire.messages import json, read


class Pointer(Struct):
    """Where a tag or version is to point; other fields are ignored."""

    hash: str


def _instance(instance: Instance) -> dict[str, Any]:
    return {"hash": instance.top_hash.hex(), **stamps(instance)}


async def list_tags(caller: AnyCaller, parts: Registry, owner: str, name: str) -> Response[Any]:
    """All tags, by name."""
    return json(shapes.Tags(await history.list_tags(parts.db, caller, owner, name)))


async def get_tag(caller: AnyCaller, parts: Registry, owner: str, name: str, tag: str) -> Response[Any]:
    """The instance that a tag points at. The flags tell of any such entry in the access list."""
    package, instance = await history.get_tag(parts.db, caller, owner, name, tag)
    return json(shapes.Tagged(**_instance(instance), is_public=package.has_public, is_team=package.has_team))


async def put_tag(
    request: AnyRequest, member: SignedIn, parts: Registry, owner: str, name: str, tag: str
) -> Response[Any]:
    """Make a tag, or move it."""
    asked = await read(request, Pointer)
    await history.put_tag(parts.db, member, owner, name, tag, asked.hash)
    return json({})


async def delete_tag(member: SignedIn, parts: Registry, owner: str, name: str, tag: str) -> Response[Any]:
    """Remove a tag."""
    await history.delete_tag(parts.db, member, owner, name, tag)
    return json({})


async def list_versions(caller: AnyCaller, parts: Registry, owner: str, name: str) -> Response[Any]:
    """All versions, in the order of PEP 440."""
    return json(shapes.Versions(await history.list_versions(parts.db, caller, owner, name)))


async def get_version(caller: AnyCaller, parts: Registry, owner: str, name: str, version: str) -> Response[Any]:
    """The instance of a version."""
    return json(shapes.Instance(**_instance(await history.get_version(parts.db, caller, owner, name, version))))


async def put_version(
    request: AnyRequest, member: SignedIn, parts: Registry, owner: str, name: str, version: str
) -> Response[Any]:
    """Give an instance a version, for good."""
    asked = await read(request, Pointer)
    await history.put_version(parts.db, member, owner, name, version, asked.hash)
    return json({})


async def log(caller: AnyCaller, parts: Registry, owner: str, name: str) -> Response[Any]:
    """Every push, oldest first, with the tags and versions that its instance has now."""
    return json(shapes.Log(await history.log(parts.db, caller, owner, name)))
