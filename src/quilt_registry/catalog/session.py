"""Who reads a page, from the cookie that keeps a sign-in, and what is shared by all forms."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlsplit

from litestar import Response
from litestar.connection import ASGIConnection
from litestar.di import Provide
from litestar.handlers import BaseRouteHandler
from litestar.response import Redirect

from quilt_registry.accounts import rights, sessions
from quilt_registry.accounts.sessions import TOKEN_LIFE, Session, Token
from quilt_registry.accounts.users import Account
from quilt_registry.errors import Forbidden, Invalid, TooLarge
from quilt_registry.packages.access import Caller, Member
from quilt_registry.registry import Registry
from quilt_registry.settings import Settings
from quilt_registry.web.requests import AnyRequest, Injected, records_read

COOKIE = "quilt_session"
MAX_FORM_BYTES = 160_000  # a comment of 10,240 characters of any alphabet takes up to 123,000

Connection = ASGIConnection[Any, Any, Any, Any]


async def check_request(connection: Connection, _: BaseRouteHandler) -> None:
    """Refuse forms sent from other sites, and NUL, which no name can hold. A guard that runs before `authorize`."""
    if "\0" in connection.scope["path"]:
        raise Invalid("The address holds a NUL character.")
    if connection.scope.get("method") == "POST" and _from_another_site(connection):
        raise Forbidden("This form was sent from another site.")


def _from_another_site(connection: Connection) -> bool:
    """Return whether a form comes from another site. `Origin` is the fallback: pages without a referrer send null."""
    site, origin = connection.headers.get("sec-fetch-site"), connection.headers.get("origin")
    if site:
        return site not in ("same-origin", "none")
    return origin is not None and urlsplit(origin).netloc != connection.headers.get("host")


async def authorize(connection: Connection, handler: BaseRouteHandler) -> None:
    """Let through those whom the page's `who` names. Raise SignInNeeded or Forbidden for all others."""
    who, registry = handler.opt["who"], connection.app.state.registry
    if who == "anybody":
        return
    session = await _session(connection, registry)
    connection.scope["state"]["session"] = session
    rights.check_who(who, session, anonymous=registry.policy.anonymous)


async def _session(connection: Connection, registry: Registry) -> Session | None:
    token = connection.cookies.get(COOKIE)
    found = await sessions.session_of(registry.db, token) if token else None
    return found if found and rights.may_use_pages(found) else None


def session(request: AnyRequest) -> Session:
    """Return the session of this browser. Only for pages that need a sign-in."""
    found: Session = request.scope["state"]["session"]
    return found


def account(request: AnyRequest) -> Account | None:
    """Return the account that is signed in in this browser; None if there is none."""
    found: Session | None = request.scope["state"]["session"]
    return found.account if found else None


def caller(request: AnyRequest, registry: Injected[Registry]) -> Caller:
    """Return the reader of a page, signed in or not."""
    reader = account(request)
    return Member(reader, registry.policy) if reader else Caller(None, registry.policy)


def member(request: AnyRequest, registry: Injected[Registry]) -> Member:
    """Return the reader of a page that needs a sign-in."""
    return Member(session(request).account, registry.policy)


DEPENDENCIES = {
    "session": Provide(session, sync_to_thread=False),
    "account": Provide(account, sync_to_thread=False),
    "caller": Provide(caller, sync_to_thread=False),
    "member": Provide(member, sync_to_thread=False),
    "record": Provide(records_read, sync_to_thread=False),
}


async def read_form(request: AnyRequest, *fields: str) -> list[str]:
    """Return the fields of a form, "" for missing ones. Raise TooLarge."""
    if int(request.headers.get("content-length") or MAX_FORM_BYTES + 1) > MAX_FORM_BYTES:
        raise TooLarge("The form is too large.")
    form = await request.form()
    return [str(form.get(name, "")) for name in fields]


def redirect_to_sign_in(request: AnyRequest) -> Redirect:
    """Return a redirect to the sign-in page, which leads back here."""
    query = request.scope["query_string"].decode("latin-1")
    here = request.scope["path"] + (f"?{query}" if query else "")
    return Redirect("/signin" if here == "/" else f"/signin?next={quote(here)}", status_code=302)


def safe_next(target: str) -> str:
    """Return where to go after signing in: a path of this site; "/" for anything else."""
    parts = urlsplit(target)
    is_path = target.startswith("/") and not target.startswith("//") and not parts.scheme and not parts.netloc
    return target if is_path and "\\" not in target and target.isprintable() else "/"


def set_cookie(response: Response[Any], settings: Settings, token: Token) -> None:
    """Keep a sign-in in this browser. Scripts cannot read the cookie, and forms of other sites do not send it."""
    response.set_cookie(
        COOKIE,
        token.text,
        max_age=int(TOKEN_LIFE.total_seconds()),
        httponly=True,
        secure=settings.catalog_url.startswith("https:"),
        samesite="lax",
    )
