"""Access lists, invitations, and what is shared with whom (protocol §12, §14)."""

from __future__ import annotations

from typing import Any

from litestar import Response

from quilt_registry.packages import invitations, profile as profiles, sharing
from quilt_registry.wire import shapes
from quilt_registry.wire.calling import AnyRequest, LiveSession, Registry, SignedIn
from quilt_registry.wire.messages import json


async def list_access(member: SignedIn, parts: Registry, owner: str, name: str) -> Response[Any]:
    """Everybody in the access list, the owner first."""
    return json(shapes.Access(await sharing.grantees(parts.db, member, owner, name)))


async def get_access(member: SignedIn, parts: Registry, owner: str, name: str, user: str) -> Response[Any]:
    """Whether somebody is in the access list: refused with 404 if not."""
    await sharing.check_granted(parts.db, member, owner, name, user)
    return json({})


async def put_access(member: SignedIn, parts: Registry, owner: str, name: str, user: str) -> Response[Any]:
    """Give access to a user, the team, the public, or a mail address, which is invited."""
    await sharing.grant(parts.db, parts.site, parts.limits, member, owner, name, user)
    return json({})


async def delete_access(member: SignedIn, parts: Registry, owner: str, name: str, user: str) -> Response[Any]:
    """Take access, or an invitation, back."""
    await sharing.revoke(parts.db, member, owner, name, user)
    return json({})


async def my_invitations(member: SignedIn, parts: Registry) -> Response[Any]:
    """Invitations that wait for the caller's mail address."""
    return json(shapes.Invitations(await invitations.of_account(parts.db, member.account)))


async def package_invitations(member: SignedIn, parts: Registry, owner: str, name: str) -> Response[Any]:
    """Invitations to a package, for its owner; none for others who may read it."""
    return json(shapes.Invitations(await invitations.of_package(parts.db, member, owner, name)))


async def profile(request: AnyRequest, session: LiveSession, member: SignedIn, parts: Registry) -> Response[Any]:
    """The caller's packages and those shared with them by name. Turns invitations of their address into access."""
    claim = request.method == "GET" and not session.read_only
    return json(shapes.Profile(await profiles.profile(parts.db, member, claim), member.account.is_admin))
