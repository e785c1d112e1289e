"""Bounds on request heads, silence, readers and connections, and what HTTP/1.0 clients get. Over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from quilt_registry.cli import http_protocol
from quilt_registry.web import request_bodies
from tests.registry import LocalRegistry
from tests.waiting import wait_until

KB = 1024
REQUEST = b"GET /healthcheck HTTP/1.1\r\nHost: x\r\n"
Start = Callable[..., LocalRegistry]


@contextlib.contextmanager
def connect(registry: LocalRegistry) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", registry.port), timeout=30) as connection:
        yield connection


def receive(connection: socket.socket) -> bytes:
    """Return what is sent until the connection closes."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65_536):
            data += piece
    return data


def send(registry: LocalRegistry, *pieces: bytes) -> bytes:
    """Return the responses to some pieces of requests, the last of which closes the connection or is refused."""
    with connect(registry) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(0.02)  # so that the pieces arrive one by one
        return receive(connection)


def status(response: bytes) -> int:
    return int(response.split(b" ", 2)[1])


def message(response: bytes) -> str:
    """Return the message of an error, which is JSON as released clients need it."""
    text: str = json.loads(response.partition(b"\r\n\r\n")[2])["message"]
    return text


LOGIN = b"POST /api/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 150000\r\n\r\n"
CLOSE = b"Connection: close\r\n\r\n"


