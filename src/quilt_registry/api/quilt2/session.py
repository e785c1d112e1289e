"""Sign-in, codes and tokens (protocol §4)."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

from litestar import Response
from litestar.response import Redirect
from msgspec import Struct

from quilt_registry import onboarding
from quilt_registry.accounts import codes, sessions, signin
from quilt_registry.accounts.sessions import Origin, Session
from quilt_registry.accounts.signin import Attempt
from quilt_registry.api.messages import json, read, read_form
from quilt_registry.api.quilt2 import schemas
from quilt_registry.packages.access import Member
from quilt_registry.registry import Registry
from quilt_registry.web.requests import AnyRequest, Injected, client_ip, is_speculative

CODE_FORM = {"refresh_token": "A code from the page /code, or a token to renew."}


class Credentials(Struct, forbid_unknown_fields=True):
    """A username and its password."""

    username: str
    password: str


async def redirect_to_catalog(request: AnyRequest, registry: Injected[Registry]) -> Redirect:
    """Redirect a browser that `quilt login` opened to the page with a sign-in code; with `next`, to the sign-in page.

    The sign-in page checks `next`, which may be of another site.
    """
    target = request.query_params.get("next")
    page = f"signin?{urlencode({'next': target}, quote_via=quote)}" if target else "code"
    return Redirect(f"{registry.settings.catalog_url}/{page}", status_code=302)


async def login(request: AnyRequest, registry: Injected[Registry]) -> Response[Any]:
    """Sign in with a username and a password."""
    body = await read(request, Credentials)
    attempt = Attempt(body.username, body.password, client_ip(request), Origin("api"))
    token = await signin.sign_in(registry.db, registry.limits, attempt)
    return json(schemas.SessionToken(token.text))


async def exchange(request: AnyRequest, registry: Injected[Registry]) -> Response[Any]:
    """Exchange a code or a token for a new token."""
    token = await onboarding.exchange(registry.db, await read_form(request, "refresh_token"))
    return json(schemas.TokenPair(token.text, token.text, int(token.expires_at.timestamp())))


async def refresh(session: Injected[Session], registry: Injected[Registry]) -> Response[Any]:
    """Return a new token, and revoke the token used."""
    return json(schemas.SessionToken((await codes.refresh(registry.db, session)).text))


async def logout(session: Injected[Session], registry: Injected[Registry]) -> Response[Any]:
    """Revoke the token used."""
    await sessions.sign_out(registry.db, session)
    return json({})


async def get_me(member: Injected[Member]) -> Response[Any]:
    """Return the account of the caller."""
    account = member.account
    return json(schemas.CurrentUser(account.name, account.email, account.is_active, account.is_admin))


async def get_code(request: AnyRequest, session: Injected[Session], registry: Injected[Registry]) -> Response[Any]:
    """Return a new code that signs a client in once and expires after ten minutes."""
    code = "" if is_speculative(request) else await codes.create_code(registry.db, session)
    return json(schemas.SignInCode(code))
