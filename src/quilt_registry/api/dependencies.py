"""Guards of the API: the caller, by the header `Authorization: Bearer TOKEN`, or the token alone.

They run before any body is read.
"""

from __future__ import annotations

from litestar.handlers import BaseRouteHandler

from quilt_registry.accounts import rights, sessions
from quilt_registry.accounts.sessions import Session
from quilt_registry.errors import Invalid, NotFound, SignInNeeded
from quilt_registry.web import callers
from quilt_registry.web.callers import registry_of
from quilt_registry.web.requests import AnyConnection, raw_path


def token_of(connection: AnyConnection) -> str:
    """Return the token of a request; "" if it has none."""
    return connection.headers.get("authorization", "").removeprefix("Bearer ")


async def check_path(connection: AnyConnection, handler: BaseRouteHandler) -> None:
    """Raise Invalid or NotFound for a path that no caller may use. Runs before `authorize`."""
    path = raw_path(connection)
    if "%00" in path:
        raise Invalid("The URL contains a NUL character.")
    if path.endswith("/") and not handler.opt.get("slash"):
        raise NotFound("There is nothing at this URL.")
    if handler.opt.get("user_endpoint"):
        rights.check_user_endpoints(enabled=registry_of(connection).settings.enable_user_endpoints)


async def _find_session(connection: AnyConnection, handler: BaseRouteHandler) -> Session | None:
    token = token_of(connection)
    if not token:
        return None
    session = await sessions.find_session(registry_of(connection).db, token)
    if session is None:
        raise SignInNeeded("Token invalid.")
    rights.check_active(session.account)
    if handler.opt["changes"]:
        rights.check_may_change(session)
    return session


authorize = callers.guard(_find_session)
