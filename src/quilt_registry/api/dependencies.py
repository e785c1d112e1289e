"""Who is calling, from the header `Authorization: Bearer <token>` (or the token alone).

The guard `authorize` enforces the `who` of a route before any body is read. Handlers that use the caller name one of
the dependencies: `session`, `caller`, `member`.
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
    """Return the token that was sent; "" if none was."""
    return connection.headers.get("authorization", "").removeprefix("Bearer ")


async def check_path(connection: Connection, handler: BaseRouteHandler) -> None:
    """Refuse what no caller may ask for. A guard that runs before `authorize`."""
    path = raw_path(connection)
    if "%00" in path:
        raise Invalid("The address holds a NUL character.")
    if path.endswith("/") and not handler.opt.get("slash"):
        raise NotFound("There is nothing at this address.")
    if handler.opt.get("user_endpoint"):
        rights.check_user_endpoints(connection.app.state.registry.settings.enable_user_endpoints)


async def authorize(connection: Connection, handler: BaseRouteHandler) -> None:
    """Let through those whom the route's `who` names. Raise SignInNeeded or Forbidden for all others."""
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
    session = await sessions.session_of(registry.db, token)
    if session is None:
        raise SignInNeeded("Token invalid.")
    rights.check_active(session.account)
    if changes:
        rights.check_may_change(session)
    return session


def session(request: AnyRequest) -> Session:
    """Return the caller's session. Only for routes that need a sign-in."""
    found: Session = request.scope["state"]["session"]
    return found


def caller(request: AnyRequest, registry: Injected[Registry]) -> Caller:
    """Return the caller, signed in or not."""
    found: Session | None = request.scope["state"]["session"]
    return Member(found.account, registry.policy) if found else Caller(None, registry.policy)


def member(request: AnyRequest, registry: Injected[Registry]) -> Member:
    """Return the caller of a route that needs a sign-in."""
    return Member(session(request).account, registry.policy)


DEPENDENCIES = {
    "session": Provide(session, sync_to_thread=False),
    "caller": Provide(caller, sync_to_thread=False),
    "member": Provide(member, sync_to_thread=False),
    "record": Provide(records_read, sync_to_thread=False),
}