@pytest.fixture(scope="module")
def running(new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    started = LocalRegistry(tmp_path_factory.mktemp("home"), new_database()).start()
    yield started
    assert not started.stop()


# ------------------------------------------------------------------------------------------------ size of the head


@pytest.mark.parametrize(
    "head",
    [
        REQUEST + b"A: " + b"x" * 65 * KB + b"\r\n",
        REQUEST + b"".join(b"A%d: %s\r\n" % (n, b"x" * KB) for n in range(65)),
        REQUEST + b"".join(b"A%d:\r\n" % n for n in range(20_000)),
        b"GET /healthcheck?" + b"x" * 65 * KB + b" HTTP/1.1\r\nHost: x\r\n",
        b"GET /" + b"x" * 65 * KB + b" HTTP/1.1\r\nHost: x\r\n",
        REQUEST + b"x" * 65 * KB + b": 1\r\n",
        b"G" * 70 * KB,
    ],
    ids=["value", "headers", "names", "query", "path", "name", "method"],
)
def test_a_head_of_more_than_64_kb_is_refused(running: LocalRegistry, head: bytes) -> None:
    for pieces in ([head + CLOSE], [head[: len(head) // 2], head[len(head) // 2 :] + CLOSE]):
        response = send(running, *pieces)
        # A method that no parser knows is refused before its end, if it arrives in pieces.
        assert status(response) in ((400, 431) if head.startswith(b"GG") else (431,))
        assert message(response)


def test_a_head_of_almost_64_kb_is_accepted(running: LocalRegistry) -> None:
    head = REQUEST + b"A: " + b"x" * 63 * KB + b"\r\n"
    assert status(send(running, head + CLOSE)) == 200
    assert status(send(running, head[: 30 * KB], head[30 * KB :] + CLOSE)) == 200
    assert send(running, (head + b"\r\n") * 3 + head + CLOSE).count(b"HTTP/1.1 200") == 4


def test_an_endless_head_costs_no_memory(running: LocalRegistry) -> None:
    """The rest of what a refused client sends is discarded, until the client notices or the time is up."""
    with connect(running) as connection:
        connection.sendall(REQUEST)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(200):
                connection.sendall(b"A: " + b"x" * 100 * KB + b"\r\n")
        assert status(receive(connection)) == 431


def test_trailers_and_chunk_sizes_are_bounded_like_heads(running: LocalRegistry) -> None:
    head = LOGIN.replace(b"Content-Length: 150000", b"Transfer-Encoding: chunked")
    trailers = [b"A: " + b"x" * 30 * KB + b"\r\n"] * 5
    for pieces in ([b"2\r\n{}\r\n0\r\n", *trailers], [b"2;" + b"x" * 30 * KB, *[b"x" * 30 * KB] * 4]):
        send(running, head, *pieces)  # returns, because the connection is closed


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_what_is_not_valid_http_is_refused_as_json(running: LocalRegistry, request_: bytes) -> None:
    response = send(running, request_)
    assert status(response) == 400
    assert "not valid HTTP" in message(response)


# ------------------------------------------------------------------------------------------------ silence


@pytest.fixture
def impatient(running: LocalRegistry, monkeypatch: pytest.MonkeyPatch) -> LocalRegistry:
    """A registry that waits half a second for heads and bodies."""
    monkeypatch.setattr(http_protocol, "HEAD_TIMEOUT", 0.5)
    monkeypatch.setattr(request_bodies, "MAX_WAIT", 0.5)
    return running


def test_a_silent_connection_is_closed(impatient: LocalRegistry) -> None:
    with connect(impatient) as connection:
        assert receive(connection) == b""


@pytest.mark.parametrize("first", [b"", REQUEST + b"\r\n"], ids=["first", "second"])
def test_a_head_that_is_never_complete_is_refused(impatient: LocalRegistry, first: bytes) -> None:
    """However often another byte of it arrives."""
    with connect(impatient) as connection:
        connection.sendall(first)
        if first:
            assert connection.recv(1000).endswith(b"ok")
        connection.sendall(REQUEST)
        connection.settimeout(0.1)
        response = b""
        while b"}" not in response:
            connection.sendall(b"A: b\r\n")
            with contextlib.suppress(TimeoutError):
                response += connection.recv(1000)
        assert status(response) == 408
        assert message(response)


def test_an_idle_connection_stays_open_after_a_request(impatient: LocalRegistry) -> None:
    with connect(impatient) as connection:
        for _ in range(2):
            connection.sendall(REQUEST + b"\r\n")
            assert connection.recv(1000).endswith(b"ok")
            time.sleep(0.8)


def test_a_body_that_stops_to_arrive_is_refused(impatient: LocalRegistry) -> None:
    response = send(impatient, LOGIN + b"{")
    assert status(response) == 408
    assert b"connection: close" in response.lower()
    assert "too slowly" in message(response)


def test_a_body_that_trickles_in_is_refused(impatient: LocalRegistry) -> None:
    with connect(impatient) as connection:
        connection.sendall(LOGIN)
        connection.settimeout(0.05)
        response = b""
        while b"}" not in response:
            connection.sendall(b" " * 10)
            with contextlib.suppress(TimeoutError):
                response += connection.recv(1000)
        assert status(response) == 408


def test_a_body_may_take_its_time_as_long_as_it_moves(running: LocalRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than the registry waits for a part of it."""
    monkeypatch.setattr(request_bodies, "MAX_WAIT", 2.0)
    with connect(running) as connection:
        connection.sendall(LOGIN)
        for _ in range(10):
            time.sleep(0.3)
            connection.sendall(b" " * 15_000)
        assert status(connection.recv(1000)) == 400  # blanks are no JSON


def test_a_body_that_goes_on_after_its_refusal_is_cut_off(impatient: LocalRegistry) -> None:
    head = LOGIN.replace(b"150000", b"50000000")
    with connect(impatient) as connection:
        connection.sendall(head)
        assert status(connection.recv(1000)) == 413
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(500):
                connection.sendall(b" " * 10)
                time.sleep(0.01)
            pytest.fail("The connection is still open.")


# ------------------------------------------------------------------------------------------------ readers


@pytest.fixture(scope="module")
def download(running: LocalRegistry) -> tuple[bytes, int]:
    """The request of an object that no socket can buffer, and its size."""
    size = 30_000_000
    ben = running.make_person("ben")
    top_hash = ben.push("p", {"a": bytes(size)})
    (url,) = ben.get(f"/api/package/ben/p/{top_hash}").json()["urls"].values()
    return f"GET {url.removeprefix(running.url)} HTTP/1.1\r\nHost: x\r\n".encode(), size


@pytest.mark.parametrize("end", [b"\r\n", CLOSE], ids=["keep-alive", "close"])
def test_a_client_that_does_not_read_its_response_is_cut_off(
    running: LocalRegistry, download: tuple[bytes, int], monkeypatch: pytest.MonkeyPatch, end: bytes
) -> None:
    monkeypatch.setattr(http_protocol, "SEND_TIMEOUT", 0.5)
    request, size = download
    with connect(running) as connection:
        connection.sendall(request + end)
        response = connection.recv(1)
        wait_until(lambda: not running.server.server_state.tasks)
        assert len(response + receive(connection)) < size


@pytest.mark.parametrize("size", [0, 1000])
def test_what_a_closed_connection_still_sends_has_a_deadline(running: LocalRegistry, size: int) -> None:
    """Without a socket, which would buffer it. A client that reads slowly gets all of it."""

    class Transport:
        closed, aborted, unread = False, False, size

        def close(self) -> None:
            self.closed = True

        def abort(self) -> None:
            self.aborted = True

        def is_closing(self) -> bool:
            return self.closed

        def get_write_buffer_size(self) -> int:
            return self.unread

    async def run() -> None:
        protocol = http_protocol.Protocol(running.server.config, running.server.server_state, {})
        protocol.transport = transport = Transport()  # type: ignore[assignment]
        protocol.timeout_keep_alive_handler()
        assert transport.closed
        assert (protocol._send_deadline is not None) == (size > 0)
        if size:
            transport.unread -= 1
            protocol._check_reader(size)
            assert not transport.aborted
            protocol._check_reader(size - 1)
            assert transport.aborted

    asyncio.run(run())


# ------------------------------------------------------------------------------------------------ HTTP/1.0


def test_http_1_0_clients_get_no_chunks(running: LocalRegistry) -> None:
    anna = running.make_person("anna")
    top_hash = anna.push("p", {"a": b"1"})
    request = f"GET /api/package/anna/p/{top_hash} HTTP/1.{{}}\r\nHost: x\r\nAuthorization: Bearer {anna.token}\r\n"
    old = send(running, request.format(0).encode() + b"\r\n")
    head, _, body = old.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert json.loads(body)["contents"]["children"].keys() == {"a"}
    new = send(running, request.format(1).encode() + CLOSE)
    assert b"transfer-encoding: chunked" in new.lower()
    assert send(running, b"GET /healthcheck HTTP/1.0\r\n\r\n").endswith(b"\r\n\r\nok")
    assert send(running, b"HEAD /healthcheck HTTP/1.0\r\n\r\n").endswith(b"\r\n\r\n")


# ------------------------------------------------------------------------------------------------ descriptors


def test_connections_do_not_take_the_last_descriptors(
    running: LocalRegistry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(http_protocol, "_last_warning", float("-inf"))
    limit = (http_protocol.RESERVED_DESCRIPTORS + 1, 1000)
    monkeypatch.setattr(resource, "getrlimit", lambda _: limit)
    for _ in range(3):
        response = send(running)
        assert status(response) == 503
        assert b"retry-after" in response
        assert message(response)
    assert [record.message for record in caplog.records if "descriptors are left" in record.message] != []
    assert sum("descriptors are left" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize("error", [ValueError, OSError])
def test_a_system_that_refuses_the_hard_limit_keeps_its_soft_one(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def refuse(kind: int, limits: tuple[int, int]) -> None:
        raise error

    monkeypatch.setattr(resource, "setrlimit", refuse)
    http_protocol.raise_descriptor_limit()


def test_serving_raises_the_soft_limit_of_open_files() -> None:
    script = (
        "import resource; from quilt_registry.cli.http_protocol import raise_descriptor_limit as r; "
        "hard = resource.getrlimit(7)[1]; resource.setrlimit(7, (64, hard)); r(); "
        "assert resource.getrlimit(7) == (hard, hard)"
    )
    done: Any = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
