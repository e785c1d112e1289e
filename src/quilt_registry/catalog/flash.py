"""Redirects to a page that shows a message: what a form has done."""

from __future__ import annotations

from typing import Any

from litestar import Response
from litestar.response import Redirect

from quilt_registry.web import flash
from quilt_registry.web.requests import AnyRequest


def redirect(request: AnyRequest, path: str, message: str, *, kind: str = "ok") -> Response[Any]:
    """Return a redirect to a page that shows a message."""
    response = Redirect(path, status_code=303)
    flash.put(request, response, message, kind)
    return response
