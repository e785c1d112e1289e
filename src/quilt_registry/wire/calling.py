"""Who is calling, from the header `Authorization: Bearer <token>` (or the token alone).

The dependencies of the calls: `visitor` for calls that need no sign-in, `caller` for those marked "anyone", `member`
for those that need one, `admin` for admins. They run before any body is read. A header that names no live token is
refused by all of them.
"""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request
from litestar.params import Dependency

from quilt_registry import limits
from quilt_registry.accounts import signin
from quilt_registry.accounts.signin import Session
from quilt_registry.errors import SignInNeeded
from quilt_registry.packages import access
from quilt_registry.packages.access import Caller, Member
from quilt_registry.parts import Parts

# What handlers write as the type of an argument that comes from here or from app.py. Each dependency takes the one
# before it, so that they are awaited in turn: beside each other they would cost a task group a request.
_given = Dependency(skip_validation=True)
Registry = Annotated[Parts, _given]
Visitor = Annotated[Session | None, _given]
AnyCaller = Annotated[Caller, _given]
LiveSession = Annotated[Session, _given]
SignedIn = Annotated[Member, _given]
Admin = Annotated[Member, _given]
AnyRequest = Request[Any, Any, Any]


def address(request: AnyRequest) -> str:
    """The path as it was sent, still percent-encoded; the router folds slashes in its own copy."""
    raw: bytes = request.scope["raw_path"]
    return raw.decode("ascii", "replace")


def token(request: AnyRequest) -> str:
    """The token sent; empty if none was."""
    return request.headers.get("authorization", "").removeprefix("Bearer ")


def client_address(request: AnyRequest) -> str:
    """Where the caller is, as far as trusted proxies tell."""
    return limits.place(request.client.host) if request.client else ""


async def visitor(request: AnyRequest, parts: Registry) -> Session | None:
    """What the token sent stands for; None if none was sent. Raises SignInNeeded, Forbidden."""
    sent = token(request)
    if not sent:
        return None
    session = await signin.session_of(parts.db, sent)
    if session is None:
        raise SignInNeeded("Token invalid.")
    access.check_active(session.account)
    if request.route_handler.opt["changes"]:
        access.check_may_change(session)
    return session


async def caller(visitor: Visitor, parts: Registry) -> Caller:
    """Somebody who may look at this registry. Raises SignInNeeded where that takes a token."""
    access.check_signed_in(visitor, parts.switches)
    return Member(visitor.account, parts.switches) if visitor else Caller(None, parts.switches)


async def session(visitor: Visitor) -> Session:
    """What the token of somebody signed in stands for. Raises SignInNeeded."""
    if visitor is None:
        raise SignInNeeded("Not logged in")
    return visitor


async def member(session: LiveSession, parts: Registry) -> Member:
    """Somebody signed in. Raises SignInNeeded."""
    return Member(session.account, parts.switches)


async def admin(member: SignedIn) -> Member:
    """An admin. Raises Forbidden."""
    access.check_admin(member)
    return member
