"""Who is calling, from the header `Authorization: Bearer <token>` (or the token alone).

The dependencies of the calls: `visitor` for calls that need no sign-in, `caller` for those marked "anyone", `member`
for the rest. They run before any body is read. A header that names no live token is refused by all of them.
"""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request
from litestar.params import Dependency

from quilt_registry.accounts import signin
from quilt_registry.accounts.users import Account
from quilt_registry.database import Database
from quilt_registry.errors import SignInNeeded
from quilt_registry.packages import access
from quilt_registry.packages.access import Caller, Member, Switches

# What handlers write as the type of an argument that comes from here or from app.py.
Given = Dependency(skip_validation=True)
Visitor = Annotated[Account | None, Given]
AnyCaller = Annotated[Caller, Given]
SignedIn = Annotated[Member, Given]
Token = Annotated[str, Given]
Db = Annotated[Database, Given]
Modes = Annotated[Switches, Given]
AnyRequest = Request[Any, Any, Any]


async def token(request: AnyRequest) -> str:
    """The token sent; empty if none was."""
    return request.headers.get("authorization", "").removeprefix("Bearer ")


async def visitor(token: Token, db: Db) -> Account | None:
    """The account of the token sent; None if none was sent. Raises SignInNeeded, Forbidden."""
    if not token:
        return None
    account = await signin.account_of(db, token)
    if account is None:
        raise SignInNeeded("Token invalid.")
    access.check_active(account)
    return account


async def caller(visitor: Visitor, switches: Modes) -> Caller:
    """Somebody who may look at this registry. Raises SignInNeeded where that takes a token."""
    access.check_signed_in(visitor, switches)
    return Member(visitor, switches) if visitor else Caller(None, switches)


async def member(visitor: Visitor, switches: Modes) -> Member:
    """Somebody signed in. Raises SignInNeeded."""
    if visitor is None:
        raise SignInNeeded("Not logged in")
    return Member(visitor, switches)
