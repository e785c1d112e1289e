"""Users at work for a while: `python -m benchmarks soak`.

Each user repeats random tasks: sign in, push a version, install a colleague's package, search, comment, look at logs
and previews. The report says how much was done, how fast, what failed, and whether memory stays flat.
"""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict

import httpx
from tests.registry import Registry

from benchmarks import processes
from benchmarks.table import row

FILES, CHANGED_FILES = 40, 3  # files of a package, and how many of them a version changes
SAMPLES = 60  # measurements of memory over the whole run
MAX_MEMORY_GROWTH = 1.10  # final memory may be this multiple of the memory after the first fifth
WORDS = ["harbour", "meadow", "survey", "census", "rainfall", "orchard", "traffic", "glacier", "estuary", "vineyard"]


class Worker(threading.Thread):
    """A user who works until the end of the run."""

    def __init__(self, registry: Registry, number: int, end: float):
        super().__init__(daemon=True)
        self.person = registry.make_person(f"person{number}")
        self.registry, self.end = registry, end
        self.random = random.Random(number)
        self.package = f"{self.random.choice(WORDS)}_{number}"
        self.files = {f"file{i}": self.random.randbytes(2000) for i in range(FILES)}
        self.colleagues = [self]
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.errors: list[str] = []
        self.push()
        self.person.grant(self.package, "team")

    def run(self) -> None:
        acts = [self.push, self.install, self.search, self.comment, self.sign_in, self.look]
        while time.monotonic() < self.end:
            act = self.random.choice(acts)
            began = time.perf_counter()
            try:
                act()
            except (httpx.HTTPError, AssertionError, KeyError) as error:
                self.errors.append(f"{act.__name__}: {error!r:.300}")
            self.seconds[act.__name__].append(time.perf_counter() - began)

    def push(self) -> None:
        for name in self.random.sample(sorted(self.files), CHANGED_FILES):
            self.files[name] = self.random.randbytes(2000)
        self.person.push(self.package, {**self.files, "README": f"A {self.random.choice(WORDS)}".encode()})

    def _colleague(self) -> tuple[str, str]:
        """Return the owner and name of another user's package."""
        other = self.random.choice(self.colleagues)
        return other.person.name, other.package

    def install(self) -> None:
        owner, name = self._colleague()
        answer = self.person.get(f"/api/tag/{owner}/{name}/latest").raise_for_status()
        self.person.install(owner, name, answer.json()["hash"])

    def search(self) -> None:
        self.person.get("/api/search/", params={"q": self.random.choice(WORDS)[:5]}).raise_for_status()

    def comment(self) -> None:
        owner, name = self._colleague()
        body = {"contents": f"About the {self.random.choice(WORDS)}."}
        self.person.post(f"/api/comments/{owner}/{name}/", json=body).raise_for_status()

    def sign_in(self) -> None:
        before = self.person
        self.person = self.registry.sign_in(before.name)
        before.post("/api/logout").raise_for_status()
        before.http.close()
        before.transfers.close()

    def look(self) -> None:
        owner, name = self._colleague()
        self.person.get(f"/api/log/{owner}/{name}/").raise_for_status()
        answer = self.person.get(f"/api/tag/{owner}/{name}/latest").raise_for_status()
        self.person.get(f"/api/package_preview/{owner}/{name}/{answer.json()['hash']}").raise_for_status()


def run(registry: Registry, seconds: float, people: int) -> None:
    """Let users work, then print what each kind of task took, and the memory of the registry without PostgreSQL."""
    registry.database_url = f"postgresql://postgres@/quilt?host={registry.home}/postgres"
    end = time.monotonic() + seconds
    workers = [Worker(registry, number, end) for number in range(people)]
    for worker in workers:
        worker.colleagues = workers
        worker.start()
    samples = []
    for _ in range(SAMPLES):
        time.sleep(seconds / SAMPLES)
        samples.append(sum(map(processes.pss, processes.own(registry))))
    for worker in workers:
        worker.join(120)
    done: dict[str, list[float]] = defaultdict(list)
    for worker in workers:
        for act, taken in worker.seconds.items():
            done[act] += taken
    for act, taken in sorted(done.items()):
        taken.sort()
        p50, p99 = taken[len(taken) // 2] * 1000, taken[int(len(taken) * 0.99)] * 1000
        row(act, len(taken), f"{p50:.0f} / {p99:.0f} ms")
    errors = [error for worker in workers for error in worker.errors]
    row("errors", len(errors), "", not errors, "none")
    for error in errors[:10]:
        print(f"    {error}")
    early, late = samples[SAMPLES // 5], max(samples[-SAMPLES // 10 :])
    result = f"{early / 2**20:.0f} → {late / 2**20:.0f} MiB"
    row("memory after a fifth → at the end", "", result, late <= early * MAX_MEMORY_GROWTH, "+10 %")
