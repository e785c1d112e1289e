"""Bounds on request bodies while they arrive: their least speed, and their memory in a worker, in total and by person.

The size of each is bounded by its reader, because calls differ in what they accept.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from time import monotonic
from typing import Any

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from quilt_registry.errors import ClientLeft, Overloaded, TooSlow
from quilt_registry.turns import current_person

# A body must bring this many bytes in each time of waiting for it: 1 kB/s. Time that the registry needs does not count.
MIN_PROGRESS_BYTES, MAX_WAIT = 30_000, 30.0  # seconds
MIN_PROGRESS_SHARE = 100  # or a hundredth of what has arrived, so that holding much memory takes effort
LARGEST_AT_ONCE = 3  # bodies of the maximum size that fit into the memory for bodies; a person may use that of one
UNCOUNTED_BYTES = 64 * 1024  # of each body, so that large bodies never stop small requests


class RequestBodies:
    """ASGI wrapper of the service that raises ClientLeft, TooSlow and Overloaded where a handler reads the body.

    A body counts until its response starts, because handlers keep it that long. Objects are written to disk as they
    arrive, so they do not count.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int):
        self.app = app
        self.memory = _Memory(max_body_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or scope["method"] in ("GET", "HEAD"):
            await self.app(scope, receive, send)
            return
        body = _Body(receive, None if scope["path"].startswith("/objects/") else self.memory)

        async def send_without_body(message: Message) -> None:
            body.release()
            await send(message)

        try:
            await self.app(scope, body.receive, send_without_body)
        finally:
            body.release()


class _Memory:
    """The bytes of bodies in this worker, by person. Each person may use the memory of one body of the maximum size."""

    def __init__(self, max_body_bytes: int):
        self.share, self.limit = max_body_bytes, LARGEST_AT_ONCE * max_body_bytes
        self.used: Counter[str] = Counter()

    def add(self, person: str, size: int) -> None:
        self.used[person] += size
        if not self.used[person]:
            del self.used[person]


class _Body:
    """A request body that is being received."""

    def __init__(self, receive: Receive, memory: _Memory | None):
        self._receive, self._memory = receive, memory
        self._complete = False
        self._patience, self._progress = MAX_WAIT, 0
        self._size = self._counted = 0
        self._person = ""

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
        if self._progress >= max(MIN_PROGRESS_BYTES, self._size // MIN_PROGRESS_SHARE):
            self._patience, self._progress = MAX_WAIT, 0

    def _count(self, size: int) -> None:
        self._size += size
        if self._memory is None or self._size <= UNCOUNTED_BYTES:
            return
        self._person = current_person.get()  # known by now, because guards run before a body is read
        more = self._size - UNCOUNTED_BYTES - self._counted
        self._counted += more
        self._memory.add(self._person, more)
        theirs = self._memory.used[self._person]
        if theirs > max(self._memory.share, self._counted):  # the size of a single body is its reader's concern
            raise Overloaded("Too many of your large requests are running at once. Send them one after the other.")
        if self._memory.used.total() > self._memory.limit:
            raise Overloaded("The registry is receiving too many large requests at once. Try again in a moment.")

    def release(self) -> None:
        """Count the body no more, because nothing needs it any longer."""
        if self._memory is not None and self._counted:
            self._memory.add(self._person, -self._counted)
            self._counted = 0
