"""Accounts: made by oneself, or by admins (protocol §5, §17)."""

from __future__ import annotations

from typing import Any

from litestar import Response
from litestar.response import Redirect
from msgspec import Struct

from quilt_registry.accounts import administration, forgotten, links, signup
from quilt_registry.packages import access, joining
from quilt_registry.wire.calling import Admin, AnyRequest, Registry, Visitor, client_address
from quilt_registry.wire.messages import json, read


class Registration(Struct, forbid_unknown_fields=True):
    username: str
    password: str
    email: str


class Reset(Struct, forbid_unknown_fields=True):
    email: str


class NewPassword(Struct, forbid_unknown_fields=True):
    link: str
    password: str


class NewUser(Struct, forbid_unknown_fields=True):
    username: str
    email: str


class User(Struct, forbid_unknown_fields=True):
    username: str


# ------------------------------------------------------------------------------------------------ by oneself


async def register(request: AnyRequest, visitor: Visitor, parts: Registry) -> Response[Any]:
    """Sign up. The account is active when the link in the letter has been followed."""
    asked = await read(request, Registration)
    await joining.register(
        parts.db, parts.settings, parts.site, parts.limits,
        asked.username, asked.email, asked.password, client_address(request),
    )  # fmt: skip
    return json({})


async def activate(request: AnyRequest, parts: Registry, link: str) -> Redirect:
    """Where the letter leads. HEAD and prefetching look without using the link up."""
    if request.method == "HEAD" or "prefetch" in request.headers.get("sec-purpose", ""):
        good = await links.is_good(parts.db, link, "activation")
    else:
        good = await signup.activate(parts.db, parts.site, link)
    page = "signin" if good else "activation_error"
    return Redirect(f"{parts.settings.catalog_url}/{page}", status_code=302)


async def ask_reset(request: AnyRequest, visitor: Visitor, parts: Registry) -> Response[Any]:
    """Ask for a letter with a link that chooses a new password. Answered alike for unknown addresses."""
    asked = await read(request, Reset)
    await forgotten.ask(parts.db, parts.site, parts.limits, asked.email, client_address(request))
    return json({})


async def change_password(request: AnyRequest, visitor: Visitor, parts: Registry) -> Response[Any]:
    """Choose a password by a link. Ends all tokens and codes of the account."""
    asked = await read(request, NewPassword)
    await forgotten.change_password(parts.db, asked.link, asked.password)
    return json({})


# ------------------------------------------------------------------------------------------------ by admins


async def create(request: AnyRequest, admin: Admin, parts: Registry) -> Response[Any]:
    """Make an account; its user chooses the password by a link in a letter."""
    asked = await read(request, NewUser)
    await administration.create(parts.db, parts.site, admin.account, asked.username, asked.email)
    return json({})


async def disable(request: AnyRequest, admin: Admin, parts: Registry) -> Response[Any]:
    """End somebody's sign-ins and let no new ones begin."""
    await administration.disable(parts.db, admin.account, (await read(request, User)).username)
    return json({})


async def enable(request: AnyRequest, admin: Admin, parts: Registry) -> Response[Any]:
    """Let somebody sign in again."""
    await administration.enable(parts.db, admin.account, (await read(request, User)).username)
    return json({})


async def grant_admin(request: AnyRequest, admin: Admin, parts: Registry) -> Response[Any]:
    """Make somebody an admin."""
    await administration.grant_admin(parts.db, admin.account, (await read(request, User)).username)
    return json({})


async def revoke_admin(request: AnyRequest, admin: Admin, parts: Registry) -> Response[Any]:
    """Let somebody be an admin no more."""
    await administration.revoke_admin(parts.db, admin.account, (await read(request, User)).username)
    return json({})


async def reset_password(request: AnyRequest, admin: Admin, parts: Registry) -> Response[Any]:
    """Take somebody's password and sign-ins away, and mail a link that chooses a new one."""
    await administration.reset_password(parts.db, parts.site, admin.account, (await read(request, User)).username)
    return json({})


async def delete() -> None:
    """Off for good, as in the original: what people did stays in the audit under their names."""
    access.check_user_endpoints(False)
