"""Guards of pages: the reader, by the session cookie. Helpers for forms and for that cookie."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from litestar import Response
from litestar.handlers import BaseRouteHandler
from litestar.response import Redirect

from quilt_registry.accounts import rights, sessions
from quilt_registry.accounts.sessions import TOKEN_LIFETIME, Session, Token
from quilt_registry.errors import Forbidden, Invalid, TooLarge
from quilt_registry.settings import Settings
from quilt_registry.web import callers, cookies
from quilt_registry.web.callers import registry_of
from quilt_registry.web.requests import AnyConnection, AnyRequest, check_url

MAX_FORM_BYTES = 160_000  # a comment of 10,240 characters of any alphabet takes up to 123,000
MAX_FORM_FIELDS = 20


async def check_request(connection: AnyConnection, _: BaseRouteHandler) -> None:
    """Raise Invalid for a URL that is no text, Forbidden for a form from another site. Runs before `authorize`."""
    check_url(connection)
    if connection.scope.get("method") == "POST" and _from_another_site(connection):
        raise Forbidden("This form was sent from another site. Open it on this site and send it again.")


def _from_another_site(connection: AnyConnection) -> bool:
    """Return whether a browser says that a form is from another site.

    The registry's own origins come from its settings, because a proxy may have replaced the header `Host`.
    """
    site, origin = connection.headers.get("sec-fetch-site"), connection.headers.get("origin")
    if origin in registry_of(connection).settings.origins:
        return False
    if site:  # checked before the host, because pages without a referrer send the origin `null`
        return site not in ("same-origin", "none")
    return origin is not None and origin.partition("://")[2] != connection.headers.get("host")


async def find_session(connection: AnyConnection) -> Session | None:
    """Return the session of the cookie, or None.

    With https, the cookie without the prefix holds only sessions of the release before, which did not know the prefix.
    """
    registry = registry_of(connection)
    session = None
    if token := cookies.get(connection, registry.settings, cookies.SESSION):
        session = await sessions.find_session(registry.db, token, "page")
    elif token := connection.cookies.get(cookies.SESSION, ""):
        session = await sessions.find_session(registry.db, token, None)
    return session if session and rights.may_use_pages(session) else None


async def _find_session(connection: AnyConnection, _: BaseRouteHandler) -> Session | None:
    return await find_session(connection)


authorize = callers.guard(_find_session)


async def read_form(request: AnyRequest, *fields: str) -> list[str]:
    """Return the fields of a form; "" for missing ones. Raise TooLarge, Invalid."""
    if int(request.headers.get("content-length") or MAX_FORM_BYTES + 1) > MAX_FORM_BYTES:
        raise TooLarge(f"The form exceeds the limit of {MAX_FORM_BYTES:,} bytes. Shorten the text and send it again.")
    is_multipart = request.content_type[0] == "multipart/form-data"  # its parts are limited where it is parsed
    if not is_multipart and (await request.body()).count(b"&") >= MAX_FORM_FIELDS:
        raise Invalid("The form has too many fields.")
    form = await request.form()
    return [str(form.get(name, "")) for name in fields]


def redirect_to_sign_in(request: AnyRequest) -> Redirect:
    """Return a redirect to the sign-in page, which returns to this page."""
    query = request.scope["query_string"].decode("latin-1")
    here = request.scope["path"] + (f"?{query}" if query else "")
    return Redirect("/signin" if here == "/" else f"/signin?next={quote(here)}", status_code=302)


def safe_next(target: str) -> str:
    """Return the path to open after sign-in; "/" if the target is not a path of this site."""
    is_path = target.startswith("/") and not target.startswith("//")
    return target if is_path and "\\" not in target and target.isprintable() else "/"


def set_cookie(response: Response[Any], settings: Settings, token: Token) -> None:
    """Store a session in the browser."""
    cookies.set(response, settings, cookies.SESSION, token.text, int(TOKEN_LIFETIME.total_seconds()))
