"""Access lists, invitations, and what is shared with whom (protocol §12, §14)."""

from __future__ import annotations

from typing import Any

from litestar import Response

from quilt_registry.packages import invitations, profile as profiles, sharing
from quilt_registry.wire.calling import Registry, SignedIn
from quilt_registry.wire.messages import json


async def list_access(member: SignedIn, parts: Registry, owner: str, name: str) -> Response[Any]:
    return json({"users": await sharing.grantees(parts.db, member, owner, name)})


async def get_access(member: SignedIn, parts: Registry, owner: str, name: str, user: str) -> Response[Any]:
    await sharing.check_granted(parts.db, member, owner, name, user)
    return json({})


async def put_access(member: SignedIn, parts: Registry, owner: str, name: str, user: str) -> Response[Any]:
    await sharing.grant(parts.db, parts.site, parts.limits, member, owner, name, user)
    return json({})


async def delete_access(member: SignedIn, parts: Registry, owner: str, name: str, user: str) -> Response[Any]:
    await sharing.revoke(parts.db, member, owner, name, user)
    return json({})


async def my_invitations(member: SignedIn, parts: Registry) -> Response[Any]:
    return json({"invitations": await invitations.of_account(parts.db, member.account)})


async def package_invitations(member: SignedIn, parts: Registry, owner: str, name: str) -> Response[Any]:
    return json({"invitations": await invitations.of_package(parts.db, member, owner, name)})


async def profile(member: SignedIn, parts: Registry) -> Response[Any]:
    """`plan` and `have_credit_card` belonged to payments; the original's catalog reads them."""
    found = await profiles.profile(parts.db, member)
    return json({"packages": found, "is_admin": member.account.is_admin, "plan": None, "have_credit_card": None})
