"""Cookies of the pages. Scripts cannot read them, and forms of other sites do not send them."""

from __future__ import annotations

from typing import Any

from litestar import Response

from quilt_registry.accounts import secret
from quilt_registry.settings import Settings
from quilt_registry.web.requests import AnyConnection

SESSION = "quilt_session"
# What the browser that signed up keeps until the account is activated.
SIGN_UP = "quilt_signup"
# An ID of the browser, to which forms before the sign-in and messages for the next page are bound.
BROWSER = "quilt_browser"
FLASH = "quilt_flash"
THEME = "quilt_theme"
BROWSER_LIFETIME = 365 * 86_400  # seconds
# Used with https. Browsers accept this prefix only from the host itself and over https, so that neither another host of
# the domain nor an attacker on the network can plant a cookie.
PREFIX = "__Host-"


def get(connection: AnyConnection, settings: Settings, name: str) -> str:
    """Return the value of a cookie, "" if there is none."""
    return connection.cookies.get(_full(settings, name), "")


def set(response: Response[Any], settings: Settings, name: str, value: str, max_age: int) -> None:
    """Store a value for `max_age` seconds."""
    _set(response, settings, _full(settings, name), value, max_age)


def delete(response: Response[Any], settings: Settings, name: str) -> None:
    """Delete a cookie, and the one without a prefix that the previous release set."""
    for each in {name, _full(settings, name)}:
        _set(response, settings, each, "", 0)


def browser(connection: AnyConnection, settings: Settings, response: Response[Any]) -> str:
    """Return the ID of the browser. The response gives one to a browser that has none."""
    value = get(connection, settings, BROWSER)
    if not value:
        value = new_browser()
        set(response, settings, BROWSER, value, BROWSER_LIFETIME)
    return value


def new_browser() -> str:
    """Return an ID for a browser."""
    return secret.generate()


def _full(settings: Settings, name: str) -> str:
    return PREFIX + name if settings.is_https else name


def _set(response: Response[Any], settings: Settings, full_name: str, value: str, max_age: int) -> None:
    # Without `Secure`, browsers would ignore the deletion of a cookie with the prefix, too.
    response.set_cookie(full_name, value, max_age=max_age, httponly=True, secure=settings.is_https, samesite="lax")
