"""Behavior after failures: whole pushes or none, clear error messages, and nothing left behind."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import subprocess
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from quilt_registry import schema
from quilt_registry.cli import embedded_postgres
from tests import trees
from tests.postgres import needs_proc, own_postgres
from tests.processes import children, descendants, is_alive, read_proc
from tests.registry import PASSWORD, Person, Registry, new_name, run_sql
from tests.trees import Json
from tests.waiting import wait_until

pytestmark = pytest.mark.drill

Start = Callable[..., Registry]


# ------------------------------------------------------------------------------------------------ helpers


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Run calls at the same moment and return their results."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        barrier.wait(20)
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return [each.result() for each in [threads.submit(run, call) for call in calls]]


def large(count: int, mark: str) -> tuple[Json, list[bytes]]:
    """Return a tree of many new small files in folders of a hundred, and their contents."""
    data = [f"{mark} {i}".encode() for i in range(count)]
    folders: Json = {}
    for i, each in enumerate(data):
        folders.setdefault(f"d{i // 100}", {})[f"f{i}"] = each
    return trees.tree(folders), data


def put_into_store(registry: Registry, owner: str, data: list[bytes]) -> None:
    """Write objects where uploads leave them in a directory, without one request each."""
    folder = registry.objects / "objs" / owner
    folder.mkdir(parents=True, exist_ok=True)
    for each in data:
        (folder / trees.sha(each)).write_bytes(each)


def message_of(answer: httpx.Response) -> str:
    """Return the message of a refusal."""
    message: str = answer.json()["message"]
    assert " " in message
    assert message.endswith(".")
    return message


def check_install(person: Person, owner: str, name: str, node: Json) -> None:
    """Compare a package with what was pushed, without downloading its objects."""
    top_hash = trees.top_hash(node)
    answer = person.get(f"/api/package/{owner}/{name}/{top_hash}")
    assert answer.status_code == 200, answer.text[:300]
    assert trees.top_hash(answer.json()["contents"]) == top_hash


def database_url_of(registry: Registry) -> str:
    return registry.database_url or embedded_postgres.database_url(registry.home)


UNSOUND = {
    "a package without an instance": "SELECT id FROM package p WHERE NOT EXISTS "
    "(SELECT FROM instance i WHERE i.package_id = p.id)",
    "a package whose owner may not read it": "SELECT id FROM package p WHERE NOT EXISTS "
    "(SELECT FROM access a WHERE a.package_id = p.id AND a.grantee = p.owner)",
    "a package with a wrong number of pushes": "SELECT id FROM package p WHERE pushes <> "
    "(SELECT count(*) FROM push u WHERE u.package_id = p.id)",
    "an instance without a push": "SELECT id FROM instance i WHERE NOT EXISTS "
    "(SELECT FROM push u WHERE u.instance_id = i.id)",
    "an instance without one of its pages": """
        SELECT i.id FROM instance i, generate_series(1, length(i.pages) / 32) n
        WHERE NOT EXISTS (SELECT FROM page g WHERE g.name = substr(i.pages, n * 32 - 31, 32))
           OR NOT EXISTS (SELECT FROM package_page pp WHERE pp.package_id = i.package_id
                          AND pp.page = substr(i.pages, n * 32 - 31, 32))""",
    "a tag to another package's instance": "SELECT name FROM tag t JOIN instance i ON i.id = t.instance_id "
    "WHERE i.package_id <> t.package_id",
    "a page of no package": "SELECT page FROM package_page pp WHERE NOT EXISTS "
    "(SELECT FROM package p WHERE p.id = pp.package_id)",
    "an object of no package": "SELECT object_id FROM package_object po WHERE NOT EXISTS "
    "(SELECT FROM package p WHERE p.id = po.package_id) OR NOT EXISTS (SELECT FROM object o WHERE o.id = po.object_id)",
}


def check_sound(registry: Registry) -> None:
    """Check that the database holds nothing half-written, every counted object is stored, and uploads/ is empty."""
    url = database_url_of(registry)
    found = {what: run_sql(url, query) for what, query in UNSOUND.items()}
    assert {what: rows for what, rows in found.items() if rows} == {}
    rows = run_sql(
        url, "SELECT a.name, encode(o.digest, 'hex'), o.size FROM object o JOIN account a ON a.id = owner_id"
    )
    for owner, name, size in rows:
        assert (registry.objects / "objs" / owner / name).stat().st_size == size


def uploads(registry: Registry) -> list[str]:
    return os.listdir(registry.objects / "uploads")


def check_log(registry: Registry) -> None:
    """Check that the log has no unforeseen failure."""
    log = registry.log.read_text()
    assert "Traceback" not in log, log[-5000:]


def spawned(pid: int) -> list[int]:
    """Return the workers of a registry or the helpers of a worker, without multiprocessing's resource tracker."""
    return [each for each in children(pid) if "spawn_main" in read_proc(each, "cmdline")]


