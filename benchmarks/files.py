"""Packages of many small files: push, install and preview, with other requests and memory measured meanwhile.

Every operation is measured several times, each time with other files, so that nothing is cached. Request bodies are
built before the clock starts, and responses are read as the released client reads them.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import statistics
import time
from collections.abc import Iterator
from typing import Any

import httpx
from tests import trees
from tests.registry import Person, Registry, run_sql

from benchmarks import processes
from benchmarks.probe import probing
from benchmarks.table import row

GROUP_SIZE = 1000  # files in a group
CHANGED_FILES = 10  # files that the second version changes
OTHER_OBJECTS = 1_000_000  # objects in the table when the last dry run is measured

# Seconds, by operation and number of files.
BUDGETS: dict[tuple[str, int], float] = {
    ("push, dry run", 100_000): 0.75,
    ("push, dry run in a large table", 100_000): 0.75,
    ("push, all new", 100_000): 1.6,
    ("push, 10 changed", 100_000): 0.5,
    ("install", 100_000): 0.5,
    ("install, gzip", 100_000): 0.6,
    ("preview", 100_000): 0.03,
    ("push, all new", 1_000_000): 30,
    ("push, 10 changed", 1_000_000): 8,
    ("install", 1_000_000): 8,
}
GROWTH_BUDGET = 2_000_000  # bytes that a second version of one million files may add to the database
PROBE_BUDGET = 0.050  # seconds within which 99 % of small requests must finish
MEMORY_BUDGET = 2.0 * 2**30


def run(registry: Registry, person: Person, counts: list[int], rounds: int) -> None:
    """Measure packages of each size, then a dry run beside one million other objects."""
    bench = _Bench(registry, person)
    with processes.memory(registry) as peak:
        for count in counts:
            bench.measure(count, rounds)
    row("memory, registry (PSS)", "", f"{peak.registry / 2**20:,.0f} MiB")
    row("memory, all processes (PSS)", "", f"{peak.total / 2**20:,.0f} MiB", peak.total <= MEMORY_BUDGET, "≤ 2.0 GiB")
    bench.measure_large_table(min(max(counts), 100_000), rounds)


class _Bench:
    def __init__(self, registry: Registry, person: Person):
        self.registry, self.person = registry, person
        self.url = f"postgresql://postgres@/quilt?host={registry.home}/postgres"
        self.seconds: dict[str, list[float]] = {}

    def measure(self, count: int, rounds: int) -> None:
        """Measure all operations on packages with this many files, and /healthcheck meanwhile."""
        self.seconds.clear()
        with probing(self.registry.url) as samples:
            growth = [self._one_round(f"p{count}_{number}", count) for number in range(rounds)]
        for operation, seconds in self.seconds.items():
            self._print(operation, count, seconds)
        grown = max(growth)
        row("database grew by", count, f"{grown / 1000:.0f} kB", grown <= GROWTH_BUDGET, "≤ 2 MB")
        p99 = statistics.quantiles(samples, n=100)[98]
        row("healthcheck meanwhile, p99", count, f"{p99 * 1000:.1f} ms", p99 <= PROBE_BUDGET, "≤ 50 ms")

    def measure_large_table(self, count: int, rounds: int) -> None:
        """Measure dry runs in a table with one million other objects."""
        run_sql(
            self.url,
            """INSERT INTO object (owner_id, digest, size, state)
               SELECT (SELECT id FROM account WHERE name = $1), sha256(('other ' || n)::bytea), 1, 1
               FROM generate_series(1, $2) n""",
            self.person.name, OTHER_OBJECTS,
        )  # fmt: skip
        run_sql(self.url, "ANALYZE object")
        self.seconds.clear()
        for number in range(rounds):
            node, _ = package(count, f"large {number}")
            self._send("push, dry run in a large table", self._target("large", node), body(node, {}, dry_run=True))
        self._print("push, dry run in a large table", count, self.seconds["push, dry run in a large table"])

    def _one_round(self, name: str, count: int) -> int:
        """Measure each operation once; returns how many bytes the second version added to the database."""
        node, data = package(count, name)
        self.store(data)
        dry, real, target = body(node, {}, dry_run=True), body(node, sizes(data)), self._target(name, node)
        self._send("push, dry run", target, dry)
        self._send("push, all new", target, real)
        tag = f"/api/tag/{self.person.name}/{name}/latest"
        self.person.put(tag, json={"hash": trees.top_hash(node)}).raise_for_status()
        self._receive("install", target, "identity")
        self._receive("install, gzip", target, "gzip")
        self._receive("preview", target.replace("/package/", "/package_preview/"), "gzip")
        self.store(change_files(node, data))
        changed, target = body(node, sizes(data)), self._target(name, node)
        before = self._database_size()
        self._send("push, 10 changed", target, changed)
        return self._database_size() - before

    def store(self, data: dict[str, bytes]) -> None:
        """Put objects where uploads end up. Not timed."""
        folder = self.registry.objects / "objs" / self.person.name
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in data.items():
            (folder / name).write_bytes(content)

    def _target(self, name: str, node: trees.Json) -> str:
        return f"/api/package/{self.person.name}/{name}/{trees.top_hash(node)}"

    def _send(self, operation: str, target: str, data: bytes) -> None:
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip", "Accept-Encoding": "gzip"}
        with self._timed(operation), self.person.http.stream(
            "PUT", target, content=data, headers=headers, timeout=600
        ) as answer:  # fmt: skip
            drain(answer)

    def _receive(self, operation: str, target: str, encoding: str) -> None:
        with self._timed(operation), self.person.http.stream(
            "GET", target, headers={"Accept-Encoding": encoding}, timeout=600
        ) as answer:  # fmt: skip
            drain(answer)

    @contextlib.contextmanager
    def _timed(self, operation: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds.setdefault(operation, []).append(time.perf_counter() - began)

    @staticmethod
    def _print(operation: str, count: int, seconds: list[float]) -> None:
        median, budget = statistics.median(seconds), BUDGETS.get((operation, count))
        good = None if budget is None else median <= budget
        row(operation, count, f"{min(seconds):.3f} / {median:.3f} s", good, f"≤ {budget} s" if budget else None)

    def _database_size(self) -> int:
        return int(run_sql(self.url, "SELECT pg_database_size('quilt')")[0][0])


def package(count: int, content: str) -> tuple[trees.Json, dict[str, bytes]]:
    """Return a tree of small files in groups, and its objects. Files of other content differ all."""
    groups: dict[str, trees.Json] = {}
    data = {}
    for i in range(count):
        each = f"{content} {i}".encode()
        name = trees.sha(each)
        data[name] = each
        group = groups.setdefault(f"g{i // GROUP_SIZE}", trees.group({}))
        metadata = {"q_path": f"dir/f{i}.csv", "q_ext": "csv", "q_target": "file"}
        group["children"][f"f{i % GROUP_SIZE}"] = {"type": "FILE", "hashes": [name], "metadata": metadata}
    return trees.root(groups), data


def change_files(node: trees.Json, data: dict[str, bytes]) -> dict[str, bytes]:
    """Change a few files of a package in place; returns the new objects."""
    files = list(node["children"]["g0"]["children"].values())[:CHANGED_FILES]
    for file in files:
        changed = data.pop(file["hashes"][0]) + b", changed"
        file["hashes"] = [trees.sha(changed)]
        data[trees.sha(changed)] = changed
    return {file["hashes"][0]: data[file["hashes"][0]] for file in files}


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
