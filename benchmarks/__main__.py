"""Start a registry, measure it over HTTP, and print a table with the budgets.

make bench                              1,000, 10,000 and 100,000 files, small requests
make bench ARGS="--sizes 1000000"       one million files: takes 3 GB of memory and several minutes
make bench ARGS="--workers 2"           with more workers
make bench ARGS="soak --seconds 600"    twenty users at work for ten minutes
make bench ARGS=search                  search among 10,000 packages
make bench ARGS=audit                   the audit log with one million events

Request bodies are built before the clock starts, so that only the registry and the client's receiving are measured.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
from tests import trees
from tests.registry import PASSWORD, Registry, run_sql

from benchmarks import audit, load, search, soak
from benchmarks.table import row

GROUP_SIZE = 1000  # files in a group
CHANGED_FILES = 10  # files that the second version changes

# Seconds, by operation and number of files.
BUDGETS: dict[tuple[str, int], float] = {
    ("push, dry run", 100_000): 1.5,
    ("push, all new", 100_000): 2.5,
    ("push, 10 changed", 100_000): 0.8,
    ("install", 100_000): 0.8,
    ("preview", 100_000): 0.03,
    ("push, all new", 1_000_000): 30,
    ("push, 10 changed", 1_000_000): 8,
    ("install", 1_000_000): 8,
}
GROWTH_BUDGET = 2_000_000  # bytes that a second version of one million files may add to the database
RATE_BUDGET, PROBE_BUDGET, MEMORY_BUDGET = 3000, 0.050, 2.5 * 2**30


class Bench:
    """One registry and one user who pushes to it."""

    def __init__(self, registry: Registry):
        self.registry = registry
        self.name = "admin"
        registry.command(
            "create-admin", "--username", "bench", "--email", "bench@example.com", "--password-stdin", input=PASSWORD
        )
        self.person = registry.sign_in("bench")
        self.headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}

    def run(self, count: int, probe: bool) -> None:
        """Measure all operations on a package with this many files."""
        node, data = package(count)
        name = f"p{count}"
        self.store(data)
        dry, real = body(node, {}, dry_run=True), body(node, sizes(data))
        top_hash = trees.top_hash(node)
        target = f"/api/package/bench/{name}/{top_hash}"
        with HealthProbe(self.registry.url) if probe else contextlib.nullcontext([]) as samples:
            self.timed("push, dry run", count, lambda: self.send(target, dry))
            self.timed("push, all new", count, lambda: self.send(target, real))
            self.person.put(f"/api/tag/bench/{name}/latest", json={"hash": top_hash}).raise_for_status()
            self.timed("install", count, lambda: self.receive(target))
            self.timed("preview", count, lambda: self.receive(target.replace("/package/", "/package_preview/")))
            self.second_version(name, count, node, data)
        if samples:
            ordered = sorted(samples)
            p99 = ordered[int(len(ordered) * 0.99)]
            row("healthcheck meanwhile, p99", count, f"{p99 * 1000:.1f} ms", p99 <= PROBE_BUDGET, "≤ 50 ms")
            row("healthcheck meanwhile, median", count, f"{statistics.median(ordered) * 1000:.1f} ms")

    def second_version(self, name: str, count: int, node: trees.Json, data: dict[str, bytes]) -> None:
        files = node["children"]["g0"]["children"]
        for i, file in enumerate(list(files.values())[:CHANGED_FILES]):
            changed = f"changed {count} {i}".encode()
            del data[file["hashes"][0]]
            file["hashes"] = [trees.sha(changed)]
            data[trees.sha(changed)] = changed
        self.store(data)
        real = body(node, sizes(data))
        before = self.database_size()
        target = f"/api/package/bench/{name}/{trees.top_hash(node)}"
        self.timed("push, 10 changed", count, lambda: self.send(target, real))
        grown = self.database_size() - before
        row("database grew by", count, f"{grown / 1000:.0f} kB", grown <= GROWTH_BUDGET, "≤ 2 MB")

    def send(self, target: str, data: bytes) -> None:
        with self.person.http.stream("PUT", target, content=data, headers=self.headers, timeout=600) as answer:
            drain(answer)

    def receive(self, target: str) -> None:
        with self.person.http.stream("GET", target, headers={"Accept-Encoding": "identity"}, timeout=600) as answer:
            drain(answer)

    def timed(self, operation: str, count: int, work: Callable[[], None]) -> None:
        began = time.perf_counter()
        work()
        seconds = time.perf_counter() - began
        budget = BUDGETS.get((operation, count))
        row(
            operation,
            count,
            f"{seconds:.3f} s",
            None if budget is None else seconds <= budget,
            budget and f"≤ {budget} s",
        )

    def store(self, data: dict[str, bytes]) -> None:
        """Put objects where uploads end up. Not timed."""
        folder = self.registry.objects / "objs" / "bench"
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in data.items():
            path = folder / name
            if not path.exists():
                path.write_bytes(content)

    def database_size(self) -> int:
        url = f"postgresql://postgres@/quilt?host={self.registry.home}/postgres"
        return int(run_sql(url, "SELECT pg_database_size('quilt')")[0][0])

    def memory(self) -> int:
        """Return the sum of the peak memory of the registry's processes, without PostgreSQL, in bytes."""
        return sum(map(peak, self.processes()))

    def processes(self) -> list[int]:
        """Return the PIDs of the registry's own processes, without PostgreSQL."""
        assert self.registry.process is not None
        return list(process_tree(self.registry.process.pid))