def pid_of(registry: Registry) -> int:
    assert registry.process is not None
    return registry.process.pid


def processes_of(registry: Registry) -> list[int]:
    """Return all processes of a registry, once each worker has helpers."""
    wait_until(lambda: all(map(spawned, workers := spawned(pid_of(registry)))) and len(workers) == registry.workers)
    return descendants(pid_of(registry))


@pytest.fixture
def registry(own_registry: Start) -> Registry:
    """A registry that a test may break."""
    return own_registry()


@pytest.fixture
def anna(registry: Registry) -> Person:
    return registry.make_person("anna")


# ------------------------------------------------------------------------------------------------ kill -9


def push_and_kill(registry: Registry, person: Person, name: str, delay: float) -> tuple[Json, httpx.Response | None]:
    """Push a package of many files and kill the registry after `delay` seconds. Return the response, if one came."""
    node, data = large(2000, name)
    put_into_store(registry, person.name, data)
    sending = threading.Event()

    def push() -> httpx.Response | None:
        body = {"contents": node, "description": "", "sizes": trees.sizes(data), "dry_run": False}
        content = gzip.compress(json.dumps(body).encode(), 1)
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        target = f"/api/package/{person.name}/{name}/{trees.top_hash(node)}"
        sending.set()
        try:
            return person.put(target, content=content, headers=headers)
        except httpx.TransportError:
            return None

    with ThreadPoolExecutor(1) as threads:
        pushing = threads.submit(push)
        sending.wait(20)
        time.sleep(delay)  # the test varies the moment of the kill
        registry.kill()
        return node, pushing.result()


def check_whole_or_nothing(person: Person, name: str, node: Json, answer: httpx.Response | None) -> bool:
    """Return whether the push was stored. In either case, check that repeating it succeeds."""
    log = person.get(f"/api/log/{person.name}/{name}/")
    if log.status_code == 200:
        assert [entry["hash"] for entry in log.json()["logs"]] == [trees.top_hash(node)]
        check_install(person, person.name, name, node)
    else:
        assert log.status_code == 404
        assert answer is None or answer.status_code != 200, "an acknowledged push was lost"
    urls = person.send_push(person.name, name, node, dry_run=True).json()["upload_urls"]
    for each in list(urls.values())[:20]:
        assert httpx.head(each["head"]).status_code == 200  # nothing has to be uploaded again
    sizes = {name: (person.registry.objects / "objs" / person.name / name).stat().st_size for name in urls}
    assert person.send_push(person.name, name, node, sizes=sizes).status_code == 200
    check_install(person, person.name, name, node)
    return log.status_code == 200


def wait_for_sessions_to_end(registry: Registry) -> None:
    """Wait until PostgreSQL has noticed that its clients are gone."""
    query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    wait_until(lambda: not run_sql(database_url_of(registry), query))


@pytest.mark.slow
def test_a_push_killed_anywhere_is_there_whole_or_not_at_all(registry: Registry, anna: Person) -> None:
    node, data = large(2000, "first")
    put_into_store(registry, "anna", data)
    start = time.monotonic()
    assert anna.send_push("anna", "first", node, sizes=trees.sizes(data)).status_code == 200
    usual = time.monotonic() - start
    outcomes = []
    for i in range(12):
        name = new_name()
        node, answer = push_and_kill(registry, anna, name, usual * i / 10)
        wait_for_sessions_to_end(registry)
        registry.start()
        check_sound(registry)
        outcomes.append(check_whole_or_nothing(anna, name, node, answer))
    assert False in outcomes, "every push ended before its kill"
    assert registry.stop() == 0


