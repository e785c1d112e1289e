"""Error pages, which show who is signed in like every other page."""

from __future__ import annotations

import contextlib
from typing import Any

from litestar import Request, Response
from litestar.types import ASGIApp, Receive, Scope, Send

from quilt_registry.accounts.users import Account
from quilt_registry.catalog import session
from quilt_registry.catalog.templates import render
from quilt_registry.errors import Refusal
from quilt_registry.web.requests import AnyRequest

TITLES = {
    400: "Bad request",
    403: "Access denied",
    404: "Page not found",
    405: "Method not allowed",
    413: "Request too large",
    429: "Too many requests",
    503: "Service unavailable",
}


class ErrorPage(Response[None]):
    """An error page. It is rendered when it is sent, because error handlers cannot await the reader's session."""

    def __init__(self, status: int, message: str):
        super().__init__(None, status_code=status)
        self.message = message

    def to_asgi_response(self, app: Any, request: Request[Any, Any, Any], **_: Any) -> ASGIApp:  # type: ignore[override]  # noqa: ARG002
        """Return the page as an ASGI application."""
        status = self.status_code or 500

        async def respond(scope: Scope, receive: Receive, send: Send) -> None:
            title = TITLES.get(status, "Something went wrong")
            account = await _account(request, status)
            page = render(request, "site/refusal.html", status, title=title, message=self.message, account=account)
            await page.to_asgi_response(app=None, request=request)(scope, receive, send)

        return respond


async def _account(request: AnyRequest, status: int) -> Account | None:
    """Return the account of the reader, whom the guard did not look up if there is no page at the URL.

    The database is not asked after a failure, which may be its own.
    """
    state = request.scope["state"]
    if "session" not in state and status < 500:
        with contextlib.suppress(Refusal):
            state["session"] = await session.find_session(request)
    found = state.get("session")
    return found.account if found else None