def package(count: int) -> tuple[trees.Json, dict[str, bytes]]:
    """Return a tree of small files in groups, and its objects."""
    groups: dict[str, trees.Json] = {}
    data = {}
    for i in range(count):
        content = f"content {count} {i}".encode()
        name = trees.sha(content)
        data[name] = content
        group = groups.setdefault(f"g{i // GROUP_SIZE}", trees.group({}))
        metadata = {"q_path": f"dir/f{i}.csv", "q_ext": "csv", "q_target": "file"}
        group["children"][f"f{i % GROUP_SIZE}"] = {"type": "FILE", "hashes": [name], "metadata": metadata}
    return trees.root(groups), data


def sizes(data: dict[str, bytes]) -> dict[str, int]:
    return {name: len(content) for name, content in data.items()}


def body(node: trees.Json, object_sizes: dict[str, int], **more: Any) -> bytes:
    return gzip.compress(json.dumps({"contents": node, "description": "", "sizes": object_sizes, **more}).encode(), 2)


def drain(answer: httpx.Response) -> None:
    if answer.status_code != 200:
        answer.read()
        raise SystemExit(f"{answer.status_code}: {answer.text[:500]}")
    for _ in answer.iter_raw():
        pass


class HealthProbe:
    """Request /healthcheck fifty times a second. The block gets the list of response times in seconds."""

    def __init__(self, url: str):
        self.url, self.samples, self.stop = url, list[float](), threading.Event()
        self.thread = threading.Thread(target=self._probe)

    def _probe(self) -> None:
        with httpx.Client(base_url=self.url) as client:
            while not self.stop.wait(0.02):
                began = time.perf_counter()
                client.get("/healthcheck").raise_for_status()
                self.samples.append(time.perf_counter() - began)

    def __enter__(self) -> list[float]:
        self.thread.start()
        return self.samples

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()


def process_tree(pid: int) -> Iterator[int]:
    """Yield the PIDs of a process and its Python descendants."""
    yield pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if "postgres" not in Path(f"/proc/{child}/comm").read_text():
            yield from process_tree(int(child))


def peak(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return 0


def small_requests(bench: Bench, seconds: float) -> None:
    """Measure token and tag lookups on sixteen concurrent connections."""
    bench.store({trees.sha(b"1"): b"1"})
    bench.person.push("small", {"x": b"1"})
    rate, p99 = load.measure(
        bench.registry.port, "/api/tag/bench/small/latest", {"Authorization": f"Bearer {bench.person.token}"}, seconds
    )
    row("small requests (token and tag)", "", f"{rate:,.0f}/s", rate >= RATE_BUDGET, "≥ 3,000/s")
    row("small requests, p99", "", f"{p99 * 1000:.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=["files", "search", "audit", "soak"], default="files")
    parser.add_argument("--sizes", default="1000,10000,100000", help="numbers of files")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5, help="how long small requests are sent, or users work")
    parser.add_argument("--people", type=int, default=20, help="number of concurrent users")
    parser.add_argument("--packages", type=int, default=10_000, help="number of packages that are searched")
    parser.add_argument("--events", type=int, default=1_000_000, help="number of events in the audit")
    parser.add_argument("--requests", type=int, default=300, help="number of requests of each kind of search or audit")
    options = parser.parse_args()
    counts = [int(size) for size in options.sizes.split(",")]
    with tempfile.TemporaryDirectory(prefix="quilt-bench-") as home:
        registry = Registry(Path(home), workers=options.workers, RATE_LIMITS="off").start()
        try:
            bench = Bench(registry)
            if options.what == "search":
                row("query", "hits", "p50 / p95 / p99", budget="budget")
                search.run(registry, bench.person, options.packages, options.requests)
            elif options.what == "audit":
                row("call", "bytes", "p50 / p95", budget="budget")
                audit.run(registry, bench.person, options.events, options.requests)
            elif options.what == "soak":
                row("task", "times", "p50 / p99", budget="budget")
                soak.run(registry, options.seconds, options.people, bench.processes)
            else:
                row("operation", "files", "measured", budget="budget")
                measure_files(bench, counts, options.seconds)
        finally:
            registry.stop()


def measure_files(bench: Bench, counts: list[int], seconds: float) -> None:
    """Measure packages of each size, then small requests."""
    small_requests(bench, seconds)
    for count in counts:
        bench.run(count, probe=count == max(counts))
    used = bench.memory()
    row("most memory of all processes", "", f"{used / 2**20:,.0f} MiB", used <= MEMORY_BUDGET, "≤ 2.5 GiB")


if __name__ == "__main__":
    main()
