"""Under systemd: socket activation, readiness notification, and restarts that lose no request."""

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

pytestmark = pytest.mark.drill


class Systemd:
    """Systemd's part for a socket-activated service: keeps the socket across restarts, receives notifications."""

    def __init__(self, home: Path, database_url: str, workers: int):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.notifications = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notifications.bind(str(home / "notify"))
        self.notifications.settimeout(60)
        self.port, self.workers = self.listener.getsockname()[1], workers
        self.registry = Registry(home, database_url)
        self.environment = {
            **self.registry.environment,
            "REGISTRY_URL": f"http://127.0.0.1:{self.port}",
            "LISTEN_FDS": "1",
            "NOTIFY_SOCKET": str(home / "notify"),
        }

    def start(self) -> subprocess.Popen[bytes]:
        """Start the service and wait for its readiness notification."""
        serve = [sys.executable, "-m", "quilt_registry", "serve", "--port", "1", "--workers", str(self.workers)]
        with open(self.registry.log, "ab") as log:
            process = subprocess.Popen(
                serve, env=self.environment, stdout=log, stderr=log, close_fds=False,
                preexec_fn=lambda: os.dup2(self.listener.fileno(), 3),
            )  # fmt: skip
        assert self.notifications.recv(100) == b"READY=1"
        return process

    def end(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


@pytest.fixture(params=[1, 2], ids=["one worker", "two workers"])
def systemd(request: pytest.FixtureRequest, new_database: Callable[[], str], tmp_path: Path) -> Iterator[Systemd]:
    made = Systemd(tmp_path, new_database(), request.param)
    yield made
    made.listener.close()
    made.notifications.close()
    assert "Traceback" not in made.registry.log.read_text()


class RequestThread(threading.Thread):
    """Sends requests without pause, over kept or new connections."""

    def __init__(self, url: str, kept: bool):
        super().__init__()
        self.url, self.kept, self.over = url, kept, threading.Event()
        self.sent, self.longest, self.failed = 0, 0.0, list[str]()

    def run(self) -> None:
        client = httpx.Client(timeout=60)
        while not self.over.is_set():
            began = time.monotonic()
            try:
                get = client.get if self.kept else httpx.get
                get(self.url + "/healthcheck", timeout=60).raise_for_status()
            except httpx.HTTPError as error:
                self.failed.append(repr(error))
            self.sent += 1
            self.longest = max(self.longest, time.monotonic() - began)
            time.sleep(0.005)
        client.close()


def test_restarts_lose_no_response(systemd: Systemd) -> None:
    process = systemd.start()
    clients = [RequestThread(f"http://127.0.0.1:{systemd.port}", kept) for kept in (True, True, False, False)]
    for each in clients:
        each.start()
    for _ in range(3):
        time.sleep(0.5)
        systemd.end(process)
        process = systemd.start()
    for each in clients:
        each.over.set()
        each.join()
    systemd.end(process)
    assert sum(each.sent for each in clients) > 50
    assert [problem for each in clients for problem in each.failed] == []
    assert max(each.longest for each in clients) < 20


class ConnectThread(threading.Thread):
    """Opens a new connection for each request, and ignores failures."""

    def __init__(self, port: int):
        super().__init__()
        self.endpoint, self.over = ("127.0.0.1", port), threading.Event()
        self.answered, self.failed = 0, list[str]()

    def run(self) -> None:
        while not self.over.is_set():
            with socket.socket() as connection:
                connection.settimeout(60)
                if connection.connect_ex(self.endpoint):
                    time.sleep(0.01)
                    continue
                try:
                    connection.sendall(b"GET /healthcheck HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    assert b" 200 " in connection.recv(1000)
                    self.answered += 1
                except (OSError, AssertionError) as error:
                    self.failed.append(repr(error))


@pytest.mark.parametrize("workers", [1, 2])
def test_shutdown_answers_all_accepted_connections(own_registry: Callable[..., Registry], workers: int) -> None:
    """Without systemd, refused connections make a proxy try another server. It cannot repeat what it has sent."""
    registry = own_registry(workers=workers)
    clients = [ConnectThread(registry.port) for _ in range(12)]
    for each in clients:
        each.start()
    time.sleep(0.5)
    assert registry.stop() == 0
    for each in clients:
        each.over.set()
        each.join()
    assert sum(each.answered for each in clients) > 50
    assert [problem for each in clients for problem in each.failed] == []


def test_connections_are_kept_for_longer_than_a_proxy_keeps_them(registry: Registry) -> None:
    """A request on a closing connection is lost, and a proxy answers 502. Uvicorn's default is five seconds."""
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
    """A child that inherits the environment must not use sockets that were passed to its parent."""
    registry = own_registry(LISTEN_FDS="1", LISTEN_PID="1")
    assert httpx.get(registry.url + "/healthcheck").text == "ok"
