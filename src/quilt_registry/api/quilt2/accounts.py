"""Sign-up, activation and passwords, and the accounts that admins manage (protocol §5, §17)."""

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
from quilt_registry.web import cookies, flash
from quilt_registry.web.requests import AnyRequest, Injected, client_ip, is_speculative


class SignUpRequest(Struct, forbid_unknown_fields=True):
    """An account to create for oneself."""

    username: str
    password: str
    email: str


class PasswordResetRequest(Struct, forbid_unknown_fields=True):
    """The email address of the account."""

    email: str


class PasswordChangeRequest(Struct, forbid_unknown_fields=True):
    """A new password, and the secret in the link of the email."""

    link: str
    password: str


class NewUserRequest(Struct, forbid_unknown_fields=True):
    """An account to create for a user."""

    username: str
    email: str


class UserRequest(Struct, forbid_unknown_fields=True):
    """The user to act on."""

    username: str


# ------------------------------------------------------------------------------------------------ one's own account


async def register(request: AnyRequest, registry: Injected[Registry]) -> Response[Any]:
    """Create an account, which the link in an email activates."""
    body = await read(request, SignUpRequest)
    registration = signup.Registration(body.username, body.email, body.password)
    await onboarding.register(registry, registry.settings, registration, client_ip(request))
    return json({})


async def activate(request: AnyRequest, registry: Injected[Registry], link: FromPath[str]) -> Redirect:
    """Activate an account by the link in its email.

    HEAD requests and prefetching browsers do not redeem the link.
    """
    if is_speculative(request):
        is_valid = await email_links.is_valid(registry.db, link, "activation")
    else:
        proof = cookies.get(request, registry.settings, cookies.SIGN_UP)
        is_valid = await onboarding.activate(registry.db, registry.site, link, proof)
    response = Redirect(
        f"{registry.settings.catalog_url}/{'signin' if is_valid else 'activation_error'}", status_code=302
    )
    if is_valid and not is_speculative(request):
        flash.put(request, response, "Your account is active. Sign in with your username and password.")
    return response


async def request_password_reset(request: AnyRequest, registry: Injected[Registry]) -> Response[Any]:
    """Send an email with a link for choosing a new password.

    The response is the same for an email address that belongs to no account.
    """
    email = (await read(request, PasswordResetRequest)).email
    await password_reset.request(registry.db, registry.site, registry.limits, email, client_ip(request))
    return json({})


async def change_password(request: AnyRequest, registry: Injected[Registry]) -> Response[Any]:
    """Set a password by the link in an email, and revoke all tokens and codes of the account."""
    body = await read(request, PasswordChangeRequest)
    await password_reset.change_password(registry.db, body.link, body.password)
    return json({})


# ------------------------------------------------------------------------------------------------ managed by admins


async def create_user(request: AnyRequest, member: Injected[Member], registry: Injected[Registry]) -> Response[Any]:
    """Create an account, and send its user an email with a link for choosing a password."""
    body = await read(request, NewUserRequest)
    await admin.create(registry.db, registry.site, member.account, body.username, body.email)
    return json({})


async def disable_user(request: AnyRequest, member: Injected[Member], registry: Injected[Registry]) -> Response[Any]:
    """Disable a user: revoke all tokens and refuse new sign-ins."""
    await admin.disable(registry.db, member.account, (await read(request, UserRequest)).username)
    return json({})


async def enable_user(request: AnyRequest, member: Injected[Member], registry: Injected[Registry]) -> Response[Any]:
    """Enable a user who is disabled or not yet activated."""
    await admin.enable(registry.db, member.account, (await read(request, UserRequest)).username)
    return json({})


async def grant_admin(request: AnyRequest, member: Injected[Member], registry: Injected[Registry]) -> Response[Any]:
    """Grant admin rights to a user."""
    await admin.grant_admin(registry.db, member.account, (await read(request, UserRequest)).username)
    return json({})


async def revoke_admin(request: AnyRequest, member: Injected[Member], registry: Injected[Registry]) -> Response[Any]:
    """Revoke a user's admin rights."""
    await admin.revoke_admin(registry.db, member.account, (await read(request, UserRequest)).username)
    return json({})


async def reset_password(request: AnyRequest, member: Injected[Member], registry: Injected[Registry]) -> Response[Any]:
    """Remove a user's password and tokens, and send an email with a link for choosing a new password."""
    await admin.reset_password(registry.db, registry.site, member.account, (await read(request, UserRequest)).username)
    return json({})


async def delete_user() -> None:
    """Refuse to delete a user: this call is always disabled, because the audit trail names users."""
    rights.check_user_endpoints(enabled=False)
