"""The line that the log has of each request: its level, and requests whose client leaves."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from quilt_registry.monitoring import logs
from quilt_registry.monitoring.metrics import Metrics
from quilt_registry.web.request_log import QUIET_ROUTES, RequestLog
from tests import trees
from tests.registry import LocalRegistry, Person
from tests.waiting import wait_until

Lines = list[tuple[int, dict[str, Any]]]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Lines:
    """The lines that are written, with their levels."""
    lines: Lines = []
    monkeypatch.setattr(logs, "write", lambda level, line: lines.append((level, line)))
    return lines


def request(route: str, status: int) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def send(_: Any) -> None:
        pass

    log = RequestLog(app, Metrics())
    scope: Any = {"type": "http", "method": "GET", "headers": [], "client": None, "path_template": route}
    asyncio.run(log(scope, None, send))  # type: ignore[arg-type]
    log.flush()


@pytest.mark.parametrize("route", ["/api/me", *QUIET_ROUTES, "/static/{path}"])
@pytest.mark.parametrize(("status", "level"), [(500, logging.ERROR), (503, logging.WARNING), (507, logging.WARNING)])
def test_a_failure_is_logged_on_every_route(written: Lines, route: str, status: int, level: int) -> None:
    request(route, status)
    assert [(each, line["status"]) for each, line in written] == [(level, status)]


@pytest.mark.parametrize(("route", "level"), [("/api/me", logging.INFO), ("/static/{path}", logging.DEBUG)])
@pytest.mark.parametrize("status", [200, 404])
def test_all_else_is_information(written: Lines, route: str, level: int, status: int) -> None:
    request(route, status)
    assert written[0][0] == level


HEADERS = "Host: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n"


@pytest.fixture(scope="module")
def anna(new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    running = LocalRegistry(tmp_path_factory.mktemp("home"), new_database()).start()
    yield running.make_person("anna")
    assert not running.stop()


def upload_url(anna: Person) -> str:
    tree = trees.root({"f": trees.file(b"1")})
    urls = anna.send_push("anna", "p", tree, dry_run=True).json()["upload_urls"]
    put: str = urls[trees.sha(b"1")]["put"]
    return put.removeprefix(anna.registry.url)


@pytest.mark.parametrize("how", ["closes", "resets"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/login"),
        ("POST", "/api/v1/tokens"),
        ("POST", "/signin"),
        ("PUT", "/api/package/anna/p/x"),
        ("PUT", "/objects/…"),
    ],
)
def test_a_client_that_leaves_is_499(anna: Person, written: Lines, method: str, path: str, how: str) -> None:
    url = upload_url(anna) if path.startswith("/objects/") else path
    id = f"{method}-{how}-{path.count('/')}-{len(path)}"
    headers = f"{HEADERS}Authorization: Bearer {anna.token}\r\nX-Request-ID: {id}\r\n\r\n"
    server: Any = anna.registry
    with socket.create_connection(("127.0.0.1", anna.registry.port)) as connection:
        connection.sendall(f"{method} {url} HTTP/1.1\r\n{headers}{{".encode())
        wait_until(lambda: server.server.server_state.tasks)
        if how == "resets":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    (line,) = wait_until(lambda: [line for _, line in written if line.get("request_id") == id])
    assert (line["status"], line["method"]) == (499, method)
