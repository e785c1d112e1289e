"""Start a registry, measure it over HTTP, and print a table with the budgets.

make bench                              1,000, 10,000 and 100,000 files, small requests
make bench ARGS="--sizes 1000000 --rounds 1"    one million files: takes several minutes
make bench ARGS="--workers 2"           with more workers
make bench ARGS="soak --seconds 600"    twenty users at work for ten minutes
make bench ARGS=search                  search among 10,000 packages
make bench ARGS=owner                   lists of an owner of 100,000 packages
make bench ARGS=audit                   the audit log with one million events

Request bodies are built before the clock starts, so that only the registry and the client's receiving are measured.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.registry import PASSWORD, Person, Registry

from benchmarks import audit, files, load, owner, search, signing, soak
from benchmarks.table import row

# Requests per second on sixteen connections, and seconds within which 99 % of those on two hundred must finish.
RATE_BUDGET, CROWD_BUDGET = 3000, 0.150


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=["files", "search", "owner", "audit", "soak"], default="files")
    parser.add_argument("--sizes", default="1000,10000,100000", help="numbers of files")
    parser.add_argument("--rounds", type=int, default=5, help="how many times each operation on files is measured")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5, help="how long small requests are sent, or users work")
    parser.add_argument("--people", type=int, default=20, help="number of concurrent users")
    parser.add_argument("--packages", type=int, help="number of packages: 10,000 for search, 100,000 for owner")
    parser.add_argument("--events", type=int, default=1_000_000, help="number of events in the audit")
    parser.add_argument("--requests", type=int, default=300, help="number of requests of each kind of search or audit")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="quilt-bench-") as home:
        registry = Registry(Path(home), workers=options.workers, RATE_LIMITS="off").start()
        try:
            _measure(registry, _make_admin(registry), options)
        finally:
            registry.stop()


def _make_admin(registry: Registry) -> Person:
    arguments = ("--username", "bench", "--email", "bench@example.com", "--password-stdin")
    registry.command("create-admin", *arguments, input=PASSWORD)
    return registry.sign_in("bench")


def _measure(registry: Registry, admin: Person, options: argparse.Namespace) -> None:
    if options.what == "search":
        row("query", "hits", "p50 / p95 / p99", budget="budget")
        search.run(registry, admin, options.packages or 10_000, options.requests)
    elif options.what == "owner":
        row("list", "packages", "p50 / p95", budget="budget")
        owner.run(registry, admin, options.packages or 100_000, options.requests)
    elif options.what == "audit":
        row("call", "bytes", "p50 / p95", budget="budget")
        audit.run(registry, admin, options.events, options.requests)
    elif options.what == "soak":
        row("task", "times", "p50 / p99", budget="budget")
        soak.run(registry, options.seconds, options.people)
    else:
        row("operation", "files", "min / median", budget="budget")
        signing.run()
        _small_requests(admin, options.seconds)
        files.run(registry, admin, [int(size) for size in options.sizes.split(",")], options.rounds)


def _small_requests(admin: Person, seconds: float) -> None:
    """Measure token and tag lookups on few and on many concurrent connections."""
    admin.push("small", {"x": b"1"})
    path = f"/api/tag/{admin.name}/small/latest"
    rate, p99 = load.measure(admin, path, seconds, connections=16)
    row("small requests (token and tag)", "", f"{rate:,.0f}/s", rate >= RATE_BUDGET, "≥ 3,000/s")
    row("small requests, p99", "", f"{p99 * 1000:.1f} ms")
    rate, p99 = load.measure(admin, path, seconds, connections=200)
    row("200 connections", "", f"{rate:,.0f}/s")
    row("200 connections, p99", "", f"{p99 * 1000:.1f} ms", p99 <= CROWD_BUDGET, "≤ 150 ms")


if __name__ == "__main__":
    main()
