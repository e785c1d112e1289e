"""Guards of the API: the caller, by the header `Authorization: Bearer TOKEN`, or the token alone.

They run before any body is read.
"""

from __future__ import annotations

import re

from litestar.handlers import BaseRouteHandler

from quilt_registry.accounts import rights, sessions
from quilt_registry.accounts.sessions import Session
from quilt_registry.audit import Client
from quilt_registry.errors import NotFound, SignInNeeded
from quilt_registry.web import callers
from quilt_registry.web.callers import registry_of
from quilt_registry.web.requests import AnyConnection, check_url, raw_path
from quilt_registry.web.user_agents import client_of

_SCHEME = re.compile("^bearer +", re.IGNORECASE)  # RFC 7235: the name of a scheme is case-insensitive


def token_of(connection: AnyConnection) -> str:
    """Return the token of a request; "" if it has none."""
    return _SCHEME.sub("", connection.headers.get("authorization", ""), count=1)


async def check_path(connection: AnyConnection, handler: BaseRouteHandler) -> None:
    """Raise Invalid or NotFound for a path that no caller may use. Runs before `authorize`."""
    check_url(connection)
    if raw_path(connection).endswith("/") and not handler.opt.get("slash"):
        raise NotFound("There is nothing at this URL.")
    if handler.opt.get("user_endpoint"):
        rights.check_user_endpoints(enabled=registry_of(connection).settings.enable_user_endpoints)


async def _find_session(connection: AnyConnection, handler: BaseRouteHandler) -> Session | None:
    token = token_of(connection)
    if not token:
        return None
    session = await sessions.find_session(registry_of(connection).db, token, "client")
    if session is None:
        raise SignInNeeded("Token invalid.")
    rights.check_active(session.account)
    if handler.opt["changes"]:
        rights.check_may_change(session)
    return session


def _client_of(connection: AnyConnection) -> Client:
    return client_of(connection.headers.get("user-agent", ""))


authorize = callers.guard(_find_session, _client_of)
