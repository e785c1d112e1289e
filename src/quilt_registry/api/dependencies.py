"""Guards and dependencies: the caller, by the header `Authorization: Bearer TOKEN`, or the token alone.

The guard `authorize` enforces the `who` of a route before any body is read. A handler that needs the caller takes an
argument `session`, `caller` or `member`.
"""

from __future__ import annotations

from typing import Any

from litestar.connection import ASGIConnection
from litestar.di import Provide
from litestar.handlers import BaseRouteHandler

from quilt_registry.accounts import rights, sessions
from quilt_registry.accounts.sessions import Session
from quilt_registry.errors import Invalid, NotFound, SignInNeeded
from quilt_registry.packages.access import Caller, Member
from quilt_registry.registry import Registry
from quilt_registry.web.requests import AnyRequest, Injected, raw_path, records_read

Connection = ASGIConnection[Any, Any, Any, Any]


def token_of(connection: Connection) -> str:
    """Return the token of a request; "" if it has none."""
    return connection.headers.get("authorization", "").removeprefix("Bearer ")


async def check_path(connection: Connection, handler: BaseRouteHandler) -> None:
    """Raise Invalid or NotFound for a path that no caller may use. Runs before `authorize`."""
    path = raw_path(connection)
    if "%00" in path:
        raise Invalid("The URL contains a NUL character.")
    if path.endswith("/") and not handler.opt.get("slash"):
        raise NotFound("There is nothing at this URL.")
    if handler.opt.get("user_endpoint"):
        rights.check_user_endpoints(enabled=connection.app.state.registry.settings.enable_user_endpoints)


async def authorize(connection: Connection, handler: BaseRouteHandler) -> None:
    """Raise SignInNeeded or Forbidden unless the route's `who` includes the caller."""
    who, registry = handler.opt["who"], connection.app.state.registry
    if who == "anybody":
        return
    session = await _session(connection, registry, changes=handler.opt["changes"])
    connection.scope["state"]["session"] = session
    rights.check_who(who, session, anonymous=registry.policy.anonymous)


async def _session(connection: Connection, registry: Registry, *, changes: bool) -> Session | None:
    token = token_of(connection)
    if not token:
        return None
    session = await sessions.find_session(registry.db, token)
    if session is None:
        raise SignInNeeded("Token invalid.")
    rights.check_active(session.account)
    if changes:
        rights.check_may_change(session)
    return session


def session(request: AnyRequest) -> Session:
    """Return the caller's session. Only for routes that require a sign-in."""
    found: Session = request.scope["state"]["session"]
    return found


def caller(request: AnyRequest, registry: Injected[Registry]) -> Caller:
    """Return the caller, signed in or not."""
    found: Session | None = request.scope["state"]["session"]
    return Member(found.account, registry.policy) if found else Caller(None, registry.policy)


def member(request: AnyRequest, registry: Injected[Registry]) -> Member:
    """Return the signed-in caller. Only for routes that require a sign-in."""
    return Member(session(request).account, registry.policy)


DEPENDENCIES = {
    "session": Provide(session, sync_to_thread=False),
    "caller": Provide(caller, sync_to_thread=False),
    "member": Provide(member, sync_to_thread=False),
    "record": Provide(records_read, sync_to_thread=False),
}
