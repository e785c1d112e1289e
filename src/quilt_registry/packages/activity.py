"""How much happens to packages, counted from the audit trail.

A package is known by its id here: one of the same name as a deleted one starts from nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

from msgspec import Raw, Struct

from quilt_registry.audit import PACKAGE_KINDS, PackageKind
from quilt_registry.database import Database
from quilt_registry.errors import Invalid, NotFound
from quilt_registry.packages import access
from quilt_registry.packages.access import Caller

WEEK, WEEKS = timedelta(weeks=1), 52


class TimeSeries(Struct):
    """How often something happened, in each of the last 52 weeks, the oldest first, and ever."""

    start: datetime
    end: datetime
    counts: list[int]
    total: int


async def series(db: Database, caller: Caller, owner: str, name: str, kind: str) -> TimeSeries:
    """Counts by weeks, which begin on Monday, 00:00 UTC; the last one is this week. Raises Invalid, NotFound."""
    if kind.upper() not in PACKAGE_KINDS:
        raise Invalid("Event type incorrectly specified.")
    package = await access.find(db, caller, owner, name)
    if package is None:
        raise NotFound("Package does not exist.")
    rows = await db.fetch(
        """
        SELECT date_trunc('week', created_at, 'UTC') AS week, count(*) FROM event
        WHERE package_id = $1 AND kind = $2 GROUP BY week
        """,
        package.id, kind.upper(),
    )  # fmt: skip
    counted = {row["week"]: row["count"] for row in rows}
    end = _coming_monday(datetime.now(UTC))
    start = end - WEEKS * WEEK
    return TimeSeries(start, end, [counted.get(start + n * WEEK, 0) for n in range(WEEKS)], sum(counted.values()))


def _coming_monday(now: datetime) -> datetime:
    return datetime.combine(now.date() + timedelta(days=7 - now.weekday()), time(), UTC)


async def summary(db: Database) -> Raw:
    """How often, and when last, each package was pushed, installed, previewed and deleted (protocol §17).

    Of a package that is there, its own events count; those of gone ones add up under their name, unless there is one
    of that name now. As JSON made by the database: it is long, and nobody else must wait while it is written.
    """
    text = await db.fetchval(
        f"""
        WITH counted AS (
            SELECT package_id, kind, count(*), max(created_at) AS latest
            FROM event WHERE package_id IS NOT NULL AND kind = ANY($1::text[]) GROUP BY package_id, kind
        ), named AS (
            SELECT p.owner, p.name, c.* FROM counted c JOIN package p ON p.id = c.package_id
            UNION ALL
            SELECT gone.owner, gone.package, c.*
            FROM counted c CROSS JOIN LATERAL (
                SELECT e.owner, e.package FROM event e WHERE e.package_id = c.package_id LIMIT 1
            ) gone
            WHERE NOT EXISTS (SELECT FROM package p WHERE p.id = c.package_id)
              AND NOT EXISTS (SELECT FROM package p WHERE p.owner = gone.owner AND p.name = gone.package)
        ), summed AS (
            SELECT owner || '/' || name AS package, json_build_object(
                'pushes', {_summed("PUSH")}, 'installs', {_summed("INSTALL")},
                'previews', {_summed("PREVIEW")}, 'deletes', {_summed("DELETE")}) AS counts
            FROM named GROUP BY owner, name
        )
        SELECT coalesce(json_object_agg(package, counts ORDER BY package), '{{}}')::text FROM summed
        """,
        PACKAGE_KINDS,
    )
    return Raw(text)


def _summed(kind: PackageKind) -> str:
    """A count and the time of the newest, which is left out where there is none."""
    only = f"FILTER (WHERE kind = '{kind}')"
    return f"""json_strip_nulls(json_build_object(
        'count', coalesce(sum(count) {only}, 0), 'latest', extract(epoch FROM max(latest) {only})))"""
