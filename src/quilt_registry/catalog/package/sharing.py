"""The page that shares a package, which the head of each page also opens as a dialog."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from litestar import Response
from litestar.params import FromPath
from msgspec import Struct

from quilt_registry import rate_limits
from quilt_registry.accounts import users
from quilt_registry.catalog import flash, forms
from quilt_registry.catalog.package import header
from quilt_registry.catalog.package.header import Header
from quilt_registry.catalog.session import is_fragment
from quilt_registry.catalog.templates import fragment, render
from quilt_registry.catalog.urls import package_url
from quilt_registry.errors import Conflict, Invalid, NotFound, Refusal, TooMany
from quilt_registry.packages import access, invitations, sharing
from quilt_registry.packages.access import Member, Package
from quilt_registry.registry import Registry
from quilt_registry.web.requests import AnyRequest, Injected

# What is wrong with a name, and the status of the page that says so.
PROBLEMS: dict[type[Refusal], int] = {Invalid: 422, NotFound: 422, Conflict: 409, TooMany: 429}
DONE = {
    ("team", "add"): "The package is shared with the team.",
    ("team", "remove"): "The package is no longer shared with the team.",
    ("public", "add"): "The package is public.",
    ("public", "remove"): "The package is no longer public.",
}


class Invited(Struct, frozen=True):
    """An email address with a pending invitation."""

    email: str
    at: datetime


async def page(
    request: AnyRequest,
    member: Injected[Member],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
) -> Response[Any]:
    """Show who has access to a package."""
    head = await header.load(request, member, registry, owner, name)
    access.check_owner(member, owner, "share it")
    return await _render(request, registry, head)


async def add(
    request: AnyRequest,
    member: Injected[Member],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
) -> Response[Any]:
    """Share a package with a user, or invite an email address. What is rejected stays in the form."""
    (who,) = (field.strip() for field in forms.read(request, "who"))
    package = await _find(registry, member, owner, name)
    try:
        user = await sharing.add(registry, member, package, who)
    except tuple(PROBLEMS) as error:
        head = await header.load(request, member, registry, owner, name)
        return await _render(request, registry, head, PROBLEMS[type(error)], who=who, problem=error.message)
    message = f"{user} can read this package now." if user else f"We have sent an invitation to {who}."
    return flash.redirect(request, package_url(owner, name, "sharing"), message)


async def _find(registry: Registry, member: Member, owner: str, name: str) -> Package:
    package = await access.get_readable(registry.db, member, owner, name)
    access.check_owner(member, owner, "share it")
    return package


async def _render(
    request: AnyRequest, registry: Registry, head: Header, status: int = 200, **form: str
) -> Response[Any]:
    package = head.view.package
    readers = await sharing.list_readers(registry.db, package)
    pending = await invitations.list_for_package(registry.db, head.caller, package.owner, package.name)
    values = {
        "header": head,
        "is_team": access.is_team(head.caller, package),
        "is_public": access.is_public(head.caller, package),
        "readers": readers,
        "invited": [Invited(each.email, datetime.fromisoformat(each.invited_at)) for each in pending],
        "who": "",
        "problem": "",
        **form,
    }
    if is_fragment(request):
        # htmx shows only pages of these two statuses.
        return fragment(request, "package/sharing_part.html", status if status == 200 else 422, is_part=True, **values)
    return render(request, "package/sharing.html", status, is_part=False, **values)


async def confirm_add(
    request: AnyRequest,
    member: Injected[Member],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
    grantee: FromPath[str],
) -> Response[Any]:
    """Ask before a package is shared with the team or the public."""
    package = await _find(registry, member, owner, name)
    _check_pseudo_user(member, grantee)
    return render(request, "package/share_with_all.html", package=package, grantee=grantee)


async def add_all(
    request: AnyRequest,
    member: Injected[Member],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
    grantee: FromPath[str],
) -> Response[Any]:
    """Share a package with the team or the public."""
    await _find(registry, member, owner, name)
    _check_pseudo_user(member, grantee)
    await sharing.grant(registry, member, owner, name, grantee)
    return flash.redirect(request, package_url(owner, name, "sharing"), DONE[grantee, "add"])


def _check_pseudo_user(member: Member, grantee: str) -> None:
    if grantee not in sharing.PSEUDO_USERS:
        raise NotFound("There is no such page.")
    access.check_grantable(member.policy, grantee)


async def confirm_remove(
    request: AnyRequest,
    member: Injected[Member],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
    grantee: FromPath[str],
) -> Response[Any]:
    """Ask before access is lost."""
    package = await _find(registry, member, owner, name)
    if invitations.is_for_email(grantee):
        if not await invitations.is_pending(registry.db, package, grantee):
            raise NotFound(f"There is no invitation of {grantee}.")
    else:
        access.check_revoke(owner, grantee)
        await sharing.check_granted(registry.db, member, owner, name, grantee)
    return render(request, "package/stop_sharing.html", package=package, grantee=grantee)


async def remove(
    request: AnyRequest,
    member: Injected[Member],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
    grantee: FromPath[str],
) -> Response[Any]:
    """Take access from a user, the team or the public, or cancel an invitation."""
    await _find(registry, member, owner, name)
    await sharing.revoke(registry.db, member, owner, name, grantee)
    is_email = invitations.is_for_email(grantee)
    message = f"The invitation of {grantee} is cancelled." if is_email else f"{grantee} no longer has access."
    return flash.redirect(request, package_url(owner, name, "sharing"), DONE.get((grantee, "remove"), message))


async def resend(
    request: AnyRequest,
    member: Injected[Member],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
    grantee: FromPath[str],
) -> Response[Any]:
    """Send an invitation again."""
    package = await _find(registry, member, owner, name)
    message, kind = f"We have sent the invitation to {grantee} again.", "ok"
    try:
        await invitations.resend(registry, member, package, grantee)
    except (Conflict, TooMany) as error:
        message, kind = error.message, "warn"
    return flash.redirect(request, package_url(owner, name, "sharing"), message, kind=kind)


async def suggest(
    request: AnyRequest,
    member: Injected[Member],
    registry: Injected[Registry],
    owner: FromPath[str],
    name: FromPath[str],
) -> Response[Any]:
    """Return names of users that begin with what was typed, for the field's list."""
    await _find(registry, member, owner, name)
    await registry.limits.hit(rate_limits.SUGGESTION, member.name)
    typed = request.query_params.get("who", "").strip()
    names = await users.suggest(registry.db, typed) if typed else []
    return fragment(request, "package/suggestions.html", names=names)
