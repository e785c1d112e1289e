"""Headers of all pages, redirects, errors and static files of the catalog."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

_POLICY = {
    "default-src": "'none'",
    **dict.fromkeys(("script-src", "style-src", "img-src", "font-src", "connect-src", "manifest-src"), "'self'"),
    "form-action": "'self'",
    **dict.fromkeys(("base-uri", "frame-ancestors", "object-src"), "'none'"),
}
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "private, no-store",
}


class PageHeaders:
    """ASGI wrapper that adds the headers, unless the handler has set them, and the time that the server took."""

    def __init__(self, app: ASGIApp, is_page: Callable[[str], bool], *, https: bool):
        self.app, self.is_page = app, is_page
        policy = "; ".join(f"{name} {value}" for name, value in _POLICY.items())
        headers = _HEADERS | {"Content-Security-Policy": policy + ("; upgrade-insecure-requests" if https else "")}
        self._headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or not self.is_page(scope["path"]):
            await self.app(scope, receive, send)
            return
        began = perf_counter()

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                added = [header for header in self._headers if header[0] not in present]
                timing = b"total;dur=%.1f" % ((perf_counter() - began) * 1000)
                message["headers"] = [*message["headers"], *added, (b"server-timing", timing)]
            await send(message)

        await self.app(scope, receive, with_headers)
