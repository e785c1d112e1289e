"""Messages that the next page shows, once."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Any

from litestar import Response
from msgspec import Struct, ValidationError, json

from quilt_registry.web import cookies
from quilt_registry.web.callers import registry_of
from quilt_registry.web.requests import AnyRequest

LIFETIME = 300  # seconds
MAX_LENGTH = 600  # characters


class Flash(Struct, frozen=True, array_like=True):
    """A message. `kind` is `ok` or `warn`."""

    message: str
    kind: str = "ok"


def put(request: AnyRequest, response: Response[Any], message: str, kind: str = "ok") -> None:
    """Let the next page that the browser opens show a message."""
    settings = registry_of(request).settings
    browser = cookies.browser(request, settings, response)
    text = base64.urlsafe_b64encode(json.encode(Flash(message[:MAX_LENGTH], kind)))
    value = f"{text.decode()}.{_mac(text, browser)}"
    cookies.set(response, settings, cookies.FLASH, value, LIFETIME)


def find(request: AnyRequest) -> Flash | None:
    """Return the message for this page. A cookie that this registry did not make for this browser counts as none."""
    settings = registry_of(request).settings
    text, _, mac = cookies.get(request, settings, cookies.FLASH).partition(".")
    browser = cookies.get(request, settings, cookies.BROWSER)
    if not browser or not hmac.compare_digest(mac.encode(), _mac(text.encode(), browser).encode()):
        return None
    try:
        return json.decode(base64.urlsafe_b64decode(text), type=Flash)
    except (binascii.Error, ValidationError):
        return None


def _mac(text: bytes, browser: str) -> str:
    return hmac.new(browser.encode(), b"flash " + text, hashlib.sha256).hexdigest()
