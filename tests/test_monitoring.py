"""What operators see of a registry: log, metrics and readiness."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from quilt_registry import schema
from quilt_registry.cli import embedded_postgres
from quilt_registry.monitoring import logs
from tests import trees
from tests.browsers import browser, sign_in
from tests.mailbox import Mailbox
from tests.postgres import needs_proc, own_postgres
from tests.registry import PASSWORD, Person, Registry, new_name
from tests.waiting import wait_until

Line = dict[str, Any]
Start = Callable[..., Registry]
SANE = re.compile(r"[A-Za-z0-9._-]{1,64}")


def lines(registry: Registry) -> list[Line]:
    """Return the JSON lines of the log."""
    return [json.loads(line) for line in registry.log.read_text().splitlines() if line.startswith("{")]


def logged(registry: Registry, id: str, event: str = "request") -> Line:
    """Return the only log line of a request."""
    found: list[Line] = wait_until(
        lambda: [x for x in lines(registry) if (x.get("request_id"), x["event"]) == (id, event)]
    )
    assert len(found) == 1
    return found[0]


def line_of(registry: Registry, answer: httpx.Response) -> Line:
    return logged(registry, answer.headers["X-Request-ID"])


# ------------------------------------------------------------------------------------------------ requests in the log


def test_a_request_is_a_line(registry: Registry, anna: Person) -> None:
    name = new_name()
    top_hash = anna.push(name, {"x": b"1"})
    operation = "0b7f9f0e-9d6d-4a38-8f3e-2f3f6a1f2b3c"
    answer = anna.get(
        f"/api/package/anna/{name}/{top_hash}?subpath=x",
        headers={"X-Request-ID": "from-a.proxy_1", "Quilt-Operation": operation},
    )
    line = line_of(registry, answer)
    assert answer.headers["X-Request-ID"] == "from-a.proxy_1"
    assert {key: value for key, value in line.items() if key not in ("time", "ms", "bytes")} == {
        "level": "info",
        "event": "request",
        "request_id": "from-a.proxy_1",
        "operation": operation,
        "user": "anna",
        "method": "GET",
        "route": "/api/package/{owner}/{name}/{top_hash}",
        "status": 200,
        "client": "127.0.0.1",
        "owner": "anna",
        "name": name,
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    assert 0 < line["ms"] < 60_000
    assert line["bytes"] == answer.num_bytes_downloaded
    head = line_of(registry, anna.http.head(f"/api/tag/anna/{name}/latest"))
    assert (head["method"], head["bytes"]) == ("HEAD", 0)


def test_anonymous_requests_have_no_user_name(registry: Registry, nobody: Person) -> None:
    assert line_of(registry, nobody.get("/api/me"))["user"] is None
    assert line_of(registry, nobody.get("/signin"))["user"] is None


def test_requests_for_pages_have_a_user_name(registry: Registry, anna: Person) -> None:
    with browser(registry) as page:
        sign_in(page, "anna")
        answer = page.get("/")
    assert (answer.status_code, line_of(registry, answer)["user"]) == (200, "anna")


@pytest.mark.parametrize(
    ("method", "path", "status", "route"),
    [
        ("GET", "/api/me", 401, "/api/me"),
        ("GET", "/nowhere/at/all", 302, "unknown"),
        ("GET", "/api/nowhere", 404, "unknown"),
        ("PATCH", "/api/me", 405, "unknown"),
        ("OPTIONS", "/api/me", 200, "unknown"),
        ("GET", "/package/anna/x", 302, "/package/{owner}/{name}"),
        ("POST", "/api/login", 400, "/api/login"),
    ],
)
def test_refusals_are_lines_too(
    registry: Registry, nobody: Person, method: str, path: str, status: int, route: str
) -> None:
    answer = nobody.http.request(method, path)
    line = line_of(registry, answer)
    assert (answer.status_code, line["status"], line["method"], line["route"]) == (status, status, method, route)


@pytest.mark.parametrize("sent", [None, "", "two words", "<script>", "a" * 65, "x" * 10_000, "ä", "a;b", "a/b"])
def test_an_id_is_made_where_none_or_a_bad_one_is_sent(registry: Registry, nobody: Person, sent: str | None) -> None:
    headers = {} if sent is None else {"X-Request-ID": sent.encode(), "Quilt-Operation": sent.encode()}
    answer = nobody.get("/api/me", headers=headers)
    assert SANE.fullmatch(answer.headers["X-Request-ID"])
    assert answer.headers["X-Request-ID"] != sent
    assert "operation" not in line_of(registry, answer)


def test_an_id_brings_no_header_and_no_line_of_its_own(registry: Registry) -> None:
    for end in (b"\n", b"\r", b"\r\n ", b"\0", b"%0a", b'"}\\n'):
        with socket.create_connection(("127.0.0.1", registry.port), timeout=10) as connection:
            connection.sendall(b"GET /api/me HTTP/1.1\r\nHost: x\r\nX-Request-ID: a" + end + b"Evil: 1\r\n\r\n")
            head = connection.recv(4000).partition(b"\r\n\r\n")[0]
        assert head.startswith(b"HTTP/1.1 4")
        assert b"evil" not in head.lower()
    assert all(SANE.fullmatch(line.get("request_id", "none")) for line in lines(registry))


def test_two_requests_have_two_ids(nobody: Person) -> None:
    assert len({nobody.get("/healthcheck").headers["X-Request-ID"] for _ in range(20)}) == 20


def test_a_long_name_is_cut(registry: Registry, anna: Person) -> None:
    answer = anna.get(f"/api/tag/anna/{'n' * 3000}/latest")
    assert line_of(registry, answer)["name"] == "n" * 100


def test_frequent_machine_requests_are_not_logged(registry: Registry, nobody: Person) -> None:
    paths = ("/healthcheck", "/readyz", "/metrics", "/static/quilt.css")
    ids = [nobody.get(path).headers["X-Request-ID"] for path in paths]
    line_of(registry, nobody.get("/robots.txt"))
    assert not [line for line in lines(registry) if line.get("request_id") in ids]


# ------------------------------------------------------------------------------------------------ secrets, failures


@pytest.fixture(scope="module")
def verbose(
    new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory, mailbox: Mailbox
) -> Iterator[Registry]:
    """A registry that logs as much as it can."""
    given = {"LOG_LEVEL": "debug", "SLOW_QUERY_MS": "1", "METRICS_TOKEN": "planted-metrics", "DEPLOYMENT_ID": "north"}
    given |= {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(mailbox.port), "SIGNUP": "open"}
    running = Registry(tmp_path_factory.mktemp("verbose"), new_database(), **given).start()
    yield running
    assert running.stop() == 0


def test_no_secret_is_in_the_log(verbose: Registry, mailbox: Mailbox) -> None:
    anna, nobody = verbose.make_person("anna"), verbose.nobody()
    link = "planted-link-" + "x" * 30
    for path in (f"/activate/{link}", f"/reset_password/{link}", f"/nowhere/{link}", f"/nowhere?token={link}"):
        nobody.get(path)
    with browser(verbose) as client:
        client.submit(f"/reset_password/{link}", {"password": "planted-password"})
        sign_in(client, "anna", "planted-password")
    nobody.post("/api/login", json={"username": "anna", "password": "planted-password"})
    nobody.post("/api/token", data={"refresh_token": "planted-code"})
    nobody.post("/api/register", json={"username": "zoe", "email": "zoe@example.com", "password": "planted-password"})
    nobody.get("/api/me", headers={"Authorization": "Bearer planted-token"})
    nobody.get("/metrics", headers={"Authorization": "Bearer planted-metrics"})
    nobody.get("/", headers={"Cookie": "quilt_session=planted-cookie"})
    anna.get("/api/search/?q=planted-words")
    anna.post("/api/log", json=[{"type": "planted-body"}])
    urls = anna.upload("anna", "data", trees.tree({"x": b"1"}), [b"1"])
    code = anna.get("/api/code").json()["code"]
    activation = mailbox.wait("zoe@example.com").link("activate")
    answer = nobody.get("/robots.txt")
    line_of(verbose, answer)
    text = verbose.log.read_text()
    signatures = [value for each in urls.values() for url in each.values() for value in httpx.URL(url).params.values()]
    for secret in (
        "planted",
        PASSWORD,
        anna.token,
        code,
        activation,
        *(s for s in signatures if len(s) > 20),
    ):
        assert secret is not None
        assert secret not in text
    assert {line["deployment"] for line in lines(verbose)} == {"north"}
    assert {"debug", "info"} <= {line["level"] for line in lines(verbose)}


@pytest.fixture(scope="module")
def quiet(new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry of which tests break parts. It logs warnings only, and repairs must reach it without a restart."""
    given = {"LOG_LEVEL": "warning", "SLOW_QUERY_MS": "300"}
    running = Registry(tmp_path_factory.mktemp("quiet"), new_database(), **given).start()
    running.make_person("anna")
    yield running
    running.hang_up()
    assert running.stop() == 0


