"""Who reads a page: the sign-in kept in a cookie."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from litestar import Request, Response
from litestar.params import Dependency
from litestar.response import Redirect

from quilt_registry.accounts import signin
from quilt_registry.accounts.signin import TOKEN_LIFE, Token
from quilt_registry.accounts.users import Account
from quilt_registry.errors import Forbidden, Invalid
from quilt_registry.packages import access
from quilt_registry.packages.access import Caller, Member
from quilt_registry.parts import Parts
from quilt_registry.settings import Settings

COOKIE = "quilt_session"

_given = Dependency(skip_validation=True)
Registry = Annotated[Parts, _given]
Reader = Annotated[Caller, _given]
SignedIn = Annotated[Account | None, _given]
AnyRequest = Request[Any, Any, Any]


async def account(request: AnyRequest, parts: Registry) -> Account | None:
    """Who is signed in in this browser; None if nobody is."""
    token = request.cookies.get(COOKIE)
    found = await signin.account_of(parts.db, token) if token else None
    return found if found and found.is_active else None


async def reader(account: SignedIn, parts: Registry) -> Caller:
    """Somebody who may look at this registry. Raises SignInNeeded."""
    access.check_signed_in(account, parts.switches)
    return Member(account, parts.switches) if account else Caller(None, parts.switches)


async def check(request: AnyRequest) -> None:
    """Refuse forms sent from other sites (browsers name the origin of every POST), and NUL, which no name can hold."""
    if "\0" in request.scope["path"]:
        raise Invalid("The address holds a NUL character.")
    origin = request.headers.get("origin")
    if request.method == "POST" and origin and urlsplit(origin).netloc != request.headers.get("host"):
        raise Forbidden("This form was sent from another site.")


def to_sign_in(request: AnyRequest) -> Redirect:
    """To the sign-in page, and back here afterwards."""
    query = request.scope["query_string"].decode("latin-1")
    here = request.scope["path"] + (f"?{query}" if query else "")
    return Redirect("/signin" if here == "/" else f"/signin?next={quote(here)}", status_code=302)


def safe_next(target: str) -> str:
    """Where to go after signing in: a path of this site and nothing else."""
    parts = urlsplit(target)
    fine = target.startswith("/") and not target.startswith("//") and not parts.scheme and not parts.netloc
    return target if fine and "\\" not in target and target.isprintable() else "/"


def keep(response: Response[Any], settings: Settings, token: Token) -> None:
    """Keep a sign-in in this browser. Scripts cannot read it, and other sites' forms do not send it."""
    response.set_cookie(
        COOKIE,
        token.text,
        max_age=int(TOKEN_LIFE.total_seconds()),
        httponly=True,
        secure=settings.catalog_url.startswith("https:"),
        samesite="lax",
    )
