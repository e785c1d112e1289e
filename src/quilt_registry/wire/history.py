"""Tags, versions, log (protocol §13)."""

from __future__ import annotations

from typing import Any

from litestar import Response
from msgspec import Struct

from quilt_registry.packages import history
from quilt_registry.packages.install import stamps
from quilt_registry.packages.instances import Instance
from quilt_registry.wire.calling import AnyCaller, AnyRequest, Registry, SignedIn
from quilt_registry.wire.messages import json, read


class Pointer(Struct):
    """Where a tag or version is to point; other fields are ignored."""

    hash: str


def _instance(instance: Instance, **more: Any) -> Response[Any]:
    return json({"hash": instance.top_hash.hex(), **stamps(instance), **more})


async def list_tags(caller: AnyCaller, parts: Registry, owner: str, name: str) -> Response[Any]:
    return json({"tags": await history.list_tags(parts.db, caller, owner, name)})


async def get_tag(caller: AnyCaller, parts: Registry, owner: str, name: str, tag: str) -> Response[Any]:
    package, instance = await history.get_tag(parts.db, caller, owner, name, tag)
    return _instance(instance, is_public=package.has_public, is_team=package.has_team)


async def put_tag(
    request: AnyRequest, member: SignedIn, parts: Registry, owner: str, name: str, tag: str
) -> Response[Any]:
    asked = await read(request, Pointer)
    await history.put_tag(parts.db, member, owner, name, tag, asked.hash)
    return json({})


async def delete_tag(member: SignedIn, parts: Registry, owner: str, name: str, tag: str) -> Response[Any]:
    await history.delete_tag(parts.db, member, owner, name, tag)
    return json({})


async def list_versions(caller: AnyCaller, parts: Registry, owner: str, name: str) -> Response[Any]:
    return json({"versions": await history.list_versions(parts.db, caller, owner, name)})


async def get_version(caller: AnyCaller, parts: Registry, owner: str, name: str, version: str) -> Response[Any]:
    return _instance(await history.get_version(parts.db, caller, owner, name, version))


async def put_version(
    request: AnyRequest, member: SignedIn, parts: Registry, owner: str, name: str, version: str
) -> Response[Any]:
    asked = await read(request, Pointer)
    await history.put_version(parts.db, member, owner, name, version, asked.hash)
    return json({})


async def log(caller: AnyCaller, parts: Registry, owner: str, name: str) -> Response[Any]:
    return json({"logs": await history.log(parts.db, caller, owner, name)})