@contextlib.contextmanager
def broken_sessions(registry: Registry) -> Iterator[None]:
    """Let each request of a signed-in user fail."""
    registry.sql("ALTER TABLE token RENAME COLUMN expires_at TO lost")
    try:
        yield
    finally:
        registry.sql("ALTER TABLE token RENAME COLUMN lost TO expires_at")


def test_a_failure_names_the_id_that_its_traceback_has(quiet: Registry) -> None:
    registry, anna = quiet, quiet.sign_in("anna")
    with browser(registry) as reader:
        sign_in(reader, "anna")
        with broken_sessions(registry):
            wire, page = anna.get("/api/me"), reader.get("/")
    for answer in (wire, page):
        id = answer.headers["X-Request-ID"]
        assert answer.status_code == 500
        assert f"under the ID {id}" in answer.text
        assert "expires_at" not in answer.text
        failed = [line for line in lines(registry) if "exception" in line and line.get("request_id") == id]
        assert len(failed) == 1
        assert failed[0]["level"] == "error"
        assert "UndefinedColumnError" in failed[0]["exception"]
        line = line_of(registry, answer)
        assert (line["status"], line["level"]) == (500, "error")
    assert wire.json()["message"].endswith(".")


def test_a_statement_that_takes_long_is_logged_without_its_values(quiet: Registry) -> None:
    registry, anna = quiet, quiet.sign_in("anna")
    anna.push("data", {"x": b"1"})
    waits = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with ThreadPoolExecutor(1) as threads, registry.left_open("LOCK TABLE tag"):
        pending = threads.submit(anna.get, "/api/tag/anna/data/no_such_tag")
        wait_until(lambda: registry.sql(waits))
        time.sleep(0.5)
    answer = pending.result()
    assert answer.status_code == 404
    line = logged(registry, answer.headers["X-Request-ID"], "slow query")
    assert (line["level"], line["user"]) == ("warning", "anna")
    assert 300 <= line["ms"] < 5_000
    assert line["sql"].startswith("SELECT p.id, p.owner_id")
    assert len(line["sql"]) <= 300
    assert "\n" not in line["sql"]
    assert "no_such_tag" not in json.dumps(line)
    assert not [each for each in lines(registry) if each["event"] == "slow query" and each["ms"] < 300]


