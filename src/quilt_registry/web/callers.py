"""The caller of a request: the guard that enforces `who`, and the dependencies that hand the caller to handlers.

Each edge finds the session in its own way, by a token or by a cookie. A handler that needs the caller takes an argument
`session`, `account`, `caller` or `member`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from litestar.di import Provide
from litestar.handlers import BaseRouteHandler

from quilt_registry import audit
from quilt_registry.accounts import rights
from quilt_registry.accounts.sessions import Session
from quilt_registry.accounts.users import Account
from quilt_registry.audit import Client
from quilt_registry.packages.access import Caller, Member
from quilt_registry.registry import Registry
from quilt_registry.turns import current_person
from quilt_registry.web.requests import AnyConnection, AnyRequest, Injected, client_ip, records_read

Guard = Callable[[AnyConnection, BaseRouteHandler], Awaitable[None]]
FindSession = Callable[[AnyConnection, BaseRouteHandler], Awaitable[Session | None]]
ClientOf = Callable[[AnyConnection], Client]


def registry_of(connection: AnyConnection) -> Registry:
    """Return the running registry, for guards, which receive no dependencies."""
    registry: Registry = connection.app.state.registry
    return registry


def guard(find_session: FindSession, client_of: ClientOf) -> Guard:
    """Return a guard that raises SignInNeeded or Forbidden unless the `who` of a route includes the caller.

    It notes what sent the request, for the audit trail.
    """

    async def authorize(connection: AnyConnection, handler: BaseRouteHandler) -> None:
        audit.current_client.set(client_of(connection))
        who = handler.opt["who"]
        if who == "anybody":
            return
        session = await find_session(connection, handler)
        connection.scope["state"]["session"] = session
        current_person.set(session.account.name if session else client_ip(connection))
        rights.check_who(who, session, anonymous=registry_of(connection).policy.anonymous)

    return authorize


def _session(request: AnyRequest) -> Session:
    """Return the caller's session. Only for routes that require a sign-in."""
    session: Session = request.scope["state"]["session"]
    return session


def _account(request: AnyRequest) -> Account | None:
    """Return the caller's account; None for a caller who is not signed in."""
    session: Session | None = request.scope["state"]["session"]
    return session.account if session else None


def _caller(request: AnyRequest, registry: Injected[Registry]) -> Caller:
    """Return the caller, signed in or not."""
    account = _account(request)
    return Member(account, registry.policy) if account else Caller(None, registry.policy)


def _member(request: AnyRequest, registry: Injected[Registry]) -> Member:
    """Return the signed-in caller. Only for routes that require a sign-in."""
    return Member(_session(request).account, registry.policy)


DEPENDENCIES = {
    "session": Provide(_session, sync_to_thread=False),
    "account": Provide(_account, sync_to_thread=False),
    "caller": Provide(_caller, sync_to_thread=False),
    "member": Provide(_member, sync_to_thread=False),
    "record": Provide(records_read, sync_to_thread=False),
}
