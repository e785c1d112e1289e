"""Pages for signing in and up, whose URLs and contents may hold secrets."""

from __future__ import annotations

from typing import Any

from litestar import Response

from quilt_registry.catalog import templates
from quilt_registry.web.requests import AnyRequest

# Browsers send the URL of such a page to no other page.
NO_REFERRER = {"Referrer-Policy": "no-referrer"}


def render(request: AnyRequest, template: str, status: int = 200, **values: Any) -> Response[Any]:
    """Return a page without a referrer."""
    response = templates.render(request, template, status, **values)
    response.headers.update(NO_REFERRER)
    return response
