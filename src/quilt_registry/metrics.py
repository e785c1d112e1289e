"""What is counted, for Prometheus.

The workers of a registry write into files of one directory, which `serve` makes and names in the environment; whichever
worker is asked adds them up. prometheus_client looks at the environment when it is imported: so `operate` must not
import this module.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from quilt_registry import events
from quilt_registry.database import Database
from quilt_registry.errors import Unavailable
from quilt_registry.objects import DAMAGED, PRESENT

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
LIMIT = 2.0  # seconds that the database gets for its figures
MOST = 100_000  # unverified objects are counted up to here
METHODS = {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"}
BUCKETS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

REQUESTS = Counter("quilt_requests", "Requests answered.", ["method", "route", "status"])
SECONDS = Histogram(
    "quilt_request_seconds", "Time from a request to the end of its answer.", ["route"], buckets=BUCKETS
)
ANSWERED = Counter("quilt_answer_bytes", "Bytes of the bodies of answers.", ["route"])
RUNNING = Gauge("quilt_requests_running", "Requests being answered.", multiprocess_mode="livesum")
EVENTS = Counter("quilt_events", "Entries of the audit trail: pushes, installs, previews, sign-ins, ….", ["kind"])
CONNECTIONS = Gauge(
    "quilt_database_connections",
    "Database connections: used, open, and the most there may be.",
    ["state"],
    multiprocess_mode="livesum",
)
ACQUIRED = Counter("quilt_database_acquires", "How often a database connection was taken from the pool.")
WAITED = Counter("quilt_database_acquire_seconds", "Time waited for database connections.")
SLOW = Counter("quilt_slow_queries", "Statements that took longer than SLOW_QUERY_MS.")

_requests: dict[tuple[str, str, int], Counter] = {}
_routes: dict[str, tuple[Histogram, Counter]] = {}
_told: dict[Counter, float] = {}


def count_request(method: str, route: str, status: int, seconds: float, size: int) -> None:
    """Count a request of a route (its template, so that there are only so many), and the bytes of its answer."""
    key = (method, route, status // 100)
    counter = _requests.get(key)
    if counter is None:
        labels = (method if method in METHODS else "other", route, f"{status // 100}xx")
        counter = _requests[key] = REQUESTS.labels(*labels)
    if route not in _routes:
        _routes[route] = SECONDS.labels(route), ANSWERED.labels(route)
    durations, answered = _routes[route]
    counter.inc()
    durations.observe(seconds)
    answered.inc(size)


# ------------------------------------------------------------------------------------------------ what others count


def sample(db: Database, running: int) -> None:
    """Take over what database and audit trail count in plain numbers, which cost nothing, and what is so just now."""
    totals: dict[Counter, float] = {ACQUIRED: db.acquired, WAITED: db.waited, SLOW: db.slow}
    totals |= {EVENTS.labels(kind): events.recorded[kind] for kind in events.KINDS}
    for counter, total in totals.items():
        counter.inc(total - _told.get(counter, 0))
        _told[counter] = total
    RUNNING.set(running)
    for state, number in db.connections().items():
        CONNECTIONS.labels(state).set(number)


async def text(db: Database) -> bytes:
    """Everything, of all workers, in the text format of Prometheus."""
    families = await _from_database(db)
    registry = CollectorRegistry(auto_describe=False)
    workers = _workers(Path(os.environ[DIRECTORY]))
    registry.register(_Ready([*families, *_processes(workers)]))
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return await asyncio.to_thread(generate_latest, registry)


class _Ready(Collector):
    """Metrics that are there already."""

    def __init__(self, families: list[Metric]):
        self.families = families

    def collect(self) -> Iterable[Metric]:
        return self.families


async def _from_database(db: Database) -> list[Metric]:
    """Letters and objects that somebody should look at; only that the database is down, if it is."""
    query = f"""
        SELECT (SELECT count(*) FROM letter WHERE next_try IS NOT NULL) AS waiting,
               (SELECT count(*) FROM letter WHERE next_try IS NULL) AS undeliverable,
               (SELECT count(*) FROM (SELECT FROM object WHERE state = {PRESENT} LIMIT {MOST}) o) AS unverified,
               (SELECT count(*) FROM object WHERE state = {DAMAGED}) AS damaged
        """
    try:
        async with asyncio.timeout(LIMIT):
            row = await db.fetchrow(query)
    except (Unavailable, TimeoutError):
        row = None
    up = GaugeMetricFamily("quilt_database_up", "Whether the database answers.", float(row is not None))
    if row is None:
        return [up]
    letters = GaugeMetricFamily("quilt_letters", "Letters in the outbox.", labels=["state"])
    objects = GaugeMetricFamily("quilt_objects", f"Objects not verified (at most {MOST:,}).", labels=["state"])
    for family, state in (
        (letters, "waiting"),
        (letters, "undeliverable"),
        (objects, "unverified"),
        (objects, "damaged"),
    ):
        family.add_metric([state], row[state])
    return [up, letters, objects]


def _workers(directory: Path) -> list[int]:
    """The processes that count. What dead ones held ends; what they counted stays."""
    found = []
    for file in directory.glob("gauge_livesum_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
            found.append(pid)
        except OSError:
            mark_process_dead(pid)  # type: ignore[no-untyped-call]
    return sorted(found)


def _processes(workers: list[int]) -> list[Metric]:
    """Memory, time and files of each worker."""
    families: dict[str, Metric] = {}
    for pid in workers:
        for family in ProcessCollector(pid=partial(int, pid), registry=None).collect():
            samples = [sample._replace(labels={"pid": str(pid)}) for sample in family.samples]
            kept = families.setdefault(family.name, family)
            kept.samples = samples if kept is family else kept.samples + samples
    return list(families.values())
