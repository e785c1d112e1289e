"""The HTTP/1.1 connections of the server: uvicorn's protocol, with bounds on request heads, silence and slow readers.

Uses internals of uvicorn, as server.py does, whose docstring says how the version is pinned. A reverse proxy usually
has such bounds too, but the registry must not depend on one.
"""

from __future__ import annotations

import contextlib
import json
import logging
import resource
from asyncio import BaseTransport, TimerHandle
from http import HTTPStatus
from time import monotonic
from typing import Any

from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

log = logging.getLogger("quilt_registry")

MAX_HEAD_BYTES = 64 * 1024  # of the request line and headers
HEAD_TIMEOUT = 30  # seconds until a head is complete, and for which an answered request's body is still received
SEND_TIMEOUT = 60  # seconds in which a client must read some of the response that waits for it
DISCARD_TIMEOUT = 5  # seconds for which a refused client may still send, so that it reads the refusal and no reset
RESERVED_DESCRIPTORS = 100  # not used for connections, because the database, the store and helpers need some
WARNING_INTERVAL = 60  # seconds between warnings about descriptors

MESSAGES = {
    HTTPStatus.BAD_REQUEST: "The request is not valid HTTP.",
    HTTPStatus.REQUEST_TIMEOUT: f"The request's headers did not arrive within {HEAD_TIMEOUT} seconds. Send it again.",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: (
        f"The request's URL and headers exceed the limit of {MAX_HEAD_BYTES:,} bytes. Shorten them."
    ),
    HTTPStatus.SERVICE_UNAVAILABLE: "The registry has too many open connections. Try again in a moment.",
}


class HeadTooLarge(Exception):
    """The head of a request exceeds the limit. httptools turns this into an HttpParserError."""


class Protocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        # Bytes since the last head or piece of a body was complete. The parser buffers them: part of a head, of a
        # chunk's size, or of trailers.
        self._pending = 0
        self._deadline: TimerHandle | None = None
        self._send_deadline: TimerHandle | None = None
        self._refused = False

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        if _few_descriptors_left(transport):
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)
        else:
            self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._clear_deadline()
        self._clear_send_deadline()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._set_send_deadline()

    def resume_writing(self) -> None:
        if not self.transport.is_closing():  # otherwise the rest must be read, too
            self._clear_send_deadline()
        super().resume_writing()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._close()

    def timeout_keep_alive_handler(self) -> None:
        self._close()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._pending += len(data)
        super().data_received(data)
        if self._pending > MAX_HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif self.cycle is None or self.cycle.response_complete:
            self._set_deadline()

    def on_headers_complete(self) -> None:
        # Counted only if the head can be too large, because most arrive in one small piece.
        if self._pending > MAX_HEAD_BYTES and self._head_size() > MAX_HEAD_BYTES:
            raise HeadTooLarge
        self._pending = 0
        self._clear_deadline()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._pending = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._pending = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        """Respond to what httptools cannot parse, and to a head that is too large."""
        is_too_large = self._pending > MAX_HEAD_BYTES
        self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE if is_too_large else HTTPStatus.BAD_REQUEST)

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _set_deadline(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_TIMEOUT, self._end)

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _end(self) -> None:
        """Close a connection whose deadline has passed. Say why if a head has begun to arrive."""
        if self._pending:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)
        else:
            self._close()

    def _close(self) -> None:
        """Close the connection once the client has read its response, or has stopped to."""
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self._set_send_deadline()

    def _set_send_deadline(self) -> None:
        if self._send_deadline is None:
            unread = self.transport.get_write_buffer_size()
            self._send_deadline = self.loop.call_later(SEND_TIMEOUT, self._check_reader, unread)

    def _clear_send_deadline(self) -> None:
        if self._send_deadline is not None:
            self._send_deadline.cancel()
            self._send_deadline = None

    def _check_reader(self, unread: int) -> None:
        """Abort the connection if its client has read nothing since, because its response holds memory."""
        self._send_deadline = None
        if self.transport.get_write_buffer_size() < unread:
            self._set_send_deadline()
        else:
            self.transport.abort()

    def _refuse(self, status: HTTPStatus) -> None:
        """Send an error as JSON, which released clients need, and close the connection."""
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self._clear_deadline()
        if self.cycle is None or self.cycle.response_complete:  # otherwise it would end up inside of another response
            self.transport.write(_response(status))
            self.transport.write_eof()
            self._deadline = self.loop.call_later(DISCARD_TIMEOUT, self._close)
        else:
            self._close()


def _response(status: HTTPStatus) -> bytes:
    body = json.dumps({"message": MESSAGES[status]}).encode()
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        "connection: close",
        *(["retry-after: 10"] if status == HTTPStatus.SERVICE_UNAVAILABLE else []),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Cycle(RequestResponseCycle):
    """One request and its response."""

    async def send(self, message: Any) -> None:
        """Send a part of the response. HTTP/1.0 has no chunks: there the end of the connection ends the response."""
        if self.scope["http_version"] == "1.0":
            self.chunked_encoding = False
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)


# The protocol creates its cycles from this name, because it has no parameter for their class.
httptools_impl.RequestResponseCycle = Cycle  # type: ignore[misc]


# ------------------------------------------------------------------------------------------------ descriptors


def raise_descriptor_limit() -> None:
    """Raise the soft limit of open files to the hard one, because each connection is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS has no hard limit, and refuses an infinite soft one
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


_last_warning = float("-inf")


def _few_descriptors_left(transport: BaseTransport) -> bool:
    """Return whether a new connection has one of the last descriptors. Log a warning, at most once a minute."""
    global _last_warning
    connection = transport.get_extra_info("socket")
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The system hands out the lowest free number, so all lower ones are in use.
    if connection is None or limit == resource.RLIM_INFINITY or connection.fileno() < limit - RESERVED_DESCRIPTORS:
        return False
    if monotonic() - _last_warning > WARNING_INTERVAL:
        _last_warning = monotonic()
        log.warning(
            "Only %d of %d file descriptors are left, so new connections are refused. Raise the limit of open files, "
            "or find out who keeps so many connections open.",
            RESERVED_DESCRIPTORS, limit,
        )  # fmt: skip
    return True