@pytest.mark.slow
def test_the_embedded_database_survives_kills_too(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "home").start()
    try:
        made = registry.command(
            "create-admin", "--username", "anna", "--email", "a@example.com", "--password-stdin", input=PASSWORD
        )
        assert made.returncode == 0, made.stderr
        anna = registry.sign_in("anna")
        for delay in (0.02, 0.1, 0.3):
            name = new_name()
            node, answer = push_and_kill(registry, anna, name, delay)
            registry.start()
            check_sound(registry)
            check_whole_or_nothing(anna, name, node, answer)
    finally:
        if registry.process is not None and registry.process.poll() is not None:
            registry.start()  # so that the database shuts down cleanly
        assert registry.stop() == 0
    check_log(registry)


def test_what_was_uploaded_before_a_kill_is_found_by_the_next_push(registry: Registry, anna: Person) -> None:
    node, data = large(600, new_name())
    urls = anna.send_push("anna", "data", node, dry_run=True).json()["upload_urls"]
    folder = registry.objects / "objs" / "anna"

    def send(part: list[bytes]) -> None:
        with httpx.Client() as http:
            for each in part:
                http.put(urls[trees.sha(each)]["put"], content=each)

    with ThreadPoolExecutor(3) as threads:
        sending = [threads.submit(send, data[i::3]) for i in range(3)]
        wait_until(lambda: folder.exists() and len(os.listdir(folder)) >= 100)
        registry.kill()
        assert all(isinstance(each.exception(), httpx.TransportError) for each in sending)
    there = set(os.listdir(folder))
    assert 100 <= len(there) < 600
    assert all(trees.sha((folder / name).read_bytes()) == name for name in there)

    registry.start()
    urls = anna.send_push("anna", "data", node, dry_run=True).json()["upload_urls"]
    with httpx.Client() as http:
        missing = {name for name, each in urls.items() if http.head(each["head"]).status_code == 404}
        assert missing == urls.keys() - there
        for each in data:
            if trees.sha(each) in missing:
                assert http.put(urls[trees.sha(each)]["put"], content=each).status_code == 200
    assert anna.send_push("anna", "data", node, sizes=trees.sizes(data)).status_code == 200
    check_install(anna, "anna", "data", node)


@needs_proc
def test_no_process_outlives_a_killed_registry(own_registry: Start) -> None:
    registry = own_registry(workers=2)
    started = processes_of(registry)
    registry.kill()
    wait_until(lambda: not any(map(is_alive, started)), 10)


@needs_proc
def test_a_killed_worker_is_replaced(own_registry: Start) -> None:
    registry = own_registry(workers=2)
    anna = registry.make_person("anna")
    victim = spawned(pid_of(registry))[0]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len(workers := spawned(pid_of(registry))) == 2 and victim not in workers)
    anna.push("data", {"a": b"1"})
    assert registry.stop() == 0


# ------------------------------------------------------------------------------------------------ several processes


