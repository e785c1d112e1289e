"""Usage statistics of packages, counted from the audit trail.

Events belong to the package's id, so that a new package with the name of a deleted one starts at zero.
"""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Literal

from msgspec import Raw, Struct

from quilt_registry.audit import PACKAGE_KINDS, PackageKind
from quilt_registry.database import Database
from quilt_registry.errors import Invalid, NotFound
from quilt_registry.packages import access
from quilt_registry.packages.access import Caller, Package

WEEK = timedelta(weeks=1)
WEEKS = 52  # of a time series
MIN_MONTHS = 12  # of all activity of a package
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TimeSeries(Struct):
    """Numbers of events in each of the last 52 weeks, oldest first, and in total."""

    start: datetime
    end: datetime
    counts: list[int]
    total: int


async def series(db: Database, caller: Caller, owner: str, name: str, kind: str) -> TimeSeries:
    """Return the events of a kind by week, from Monday, 00:00 UTC. The last week is the current one.

    Raise Invalid, NotFound.
    """
    if kind.upper() not in PACKAGE_KINDS:
        raise Invalid("Event type incorrectly specified.")
    found = await access.find_with(
        db.public, caller, owner, name,
        """
        SELECT ROW(date_trunc('week', e.created_at, 'UTC'), count(*)) FROM event e
        WHERE e.package_id = p.id AND e.kind = $4 GROUP BY date_trunc('week', e.created_at, 'UTC')
        """,
        kind.upper(),
    )  # fmt: skip
    if found is None:
        raise NotFound("Package does not exist.")
    counts: dict[datetime, int] = dict(found[1])
    end = _next_monday(datetime.now(UTC))
    start = end - WEEKS * WEEK
    return TimeSeries(start, end, [counts.get(start + n * WEEK, 0) for n in range(WEEKS)], sum(counts.values()))


class Activity(Struct, frozen=True):
    """Numbers of pushes, installs and views of a package, by week or month in UTC. The last one is the current one."""

    unit: Literal["week", "month"]
    starts: list[datetime]
    pushes: list[int]
    installs: list[int]
    views: list[int]


async def by_week(db: Database, package: Package, weeks: int = WEEKS) -> Activity:
    """Return the activity of the last weeks, oldest first. Weeks begin on Monday."""
    end = _next_monday(datetime.now(UTC))
    starts = [end - n * WEEK for n in range(weeks, 0, -1)]
    return _activity("week", starts, await _count(db, package, "week", starts[0]))


async def by_month(db: Database, package: Package) -> Activity:
    """Return all activity, oldest first, of at least a year."""
    counts = await _count(db, package, "month", _EPOCH)
    now = datetime.now(UTC)
    last = now.year * 12 + now.month - 1
    oldest = min((start for _, start in counts), default=now)
    first = min(last - MIN_MONTHS + 1, oldest.year * 12 + oldest.month - 1)
    starts = [datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC) for month in range(first, last + 1)]
    return _activity("month", starts, counts)


async def _count(db: Database, package: Package, unit: str, since: datetime) -> dict[tuple[str, datetime], int]:
    """Return numbers of events by their kind and the start of their week or month."""
    rows = await db.public.fetch(
        """
        SELECT kind, date_trunc($2, created_at, 'UTC') AS start, count(*) FROM event
        WHERE package_id = $1 AND kind IN ('PUSH', 'INSTALL', 'PREVIEW') AND created_at >= $3 GROUP BY kind, start
        """,
        package.id, unit, since,
    )  # fmt: skip
    return {(kind, start): count for kind, start, count in rows}


def _activity(
    unit: Literal["week", "month"], starts: list[datetime], counts: dict[tuple[str, datetime], int]
) -> Activity:
    kinds: tuple[PackageKind, ...] = ("PUSH", "INSTALL", "PREVIEW")
    return Activity(unit, starts, *([counts.get((kind, start), 0) for start in starts] for kind in kinds))


def _next_monday(now: datetime) -> datetime:
    return datetime.combine(now.date() + timedelta(days=7 - now.weekday()), time(), UTC)


async def summary(db: Database) -> Raw:
    """Return counts and latest times of pushes, installs, previews and deletions by package (protocol §17).

    Events of deleted packages are summed by name, but left out if a package of that name exists now. The database
    builds the JSON, because the result is long and encoding it would block the event loop.
    """
    text = await db.fetchval(
        f"""
        WITH counted AS (
            SELECT package_id, kind, count(*), max(created_at) AS latest
            FROM event WHERE package_id IS NOT NULL AND kind = ANY($1::text[]) GROUP BY package_id, kind
        ), named AS (
            SELECT p.owner, p.name, c.* FROM counted c JOIN package p ON p.id = c.package_id
            UNION ALL
            SELECT deleted.owner, deleted.package, c.*
            FROM counted c CROSS JOIN LATERAL (
                SELECT e.owner, e.package FROM event e WHERE e.package_id = c.package_id LIMIT 1
            ) deleted
            WHERE NOT EXISTS (SELECT FROM package p WHERE p.id = c.package_id)
              AND NOT EXISTS (SELECT FROM package p WHERE p.owner = deleted.owner AND p.name = deleted.package)
        ), summed AS (
            SELECT owner || '/' || name AS package, json_build_object(
                'pushes', {_sum("PUSH")}, 'installs', {_sum("INSTALL")},
                'previews', {_sum("PREVIEW")}, 'deletes', {_sum("DELETE")}) AS counts
            FROM named GROUP BY owner, name
        )
        SELECT coalesce(json_object_agg(package, counts ORDER BY package), '{{}}')::text FROM summed
        """,
        PACKAGE_KINDS,
    )
    return Raw(text)


def _sum(kind: PackageKind) -> str:
    """Return SQL for the count of a kind and the time of its latest event, which is left out if there is none."""
    of_kind = f"FILTER (WHERE kind = '{kind}')"
    return f"""json_strip_nulls(json_build_object(
        'count', coalesce(sum(count) {of_kind}, 0), 'latest', extract(epoch FROM max(latest) {of_kind})))"""
