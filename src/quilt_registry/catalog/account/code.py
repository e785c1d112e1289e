"""The page with a sign-in code for the client."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from litestar import Response
from litestar.response import Redirect

from quilt_registry.accounts import codes
from quilt_registry.accounts.sessions import Session
from quilt_registry.catalog.account.pages import render
from quilt_registry.registry import Registry
from quilt_registry.web.requests import AnyRequest, Injected, is_speculative


async def code(request: AnyRequest, session: Injected[Session], registry: Injected[Registry]) -> Response[Any]:
    """Show a new code to paste into the client. `quilt login` opens this page."""
    text = "" if is_speculative(request) else await codes.create_code(registry.db, session)
    return render(request, "account/code.html", code=text, expires=datetime.now(UTC) + codes.CODE_LIFETIME)


async def new_code() -> Response[Any]:
    """Open the page again, which shows a new code."""
    return Redirect("/code", status_code=303)
