"""Signing in (protocol §4)."""

from __future__ import annotations

from typing import Any

from litestar import Response
from litestar.response import Redirect
from msgspec import Struct

from quilt_registry.accounts import signin
from quilt_registry.packages import joining
from quilt_registry.wire import calling, shapes
from quilt_registry.wire.calling import AnyRequest, LiveSession, Registry, SignedIn, Visitor, client_address
from quilt_registry.wire.messages import json, read, read_form

SECRET = {"refresh_token": "a code from the page /code, or a token that is about to end"}


class Credentials(Struct, forbid_unknown_fields=True):
    username: str
    password: str


async def login_page(parts: Registry) -> Redirect:
    """Where `quilt login` sends the browser."""
    return Redirect(f"{parts.settings.catalog_url}/code", status_code=302)


async def login(request: AnyRequest, visitor: Visitor, parts: Registry) -> Response[Any]:
    """Sign in with a password."""
    asked = await read(request, Credentials)
    token = await signin.sign_in(parts.db, parts.limits, asked.username, asked.password, client_address(request))
    return json(shapes.Token(token.text))


async def token(request: AnyRequest, visitor: Visitor, parts: Registry) -> Response[Any]:
    """A code or a token for a new token; the client keeps it under both names."""
    token = await joining.exchange(parts.db, await read_form(request, "refresh_token"))
    seconds = int(token.expires_at.timestamp())
    return json(shapes.Exchanged(token.text, token.text, seconds))


async def refresh(request: AnyRequest, session: LiveSession, parts: Registry) -> Response[Any]:
    """A new token for the one used, which ends."""
    return json(shapes.Token((await signin.refresh(parts.db, session)).text))


async def logout(request: AnyRequest, member: SignedIn, parts: Registry) -> Response[Any]:
    """End the token used, and no other."""
    await signin.sign_out(parts.db, calling.token(request))
    return json({})


async def me(member: SignedIn) -> Response[Any]:
    """Who the token belongs to. `is_staff`: an admin."""
    account = member.account
    return json(shapes.Me(account.name, account.email, account.is_active, account.is_admin))


async def code(request: AnyRequest, session: LiveSession, parts: Registry) -> Response[Any]:
    """A code that signs a client in, once, within ten minutes."""
    return json(shapes.Code("" if request.method == "HEAD" else await signin.new_code(parts.db, session)))
