"""Access lists, invitations, and the caller's packages (protocol §12, §14)."""

from __future__ import annotations

from typing import Any

from litestar import Response
from litestar.params import FromPath

from quilt_registry.accounts import rights
from quilt_registry.accounts.sessions import Session
from quilt_registry.api import params
from quilt_registry.api.messages import json
from quilt_registry.api.quilt2 import schemas
from quilt_registry.packages import invitations, profile as profiles, sharing
from quilt_registry.packages.access import Member
from quilt_registry.registry import Registry
from quilt_registry.web.requests import AnyRequest, Injected


async def list_access(
    member: Injected[Member], registry: Injected[Registry], owner: FromPath[str], name: FromPath[str]
) -> Response[Any]:
    """List the users who have access to a package, the owner first."""
    return json(schemas.AccessList(await sharing.list_grantees(registry.db, member, owner, name)))


async def get_access(
    member: Injected[Member],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
    user: FromPath[str],
) -> Response[Any]:
    """Return an empty object if a user is in the access list, and 404 otherwise."""
    await sharing.check_granted(registry.db, member, owner, name, user)
    return json({})


async def grant_access(
    member: Injected[Member],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
    user: FromPath[str],
) -> Response[Any]:
    """Grant access to a user, the team, the public, or an email address, which is invited."""
    await sharing.grant(registry, member, owner, name, user)
    return json({})


async def revoke_access(
    member: Injected[Member],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
    user: FromPath[str],
) -> Response[Any]:
    """Revoke the access of a user, the team or the public, or the invitation of an email address."""
    await sharing.revoke(registry.db, member, owner, name, user)
    return json({})


async def list_invitations(member: Injected[Member], registry: Injected[Registry]) -> Response[Any]:
    """List the open invitations of the caller's email address."""
    return json(schemas.InvitationList(await invitations.list_for_account(registry.db, member.account)))


async def list_package_invitations(
    member: Injected[Member], registry: Injected[Registry], owner: FromPath[str], name: FromPath[str]
) -> Response[Any]:
    """List the open invitations to a package; the list is empty for callers other than the owner."""
    return json(schemas.InvitationList(await invitations.list_for_package(registry.db, member, owner, name)))


async def get_profile(
    request: AnyRequest, session: Injected[Session], member: Injected[Member], registry: Injected[Registry]
) -> Response[Any]:
    """Return the caller's own packages and those shared with the caller by name.

    Open invitations of the caller's email address become access first.
    """
    claim = request.method == "GET" and rights.may_claim_invitations(session)
    packages, next = await profiles.list_packages(registry.db, member, params.paging(request), claim=claim)
    return json(schemas.ProfileInfo(packages, member.account.is_admin, next=next))
