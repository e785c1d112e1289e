"""The log: each line is a JSON object, or text for people on a terminal.

Code anywhere logs with the standard `logging`; what it gives as `extra` become fields. Lines written while a request is
answered bear its id and its user.
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

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from quilt_registry.settings import Settings

_SANE = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_PROCESS, _numbers = secrets.token_hex(5), itertools.count(1)  # together they name a request


class Call:
    """The request that is being answered: its id, what old clients send as the operation that it is a part of, and who
    asks, once that is known.
    """

    __slots__ = ("id", "operation", "user")

    def __init__(self, headers: Iterable[tuple[bytes, bytes]]):
        sent = dict(headers)
        self.id = _sane(sent.get(b"x-request-id")) or f"{_PROCESS}-{next(_numbers):x}"
        self.operation = _sane(sent.get(b"quilt-operation"))
        self.user: str | None = None


def _sane(value: bytes | None) -> str | None:
    """What others send ends up in lines and answers: only what can do no harm there."""
    return value.decode() if value and _SANE.fullmatch(value) else None


_current: ContextVar[Call | None] = ContextVar("call", default=None)


def begin(headers: Iterable[tuple[bytes, bytes]]) -> Call:
    """From here on, what this task and its children log belongs to the request with these headers."""
    call = Call(headers)
    _current.set(call)
    return call


def request_id() -> str:
    """The id of the request that is being answered; empty where there is none."""
    call = _current.get()
    return call.id if call else ""


def note_user(name: str) -> None:
    """Who asks. Kept in the request's own object, as this may be a child of its task."""
    if call := _current.get():
        call.user = name


# ------------------------------------------------------------------------------------------------ how it is written


def is_text(settings: Settings) -> bool:
    """Whether people read the log as it is written."""
    return (settings.log_format or ("text" if sys.stdout.isatty() else "json")) == "text"


def set_up(settings: Settings) -> None:
    """Send what anybody logs to standard output. Each process that serves calls it."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    lines = _Lines(settings, level)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, structlog.stdlib.ExtraAdder(), lines.begin],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, lines.render],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    for noisy in ("uvicorn.error", "alembic", "asyncio"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, level))
    logging.getLogger("asyncpg.pool").setLevel(logging.ERROR)  # a traceback each time it misses the database
    global _lines
    _lines = lines


def write(level: int, fields: EventDict) -> None:
    """Write a line without the detour over `logging`, which costs as much as a tenth of a small request.

    `fields` has the `event`, and as `at` the time in seconds since 1970. Raises OSError.
    """
    if _lines is not None and level >= _lines.level:
        _lines.write(level, fields)


class _Lines:
    """How lines begin and how they are rendered."""

    def __init__(self, settings: Settings, level: int):
        self.level = level
        self.render: Processor = _for_people() if is_text(settings) else _json
        self._always = {"deployment": settings.deployment_id} if settings.deployment_id else {}

    def begin(self, _: WrappedLogger, level: str, fields: EventDict) -> EventDict:
        """Put in front what each line has: when, how grave, what, of which request, and who asked."""
        at = fields.pop("at", None)
        moment = datetime.now(UTC) if at is None else datetime.fromtimestamp(at, UTC)
        time = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"time": time, "level": level, "event": fields.pop("event"), **self._always}
        if call := _current.get():
            line["request_id"], line["user"] = call.id, call.user
            if call.operation:
                line["operation"] = call.operation
        line.update(fields)
        return line

    def write(self, level: int, fields: EventDict) -> None:
        name = logging.getLevelName(level).lower()
        text = str(self.render(None, name, self.begin(None, name, fields)))
        # In one piece, so that the lines of several workers do not mix.
        sys.stdout.buffer.write(f"{text}\n".encode("utf-8", "backslashreplace"))
        sys.stdout.buffer.flush()


_lines: _Lines | None = None


def _for_people() -> Processor:
    return structlog.dev.ConsoleRenderer(
        colors=sys.stdout.isatty(),
        timestamp_key="time",
        pad_event_to=0,
        sort_keys=False,
        # Others show the values of variables, and with them what is secret.
        exception_formatter=structlog.dev.plain_traceback,
    )


_encode = msgspec.json.Encoder(enc_hook=str).encode


def _json(logger: WrappedLogger, level: str, line: EventDict) -> str:
    if line.get("exc_info"):
        line = structlog.processors.format_exc_info(logger, level, line)
    try:
        return _encode(line).decode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return json.dumps(line, default=str)
