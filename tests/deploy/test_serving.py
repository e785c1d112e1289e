"""Under systemd: the socket is its own, it is told when the registry is ready, and a restart costs nobody an answer."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path

import httpx
import pytest

from quilt_registry.cli import serve
from tests.deploy.templates import load
from tests.registry import Registry


class Systemd:
    """What systemd does for a service with a socket: keeps it between lives, and listens for what it is told."""

    def __init__(self, home: Path, database_url: str, workers: int):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.told.bind(str(home / "notify"))
        self.told.settimeout(60)
        self.port, self.workers = self.listener.getsockname()[1], workers
        self.registry = Registry(home, database_url)
        self.environment = {
            **self.registry.environment,
            "REGISTRY_URL": f"http://127.0.0.1:{self.port}",
            "LISTEN_FDS": "1",
            "NOTIFY_SOCKET": str(home / "notify"),
        }

    def start(self) -> subprocess.Popen[bytes]:
        """Start it and wait until it says that it is ready."""
        serve = [sys.executable, "-m", "quilt_registry", "serve", "--port", "1", "--workers", str(self.workers)]
        with open(self.registry.log, "ab") as log:
            process = subprocess.Popen(
                serve, env=self.environment, stdout=log, stderr=log, close_fds=False,
                preexec_fn=lambda: os.dup2(self.listener.fileno(), 3),
            )  # fmt: skip
        assert self.told.recv(100) == b"READY=1"
        return process

    def end(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


@pytest.fixture(params=[1, 2], ids=["one worker", "two workers"])
def systemd(request: pytest.FixtureRequest, new_database: Callable[[], str], tmp_path: Path) -> Iterator[Systemd]:
    made = Systemd(tmp_path, new_database(), request.param)
    yield made
    made.listener.close()
    made.told.close()
    assert "Traceback" not in made.registry.log.read_text()


class Asking(threading.Thread):
    """Asks all the time, over connections that are kept and over new ones."""

    def __init__(self, url: str, kept: bool):
        super().__init__()
        self.url, self.kept, self.over = url, kept, threading.Event()
        self.asked, self.longest, self.failed = 0, 0.0, list[str]()

    def run(self) -> None:
        client = httpx.Client(timeout=60)
        while not self.over.is_set():
            began = time.monotonic()
            try:
                get = client.get if self.kept else httpx.get
                get(self.url + "/healthcheck", timeout=60).raise_for_status()
            except httpx.HTTPError as error:
                self.failed.append(repr(error))
            self.asked += 1
            self.longest = max(self.longest, time.monotonic() - began)
            time.sleep(0.005)
        client.close()


def test_restarts_cost_nobody_an_answer(systemd: Systemd) -> None:
    process = systemd.start()
    askers = [Asking(f"http://127.0.0.1:{systemd.port}", kept) for kept in (True, True, False, False)]
    for asker in askers:
        asker.start()
    for _ in range(3):
        time.sleep(0.5)
        systemd.end(process)
        process = systemd.start()
    for asker in askers:
        asker.over.set()
        asker.join()
    systemd.end(process)
    assert sum(asker.asked for asker in askers) > 50
    assert [problem for asker in askers for problem in asker.failed] == []
    assert max(asker.longest for asker in askers) < 20


class Knocking(threading.Thread):
    """Connects anew for each question, whatever becomes of it."""

    def __init__(self, port: int):
        super().__init__()
        self.address, self.over = ("127.0.0.1", port), threading.Event()
        self.answered, self.turned_away = 0, list[str]()

    def run(self) -> None:
        while not self.over.is_set():
            with socket.socket() as connection:
                connection.settimeout(60)
                if connection.connect_ex(self.address):
                    time.sleep(0.01)
                    continue
                try:
                    connection.sendall(b"GET /healthcheck HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    assert b" 200 " in connection.recv(1000)
                    self.answered += 1
                except (OSError, AssertionError) as error:
                    self.turned_away.append(repr(error))


@pytest.mark.parametrize("workers", [1, 2])
def test_at_the_end_everybody_who_was_let_in_is_answered(own_registry: Callable[..., Registry], workers: int) -> None:
    """Without systemd a proxy finds nobody listening and asks another one. What it has sent it cannot send again."""
    registry = own_registry(workers=workers)
    knockers = [Knocking(registry.port) for _ in range(12)]
    for knocker in knockers:
        knocker.start()
    time.sleep(0.5)
    assert registry.stop() == 0
    for knocker in knockers:
        knocker.over.set()
        knocker.join()
    assert sum(knocker.answered for knocker in knockers) > 50
    assert [problem for knocker in knockers for problem in knocker.turned_away] == []


def test_connections_are_kept_for_longer_than_a_proxy_keeps_them(registry: Registry) -> None:
    """What is sent into one that is being closed is lost, and a proxy says 502: uvicorn's own time is five seconds."""
    balancer = load()["Resources"]["LoadBalancer"]["Properties"]["LoadBalancerAttributes"]
    [idle] = [int(each["Value"]) for each in balancer if each["Key"] == "idle_timeout.timeout_seconds"]
    assert idle < serve.KEEP_ALIVE_TIMEOUT
    connection = HTTPConnection("127.0.0.1", registry.port)
    for wait in (0, 6):
        time.sleep(wait)
        connection.request("GET", "/healthcheck")
        assert connection.getresponse().read() == b"ok"
    connection.close()


def test_a_socket_for_another_process_is_left_alone(own_registry: Callable[..., Registry]) -> None:
    """What a parent was handed over is no business of a child that inherits its environment."""
    registry = own_registry(LISTEN_FDS="1", LISTEN_PID="1")
    assert httpx.get(registry.url + "/healthcheck").text == "ok"
