"""Tags, versions, and the log of pushes (protocol §13)."""

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


class InstanceReference(Struct):
    """The top hash of the instance that a tag or version points to. Other fields are ignored."""

    hash: str


async def list_tags(
    caller: Injected[Caller], registry: Injected[Registry], owner: FromPath[str], name: FromPath[str]
) -> Response[Any]:
    """List the tags of a package, by name."""
    return json(schemas.TagList(await history.list_tags(registry.db, caller, owner, name)))


async def get_tag(
    caller: Injected[Caller],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
    tag: FromPath[str],
) -> Response[Any]:
    """Return the instance that a tag points to."""
    package, instance = await history.get_tag(registry.db, caller, owner, name, tag)
    fields = _instance_fields(instance)
    return json(schemas.TaggedInstance(**fields, is_public=package.has_public, is_team=package.has_team))


async def put_tag(
    request: AnyRequest,
    member: Injected[Member],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
    tag: FromPath[str],
) -> Response[Any]:
    """Create a tag, or move it to another instance."""
    body = await read(request, InstanceReference)
    await history.put_tag(registry.db, member, owner, name, tag, body.hash)
    return json({})


async def delete_tag(
    member: Injected[Member],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
    tag: FromPath[str],
) -> Response[Any]:
    """Delete a tag."""
    await history.delete_tag(registry.db, member, owner, name, tag)
    return json({})


async def list_versions(
    caller: Injected[Caller], registry: Injected[Registry], owner: FromPath[str], name: FromPath[str]
) -> Response[Any]:
    """List the versions of a package, in the order of PEP 440."""
    return json(schemas.VersionList(await history.list_versions(registry.db, caller, owner, name)))


async def get_version(
    caller: Injected[Caller],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
    version: FromPath[str],
) -> Response[Any]:
    """Return the instance of a version."""
    instance = await history.get_version(registry.db, caller, owner, name, version)
    return json(schemas.InstanceInfo(**_instance_fields(instance)))


async def put_version(
    request: AnyRequest,
    member: Injected[Member],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
    version: FromPath[str],
) -> Response[Any]:
    """Create a version of an instance, which cannot be changed or deleted afterwards."""
    body = await read(request, InstanceReference)
    await history.put_version(registry.db, member, owner, name, version, body.hash)
    return json({})


def _instance_fields(instance: Instance) -> dict[str, Any]:
    return {"hash": instance.top_hash.hex(), **provenance(instance)}


async def get_log(
    caller: Injected[Caller], registry: Injected[Registry], owner: FromPath[str], name: FromPath[str]
) -> Response[Any]:
    """List all pushes of a package, oldest first, with the current tags and versions of their instances."""
    return json(schemas.PackageLog(await history.log(registry.db, caller, owner, name)))
