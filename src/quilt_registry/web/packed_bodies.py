"""JSON request bodies, plain or gzip, checked and unpacked within a bound before a handler reads them."""

from __future__ import annotations

from typing import Any

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, HTTPRequestEvent, Receive, Scope, Send

from quilt_registry import bodies
from quilt_registry.bodies import Packed
from quilt_registry.errors import Invalid, TooLarge


class PackedBodies(ASGIMiddleware):
    """Middleware that unpacks gzip bodies of at most `limit` bytes, packed and unpacked.

    The body is read when the handler asks for it, so after the guards. Reading raises Invalid, also for a content type
    other than JSON, or TooLarge.
    """

    scopes = (ScopeType.HTTP,)

    def __init__(self, limit: int):
        self.limit = limit

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        headers = dict(scope["headers"])
        encoding = headers.get(b"content-encoding", b"").strip().lower().decode("latin-1")
        media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()

        async def receive_plain() -> Any:
            if media_type != b"application/json":
                raise Invalid("The request body must be JSON, with the content type application/json.")
            return await receive()

        if encoding in ("", "identity"):
            await next_app(scope, receive_plain, send)
            return
        unpacked = dict(scope)
        unpacked["headers"] = [
            (name, value) for name, value in scope["headers"] if name not in (b"content-encoding", b"content-length")
        ]

        async def receive_unpacked() -> HTTPRequestEvent:
            if encoding != "gzip":
                raise Invalid(f"Unsupported content encoding: {encoding[:40]}")
            data = bodies.unpack(Packed(await self._read(receive_plain), gzip=True, limit=self.limit))
            return {"type": "http.request", "body": bytes(data), "more_body": False}

        await next_app(unpacked, receive_unpacked, send)  # type: ignore[arg-type]

    async def _read(self, receive: Receive) -> bytearray:
        data = bytearray()
        while True:
            message: Any = await receive()
            data += message["body"]
            if len(data) > self.limit:
                raise TooLarge(f"The request body exceeds the limit of {self.limit:,} bytes.")
            if not message.get("more_body", False):
                return data
