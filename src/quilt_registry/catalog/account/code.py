"""The page with a sign-in code for the client."""

from __future__ import annotations

from typing import Any

from litestar import Response

from quilt_registry.accounts import codes
from quilt_registry.accounts.sessions import Session
from quilt_registry.catalog.templates import render
from quilt_registry.registry import Registry
from quilt_registry.web.requests import AnyRequest, Injected, is_speculative


async def code(request: AnyRequest, session: Injected[Session], registry: Injected[Registry]) -> Response[Any]:
    """Show a new code to paste into the client. `quilt login` opens this page."""
    text = "" if is_speculative(request) else await codes.create_code(registry.db, session)
    minutes = int(codes.CODE_LIFETIME.total_seconds() / 60)
    return render(request, "account/code.html", code=text, minutes=minutes)
