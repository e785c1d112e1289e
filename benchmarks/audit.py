"""The audit log with one million events: `python -m benchmarks audit`.

The database is filled directly with 1,000 users, 10,000 packages, 500 deleted packages, and two years of events.
A few users cause most events, on a few packages. Then an admin sends one request after the other.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import asyncpg
from tests.registry import Person, Registry

from benchmarks.table import row
from quilt_registry.audit import KINDS

USERS, PACKAGES, DELETED_PACKAGES = 1_000, 10_000, 500
KNOWN_EVENTS = 1_000  # events of the user `known`; slightly more are by other users on `user0/known`
BUSY_EVENTS = 200_000  # events of the user `busy`
BUDGET = 0.020  # seconds within which 95 % of requests must finish

# Event types with their weights.
_KINDS = ["INSTALL"] * 10 + ["PREVIEW"] * 5 + ["PUSH", "TAG_SET", "SIGN_IN"] * 2 + ["DELETE", "VERSION_SET", *KINDS]
_LARGE = ("audit/busy/", "users/list_detailed", "admin/package_summary")  # 10,000 events or sums over all: no budget


def run(registry: Registry, admin: Person, events: int, requests: int) -> None:
    """Fill the database, then measure each call."""
    url = f"postgresql://postgres@/quilt?host={registry.home}/postgres"
    began = time.perf_counter()
    asyncio.run(fill(url, events))
    row("events made", events, f"{time.perf_counter() - began:.0f} s")
    for path in _paths():
        _measure(admin, path, requests)


def _paths() -> list[str]:
    year_ago = (datetime.now(UTC) - timedelta(days=365)).strftime("%Y-%m-%dT%H:%M:%SZ")
    day_later = (datetime.now(UTC) - timedelta(days=364)).strftime("%Y-%m-%dT%H:%M:%SZ")
    filters = [
        "",
        "user=known",
        "user=busy",
        "user=busy&kind=PUSH&kind=DELETE",
        "user=busy&package=user0/known",
        "subject=user7",
        "package=user0/known",
        "package=user1/package1&kind=VERSION_SET",
        "kind=ADMIN_GRANT",
        f"since={year_ago}&until={day_later}",
        f"user=user3&since={year_ago}&until={day_later}&kind=INSTALL",
        "user=nobody_of_this_name",
        "limit=1000",
    ]
    return [
        "audit/known/",
        "audit/busy/",
        "audit/user0/known/",
        *(f"v1/audit?{query}" for query in filters),
        "package_timeseries/user0/package0/install",
        "recent_packages/",
        "users/list",
        "users/list_detailed",
        "admin/package_summary",
    ]


def _measure(admin: Person, path: str, requests: int) -> None:
    judged = path not in _LARGE
    seconds = []
    for _ in range(requests if judged else max(3, requests // 10)):
        began = time.perf_counter()
        answer = admin.get(f"/api/{path}").raise_for_status()
        seconds.append(time.perf_counter() - began)
    seconds.sort()
    p50, p95 = (seconds[int(len(seconds) * part)] for part in (0.5, 0.95))
    result = f"{p50 * 1000:.1f} / {p95 * 1000:.1f} ms"
    row(_label(path), len(answer.content), result, p95 <= BUDGET if judged else None, "p95 ≤ 20 ms" if judged else None)


def _label(path: str) -> str:
    return path if len(path) <= 40 else f"{path[:39]}…"


# ------------------------------------------------------------------------------------------------ data

# Numbers from 0 to N - 1; low ones are far more frequent.
_USER = f"'user' || floor(random() ^ 3 * {USERS - 2})"
_PACKAGE = f"floor(random() ^ 3 * {PACKAGES + DELETED_PACKAGES})"


async def fill(url: str, events: int) -> None:
    """Create accounts, packages with their access, and events. The data are always the same."""
    connection = await asyncpg.connect(url)
    await connection.execute(
        f"""
        INSERT INTO account (name, email) SELECT name, name || '@example.com'
        FROM (SELECT 'user' || n FROM generate_series(0, {USERS - 3}) n UNION ALL VALUES ('known'), ('busy')) a (name);
        INSERT INTO package (owner_id, owner, name, updated_at)
        SELECT a.id, a.name, 'package' || n, now() - n * interval '1 hour'
        FROM generate_series(0, {PACKAGES + DELETED_PACKAGES - 1}) n
        JOIN account a ON a.name = 'user' || n % {USERS - 2};
        INSERT INTO package (owner_id, owner, name) SELECT id, name, 'known' FROM account WHERE name = 'user0';
        INSERT INTO access SELECT id, owner FROM package;
        INSERT INTO access SELECT id, 'team' FROM package WHERE id % 10 > 0;
        SELECT setseed(0.5);
        """
    )
    await _events(connection, events - BUSY_EVENTS - 2 * KNOWN_EVENTS, _USER, _PACKAGE)
    await _events(connection, BUSY_EVENTS, "'busy'", _PACKAGE)
    await _events(connection, KNOWN_EVENTS, "'known'", _PACKAGE)
    await _events(connection, KNOWN_EVENTS, _USER, "-1")
    await connection.execute(f"DELETE FROM package WHERE substr(name, 8)::int >= {PACKAGES} AND name <> 'known'")
    await connection.execute("VACUUM ANALYZE")
    await connection.close()


async def _events(connection: asyncpg.Connection, count: int, user: str, package: str) -> None:
    """Return events by a user on packages by number; -1 is `user0/known`. Events without a package target a user."""
    await connection.execute(
        f"""
        INSERT INTO event (created_at, kind, account, owner, package, package_id, top_hash, extra, subject)
        SELECT now() - ({count} - n) * interval '2 years' / {count}, e.kind, e.account, p.owner, p.name, p.id,
               CASE WHEN p.id IS NOT NULL THEN sha256(n::text::bytea) END, '{{"subpath": null}}',
               CASE WHEN p.id IS NULL THEN {_USER} END
        FROM (
            SELECT n, ($1::text[])[1 + floor(random() * {len(_KINDS)})] AS kind, {user} AS account, {package} AS number
            FROM generate_series(1, {count}) n
        ) e
        LEFT JOIN package p ON p.name = CASE WHEN e.number < 0 THEN 'known' ELSE 'package' || e.number END
            AND e.kind !~ '^(SIGN|TOKEN|ACCOUNT|ADMIN|PASSWORD)'
        ORDER BY n
        """,
        _KINDS,
    )
