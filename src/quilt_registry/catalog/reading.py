"""Who reads a page: the sign-in kept in a cookie."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from litestar import Request, Response
from litestar.params import Dependency
from litestar.response import Redirect

from quilt_registry import limits
from quilt_registry.accounts import signin
from quilt_registry.accounts.signin import TOKEN_LIFE, Session, Token
from quilt_registry.accounts.users import Account
from quilt_registry.errors import Forbidden, Invalid, TooLarge
from quilt_registry.packages import access
from quilt_registry.packages.access import Caller, Member
from quilt_registry.parts import Parts
from quilt_registry.settings import Settings

COOKIE = "quilt_session"
LARGEST_FORM = 160_000  # bytes; a comment of 10,240 letters of any alphabet takes up to 123,000

_given = Dependency(skip_validation=True)
Registry = Annotated[Parts, _given]
Reader = Annotated[Caller, _given]
LiveSession = Annotated[Session | None, _given]
SignedIn = Annotated[Account | None, _given]
AnyRequest = Request[Any, Any, Any]


async def session(request: AnyRequest, parts: Registry) -> Session | None:
    """The sign-in of this browser; None if there is none. Personal tokens are for machines, not for browsers."""
    token = request.cookies.get(COOKIE)
    found = await signin.session_of(parts.db, token) if token else None
    return found if found and found.account.is_active and not found.personal else None


async def account(session: LiveSession) -> Account | None:
    """Who is signed in in this browser; None if nobody is."""
    return session.account if session else None


async def reader(account: SignedIn, parts: Registry) -> Caller:
    """Somebody who may look at this registry. Raises SignInNeeded."""
    access.check_signed_in(account, parts.switches)
    return Member(account, parts.switches) if account else Caller(None, parts.switches)


async def check(request: AnyRequest) -> None:
    """Refuse forms sent from other sites, and NUL, which no name can hold."""
    if "\0" in request.scope["path"]:
        raise Invalid("The address holds a NUL character.")
    if request.method == "POST" and _from_another_site(request):
        raise Forbidden("This form was sent from another site.")


def _from_another_site(request: AnyRequest) -> bool:
    """Browsers say where a form comes from. A page that sends no referrer has no origin, so this is the second word."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site:
        return site not in ("same-origin", "none")
    return origin is not None and urlsplit(origin).netloc != request.headers.get("host")


def client_address(request: AnyRequest) -> str:
    """Where the reader is, as far as trusted proxies tell."""
    return limits.place(request.client.host) if request.client else ""


async def read_form(request: AnyRequest, *fields: str) -> list[str]:
    """The fields of a form, "" for those that are missing. Raises TooLarge."""
    if int(request.headers.get("content-length") or LARGEST_FORM + 1) > LARGEST_FORM:
        raise TooLarge("The form is too large.")
    form = await request.form()
    return [str(form.get(name, "")) for name in fields]


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
