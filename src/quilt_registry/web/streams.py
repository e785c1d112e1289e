"""Responses that are sent while a generator makes them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from litestar.response import Stream
from litestar.types import ASGIApp, Receive, Scope, Send


class ClosingStream(Stream):
    """A streamed response that closes its generator at its end, also when the client leaves.

    Litestar leaves that to the garbage collector, which may come late: its task group is part of a reference cycle.
    """

    def __init__(self, chunks: AsyncGenerator[bytes], **options: Any):
        super().__init__(chunks, **options)
        self.chunks = chunks

    def to_asgi_response(self, *args: Any, **options: Any) -> ASGIApp:  # type: ignore[override]
        """Return the application that sends the response."""
        respond = super().to_asgi_response(*args, **options)

        async def respond_and_close(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await respond(scope, receive, send)
            finally:
                await self.chunks.aclose()

        return respond_and_close
