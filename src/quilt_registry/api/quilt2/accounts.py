"""Accounts: made by oneself, or by admins (protocol §5, §17)."""

from __future__ import annotations

from typing import Any

from litestar import Response
from litestar.params import FromPath
from litestar.response import Redirect
from msgspec import Struct

from quilt_registry import onboarding
from quilt_registry.accounts import admin, email_links, password_reset, rights, signup
from quilt_registry.api.messages import json, read
from quilt_registry.packages.access import Member
from quilt_registry.registry import Registry
from quilt_registry.web.requests import AnyRequest, Injected, client_ip


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


async def register(request: AnyRequest, registry: Injected[Registry]) -> Response[Any]:
    """Sign up. The account is active when the link in the letter has been followed."""
    asked = await read(request, Registration)
    new = signup.Registration(asked.username, asked.email, asked.password)
    await onboarding.register(registry, registry.settings, new, client_ip(request))
    return json({})


async def activate(request: AnyRequest, registry: Injected[Registry], link: FromPath[str]) -> Redirect:
    """Where the letter leads. HEAD and prefetching look without using the link up."""
    if request.method == "HEAD" or "prefetch" in request.headers.get("sec-purpose", ""):
        good = await email_links.is_valid(registry.db, link, "activation")
    else:
        good = await signup.activate(registry.db, registry.site, link)
    page = "signin" if good else "activation_error"
    return Redirect(f"{registry.settings.catalog_url}/{page}", status_code=302)


async def ask_reset(request: AnyRequest, registry: Injected[Registry]) -> Response[Any]:
    """Ask for a letter with a link that chooses a new password. Answered alike for unknown addresses."""
    asked = await read(request, Reset)
    await password_reset.request(registry.db, registry.site, registry.limits, asked.email, client_ip(request))
    return json({})


async def change_password(request: AnyRequest, registry: Injected[Registry]) -> Response[Any]:
    """Choose a password by a link. Ends all tokens and codes of the account."""
    asked = await read(request, NewPassword)
    await password_reset.change_password(registry.db, asked.link, asked.password)
    return json({})


# ------------------------------------------------------------------------------------------------ by admins


async def create(request: AnyRequest, member: Injected[Member], registry: Injected[Registry]) -> Response[Any]:
    """Make an account; its user chooses the password by a link in a letter."""
    asked = await read(request, NewUser)
    await admin.create(registry.db, registry.site, member.account, asked.username, asked.email)
    return json({})


async def disable(request: AnyRequest, member: Injected[Member], registry: Injected[Registry]) -> Response[Any]:
    """End somebody's sign-ins and let no new ones begin."""
    await admin.disable(registry.db, member.account, (await read(request, User)).username)
    return json({})


async def enable(request: AnyRequest, member: Injected[Member], registry: Injected[Registry]) -> Response[Any]:
    """Let somebody sign in again."""
    await admin.enable(registry.db, member.account, (await read(request, User)).username)
    return json({})


async def grant_admin(request: AnyRequest, member: Injected[Member], registry: Injected[Registry]) -> Response[Any]:
    """Make somebody an admin."""
    await admin.grant_admin(registry.db, member.account, (await read(request, User)).username)
    return json({})


async def revoke_admin(request: AnyRequest, member: Injected[Member], registry: Injected[Registry]) -> Response[Any]:
    """Let somebody be an admin no more."""
    await admin.revoke_admin(registry.db, member.account, (await read(request, User)).username)
    return json({})


async def reset_password(request: AnyRequest, member: Injected[Member], registry: Injected[Registry]) -> Response[Any]:
    """Take somebody's password and sign-ins away, and mail a link that chooses a new one."""
    await admin.reset_password(registry.db, registry.site, member.account, (await read(request, User)).username)
    return json({})


async def delete() -> None:
    """Off for good, as in the original: what people did stays in the audit under their names."""
    rights.check_user_endpoints(False)
