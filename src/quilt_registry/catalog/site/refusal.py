"""Error pages, which show who is signed in like every other page."""

from __future__ import annotations

import contextlib
from typing import Any

from litestar import Request, Response
from litestar.types import ASGIApp, Receive, Scope, Send

from quilt_registry.catalog import session
from quilt_registry.catalog.templates import render
from quilt_registry.errors import NotFound, Refusal
from quilt_registry.web.callers import registry_of
from quilt_registry.web.requests import AnyRequest

TITLES = {
    400: "Bad request",
    403: "Access denied",
    404: "Nothing here",
    405: "Method not allowed",
    408: "Request too slow",
    409: "Conflict",
    413: "Request too large",
    422: "Invalid input",
    429: "Too many requests",
    501: "Not offered",
    503: "Service unavailable",
    507: "Storage is full",
}


class PageRefusal(NotFound):
    """A refusal with a page of its own, shown to readers who may know its details."""

    def __init__(self, status: int, message: str, template: str, values: dict[str, Any]):
        super().__init__(message)
        self.status, self.template, self.values = status, template, values


class ErrorPage(Response[None]):
    """An error page. It is rendered when it is sent, because error handlers cannot await the reader's session."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None):
        super().__init__(None, status_code=status)
        self.message, self.error_headers = message, headers or {}

    def to_asgi_response(self, app: Any, request: Request[Any, Any, Any], **_: Any) -> ASGIApp:  # type: ignore[override]  # noqa: ARG002
        """Return the page as an ASGI application."""
        status = self.status_code or 500

        async def respond(scope: Scope, receive: Receive, send: Send) -> None:
            await _find_session(request, status)
            page = self._page(request, status)
            page.headers.update(self.error_headers)
            await page.to_asgi_response(app=None, request=request)(scope, receive, send)

        return respond

    def _page(self, request: AnyRequest, status: int) -> Response[Any]:
        if status == NotFound.status and _needs_sign_in(request):
            return session.redirect_to_sign_in(request)
        title = TITLES.get(status, "Something went wrong")
        form = request.scope["state"].get("form")
        typed = str(form.get("contents", "")) if form else ""
        return render(
            request,
            "site/refusal.html",
            status,
            title=title,
            message=self.message,
            typed=typed,
            may_retry=request.method == "GET" and status in (429, 500, 503),
        )


async def _find_session(request: AnyRequest, status: int) -> None:
    """Look up the reader's session, which no guard did if there is no page at the URL.

    The database is not asked after a failure, which may be its own.
    """
    state = request.scope["state"]
    if "session" not in state and status < 500:
        with contextlib.suppress(Refusal):
            state["session"] = await session.find_session(request)


def _needs_sign_in(request: AnyRequest) -> bool:
    """Return whether unknown paths are for members only: visitors cannot tell them from pages that they may not see."""
    if request.method not in ("GET", "HEAD") or request.scope["path"].startswith(("/static/", "/logo")):
        return False
    return not request.scope["state"].get("session") and not registry_of(request).policy.anonymous
