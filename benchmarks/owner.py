"""Pages of lists of an owner of many packages: `python -m benchmarks owner`. The database is filled directly."""

from __future__ import annotations

import time

from tests.registry import Person, Registry, run_sql

from benchmarks.table import row

BUDGET = 0.100  # seconds within which 95 % of requests must finish
PAGE_SIZE = 25


def run(registry: Registry, person: Person, packages: int, requests: int) -> None:
    """Fill the database, then ask for pages from all parts of the lists."""
    run_sql(
        f"postgresql://postgres@/quilt?host={registry.home}/postgres",
        """
        WITH made AS (
            INSERT INTO package (owner_id, owner, name)
            SELECT a.id, a.name, 'p' || lpad(n::text, 8, '0') FROM account a, generate_series(1, $2) n
            WHERE a.name = $1 RETURNING id, owner)
        INSERT INTO access SELECT id, owner FROM made
        """,
        person.name, packages,
    )  # fmt: skip
    run_sql(f"postgresql://postgres@/quilt?host={registry.home}/postgres", "ANALYZE")
    _measure(person, "profile", "/api/profile", packages, requests)
    _measure(person, "packages of an owner", f"/api/package/{person.name}/", packages, requests)


def _measure(person: Person, what: str, path: str, packages: int, requests: int) -> None:
    seconds = []
    for number in range(requests):
        after = f"p{number * packages // requests:08}"
        began = time.perf_counter()
        person.get(path, params={"limit": str(PAGE_SIZE), "after": after}).raise_for_status()
        seconds.append(time.perf_counter() - began)
    seconds.sort()
    p50, p95 = (seconds[int(len(seconds) * part)] for part in (0.5, 0.95))
    row(f"{what}, a page", packages, f"{p50 * 1000:.1f} / {p95 * 1000:.1f} ms", p95 <= BUDGET, "p95 ≤ 100 ms")
