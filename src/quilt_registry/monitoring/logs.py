"""Log lines, as JSON objects or as text for a terminal.

All modules use the standard `logging`; the keys of `extra` become fields. Lines written during a request have its ID
and its user.
"""

from __future__ import annotations

import itertools
import json
import logging
import re
import secrets
import sys
from collections.abc import Iterable
from contextvars import ContextVar
from datetime import UTC, datetime
from time import time

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from quilt_registry.settings import Settings

_SAFE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_PARAMETER = re.compile(r"/\{(\w+)[^}]*\}")  # in a route
_PROCESS, _numbers = secrets.token_hex(5), itertools.count(1)  # together they are a request ID


class Call:
    """A request that is being processed: its ID, its user once known, and the operation that released clients send."""

    __slots__ = ("id", "operation", "user")

    def __init__(self, headers: Iterable[tuple[bytes, bytes]]):
        received = dict(headers)
        self.id = _safe_id(received.get(b"x-request-id")) or f"{_PROCESS}-{next(_numbers):x}"
        self.operation = _safe_id(received.get(b"quilt-operation"))
        self.user: str | None = None


def _safe_id(value: bytes | None) -> str | None:
    """Return an ID that is safe in log lines and response headers, or None."""
    return value.decode() if value and _SAFE_ID.fullmatch(value) else None


_current: ContextVar[Call | None] = ContextVar("call", default=None)


def begin(headers: Iterable[tuple[bytes, bytes]]) -> Call:
    """Attach what this task and its children log from now on to the request with these headers."""
    call = Call(headers)
    _current.set(call)
    return call


def request_id() -> str:
    """Return the ID of the current request, or an empty string outside of requests."""
    call = _current.get()
    return call.id if call else ""


def note_user(name: str) -> None:
    """Set the user of the current request. Stored in its Call, because this may run in a child task."""
    if call := _current.get():
        call.user = name


# ------------------------------------------------------------------------------------------------ output


def is_text(settings: Settings) -> bool:
    """Return whether the log is text instead of JSON."""
    return (settings.log_format or ("text" if sys.stdout.isatty() else "json")) == "text"


def set_up(settings: Settings) -> None:
    """Send all log lines of this process to standard output."""
    global _formatter
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    _formatter = _Formatter(settings, level)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, structlog.stdlib.ExtraAdder(), _formatter.add_fields],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _formatter.render],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    for noisy in ("uvicorn.error", "alembic", "asyncio"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, level))
    logging.getLogger("asyncpg.pool").setLevel(logging.ERROR)  # because it logs a traceback for each failed connection


def write(level: int, fields: EventDict) -> None:
    """Write a line without `logging`, which would take a tenth of the time of a small request. Raise OSError.

    `fields` must have `event`, and may have `at`, the time in seconds since 1970.
    """
    if _formatter is not None and level >= _formatter.level:
        _formatter.write(level, fields)


class _Formatter:
    """The format of log lines."""

    def __init__(self, settings: Settings, level: int):
        self.level, self.is_text = level, is_text(settings)
        self.render: Processor = _text_renderer() if self.is_text else _render_json
        self._constant_fields = {"deployment": settings.deployment_id} if settings.deployment_id else {}

    def add_fields(self, _: WrappedLogger, level: str, fields: EventDict) -> EventDict:
        """Put the fields that every line has in front: time, level, event, request ID and user."""
        shown_time = _time(fields.pop("at", None), is_text=self.is_text)
        line = {"time": shown_time, "level": level, "event": fields.pop("event"), **self._constant_fields}
        if call := _current.get():
            line["request_id"], line["user"] = call.id, call.user
            if call.operation:
                line["operation"] = call.operation
        line.update(fields)
        return line

    def write(self, level: int, fields: EventDict) -> None:
        name = logging.getLevelName(level).lower()
        is_short = self.is_text and fields["event"] == "request"
        text = _request_text(fields) if is_short else str(self.render(None, name, self.add_fields(None, name, fields)))
        # In one write, so that lines of several workers do not mix.
        sys.stdout.buffer.write(f"{text}\n".encode("utf-8", "backslashreplace"))
        sys.stdout.buffer.flush()


_formatter: _Formatter | None = None


def _time(at: float | None, *, is_text: bool) -> str:
    """Return a time (now, if None) in UTC for programs, or as a clock on the wall for people."""
    if is_text:
        return datetime.fromtimestamp(time() if at is None else at).strftime("%H:%M")  # noqa: DTZ006
    moment = datetime.now(UTC) if at is None else datetime.fromtimestamp(at, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _request_text(line: EventDict) -> str:
    """Return the line of a request for people, such as `03:10 PUT /api/package/anna/iris 200 23 ms anna`."""
    shown = {name: _printable(line[name]) for name in ("owner", "name") if line.get(name)}
    path = _PARAMETER.sub(lambda match: f"/{shown[match[1]]}" if match[1] in shown else "", line["route"])
    words = [_time(line["at"], is_text=True), line["method"], path or "/", str(line["status"]), f"{line['ms']:.0f} ms"]
    if line["user"]:
        words.append(line["user"])
    if line.get("broken_off"):
        words.append("(broken off)")
    if line["status"] >= 500:
        words.append(f"request_id={line['request_id']}")
    return " ".join(words)


def _printable(text: str) -> str:
    """Return a text that anybody may have sent, without characters that control a terminal."""
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def _text_renderer() -> Processor:
    return structlog.dev.ConsoleRenderer(
        colors=sys.stdout.isatty(),
        timestamp_key="time",
        pad_event_to=0,
        sort_keys=False,
        # Other formatters show the values of variables, which may be secret.
        exception_formatter=structlog.dev.plain_traceback,
    )


_encode = msgspec.json.Encoder(enc_hook=str).encode


def _render_json(logger: WrappedLogger, level: str, line: EventDict) -> str:
    if line.get("exc_info"):
        line = structlog.processors.format_exc_info(logger, level, line)
    try:
        return _encode(line).decode()
    except UnicodeEncodeError:  # a lone surrogate
        return json.dumps(line, default=str)
