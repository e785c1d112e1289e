"""Access lists (protocol §14)."""

from __future__ import annotations

from typing import Any

from litestar import Response

from quilt_registry.packages import sharing
from quilt_registry.wire.calling import Registry, SignedIn
from quilt_registry.wire.messages import json


async def list_access(member: SignedIn, parts: Registry, owner: str, name: str) -> Response[Any]:
    return json({"users": await sharing.grantees(parts.db, member, owner, name)})


async def get_access(member: SignedIn, parts: Registry, owner: str, name: str, user: str) -> Response[Any]:
    await sharing.check_granted(parts.db, member, owner, name, user)
    return json({})


async def put_access(member: SignedIn, parts: Registry, owner: str, name: str, user: str) -> Response[Any]:
    await sharing.grant(parts.db, member, owner, name, user)
    return json({})


async def delete_access(member: SignedIn, parts: Registry, owner: str, name: str, user: str) -> Response[Any]:
    await sharing.revoke(parts.db, member, owner, name, user)
    return json({})