# ------------------------------------------------------------------------------------------------ log formats


@pytest.fixture(scope="module")
def stopped(new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Registry, str]:
    """A registry that was stopped right after a request, and the request's ID."""
    registry = Registry(tmp_path_factory.mktemp("stopped"), new_database()).start()
    wait_until(lambda: "is ready" in registry.log.read_text())
    id = registry.nobody().get("/robots.txt").headers["X-Request-ID"]
    assert registry.stop() == 0
    return registry, id


def test_all_that_an_external_registry_writes_is_json(stopped: tuple[Registry, str]) -> None:
    registry, _ = stopped
    written = [json.loads(line) for line in registry.log.read_text().splitlines()]
    assert written[0]["event"].startswith(f"Quilt Registry is ready: {registry.url}")
    assert written[-1]["event"] == "Stopped."
    assert all(SANE.fullmatch(line["level"]) for line in written)


def test_the_log_is_text_where_that_is_wanted(own_registry: Start) -> None:
    registry = own_registry(LOG_FORMAT="text")
    anna = registry.make_person("anna")
    assert anna.get("/api/me").status_code == 200
    wait_until(lambda: re.search(r"^\d\d:\d\d GET /api/me 200 \d+ ms anna$", registry.log.read_text(), re.MULTILINE))
    registry.sql("ALTER TABLE token RENAME COLUMN expires_at TO lost")
    id = anna.get("/api/me").headers["X-Request-ID"]
    ending = f" 500 \\d+ ms request_id={id}$"
    wait_until(lambda: re.search(ending, registry.log.read_text(), re.MULTILINE), explain=registry.log.read_text)
    assert f"request_id={id} " in registry.log.read_text().replace("\n", " "), "the traceback is found by its ID"
    wait_until(lambda: f"Quilt Registry is ready: {registry.url}" in registry.log.read_text().splitlines())
    assert lines(registry) == []


