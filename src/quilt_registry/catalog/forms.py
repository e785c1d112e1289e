"""Forms: their tokens against forged requests, and their fields.

A form carries a token bound to a cookie that other sites cannot read: that of the session, or before the sign-in one of
the browser. The token is masked anew each time, so that compressed pages do not reveal it bit by bit (BREACH).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.datastructures import FormMultiDict
from litestar.handlers import BaseRouteHandler

from quilt_registry.errors import Forbidden, Invalid, TooLarge
from quilt_registry.web import cookies
from quilt_registry.web.callers import registry_of
from quilt_registry.web.requests import AnyConnection, AnyRequest

FIELD = "csrf"
HEADER = "x-csrf-token"
MAX_FORM_BYTES = 160_000  # a comment of 10,240 characters of any alphabet takes up to 123,000
MAX_FORM_FIELDS = 20


def new_token(secret: str) -> str:
    """Return a token for a form that the holder of a cookie may send."""
    mask = secrets.token_bytes(32)
    masked = bytes(a ^ b for a, b in zip(mask, _digest(secret), strict=True))
    return base64.urlsafe_b64encode(mask + masked).decode().rstrip("=")


def is_token(token: str, secret: str) -> bool:
    """Return whether a form was made for the holder of a cookie."""
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except ValueError:
        return False
    unmasked = bytes(a ^ b for a, b in zip(raw[:32], raw[32:], strict=False))
    return len(raw) == 64 and hmac.compare_digest(unmasked, _digest(secret))


def _digest(secret: str) -> bytes:
    return hashlib.sha256(b"form " + secret.encode("utf-8", "replace")).digest()


def holder_secrets(connection: AnyConnection) -> list[str]:
    """Return the values of the cookies to which forms are bound, that of the session first."""
    settings = registry_of(connection).settings
    values = [cookies.get(connection, settings, name) for name in (cookies.SESSION, cookies.BROWSER)]
    values.append(connection.cookies.get(cookies.SESSION, ""))  # a session of the previous release, without the prefix
    return [value for value in values if value]


async def check_form(connection: ASGIConnection, _: BaseRouteHandler) -> None:  # type: ignore[type-arg]
    """Raise TooLarge, Invalid, or Forbidden for a form that no page of this site made for this browser."""
    if connection.scope.get("method") != "POST":
        return
    assert isinstance(connection, Request)
    form = await _parse(connection)
    connection.scope["state"]["form"] = form
    token = str(form.get(FIELD) or connection.headers.get(HEADER) or "")
    if not any(is_token(token, secret) for secret in holder_secrets(connection)):
        raise Forbidden("This form has expired, or was sent from another site. Reload the page and try again.")


async def _parse(request: AnyRequest) -> FormMultiDict:
    if int(request.headers.get("content-length") or MAX_FORM_BYTES + 1) > MAX_FORM_BYTES:
        raise TooLarge(f"The form exceeds the limit of {MAX_FORM_BYTES:,} bytes. Shorten the text and send it again.")
    is_multipart = request.content_type[0] == "multipart/form-data"  # its parts are limited where it is parsed
    if not is_multipart and (await request.body()).count(b"&") >= MAX_FORM_FIELDS:
        raise Invalid("The form has too many fields.")
    return await request.form()


def read(request: AnyRequest, *fields: str) -> list[str]:
    """Return the fields of a form; "" for missing ones."""
    form: FormMultiDict = request.scope["state"]["form"]
    return [str(form.get(name, "")) for name in fields]
