"""Rendering of templates to HTML responses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar import Request, Response

from quilt_registry import __version__
from quilt_registry.accounts.users import Account
from quilt_registry.catalog import formats, forms, selvedge, static_files, urls
from quilt_registry.settings import Settings
from quilt_registry.web import cookies, flash
from quilt_registry.web.requests import raw_path

THEMES = ("auto", "light", "dark")

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    finalize=formats.visible,
)
_templates.globals |= {
    "release": __version__,
    "static": static_files.url,
    "url": urls.url,
    "package_url": urls.package_url,
    "with_query": urls.with_query,
    "version_threads": selvedge.version_threads,
    "team_threads": selvedge.team_threads,
    "avatar_dye": selvedge.avatar_dye,
    "themes": THEMES,
}
_templates.filters |= {
    "as_typed": formats.as_typed,
    "count": formats.count,
    "day": formats.day,
    "first_sentence": formats.first_sentence,
    "plain_text": formats.plain_text,
    "relative": formats.relative,
    "second": formats.second,
    "short": formats.short,
    "size": formats.size,
    "utc": formats.utc,
}


class _Csrf:
    """The token of all forms on a page. Remembers whether a form used it."""

    def __init__(self, secret: str):
        self._token = forms.new_token(secret)
        self.used = False

    def __call__(self) -> str:
        self.used = True
        return self._token


def render(request: Request[Any, Any, Any], template: str, status: int = 200, **values: Any) -> Response[str]:
    """Return a page, or a part of one.

    Templates see the settings, the reader's account (None if not signed in), the path of the page (`here` as it was
    sent), the theme, a message for this page, and as `ui` the macros of site/components.html. A page whose path holds
    a secret passes another `here`.
    The database is not used, so that an error page can report that it does not respond.
    """
    settings: Settings = request.app.state.registry.settings
    response = Response("", status_code=status, media_type="text/html")
    secrets = forms.holder_secrets(request)
    browser = "" if secrets else cookies.new_browser()
    csrf = _Csrf(secrets[0] if secrets else browser)
    message = flash.find(request)
    shared = {
        "settings": settings,
        "account": account_of(request),
        "path": request.scope["path"],
        "here": values.pop("here", raw_path(request)),
        "status": status,
        "theme": theme_of(request, settings),
        "flash": message,
        "csrf": csrf,
    }
    components = _templates.get_template("site/components.html").make_module(shared)
    response.content = _templates.get_template(template).render(shared | {"ui": components} | values)
    if csrf.used and browser:
        cookies.set(response, settings, cookies.BROWSER, browser, cookies.BROWSER_LIFETIME)
    if message:
        cookies.delete(response, settings, cookies.FLASH)
    return response


def fragment(request: Request[Any, Any, Any], template: str, status: int = 200, **values: Any) -> Response[str]:
    """Return a part of a page to htmx. Caches keep it apart from the page, which has the same URL."""
    response = render(request, template, status, **values)
    response.headers["Vary"] = "HX-Request"
    return response


def account_of(request: Request[Any, Any, Any]) -> Account | None:
    """Return the account of the reader as far as a guard has looked it up."""
    session = request.scope["state"].get("session")
    return session.account if session else None


def theme_of(request: Request[Any, Any, Any], settings: Settings) -> str:
    """Return the theme that the reader chose: one of THEMES."""
    theme = cookies.get(request, settings, cookies.THEME)
    return theme if theme in THEMES else THEMES[0]
