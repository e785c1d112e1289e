"""Metrics for Prometheus.

The workers of a registry write into files of one directory, which `serve` creates and names in the environment. The
worker that is scraped adds them up. prometheus_client reads the environment when it is imported, so `cli` must not
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

from quilt_registry import audit, background
from quilt_registry.database import Database
from quilt_registry.errors import Unavailable
from quilt_registry.storage.objects import ObjectState

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
DATABASE_TIMEOUT = 2.0  # seconds
SAMPLE_INTERVAL = 1.0  # seconds between readings of the totals that other modules keep
MAX_UNVERIFIED_COUNT = 100_000  # unverified objects are counted up to here
METHODS = {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"}
BUCKETS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The metrics of one worker. They have their own collector, so that a process can have several."""

    def __init__(self) -> None:
        own = CollectorRegistry(auto_describe=False)
        self._requests = Counter("quilt_requests", "Requests answered.", ["method", "route", "status"], registry=own)
        self._seconds = Histogram(
            "quilt_request_seconds",
            "Time from a request to the end of its response.",
            ["route"],
            buckets=BUCKETS,
            registry=own,
        )
        self._bytes = Counter("quilt_answer_bytes", "Bytes of response bodies.", ["route"], registry=own)
        self._running = Gauge(
            "quilt_requests_running", "Requests being answered.", multiprocess_mode="livesum", registry=own
        )
        self._events = Counter(
            "quilt_events", "Audit events: pushes, installs, previews, sign-ins, ….", ["kind"], registry=own
        )
        self._connections = Gauge(
            "quilt_database_connections",
            "Database connections: used, open, and the limit.",
            ["state"],
            multiprocess_mode="livesum",
            registry=own,
        )
        self._acquired = Counter(
            "quilt_database_acquires", "Database connections acquired from the pool.", registry=own
        )
        self._waited = Counter("quilt_database_acquire_seconds", "Time waited for database connections.", registry=own)
        self._slow = Counter("quilt_slow_queries", "Statements that took longer than SLOW_QUERY_MS.", registry=own)
        self.running = 0  # requests being answered
        self._by_request: dict[tuple[str, str, int], Counter] = {}
        self._by_route: dict[str, tuple[Histogram, Counter]] = {}
        self._sampled: dict[Counter, float] = {}

    def count_request(self, method: str, route: str, status: int, seconds: float, size: int) -> None:
        """Count a request by its route's template, of which there are few, and the bytes of its response."""
        key = (method, route, status // 100)
        counter = self._by_request.get(key)
        if counter is None:
            labels = (method if method in METHODS else "other", route, f"{status // 100}xx")
            counter = self._by_request[key] = self._requests.labels(*labels)
        if route not in self._by_route:
            self._by_route[route] = self._seconds.labels(route), self._bytes.labels(route)
        durations, sent = self._by_route[route]
        counter.inc()
        durations.observe(seconds)
        sent.inc(size)

    async def sample_forever(self, db: Database) -> None:
        """Take over the totals of other modules, again and again."""

        async def sample() -> None:
            self.sample(db)

        await background.repeat(sample, interval=SAMPLE_INTERVAL, failure="The metrics could not be sampled.")

    def sample(self, db: Database) -> None:
        """Take over the totals that the database counts as plain numbers, which cost nothing, and current values."""
        totals: dict[Counter, float] = {self._acquired: db.acquired, self._waited: db.waited, self._slow: db.slow}
        totals |= {self._events.labels(kind): db.recorded[kind] for kind in audit.KINDS}
        for counter, total in totals.items():
            counter.inc(total - self._sampled.get(counter, 0))
            self._sampled[counter] = total
        self._running.set(self.running)
        for state, number in db.connections().items():
            self._connections.labels(state).set(number)


async def render(db: Database) -> bytes:
    """Return the metrics of all workers in the text format of Prometheus."""
    families = await _from_database(db)
    collected = CollectorRegistry(auto_describe=False)
    workers = _workers(Path(os.environ[DIRECTORY]))
    collected.register(_Collected([*families, *_process_metrics(workers)]))
    MultiProcessCollector(collected)  # type: ignore[no-untyped-call]
    return await asyncio.to_thread(generate_latest, collected)


class _Collected(Collector):
    """A collector of metrics that were collected before."""

    def __init__(self, families: list[Metric]):
        self.families = families

    def collect(self) -> Iterable[Metric]:
        return self.families


async def _from_database(db: Database) -> list[Metric]:
    """Return the numbers of emails and objects that need attention, and whether the database responds."""
    query = f"""
        SELECT (SELECT count(*) FROM letter WHERE next_try IS NOT NULL) AS waiting,
               (SELECT count(*) FROM letter WHERE next_try IS NULL) AS undeliverable,
               (SELECT count(*) FROM (
                   SELECT FROM object WHERE state = {ObjectState.PRESENT} LIMIT {MAX_UNVERIFIED_COUNT}) o
               ) AS unverified,
               (SELECT count(*) FROM object WHERE state = {ObjectState.DAMAGED}) AS damaged
        """
    try:
        async with asyncio.timeout(DATABASE_TIMEOUT):
            row = await db.fetchrow(query)
    except (Unavailable, TimeoutError):
        row = None
    up = GaugeMetricFamily("quilt_database_up", "Whether the database responds.", float(row is not None))
    if row is None:
        return [up]
    emails = GaugeMetricFamily("quilt_letters", "Emails in the outbox.", labels=["state"])
    unverified = f"Objects not verified (at most {MAX_UNVERIFIED_COUNT:,}), and damaged ones."
    objects = GaugeMetricFamily("quilt_objects", unverified, labels=["state"])
    for family, states in ((emails, ("waiting", "undeliverable")), (objects, ("unverified", "damaged"))):
        for state in states:
            family.add_metric([state], row[state])
    return [up, emails, objects]


def _workers(directory: Path) -> list[int]:
    """Return the process IDs of running workers. Delete the gauges of dead ones; their counters stay."""
    pids = []
    for file in directory.glob("gauge_livesum_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
            pids.append(pid)
        except OSError:
            mark_process_dead(pid)  # type: ignore[no-untyped-call]
    return sorted(pids)


def _process_metrics(workers: list[int]) -> list[Metric]:
    """Return memory, CPU time and open files of each worker."""
    families: dict[str, Metric] = {}
    for pid in workers:
        for family in ProcessCollector(pid=partial(int, pid), registry=None).collect():
            samples = [sample._replace(labels={"pid": str(pid)}) for sample in family.samples]
            merged = families.setdefault(family.name, family)
            merged.samples = samples if merged is family else merged.samples + samples
    return list(families.values())
