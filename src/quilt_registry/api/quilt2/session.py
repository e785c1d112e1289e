"""Signing in (protocol §4)."""

from __future__ import annotations

from typing import Any

from litestar import Response
from litestar.response import Redirect
from msgspec import Struct

from quilt_registry import onboarding
from quilt_registry.accounts import codes, sessions, signin
from quilt_registry.accounts.sessions import Session
from quilt_registry.api import dependencies
from quilt_registry.api.messages import json, read, read_form
from quilt_registry.api.quilt2 import schemas
from quilt_registry.packages.access import Member
from quilt_registry.registry import Registry
from quilt_registry.web.requests import AnyRequest, Injected, client_ip

SECRET = {"refresh_token": "a code from the page /code, or a token that is about to end"}


class Credentials(Struct, forbid_unknown_fields=True):
    username: str
    password: str


async def login_page(registry: Injected[Registry]) -> Redirect:
    """Where `quilt login` sends the browser."""
    return Redirect(f"{registry.settings.catalog_url}/code", status_code=302)


async def login(request: AnyRequest, registry: Injected[Registry]) -> Response[Any]:
    """Sign in with a password."""
    asked = await read(request, Credentials)
    token = await signin.sign_in(registry.db, registry.limits, asked.username, asked.password, client_ip(request))
    return json(schemas.Token(token.text))


async def token(request: AnyRequest, registry: Injected[Registry]) -> Response[Any]:
    """A code or a token for a new token; the client keeps it under both names."""
    token = await onboarding.exchange(registry.db, await read_form(request, "refresh_token"))
    seconds = int(token.expires_at.timestamp())
    return json(schemas.Exchanged(token.text, token.text, seconds))


async def refresh(request: AnyRequest, session: Injected[Session], registry: Injected[Registry]) -> Response[Any]:
    """A new token for the one used, which ends."""
    return json(schemas.Token((await codes.refresh(registry.db, session)).text))


async def logout(request: AnyRequest, registry: Injected[Registry]) -> Response[Any]:
    """End the token used, and no other."""
    await sessions.sign_out(registry.db, dependencies.token_of(request))
    return json({})


async def me(member: Injected[Member]) -> Response[Any]:
    """Who the token belongs to. `is_staff`: an admin."""
    account = member.account
    return json(schemas.Me(account.name, account.email, account.is_active, account.is_admin))


async def code(request: AnyRequest, session: Injected[Session], registry: Injected[Registry]) -> Response[Any]:
    """A code that signs a client in, once, within ten minutes."""
    return json(schemas.Code("" if request.method == "HEAD" else await codes.new_code(registry.db, session)))