def test_little_is_logged_where_little_is_wanted(quiet: Registry) -> None:
    anna = quiet.sign_in("anna")
    anna.get("/api/me").raise_for_status()
    with broken_sessions(quiet):
        failed = anna.get("/api/me")
    line_of(quiet, failed)
    assert {line["level"] for line in lines(quiet)} <= {"warning", "error"}


def test_requests_under_way_are_logged_when_it_stops(stopped: tuple[Registry, str]) -> None:
    registry, id = stopped
    assert [line["event"] for line in lines(registry) if line.get("request_id") == id] == ["request"]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "PUT /api/package/anna/iris 200 23 ms anna"),
        ({"user": None, "route": "/", "owner": None}, "PUT / 200 23 ms"),
        ({"route": "/reset_password/{link:str}"}, "PUT /reset_password 200 23 ms anna"),
        ({"route": "/api/access/{owner}/{name}/{user}"}, "PUT /api/access/anna/iris 200 23 ms anna"),
        ({"owner": "\x1b[2J\n"}, "PUT /api/package/\\x1b[2J\\n/iris 200 23 ms anna"),
        ({"broken_off": True}, "PUT /api/package/anna/iris 200 23 ms anna (broken off)"),
    ],
)
def test_request_lines_for_people_are_short(fields: dict[str, Any], text: str) -> None:
    line = {
        "at": 0.0, "event": "request", "request_id": "x-1", "user": "anna", "method": "PUT", "status": 200, "ms": 22.6,
        "route": "/api/package/{owner}/{name}/{top_hash}", "owner": "anna", "name": "iris",
    }  # fmt: skip
    assert logs._request_text(line | fields).partition(" ")[2] == text


# ------------------------------------------------------------------------------------------------ metrics


def scrape(registry: Registry) -> dict[str, float]:
    token = registry.environment["METRICS_TOKEN"]
    answer = httpx.get(registry.url + "/metrics", headers={"Authorization": f"Bearer {token}"}, timeout=30)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = [line.rpartition(" ") for line in answer.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in samples}


