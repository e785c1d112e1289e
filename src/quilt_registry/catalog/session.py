"""Guards of pages: the reader, by the session cookie. Where the sign-in leads from and to."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlsplit

from litestar import Response
from litestar.handlers import BaseRouteHandler
from litestar.response import Redirect

from quilt_registry.accounts import rights, sessions
from quilt_registry.accounts.sessions import TOKEN_LIFETIME, Session, Token
from quilt_registry.errors import Forbidden, Refusal
from quilt_registry.settings import Settings
from quilt_registry.web import callers, cookies
from quilt_registry.web.callers import registry_of
from quilt_registry.web.requests import AnyConnection, AnyRequest, check_url, raw_path


class Moved(Refusal):
    """The page is at another path."""

    status = 308

    def __init__(self, path: str):
        super().__init__("This page is at another address.")
        self.path = path


async def check_request(connection: AnyConnection, _: BaseRouteHandler) -> None:
    """Raise Invalid for a URL that is no text, Forbidden for a form from another site. Runs before `authorize`.

    Raise Moved for a path with a slash at the end, which the original catalog used in its own links.
    """
    check_url(connection)
    path = raw_path(connection)
    if path.endswith("/") and path != "/":
        query = connection.scope["query_string"].decode("latin-1")
        raise Moved("/" + path.strip("/") + (f"?{query}" if query else ""))
    if connection.scope.get("method") == "POST" and _from_another_site(connection):
        raise Forbidden("This form was sent from another site. Open it on this site and send it again.")


def _from_another_site(connection: AnyConnection) -> bool:
    """Return whether a browser says that a form is from another site.

    The registry's own origins come from its settings, because a proxy may have replaced the header `Host`.
    """
    site, origin = connection.headers.get("sec-fetch-site"), connection.headers.get("origin")
    if origin in registry_of(connection).settings.origins:
        return False
    if site:
        return site not in ("same-origin", "none")
    # Pages without a referrer send the origin `null` with their own forms. Over plain HTTP, that is all that browsers
    # say, so that only the form's token tells such a form from one of another site.
    return origin not in (None, "null") and origin.partition("://")[2] != connection.headers.get("host")


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


authorize = callers.guard(_find_session, lambda _: "web")


def redirect_to_sign_in(request: AnyRequest) -> Response[Any]:
    """Return a redirect to the sign-in page, which returns to this page; from a form, to the page of the form."""
    target = f"/signin?next={quote(_page_of(request))}"
    if is_fragment(request):
        return Response(None, status_code=401, headers={"HX-Redirect": target})
    return Redirect(target, status_code=302 if request.method in ("GET", "HEAD") else 303)


def _page_of(request: AnyRequest) -> str:
    """Return the path and query of the page that the reader sees."""
    seen = request.headers.get("hx-current-url") or (request.headers.get("referer") if request.method == "POST" else "")
    if seen:
        parts = urlsplit(seen)
        return safe_next(parts.path + (f"?{parts.query}" if parts.query else ""))
    return path_and_query(request)


def path_and_query(request: AnyRequest) -> str:
    """Return the URL of a request as it was sent, without its origin."""
    query = request.scope["query_string"].decode("latin-1")
    return raw_path(request) + (f"?{query}" if query else "")


def is_fragment(request: AnyRequest) -> bool:
    """Return whether htmx asks for a part of a page."""
    return "hx-request" in request.headers


def safe_next(target: str) -> str:
    """Return the path to open after sign-in; "/" if the target is not a path of this site."""
    is_path = target.startswith("/") and not target.startswith("//")
    return target if is_path and "\\" not in target and target.isprintable() else "/"


def return_path(request: AnyRequest, path: str) -> str:
    """Return the path that a form names as its page, with the query of the page if the browser tells it."""
    seen = urlsplit(request.headers.get("referer", ""))
    return safe_next(f"{path}?{seen.query}" if seen.query and seen.path == path else path)


def set_cookie(response: Response[Any], settings: Settings, token: Token) -> None:
    """Store a session in the browser."""
    cookies.set(response, settings, cookies.SESSION, token.text, int(TOKEN_LIFETIME.total_seconds()))
