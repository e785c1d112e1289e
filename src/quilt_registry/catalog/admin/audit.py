"""The page of the audit trail, and its export."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import msgspec
from litestar import Response
from litestar.response import Stream
from msgspec import Struct

from quilt_registry import audit
from quilt_registry.accounts.users import Account
from quilt_registry.audit import CLIENTS, KINDS, MAX_COUNTED, AuditFilter, Client, Event
from quilt_registry.catalog.admin import events, fields
from quilt_registry.catalog.templates import render
from quilt_registry.catalog.urls import url
from quilt_registry.errors import Invalid
from quilt_registry.packages import listing
from quilt_registry.registry import Registry
from quilt_registry.web import objects
from quilt_registry.web.requests import AnyRequest, Injected, is_speculative

PAGE_SIZE = 100
MAX_EXPORTED = 1_000_000
MAX_CURSOR_DIGITS = 18
BAD_DATE = "Enter a date such as 2026-01-31."


class Asked(Struct, frozen=True):
    """The fields of the filter as they are in the URL, and what is wrong with them."""

    user: str
    subject: str
    package: str
    kinds: tuple[str, ...]
    since: str
    until: str
    client: Client | None
    problems: dict[str, str]

    @property
    def query(self) -> dict[str, Any]:
        """The fields that are set."""
        given = {
            "user": self.user,
            "subject": self.subject,
            "package": self.package,
            "kind": self.kinds,
            "since": self.since,
            "until": self.until,
            "client": self.client,
        }
        return {field: value for field, value in given.items() if value}

    def url(self, *segments: str, **changes: Any) -> str:
        """Return the path of this page with other fields."""
        return url("profile", "admin", "audit", *segments, **(self.query | changes))


def _asked(request: AnyRequest) -> Asked:
    query = request.query_params
    since, until = fields.text(request, "since"), fields.text(request, "until")
    problems = {name: BAD_DATE for name, value in (("since", since), ("until", until)) if value and not _date(value)}
    if not problems and since and until and since > until:
        problems["until"] = "This is before the first day."
    return Asked(
        user=fields.text(request, "user"),
        subject=fields.text(request, "subject"),
        package=fields.text(request, "package"),
        kinds=tuple(kind for kind in KINDS if kind in query.getall("kind", [])),
        since=since,
        until=until,
        client=fields.choice(request, "client", CLIENTS),
        problems=problems,
    )


def _date(value: str) -> date | None:
    try:
        return date.fromisoformat(value) if len(value) == len("2026-01-31") else None
    except ValueError:
        return None


def _filter(asked: Asked) -> AuditFilter:
    """Return the filter of valid fields. Days are whole, in UTC."""
    owner, _, name = asked.package.rpartition("/")
    since, until = _date(asked.since), _date(asked.until)
    return AuditFilter(
        user=asked.user or None,
        subject=asked.subject or None,
        owner=owner or None,
        package=name or None,
        kinds=asked.kinds or KINDS,
        since=_midnight(since) if since else None,
        until=_midnight(until + timedelta(days=1)) if until and until < date.max else None,
        client=asked.client,
    )


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


async def page(request: AnyRequest, registry: Injected[Registry]) -> Response[Any]:
    """Show the events that match, newest first."""
    asked = _asked(request)
    return await _render(request, registry, asked, 422 if asked.problems else 200)


async def _render(request: AnyRequest, registry: Registry, asked: Asked, status: int) -> Response[Any]:
    found: list[Event] = []
    counts: dict[str, int] = {}
    total = 0
    if not asked.problems:
        filter = _filter(asked)
        found = await _find(registry, request, filter)
        counts = await audit.count(registry.db, filter)
        total = sum(counts.values())
        if MAX_COUNTED in counts.values():
            total = max(total, await audit.estimate(registry.db, filter))
    shown = found[:PAGE_SIZE]
    ids = {event.package_id for event in shown if event.package_id}
    return render(
        request,
        "admin/audit.html",
        status,
        asked=asked,
        rows=[(event, events.WORDS.get(event.kind, event.kind), events.details(event)) for event in shown],
        existing=await listing.find_existing(registry.db, ids),
        next=shown[-1].id if len(found) > PAGE_SIZE else None,
        is_first="cursor" not in request.query_params,
        counts=counts,
        total=total,
        is_estimate=MAX_COUNTED in counts.values(),
        max_counted=MAX_COUNTED,
        groups=events.GROUPS,
        words=events.WORDS,
        clients=events.CLIENTS,
    )


async def _find(registry: Registry, request: AnyRequest, filter: AuditFilter) -> list[Event]:
    """Return the events of a page, and one more if there are others. A cursor that means nothing counts as absent."""
    cursor = request.query_params.get("cursor", "")
    if cursor.isascii() and cursor.isdigit() and len(cursor) <= MAX_CURSOR_DIGITS:
        try:
            after = msgspec.structs.replace(filter, before=int(cursor))
            return await audit.find(registry.db, after, PAGE_SIZE + 1)
        except Invalid:
            pass
    return await audit.find(registry.db, filter, PAGE_SIZE + 1)


# ------------------------------------------------------------------------------------------------ export

COLUMNS = ("time", "event", "user", "subject", "package", "hash", "client", "details")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what spreadsheets would run


async def export(request: AnyRequest, account: Injected[Account], registry: Injected[Registry]) -> Response[Any]:
    """Send the events that match as CSV, and record that."""
    asked = _asked(request)
    if asked.problems:
        return await _render(request, registry, asked, 422)
    filter = _filter(asked)
    if await audit.exceeds(registry.db, filter, MAX_EXPORTED):
        problems = {"since": f"More than {MAX_EXPORTED:,} events match. Choose fewer days."}
        return await _render(request, registry, msgspec.structs.replace(asked, problems=problems), 422)
    headers = {"Content-Disposition": objects.attachment(_file_name(registry, asked))}
    if is_speculative(request):
        return Response(b"", media_type="text/csv", headers=headers)
    await audit.record(registry.db, "AUDIT_EXPORT", account.name, filter=asked.url().partition("?")[2])
    return Stream(_lines(registry, filter), media_type="text/csv", headers=headers)


def _file_name(registry: Registry, asked: Asked) -> str:
    """Return a name with the first and the last day, which are those of the filter, or `start` and today."""
    team = registry.settings.team_id or registry.settings.catalog_host
    return f"audit-{team}-{asked.since or 'start'}-{asked.until or datetime.now(UTC).date()}.csv"


async def _lines(registry: Registry, filter: AuditFilter) -> AsyncIterator[bytes]:
    yield _encode([COLUMNS], start="\N{BYTE ORDER MARK}")  # so that spreadsheets read UTF-8
    async for batch in audit.export(registry.db, filter):
        yield _encode([_cells(event) for event in batch])


def _encode(rows: list[tuple[str, ...]], start: str = "") -> bytes:
    """Return rows as CSV (RFC 4180). Spreadsheets must not run a cell as a formula."""
    text = io.StringIO(start)
    text.seek(0, io.SEEK_END)
    csv.writer(text).writerows([f"'{cell}" if cell.startswith(_FORMULA) else cell for cell in row] for row in rows)
    return text.getvalue().encode("utf-8", "replace")


def _cells(event: Event) -> tuple[str, ...]:
    return (
        event.created_at.astimezone(UTC).isoformat(),
        event.kind,
        event.account or "",
        event.subject or "",
        f"{event.owner}/{event.package}" if event.package else "",
        event.top_hash or "",
        event.client or "",
        msgspec.json.encode(event.extra).decode() if event.extra else "",
    )
