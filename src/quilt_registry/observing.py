"""A line in the log and a few counts for each request, and the id that its line and its answer bear.

The line names the route, never the address: addresses hold links, signatures and what people searched for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable
from time import perf_counter, time

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send
from msgspec import Struct

from quilt_registry import logs, metrics
from quilt_registry.database import Database

UNKNOWN = "unknown"  # the route of addresses where there is nothing
# Asked for all the time by machines: logged at the level `debug` only.
QUIET = ("/healthcheck", "/readyz", "/metrics", "/static")
# Seconds between writing down what was answered: many lines in a row cost a third of what each costs between requests.
EVERY = 0.1
LONGEST = 100  # characters of a name, which may be anything that was sent
SAMPLED_EVERY = 1.0  # seconds between looks at what others count


class _Answered(Struct, frozen=True, gc=False):
    """What became of a request. Nothing that the garbage collector follows: it would look at all of it again and again.

    `whole`: the answer was sent to its end.
    """

    at: float
    call: tuple[str, str | None, str | None]
    method: str
    route: str
    status: int
    seconds: float
    size: int
    whole: bool
    client: str | None
    owner: str | None
    name: str | None


class Observed:
    """Wraps the whole service."""

    def __init__(self, app: ASGIApp):
        self.app, self.running = app, 0
        self._answered: list[_Answered] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self.app(scope, receive, send)
            return
        call = logs.begin(scope["headers"])
        status, size, whole = 500, 0, False

        def watched(message: Message) -> Awaitable[None]:
            nonlocal status, size, whole
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", call.id.encode())]
            elif message["type"] == "http.response.body":
                size += len(message.get("body", b""))
                whole = not message.get("more_body", False)
            return send(message)

        self.running += 1
        began = perf_counter()
        try:
            await self.app(scope, receive, watched)
        finally:
            self.running -= 1
            self._answered.append(_answered(call, scope, status, perf_counter() - began, size, whole))

    async def keep_telling(self, db: Database) -> None:
        """Write down for ever what was answered."""
        sampled = 0.0
        while True:
            try:
                self.tell()
                if perf_counter() - sampled >= SAMPLED_EVERY:
                    metrics.sample(db, self.running)
                    sampled = perf_counter()
            except Exception:  # nobody waits for this task: without a word it would be gone for good
                logging.getLogger(__name__).exception("What was answered could not be written down.")
            await asyncio.sleep(EVERY)

    def tell(self) -> None:
        """Write down what was answered since the last time."""
        answered, self._answered = self._answered, []
        for each in answered:
            metrics.count_request(each.method, each.route, each.status, each.seconds, each.size)
            with contextlib.suppress(OSError):  # a full disk or a closed pipe: what is counted still is
                _log(each)


def _answered(call: logs.Call, scope: HTTPScope, status: int, seconds: float, size: int, whole: bool) -> _Answered:
    method, parameters, client = scope["method"], scope.get("path_params", {}), scope["client"]
    return _Answered(
        time(),
        (call.id, call.operation, call.user),
        method,
        scope.get("path_template", UNKNOWN),
        status,
        seconds,
        0 if method == "HEAD" else size,
        whole,
        client[0] if client else None,
        parameters.get("owner"),
        parameters.get("name"),
    )


def _log(answered: _Answered) -> None:
    """Who asked for what, and what it was answered. Fields that not every request has are there only if it has them."""
    id, operation, user = answered.call
    line = {
        "at": answered.at,
        "event": "request",
        "request_id": id,
        "user": user,
        "method": answered.method,
        "route": answered.route,
        "status": answered.status,
        "ms": round(answered.seconds * 1000, 1),
        "bytes": answered.size,
        "client": answered.client,
    }
    if operation:
        line["operation"] = operation
    if answered.owner:
        line["owner"] = answered.owner[:LONGEST]
    if answered.name:
        line["name"] = answered.name[:LONGEST]
    if not answered.whole:
        line["broken_off"] = True
    quiet = answered.route.startswith(QUIET)
    logs.write(logging.DEBUG if quiet else logging.WARNING if answered.status >= 500 else logging.INFO, line)
