"""CORS headers for `/api/*`, also of errors (protocol §2). Never for credentials, because the token is a header."""

from __future__ import annotations

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

METHODS = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"
MAX_AGE = "86400"  # seconds that browsers cache a preflight response


class Cors:
    """ASGI wrapper of the whole service that adds CORS headers and answers preflight requests."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or not scope["path"].startswith("/api/"):
            await self.app(scope, receive, send)
            return
        received = dict(scope["headers"])
        origin = received.get(b"origin")
        headers = [(b"access-control-allow-origin", origin or b"*")]
        if origin:
            headers.append((b"vary", b"Origin"))
        if scope["method"] == "OPTIONS":
            allowed = received.get(b"access-control-request-headers", b"authorization, content-type")
            headers += [
                (b"access-control-allow-methods", METHODS.encode()),
                (b"access-control-allow-headers", allowed),
                (b"access-control-max-age", MAX_AGE.encode()),
                (b"allow", METHODS.encode()),
                (b"content-length", b"0"),
            ]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        await self.app(scope, receive, with_headers)
