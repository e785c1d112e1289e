"""The theme of pages, which a cookie holds: signed in or not, and on each computer its own."""

from __future__ import annotations

from typing import Any

from litestar import Response
from litestar.response import Redirect

from quilt_registry.catalog import forms
from quilt_registry.catalog.session import return_path
from quilt_registry.catalog.templates import THEMES
from quilt_registry.registry import Registry
from quilt_registry.web import cookies
from quilt_registry.web.requests import AnyRequest, Injected


async def choose_theme(request: AnyRequest, registry: Injected[Registry]) -> Response[Any]:
    """Keep the theme, and return to the page of the form."""
    theme, target = forms.read(request, "theme", "next")
    response = Redirect(return_path(request, target), status_code=303)
    if theme in THEMES:
        cookies.set(response, registry.settings, cookies.THEME, theme, cookies.BROWSER_LIFETIME)
    return response
