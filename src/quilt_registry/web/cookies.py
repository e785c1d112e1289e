"""Cookies of the pages. Scripts cannot read them, and forms of other sites do not send them."""

from __future__ import annotations

from typing import Any

from litestar import Response

from quilt_registry.settings import Settings
from quilt_registry.web.requests import AnyConnection

SESSION = "quilt_session"
# What the browser that signed up keeps until the account is activated.
SIGN_UP = "quilt_signup"
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


def _full(settings: Settings, name: str) -> str:
    return PREFIX + name if settings.is_https else name


def _set(response: Response[Any], settings: Settings, full_name: str, value: str, max_age: int) -> None:
    # Without `Secure`, browsers would ignore the deletion of a cookie with the prefix, too.
    response.set_cookie(full_name, value, max_age=max_age, httponly=True, secure=settings.is_https, samesite="lax")
