"""A small load generator: repeats one request on a few keep-alive connections, in a separate process."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from typing import cast

import uvloop
from tests.registry import Person


class _Connection(asyncio.Protocol):
    def __init__(self, request: bytes, seconds: list[float]):
        self.request, self.seconds = request, seconds

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.send()

    def send(self) -> None:
        self.began = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        # Responses are small: each arrives in one piece, or its end does.
        if data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 200"):
            raise SystemExit(data.decode())
        if data.endswith(b"}"):
            self.seconds.append(time.perf_counter() - self.began)
            self.send()


async def _run(port: int, request: bytes, seconds: float, connections: int) -> None:
    loop = asyncio.get_running_loop()
    samples: list[float] = []
    began = time.perf_counter()
    for _ in range(connections):
        await loop.create_connection(lambda: _Connection(request, samples), "127.0.0.1", port)
    await asyncio.sleep(seconds)
    taken = time.perf_counter() - began
    samples.sort()
    print(json.dumps([len(samples) / taken, samples[int(len(samples) * 0.99)]]))


def measure(person: Person, path: str, seconds: float, connections: int) -> tuple[float, float]:
    """Return requests per second, and the 99th percentile of response times in seconds."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {person.token}\r\n\r\n"
    command = [sys.executable, "-m", "benchmarks.load", str(person.registry.port), str(seconds), str(connections)]
    done = subprocess.run(command, input=request.encode(), stdout=subprocess.PIPE, check=True)
    rate, p99 = json.loads(done.stdout)
    return rate, p99


if __name__ == "__main__":
    uvloop.run(_run(int(sys.argv[1]), sys.stdin.buffer.read(), float(sys.argv[2]), int(sys.argv[3])))
