"""The processes of a registry and the memory that they use together."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.registry import Registry

SAMPLING_INTERVAL = 0.5  # seconds


@dataclass
class Peak:
    """Most memory in bytes, of the registry's own processes and with its PostgreSQL."""

    registry: int = 0
    total: int = 0


@contextlib.contextmanager
def memory(registry: Registry) -> Iterator[Peak]:
    """Sample the proportional set size (PSS) of all processes together while the block runs."""
    peak, stop = Peak(), threading.Event()

    def sample() -> None:
        while not stop.wait(SAMPLING_INTERVAL):
            of_registry, of_all = (sum(map(pss, pids)) for pids in (own(registry), _all(registry)))
            peak.registry, peak.total = max(peak.registry, of_registry), max(peak.total, of_all)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def own(registry: Registry) -> list[int]:
    """Return the PIDs of the registry's processes, without PostgreSQL."""
    return [pid for pid in _all(registry) if not _is_postgres(pid)]


def _all(registry: Registry) -> list[int]:
    assert registry.process is not None
    return list(_tree(registry.process.pid))


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the process has ended
            for child in children.read_text().split():
                yield from _tree(int(child))


def _is_postgres(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return "postgres" in Path(f"/proc/{pid}/comm").read_text()
    return False


def pss(pid: int) -> int:
    """Return the proportional set size of a process in bytes; 0 if it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
