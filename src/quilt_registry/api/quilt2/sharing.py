"""Access lists, invitations, and what is shared with whom (protocol §12, §14)."""

from __future__ import annotations

from typing import Any

from litestar import Response
from litestar.params import FromPath

from quilt_registry.accounts import rights
from quilt_registry.accounts.sessions import Session
from quilt_registry.api.messages import json
from quilt_registry.api.quilt2 import schemas
from quilt_registry.packages import invitations, profile as profiles, sharing
from quilt_registry.packages.access import Member
from quilt_registry.registry import Registry
from quilt_registry.web.requests import Injected


async def list_access(
    member: Injected[Member], registry: Injected[Registry], owner: FromPath[str], name: FromPath[str]
) -> Response[Any]:
    """Everybody in the access list, the owner first."""
    return json(schemas.Access(await sharing.grantees(registry.db, member, owner, name)))


async def get_access(
    member: Injected[Member],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
    user: FromPath[str],
) -> Response[Any]:
    """Whether somebody is in the access list: refused with 404 if not."""
    await sharing.check_granted(registry.db, member, owner, name, user)
    return json({})


async def put_access(
    member: Injected[Member],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
    user: FromPath[str],
) -> Response[Any]:
    """Give access to a user, the team, the public, or a mail address, which is invited."""
    await sharing.grant(registry, member, owner, name, user)
    return json({})


async def delete_access(
    member: Injected[Member],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
    user: FromPath[str],
) -> Response[Any]:
    """Take access, or an invitation, back."""
    await sharing.revoke(registry.db, member, owner, name, user)
    return json({})


async def my_invitations(member: Injected[Member], registry: Injected[Registry]) -> Response[Any]:
    """Invitations that wait for the caller's mail address."""
    return json(schemas.Invitations(await invitations.of_account(registry.db, member.account)))


async def package_invitations(
    member: Injected[Member], registry: Injected[Registry], owner: FromPath[str], name: FromPath[str]
) -> Response[Any]:
    """Invitations to a package, for its owner; none for others who may read it."""
    return json(schemas.Invitations(await invitations.of_package(registry.db, member, owner, name)))


async def profile(
    session: Injected[Session], member: Injected[Member], registry: Injected[Registry], record: Injected[bool]
) -> Response[Any]:
    """The caller's packages and those shared with them by name. Turns invitations of their address into access."""
    claim = record and rights.may_claim_invitations(session)
    return json(schemas.Profile(await profiles.profile(registry.db, member, claim=claim), member.account.is_admin))
