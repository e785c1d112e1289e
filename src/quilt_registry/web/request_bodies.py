"""Bounds on request bodies while they arrive: their least speed, and the memory of all of them in a worker together.

The size of each is bounded by its reader, because calls differ in what they accept.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from quilt_registry.errors import ClientLeft, Overloaded, TooSlow

# A body must bring this many bytes in each time of waiting for it: 1 kB/s. Time that the registry needs does not count.
MIN_PROGRESS_BYTES, MAX_WAIT = 30_000, 30.0  # seconds
LARGEST_AT_ONCE = 3  # bodies of the maximum size that fit into the memory for bodies
UNCOUNTED_BYTES = 64 * 1024  # of each body, so that large bodies never stop small requests
RETRY_AFTER = 10  # seconds


class RequestBodies:
    """ASGI wrapper of the service that raises ClientLeft, TooSlow and Overloaded where a handler reads the body.

    A body counts as long as its request runs, because handlers keep it that long. Objects are written to disk as they
    arrive, so they do not count.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int):
        self.app = app
        self.memory = _Memory(LARGEST_AT_ONCE * max_body_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or scope["method"] in ("GET", "HEAD"):
            await self.app(scope, receive, send)
            return
        body = _Body(receive, None if scope["path"].startswith("/objects/") else self.memory)
        try:
            await self.app(scope, body.receive, send)
        finally:
            self.memory.used -= body.counted


class _Memory:
    """The bytes of bodies in this worker."""

    def __init__(self, limit: int):
        self.limit, self.used = limit, 0


class _Body:
    """A request body that is being received."""

    def __init__(self, receive: Receive, memory: _Memory | None):
        self._receive, self._memory = receive, memory
        self._complete = False
        self._patience, self._progress = MAX_WAIT, 0
        self._size = 0
        self.counted = 0

    async def receive(self) -> Any:
        """Return the next message, as ASGI's `receive` does. Raise ClientLeft, TooSlow, Overloaded."""
        if self._complete:
            return await self._receive()
        began = monotonic()
        try:
            async with asyncio.timeout(self._patience):
                message: Any = await self._receive()
        except TimeoutError:
            raise TooSlow("The request body arrives too slowly. Send it again over a faster connection.") from None
        if message["type"] == "http.disconnect":
            raise ClientLeft("The client closed the connection before its request was complete.")
        size = len(message.get("body", b""))
        self._complete = not message.get("more_body", False)
        self._note_progress(size, monotonic() - began)
        self._count(size)
        return message

    def _note_progress(self, size: int, waited: float) -> None:
        self._patience -= waited
        self._progress += size
        if self._progress >= MIN_PROGRESS_BYTES:
            self._patience, self._progress = MAX_WAIT, 0

    def _count(self, size: int) -> None:
        self._size += size
        if self._memory is None or self._size <= UNCOUNTED_BYTES:
            return
        more = self._size - UNCOUNTED_BYTES - self.counted
        self.counted += more
        self._memory.used += more
        if self._memory.used > self._memory.limit:
            message = "The registry is receiving too many large requests at once. Try again in a moment."
            raise Overloaded(message, RETRY_AFTER)
