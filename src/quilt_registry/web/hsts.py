"""Strict-Transport-Security (RFC 6797): browsers that were here once over https use nothing else."""

from __future__ import annotations

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

HEADER = (b"strict-transport-security", b"max-age=31536000")


class Hsts:
    """ASGI wrapper of the whole service that adds the header to every response. Browsers ignore it over http."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_header(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], HEADER]
            await send(message)

        await self.app(scope, receive, with_header if scope["type"] == ScopeType.HTTP else send)