@pytest.fixture(scope="module")
def measured(new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry with two workers and metrics."""
    home = tmp_path_factory.mktemp("measured")
    running = Registry(home, new_database(), workers=2, METRICS_TOKEN="for prometheus", TMPDIR=str(home)).start()
    yield running
    assert running.stop() == 0
    assert not list(home.glob("quilt-metrics-*")), "the directory of the workers' counts was not removed"


def test_there_are_no_metrics_by_default(registry: Registry, ada: Person) -> None:
    for answer in (ada.get("/metrics"), httpx.get(registry.url + "/metrics")):
        assert answer.status_code == 404
        assert "There is nothing at this URL." in answer.text


@pytest.mark.parametrize(
    "header",
    [None, "", "for prometheus", "Bearer", "Bearer for prometheu", "Basic Zm9v", "Bearer ä"],
)
def test_metrics_need_their_own_token(measured: Registry, header: str | None) -> None:
    answer = httpx.get(measured.url + "/metrics", headers={} if header is None else {"Authorization": header.encode()})
    assert answer.status_code == 401
    assert "METRICS_TOKEN" in answer.json()["message"]


def test_a_sign_in_is_no_token_for_metrics_nor_the_other_way_round(measured: Registry) -> None:
    ada = measured.make_person("ada", is_admin=True)
    assert ada.get("/metrics").status_code == 401
    assert httpx.get(measured.url + "/api/me", headers={"Authorization": "Bearer for prometheus"}).status_code == 401


def test_two_workers_count_together(measured: Registry) -> None:
    anna = measured.make_person("anna")
    anna.push("data", {"x": b"1"})
    top_hash = anna.push("data", {"x": b"2"})
    time.sleep(1.5)  # longer than it takes until requests are counted
    before = scrape(measured)
    for _ in range(40):  # a new connection for each, so that both workers get some
        httpx.get(measured.url + "/api/tag/anna/data/latest", headers=anna.http.headers).raise_for_status()
    for i in range(30):
        httpx.get(f"{measured.url}/api/nowhere{i}/at/all")
    answer = anna.get(f"/api/package/anna/data/{top_hash}").raise_for_status()
    anna.get(f"/api/package_preview/anna/data/{top_hash}").raise_for_status()
    httpx.get(measured.url + "/api/me")

    route = 'route="/api/tag/{owner}/{name}/{tag}"'
    grown = {
        f'quilt_requests_total{{method="GET",{route},status="2xx"}}': 40,
        f"quilt_request_seconds_count{{{route}}}": 40,
        f'quilt_request_seconds_bucket{{le="+Inf",{route}}}': 40,
        'quilt_requests_total{method="GET",route="unknown",status="4xx"}': 30,
        'quilt_requests_total{method="GET",route="/api/me",status="4xx"}': 1,
        'quilt_answer_bytes_total{route="/api/package/{owner}/{name}/{top_hash}"}': answer.num_bytes_downloaded,
        'quilt_events_total{kind="INSTALL"}': 1,
        'quilt_events_total{kind="PREVIEW"}': 1,
    }
    after = wait_until(lambda: _counted(measured, before, grown))
    assert after['quilt_events_total{kind="PUSH"}'] >= 2
    assert after["quilt_database_acquires_total"] > before["quilt_database_acquires_total"] + 40
    # Each worker reports its own values, and at its own time.
    wait_until(lambda: scrape(measured)["quilt_requests_running"] <= 1)
    assert after['quilt_database_connections{state="limit"}'] == 20
    assert after['quilt_database_connections{state="open"}'] >= 2
    assert after["quilt_database_up"] == 1
    assert len([name for name in after if name.startswith("process_resident_memory_bytes{")]) == 2
    assert not [name for name in after if "nowhere" in name]


def _counted(registry: Registry, before: dict[str, float], grown: dict[str, float]) -> dict[str, float] | None:
    now = scrape(registry)
    return now if {name: now.get(name, 0) - before.get(name, 0) for name in grown} == grown else None


def test_emails_and_objects_that_need_attention_are_counted(measured: Registry) -> None:
    insert = "INSERT INTO letter (kind, recipients, subject, body_text, body_html, next_try) VALUES "
    measured.sql(insert + "('x', '{a@example.com}', 's', 't', 'h', now() + interval '1 day')")
    measured.sql(
        insert + "('x', '{a@example.com}', 's', 't', 'h', NULL), ('x', '{b@example.com}', 's', 't', 'h', NULL)"
    )
    owner = measured.make_person("olga")
    measured.sql(
        """INSERT INTO object (owner_id, digest, size, state)
           SELECT id, sha256(state::text::bytea), 1, state FROM account, unnest('{0,2}'::int[]) state
           WHERE name = $1""",
        owner.name,
    )
    now = scrape(measured)
    assert (now['quilt_letters{state="waiting"}'], now['quilt_letters{state="undeliverable"}']) == (1, 2)
    assert (now['quilt_objects{state="unverified"}'], now['quilt_objects{state="damaged"}']) == (1, 1)


@pytest.mark.drill
@needs_proc
def test_a_worker_that_dies_takes_its_state_with_it_but_not_its_counts(own_registry: Start) -> None:
    registry = own_registry(workers=2, METRICS_TOKEN="for prometheus")
    for _ in range(20):
        httpx.get(registry.url + "/robots.txt")
    name = 'quilt_requests_total{method="GET",route="/robots.txt",status="2xx"}'
    wait_until(lambda: scrape(registry).get(name) == 20)
    first = wait_until(lambda: (found := _workers(registry)) and len(found) == 2 and found, 60)
    os.kill(first[0], signal.SIGKILL)
    second = wait_until(lambda: (found := _workers(registry)) and len(found) == 2 and found != first and found)
    assert first[0] not in second
    now = wait_until(lambda: (now := scrape(registry))['quilt_database_connections{state="limit"}'] == 20 and now)
    assert now[name] == 20


def _workers(registry: Registry) -> list[int]:
    """Return the PIDs that the metrics report."""
    try:
        names = scrape(registry)
    except httpx.HTTPError:  # the request reached the killed worker
        return []
    return [int(name.split('"')[1]) for name in names if name.startswith("process_resident_memory_bytes{")]


# ------------------------------------------------------------------------------------------------ readiness


def readiness(registry: Registry) -> tuple[int, dict[str, str]]:
    answer = httpx.get(registry.url + "/readyz", timeout=10)
    parts: dict[str, str] = answer.json()
    assert (parts.pop("message", "") == "") == (answer.status_code == 200)
    return answer.status_code, parts


def test_a_registry_is_ready(registry: Registry) -> None:
    assert readiness(registry) == (200, {"database": "ok", "store": "ok", "migrations": "ok"})
    assert httpx.head(registry.url + "/readyz").status_code == 200


def test_frequent_readiness_checks_do_not_load_the_database(verbose: Registry) -> None:
    wait_until(lambda: "quilt_database_acquires_total" in scrape(verbose))
    before = scrape(verbose)
    nobody = verbose.nobody()
    for _ in range(300):
        assert nobody.get("/readyz").status_code == 200
    grown = {'quilt_requests_total{method="GET",route="/readyz",status="2xx"}': 300}
    after = wait_until(lambda: _counted(verbose, before, grown))
    acquires = "quilt_database_acquires_total"
    assert after[acquires] - before[acquires] < 150


@pytest.mark.drill
@pytest.mark.slow
def test_a_database_that_is_away_is_reported(own_registry: Start, tmp_path: Path) -> None:
    with own_postgres(tmp_path / "postgres") as postgres:
        url = postgres.url(embedded_postgres.DATABASE)
        schema.migrate(url)
        registry = own_registry(database_url=url, METRICS_TOKEN="for prometheus")
        assert readiness(registry)[0] == 200
        postgres.stop()
        wait_until(lambda: readiness(registry)[0] == 503)
        _, parts = readiness(registry)
        assert parts["database"] == "The database does not respond."
        assert parts["migrations"] != "ok"
        assert parts["store"] == "ok"
        assert httpx.get(registry.url + "/healthcheck").status_code == 200
        assert scrape(registry)["quilt_database_up"] == 0
        postgres.start()
        wait_until(lambda: readiness(registry)[0] == 200)
        assert any(line["event"] == "Ready again: database." for line in lines(registry))


def test_a_store_that_is_gone_is_reported(quiet: Registry) -> None:
    registry = quiet
    assert readiness(registry)[0] == 200
    registry.objects.rename(registry.home / "elsewhere")
    _, parts = wait_until(lambda: (found := readiness(registry))[0] == 503 and found)
    assert parts == {"database": "ok", "store": "The object store cannot be used.", "migrations": "ok"}
    assert str(registry.home) not in json.dumps(parts)
    assert [line for line in lines(registry) if line["event"].startswith("Not ready: The object store")]
    (registry.home / "elsewhere").rename(registry.objects)
    wait_until(lambda: readiness(registry)[0] == 200)


@pytest.mark.parametrize("change", ["UPDATE alembic_version SET version_num = '0001'", "DROP TABLE alembic_version"])
def test_another_schema_is_reported(local_registry: Start, change: str) -> None:
    registry = local_registry()
    registry.sql(change)
    _, parts = wait_until(lambda: (found := readiness(registry))[0] == 503 and found)
    assert (parts["database"], parts["store"]) == ("ok", "ok")
    assert f"needs {schema.head()}" in parts["migrations"]
