"""A log line, metrics and a request ID for each request.

The line has the route, never the URL, because URLs contain links, signatures and search terms.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable
from time import perf_counter, time

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send
from msgspec import Struct

from quilt_registry import background
from quilt_registry.monitoring import logs
from quilt_registry.monitoring.metrics import Metrics

UNKNOWN = "unknown"  # the route of URLs without a handler
# Logged at the level `debug` only unless they fail, because programs request them all the time.
QUIET_ROUTES = ("/healthcheck", "/readyz", "/metrics", "/static")
FLUSH_INTERVAL = 0.1  # seconds; a line of a batch takes a third of the time of a single line
MAX_NAME_LENGTH = 100  # characters of a name, which may be anything that was sent


class _Entry(Struct, frozen=True, gc=False):
    """The outcome of a request. It contains no references that the garbage collector would follow again and again.

    `complete`: the response was sent to its end.
    """

    at: float
    call: tuple[str, str | None, str | None]
    method: str
    route: str
    status: int
    seconds: float
    size: int
    complete: bool
    client: str | None
    owner: str | None
    name: str | None


class RequestLog:
    """ASGI wrapper of the whole service that logs and counts requests."""

    def __init__(self, app: ASGIApp, metrics: Metrics):
        self.app, self.metrics = app, metrics
        self._entries: list[_Entry] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self.app(scope, receive, send)
            return
        call = logs.begin(scope["headers"])
        status, size, complete = 500, 0, False

        def watched(message: Message) -> Awaitable[None]:
            nonlocal status, size, complete
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", call.id.encode())]
            elif message["type"] == "http.response.body":
                size += len(message.get("body", b""))
                complete = not message.get("more_body", False)
            return send(message)

        self.metrics.running += 1
        began = perf_counter()
        try:
            await self.app(scope, receive, watched)
        finally:
            self.metrics.running -= 1
            seconds = perf_counter() - began
            self._entries.append(_entry(call, scope, status, seconds, size, complete=complete))

    async def flush_forever(self) -> None:
        """Write log lines and metrics of the requests, again and again."""

        async def flush() -> None:
            self.flush()

        await background.repeat(flush, interval=FLUSH_INTERVAL, failure="The request log could not be written.")

    def flush(self) -> None:
        """Write log lines and metrics of the requests since the last time."""
        entries, self._entries = self._entries, []
        for each in entries:
            self.metrics.count_request(each.method, each.route, each.status, each.seconds, each.size)
            with contextlib.suppress(OSError):  # a full disk or a closed pipe: the metrics still count it
                _write(each)


def _entry(call: logs.Call, scope: HTTPScope, status: int, seconds: float, size: int, *, complete: bool) -> _Entry:
    method, parameters, client = scope["method"], scope.get("path_params", {}), scope["client"]
    return _Entry(
        time(),
        (call.id, call.operation, call.user),
        method,
        scope.get("path_template", UNKNOWN),
        status,
        seconds,
        0 if method == "HEAD" else size,
        complete,
        client[0] if client else None,
        parameters.get("owner"),
        parameters.get("name"),
    )


def _write(entry: _Entry) -> None:
    """Write a log line. It contains optional fields only if they have a value."""
    id, operation, user = entry.call
    line = {
        "at": entry.at,
        "event": "request",
        "request_id": id,
        "user": user,
        "method": entry.method,
        "route": entry.route,
        "status": entry.status,
        "ms": round(entry.seconds * 1000, 1),
        "bytes": entry.size,
        "client": entry.client,
    }
    if operation:
        line["operation"] = operation
    if entry.owner:
        line["owner"] = entry.owner[:MAX_NAME_LENGTH]
    if entry.name:
        line["name"] = entry.name[:MAX_NAME_LENGTH]
    if not entry.complete:
        line["broken_off"] = True
    logs.write(_level(entry), line)


def _level(entry: _Entry) -> int:
    if entry.status >= 500:
        return logging.ERROR if entry.status == 500 else logging.WARNING
    return logging.DEBUG if entry.route.startswith(QUIET_ROUTES) else logging.INFO
