"""Guards and dependencies of pages: the reader, by the session cookie. Helpers for forms and for that cookie."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlsplit

from litestar import Response
from litestar.connection import ASGIConnection
from litestar.di import Provide
from litestar.handlers import BaseRouteHandler
from litestar.response import Redirect

from quilt_registry.accounts import rights, sessions
from quilt_registry.accounts.sessions import TOKEN_LIFETIME, Session, Token
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
    """Raise Invalid for a NUL in the path, Forbidden for a form from another site. Runs before `authorize`."""
    if "\0" in connection.scope["path"]:
        raise Invalid("The URL contains a NUL character.")
    if connection.scope.get("method") == "POST" and _from_another_site(connection):
        raise Forbidden("This form was sent from another site. Open it on this site and send it again.")


def _from_another_site(connection: Connection) -> bool:
    site, origin = connection.headers.get("sec-fetch-site"), connection.headers.get("origin")
    if site:  # checked first, because pages without a referrer send the origin `null`
        return site not in ("same-origin", "none")
    return origin is not None and urlsplit(origin).netloc != connection.headers.get("host")


async def authorize(connection: Connection, handler: BaseRouteHandler) -> None:
    """Raise SignInNeeded or Forbidden unless the page's `who` includes the reader."""
    who, registry = handler.opt["who"], connection.app.state.registry
    if who == "anybody":
        return
    session = await _session(connection, registry)
    connection.scope["state"]["session"] = session
    rights.check_who(who, session, anonymous=registry.policy.anonymous)


async def _session(connection: Connection, registry: Registry) -> Session | None:
    token = connection.cookies.get(COOKIE)
    found = await sessions.find_session(registry.db, token) if token else None
    return found if found and rights.may_use_pages(found) else None


def session(request: AnyRequest) -> Session:
    """Return the reader's session. Only for pages that require a sign-in."""
    found: Session = request.scope["state"]["session"]
    return found


def account(request: AnyRequest) -> Account | None:
    """Return the reader's account; None for a reader who is not signed in."""
    found: Session | None = request.scope["state"]["session"]
    return found.account if found else None


def caller(request: AnyRequest, registry: Injected[Registry]) -> Caller:
    """Return the reader of a page, signed in or not."""
    reader = account(request)
    return Member(reader, registry.policy) if reader else Caller(None, registry.policy)


def member(request: AnyRequest, registry: Injected[Registry]) -> Member:
    """Return the signed-in reader. Only for pages that require a sign-in."""
    return Member(session(request).account, registry.policy)


DEPENDENCIES = {
    "session": Provide(session, sync_to_thread=False),
    "account": Provide(account, sync_to_thread=False),
    "caller": Provide(caller, sync_to_thread=False),
    "member": Provide(member, sync_to_thread=False),
    "record": Provide(records_read, sync_to_thread=False),
}


async def read_form(request: AnyRequest, *fields: str) -> list[str]:
    """Return the fields of a form; "" for missing ones. Raise TooLarge."""
    if int(request.headers.get("content-length") or MAX_FORM_BYTES + 1) > MAX_FORM_BYTES:
        raise TooLarge(f"The form exceeds the limit of {MAX_FORM_BYTES:,} bytes. Shorten the text and send it again.")
    form = await request.form()
    return [str(form.get(name, "")) for name in fields]


def redirect_to_sign_in(request: AnyRequest) -> Redirect:
    """Return a redirect to the sign-in page, which returns to this page."""
    query = request.scope["query_string"].decode("latin-1")
    here = request.scope["path"] + (f"?{query}" if query else "")
    return Redirect("/signin" if here == "/" else f"/signin?next={quote(here)}", status_code=302)


def safe_next(target: str) -> str:
    """Return the path to open after sign-in; "/" if the target is not a path of this site."""
    parts = urlsplit(target)
    is_path = target.startswith("/") and not target.startswith("//") and not parts.scheme and not parts.netloc
    return target if is_path and "\\" not in target and target.isprintable() else "/"


def set_cookie(response: Response[Any], settings: Settings, token: Token) -> None:
    """Store a session in a cookie. Scripts cannot read it, and forms of other sites do not send it."""
    response.set_cookie(
        COOKIE,
        token.text,
        max_age=int(TOKEN_LIFETIME.total_seconds()),
        httponly=True,
        secure=settings.catalog_url.startswith("https:"),
        samesite="lax",
    )
