"""Request /healthcheck fifty times a second, in a process of its own, which nothing else delays."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import httpx

INTERVAL = 0.02  # seconds


@contextlib.contextmanager
def probing(url: str) -> Iterator[list[float]]:
    """Probe a registry during the block. Afterwards the list has the response times in seconds."""
    samples: list[float] = []
    command = [sys.executable, "-m", "benchmarks.probe", url]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield samples
    finally:
        output, _ = process.communicate()  # closes its standard input, which ends it
        samples += json.loads(output)


def _probe(url: str, stop: threading.Event) -> list[float]:
    samples = []
    with httpx.Client(base_url=url, timeout=60) as client:
        while not stop.wait(INTERVAL):
            began = time.perf_counter()
            client.get("/healthcheck").raise_for_status()
            samples.append(time.perf_counter() - began)
    return samples


def _wait_for_end(stop: threading.Event) -> None:
    sys.stdin.read()
    stop.set()


if __name__ == "__main__":
    ended = threading.Event()
    threading.Thread(target=_wait_for_end, args=(ended,), daemon=True).start()
    print(json.dumps(_probe(sys.argv[1], ended)))