@contextmanager
def paused(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@needs_proc
def test_a_sign_in_at_one_worker_is_known_to_the_other(own_registry: Start) -> None:
    registry = own_registry(workers=2)
    registry.make_person("anna")
    first, second = wait_until(lambda: len(found := spawned(pid_of(registry))) == 2 and found)
    with paused(second):
        anna = registry.sign_in("anna")
        top_hash = anna.push("data", {"a": b"1", "b": {"c": b"2"}})
        anna.http.close()
    again = Person(registry, "anna", anna.token)
    with paused(first):
        again.install("anna", "data", top_hash)
    check_log(registry)


@needs_proc
def test_all_processes_stop_when_asked_to(own_registry: Start) -> None:
    registry = own_registry(workers=2)
    started = processes_of(registry)
    assert registry.stop() == 0
    wait_until(lambda: not any(map(is_alive, started)), 10)
    check_log(registry)


def test_two_registries_take_pushes_of_one_package_at_once(own_registry: Start, tmp_path: Path) -> None:
    first = own_registry(tmp_path / "home")
    second = own_registry(tmp_path / "home", first.database_url)
    first.make_person("anna")
    annas = [registry.sign_in("anna") for registry in (first, second) * 3]
    same = {"same": b"0"}

    pushed = at_once(*(lambda anna=anna: anna.push("data", same) for anna in annas))
    assert len(set(pushed)) == 1
    different = at_once(*(lambda i=i, anna=anna: anna.push("data", {"f": b"%d" % i}) for i, anna in enumerate(annas)))
    parts = at_once(
        *(
            lambda i=i, anna=anna: anna.push_part("parts", f"part{i}", trees.file(b"%d" % i), [b"%d" % i]).status_code
            for i, anna in enumerate(annas)
        )
    )
    assert parts == [200] * 6

    log = annas[0].get("/api/log/anna/data/").json()["logs"]
    assert sorted(entry["hash"] for entry in log) == sorted([*pushed, *different])
    latest = annas[1].get("/api/tag/anna/parts/latest").json()["hash"]
    assert annas[1].install("anna", "parts", latest)["contents"]["children"].keys() == {f"part{i}" for i in range(6)}
    check_sound(first)
    check_log(first)


def test_pushing_while_the_package_is_deleted_ends_well(registry: Registry, anna: Person) -> None:
    files = {"a": b"1", "b": {"c": b"2", "d": b"3"}}
    node, data = trees.tree(files), trees.contents(files)
    anna.push("data", files)
    done = threading.Event()

    def push() -> list[tuple[str, int]]:
        person, seen = Person(registry, "anna", anna.token), []
        for _ in range(25):
            whole = person.send_push("anna", "data", node, sizes=trees.sizes(data))
            tag = person.put("/api/tag/anna/data/latest", json={"hash": trees.top_hash(node)})
            part = person.send_push("anna", "data", trees.file(b"1"), path="e", sizes=trees.sizes([b"1"]))
            seen += [("whole", whole.status_code), ("tag", tag.status_code), ("part", part.status_code)]
        return seen

    def delete() -> list[tuple[str, int]]:
        person, seen = Person(registry, "anna", anna.token), []
        while not done.is_set():
            seen.append(("delete", person.delete("/api/package/anna/data/").status_code))
        return seen

    with ThreadPoolExecutor(4) as threads:
        deleting = threads.submit(delete)
        pushing = [threads.submit(push) for _ in range(3)]
        try:
            seen = {each for future in pushing for each in future.result()}
        finally:
            done.set()
        seen |= set(deleting.result())
    assert {("whole", 200), ("part", 200), ("delete", 200)} <= seen
    assert seen <= {
        ("whole", 200), ("whole", 409), ("tag", 200), ("tag", 404), ("part", 200), ("part", 409),
        ("delete", 200), ("delete", 404),
    }  # fmt: skip
    check_sound(registry)
    check_log(registry)
    top_hash = anna.push("data", files)
    anna.install("anna", "data", top_hash)


@needs_proc
def test_a_helper_that_dies_loses_one_response(registry: Registry, anna: Person) -> None:
    node, data = large(20_000, new_name())
    put_into_store(registry, "anna", data)
    helpers = spawned(pid_of(registry))
    with ThreadPoolExecutor(1) as threads:
        for helper in helpers:
            os.kill(helper, signal.SIGSTOP)  # so that none has finished when it is killed
        pushing = threads.submit(anna.send_push, "anna", "data", node, sizes=trees.sizes(data))
        time.sleep(5)  # until the push has reached a helper, also on a busy machine
        for helper in helpers:
            os.kill(helper, signal.SIGKILL)
        answer = pushing.result()
    assert answer.status_code == 503
    assert "Try again" in message_of(answer)
    assert anna.get("/api/log/anna/data/").status_code == 404
    assert anna.send_push("anna", "data", node, sizes=trees.sizes(data)).status_code == 200
    check_install(anna, "anna", "data", node)
    check_log(registry)


# ------------------------------------------------------------------------------------------------ database unavailable


def request_repeatedly(calls: list[Callable[[], httpx.Response]], done: threading.Event) -> list[httpx.Response]:
    answers = []
    while not done.is_set():
        for call in calls:
            answers.append(call())
    return answers


@pytest.mark.slow
def test_a_database_that_is_away_for_ten_seconds_is_no_catastrophe(own_registry: Start, tmp_path: Path) -> None:
    with own_postgres(tmp_path / "postgres") as postgres:
        url = postgres.url(embedded_postgres.DATABASE)
        schema.migrate(url)
        registry = own_registry(database_url=url)
        anna = registry.make_person("anna")
        node, data = large(1200, new_name())
        put_into_store(registry, "anna", data)
        top_hash = anna.push("data", {"a": b"1"})
        counter = iter(range(10**9))
        acknowledged: list[str] = []
        done = threading.Event()

        def push() -> httpx.Response:
            person, name = Person(registry, "anna", anna.token), f"away{next(counter)}"
            with person.http:
                answer = person.send_push("anna", name, node, sizes=trees.sizes(data))
            if answer.status_code == 200:
                acknowledged.append(name)
            return answer

        reading: list[Callable[[], httpx.Response]] = [
            lambda: httpx.get(registry.url + "/healthcheck"),
            lambda: anna.get("/api/me"),
            lambda: anna.get(f"/api/package/anna/data/{top_hash}"),
            lambda: anna.get("/api/log/anna/data/"),
            lambda: httpx.get(registry.url + "/signin"),
        ]
        with ThreadPoolExecutor(4) as threads:
            traffic = [
                threads.submit(request_repeatedly, calls, done) for calls in (reading, reading[1:], [push], [push])
            ]
            try:
                wait_until(lambda: len(acknowledged) >= 2)
                postgres.stop()
                time.sleep(10)
                postgres.start()
                before = len(acknowledged)
                wait_until(lambda: len(acknowledged) >= before + 2)
            finally:
                done.set()
            answers = [answer for future in traffic for answer in future.result()]

        assert {answer.status_code for answer in answers} <= {200, 503}
        refused = [answer for answer in answers if answer.status_code == 503]
        assert all("Try again" in message_of(answer) for answer in refused)
        assert all(answer.status_code == 200 for answer in answers if answer.url.path == "/healthcheck")
        for name in acknowledged:
            check_install(anna, "anna", name, node)
        check_sound(registry)
        check_log(registry)
        assert registry.stop() == 0


# ------------------------------------------------------------------------------------------------ the store


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """Mount a file system of a few megabytes, or skip the test if that is not permitted."""
    folder.mkdir(parents=True)
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, text=True
        )
    except OSError as error:
        pytest.skip(f"cannot mount a small file system: {error}")
    if done.returncode:
        pytest.skip(f"cannot mount a small file system: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_store_says_so_and_takes_the_push_once_there_is_room(own_registry: Start, tmp_path: Path) -> None:
    with small_disk(tmp_path / "home" / "objects", "4m"):
        registry = own_registry(tmp_path / "home")
        anna = registry.make_person("anna")
        filler = registry.objects / "filler"
        filler.write_bytes(bytes(3 * 1024 * 1024))
        data = [b"x" * 2_000_000, b"small"]
        node = trees.root({"large": trees.file(data[0]), "small": trees.file(data[1])})
        urls = anna.send_push("anna", "data", node, dry_run=True).json()["upload_urls"]
        put = urls[trees.sha(data[0])]["put"]
        pieces = [data[0][i : i + 100_000] for i in range(0, len(data[0]), 100_000)]

        for content in (data[0], iter(pieces)):  # with and without Content-Length
            answer = httpx.put(put, content=content)
            assert answer.status_code == 507
            assert "no space" in message_of(answer)
            assert uploads(registry) == []
        assert httpx.put(urls[trees.sha(data[1])]["put"], content=data[1]).status_code == 200
        refused = anna.send_push("anna", "data", node, sizes=trees.sizes(data))
        assert refused.status_code == 400
        assert trees.sha(data[0]) in message_of(refused)

        filler.unlink()
        top_hash = anna.push_tree("data", node, data)
        anna.install("anna", "data", top_hash)
        check_sound(registry)
        check_log(registry)
        assert registry.stop() == 0


@pytest.mark.parametrize("instead", ["nothing", "a file"])
def test_a_store_that_is_away_is_reported_and_comes_back(registry: Registry, anna: Person, instead: str) -> None:
    top_hash = anna.push("data", {"a": b"1"})
    got = next(iter(anna.install("anna", "data", top_hash)["urls"].values()))
    node = trees.root({"b": trees.file(b"2")})
    put = anna.send_push("anna", "data", node, dry_run=True).json()["upload_urls"][trees.sha(b"2")]["put"]
    away = registry.home / "away"
    registry.objects.rename(away)
    if instead == "a file":
        registry.objects.write_text("not a folder")

    refused = httpx.put(put, content=b"2")
    assert refused.status_code == 503
    assert "object store" in message_of(refused)
    assert httpx.get(got).status_code in (404, 503)
    answer = anna.send_push("anna", "data", node, sizes={trees.sha(b"2"): 1})
    assert answer.status_code in (400, 503)
    assert message_of(answer)
    assert anna.get("/api/log/anna/data/").status_code == 200

    if registry.objects.exists():
        registry.objects.unlink()
    away.rename(registry.objects)
    anna.install("anna", "data", top_hash)
    anna.push_tree("data", node, [b"2"])
    check_log(registry)


def test_an_object_that_was_lost_is_missed_and_can_be_pushed_again(registry: Registry, anna: Person) -> None:
    files = {"a": b"1", "b": b"2"}
    top_hash = anna.push("data", files)
    (registry.objects / "objs" / "anna" / trees.sha(b"1")).unlink()
    urls = anna.get(f"/api/package/anna/data/{top_hash}").json()["urls"]
    answer = httpx.get(urls[trees.sha(b"1")], headers={"Range": "bytes=0-"})
    assert answer.status_code == 404
    assert message_of(answer)
    anna.push("data", files)  # its HEAD reports it as missing
    anna.install("anna", "data", top_hash)


# ------------------------------------------------------------------------------------------------ the network


def connect(registry: Registry) -> socket.socket:
    return socket.create_connection(("127.0.0.1", registry.port), timeout=30)


def head_of(method: str, target: str, length: int, *more: str) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {length}", *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def upload_target(person: Person, data: bytes) -> str:
    node = trees.root({"a": trees.file(data)})
    answer = person.send_push(person.name, "data", node, dry_run=True)
    return urlsplit(answer.json()["upload_urls"][trees.sha(data)]["put"])._replace(scheme="", netloc="").geturl()


def test_an_upload_that_is_cut_off_leaves_nothing(registry: Registry, anna: Person) -> None:
    data = bytes(3_000_000)
    target = upload_target(anna, data)
    with connect(registry) as line:
        line.sendall(head_of("PUT", target, len(data)) + data[:2_000_000])
        wait_until(lambda: uploads(registry))  # part of it is on disk
    wait_until(lambda: not uploads(registry))
    assert httpx.head(registry.url + target).status_code == 404
    assert httpx.put(registry.url + target, content=data).status_code == 200
    check_log(registry)


def test_a_push_that_is_cut_off_stores_nothing(registry: Registry, anna: Person) -> None:
    node, data = large(2000, new_name())
    put_into_store(registry, "anna", data)
    body = json.dumps({"contents": node, "description": "", "sizes": trees.sizes(data)}).encode()
    target = f"/api/package/anna/data/{trees.top_hash(node)}"
    head = head_of("PUT", target, len(body), f"Authorization: Bearer {anna.token}", "Content-Type: application/json")
    for sent in (0, 1, len(body) // 2, len(body) - 1):
        with connect(registry) as line:
            line.sendall(head + body[:sent])
    with connect(registry) as line:  # send half of it, then wait for a response
        line.sendall(head + body[: len(body) // 2])
        line.shutdown(socket.SHUT_WR)
        while line.recv(1000):
            pass
    assert registry.answers()
    assert anna.get("/api/log/anna/data/").status_code == 404
    assert anna.send_push("anna", "data", node, sizes=trees.sizes(data)).status_code == 200
    check_log(registry)


def test_slow_uploads_arrive_and_block_no_other_request(registry: Registry, anna: Person) -> None:
    data = os.urandom(50_000)
    target = upload_target(anna, data)
    lines = [connect(registry) for _ in range(30)]  # more than there are database connections
    for line in lines:
        line.sendall(head_of("PUT", target, len(data)))
    for start in range(0, len(data), 10_000):
        for line in lines:
            line.sendall(data[start : start + 10_000])
        begun = time.monotonic()
        assert anna.get("/api/me").status_code == 200
        assert time.monotonic() - begun < 2
    for line in lines:
        with line:
            assert line.recv(1000).startswith(b"HTTP/1.1 200 ")
    assert uploads(registry) == []
    check_log(registry)


def test_clients_that_go_away_in_the_middle_of_an_install_leave_no_trace(registry: Registry, anna: Person) -> None:
    node, data = large(20_000, new_name())
    put_into_store(registry, "anna", data)
    assert anna.send_push("anna", "data", node, sizes=trees.sizes(data)).status_code == 200
    target = f"/api/package/anna/data/{trees.top_hash(node)}"
    for _ in range(25):  # more than there are database connections
        with connect(registry) as line:
            line.sendall(head_of("GET", target, 0, f"Authorization: Bearer {anna.token}"))
            assert line.recv(500).startswith(b"HTTP/1.1 200 ")
    check_install(anna, "anna", "data", node)
    top_hash = anna.push("large", {"a": bytes(30_000_000)})
    url = anna.install("anna", "large", top_hash)["urls"][trees.sha(bytes(30_000_000))]
    for _ in range(25):
        with connect(registry) as line:
            line.sendall(head_of("GET", url.removeprefix(registry.url), 0))
            assert line.recv(500).startswith(b"HTTP/1.1 200 ")
    anna.install("anna", "large", top_hash)
    assert registry.stop() == 0
    check_log(registry)


def peak_memory(registry: Registry) -> int:
    """Return the sum of the peak memory of the registry and its helpers, in bytes."""
    total = 0
    for pid in [pid_of(registry), *descendants(pid_of(registry))]:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    return total


def bomb(size: int) -> bytes:
    deflater, block = zlib.compressobj(9, wbits=31), bytes(1 << 20)
    packed = [deflater.compress(b'{"contents":"')]
    packed += [deflater.compress(block) for _ in range(size >> 20)]
    return b"".join(packed) + deflater.flush()


@needs_proc
def test_a_gzip_bomb_is_refused_and_does_not_grow(registry: Registry, anna: Person) -> None:
    packed = bomb(500 << 20)
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    before = peak_memory(registry)
    for call in (
        lambda: anna.put(f"/api/package/anna/data/{'0' * 64}", content=packed, headers=headers),
        lambda: anna.post("/api/package_update/anna/data/a", content=packed, headers=headers),
        lambda: anna.post("/api/get_objects", content=packed, headers=headers),
        lambda: anna.post("/api/login", content=packed, headers=headers),
        lambda: anna.put("/api/tag/anna/data/latest", content=packed, headers=headers),
    ):
        answer = call()
        assert answer.status_code == 413
        assert message_of(answer)
    assert peak_memory(registry) - before < 120_000_000
    unknown = registry.nobody()
    answer = unknown.put(f"/api/package/anna/data/{'0' * 64}", content=packed, headers=headers)
    assert answer.status_code == 401
    check_log(registry)


def test_a_body_without_end_is_refused_before_it_ends(registry: Registry, anna: Person) -> None:
    target = f"/api/package/anna/data/{'0' * 64}"
    block = bytes(1 << 20)
    answer = anna.put(target, content=(block for _ in range(120)), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    with connect(registry) as line:
        line.sendall(head_of("PUT", target, 10**12, f"Authorization: Bearer {anna.token}"))
        assert line.recv(1000).startswith(b"HTTP/1.1 413 ")
    check_log(registry)
