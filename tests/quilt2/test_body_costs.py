"""Requests that cost more than they seem to: none of them stops others, and each is refused with a sentence."""

from __future__ import annotations

import contextlib
import gzip
import json
import multiprocessing
import os
import signal
import socket
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from unittest import mock

import httpx
import pytest

from quilt_registry import app, bodies, database, offload
from quilt_registry.api import messages
from quilt_registry.manifests import render, requested
from quilt_registry.offload import MAX_INLINE_WEIGHT, Offload
from quilt_registry.packages import object_urls, push
from quilt_registry.turns import Turns, current_person
from tests import trees
from tests.gates import held_up
from tests.registry import LocalRegistry, Person, new_name
from tests.trees import Json
from tests.waiting import wait_until

Start = Callable[..., LocalRegistry]
JSON = {"Content-Type": "application/json"}
PACKED = {**JSON, "Content-Encoding": "gzip"}
TARGETS = {"whole": ("PUT", "/api/package/{}/{}/" + "0" * 64), "part": ("POST", "/api/package_update/{}/{}/part")}
THOUSAND = trees.tree({f"f{i}": b"1" for i in range(1000)})  # enough for a helper
both = pytest.mark.parametrize("kind", TARGETS)


@pytest.fixture(scope="module")
def registry(new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    """A registry of tests that need no settings and helpers of their own."""
    running = LocalRegistry(tmp_path_factory.mktemp("home"), new_database()).start()
    yield running
    assert not running.stop()


@pytest.fixture
def anna(registry: LocalRegistry) -> Person:
    """A user without packages."""
    return registry.make_person(new_name("anna"))


@pytest.fixture
def unpacked() -> Iterator[list[int]]:
    """The sizes of the bodies that are unpacked in this process, by whose event loop the registry runs."""
    sizes: list[int] = []
    unpack = bodies.unpack

    def record(body: bodies.Packed) -> bytes | bytearray:
        data = unpack(body)
        sizes.append(len(data))
        return data

    with mock.patch.object(bodies, "unpack", record):
        yield sizes


def push_body(node: Json, **more: Any) -> bytes:
    return json.dumps({"contents": node, "description": "", "sizes": {}, "dry_run": True, **more}).encode()


def send(person: Person, kind: str, name: str, content: bytes, owner: str | None = None) -> httpx.Response:
    method, target = TARGETS[kind]
    return person.http.request(
        method, target.format(owner or person.name, name), content=gzip.compress(content), headers=PACKED
    )


def send_plain(person: Person, content: bytes) -> httpx.Response:
    return person.http.put(TARGETS["whole"][1].format(person.name, "p"), content=content, headers=JSON)


def message_of(answer: httpx.Response) -> str:
    message: str = answer.json()["message"]
    assert message.endswith(".")
    return message


def large(kind: str, metadata: Json) -> bytes:
    leaf = trees.file(b"1", metadata=metadata)
    return push_body(trees.root({"f": leaf}) if kind == "whole" else leaf)


# ----------------------------------------------------------------------------------------- what a body becomes


@both
def test_a_small_body_that_becomes_a_large_one_is_decoded_in_a_helper(
    anna: Person, unpacked: list[int], kind: str
) -> None:
    content = large(kind, {"a": [{}] * 1_000_000})
    assert len(gzip.compress(content)) < 10_000
    answer = send(anna, kind, "p", content)
    assert answer.status_code == 400
    assert "is longer than 65,536 bytes" in message_of(answer)
    assert send(anna, kind, "p", large(kind, {"a": 1})).status_code == (400 if kind == "whole" else 200)
    assert max(unpacked) < MAX_INLINE_WEIGHT * bodies.BYTES_PER_ENTRY


def test_a_body_that_hides_its_size_is_refused(anna: Person, unpacked: list[int]) -> None:
    """The end of a gzip body names its size, which decides where it is decoded. A lie is found after as many bytes."""
    unpacked.clear()
    packed = gzip.compress(large("whole", {"a": "x" * 1_000_000}))
    for claimed in (0, 100, 49_000):
        content = packed[:-4] + claimed.to_bytes(4, "little")
        answer = anna.put(TARGETS["whole"][1].format(anna.name, "p"), content=content, headers=PACKED)
        assert answer.status_code == 400
        assert "do not give its size" in message_of(answer)
    assert not unpacked


def test_a_list_of_names_is_decoded_in_a_helper(anna: Person, unpacked: list[int]) -> None:
    unpacked.clear()
    content = gzip.compress(json.dumps(["0" * 64] * 200_000).encode())
    answer = anna.post("/api/get_objects", content=content, headers=PACKED)
    assert answer.json() == {"urls": {}, "sizes": {}}
    assert not unpacked


@pytest.mark.parametrize("path", ["/api/login", "/api/token", "/api/log", "/api/v1/tokens", "/api/comments/{}/p/"])
def test_all_other_bodies_are_small(anna: Person, unpacked: list[int], path: str) -> None:
    anna.push("p", {"a": b"1"})
    path = path.format(anna.name)
    unpacked.clear()
    for content in (b"[" + b"{}," * 100_000 + b"{}]", b'{"contents":"' + b"x" * 200_000 + b'"}'):
        assert anna.post(path, content=content, headers={"Content-Type": "application/json"}).status_code == 413
        assert anna.post(path, content=gzip.compress(content), headers=PACKED).status_code in (400, 413)
    assert max(unpacked, default=0) <= 160_000


def test_a_form_with_many_fields_is_refused(registry: LocalRegistry) -> None:
    nobody = registry.nobody()
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for path in ("/signin", "/signup", "/reset_password"):
        answer = nobody.http.post(path, content=b"a&" * 70_000, headers=form)
        assert answer.status_code == 400
        assert "too many fields" in answer.text


# ----------------------------------------------------------------------------------------------------- rights first


@both
def test_who_may_not_push_is_refused_before_the_body_is_read(registry: LocalRegistry, anna: Person, kind: str) -> None:
    ben = registry.make_person(new_name("ben"))
    anna.push("shared", {"a": b"1"})
    anna.grant("shared", ben.name)
    for name, message in (("p", "create packages."), ("shared", "push private packages.")):
        with mock.patch.object(bodies, "unpack", side_effect=AssertionError):
            answer = send(ben, kind, name, b"nonsense" * 1_000_000, owner=anna.name)
        assert answer.status_code == 403
        assert message_of(answer) == f"Only the package owner can {message}"
    assert send(anna, kind, "p", b"nonsense").status_code == 400


# ---------------------------------------------------------------------------------------------------------- bounds


@both
def test_json_objects_are_counted_before_any_is_built(local_registry: Start, kind: str) -> None:
    anna = local_registry(MAX_NODES="100").make_person("anna")
    deep = {"a": [{}] * 397}
    answer = send(anna, kind, "p", large(kind, deep))
    assert answer.status_code == 413
    assert "more than 400 JSON objects" in message_of(answer)
    assert "JSON objects" not in send(anna, kind, "p", large(kind, {"a": [{}] * 390})).text


def test_a_push_that_needs_too_much_memory_is_refused(local_registry: Start) -> None:
    anna = local_registry().make_person("anna")
    many = trees.root({f"g{i}": trees.group({}) for i in range(200_000)})
    with mock.patch.object(offload, "MAX_MEMORY", 70 * 2**20):
        answer = send(anna, "whole", "p", push_body(many))
        assert answer.status_code == 413
        assert message_of(answer) == "This request needs more memory than 70 MB. Push the package in smaller parts."
        anna.push_tree("p", THOUSAND, [b"1"])


@contextmanager
def stopped_helpers() -> Iterator[None]:
    """Stop the helpers of the registry in this process, so that they work no more. Ends with them."""
    helpers = multiprocessing.active_children()
    assert helpers
    for helper in helpers:
        assert helper.pid
        os.kill(helper.pid, signal.SIGSTOP)
    yield
    for helper in helpers:
        helper.kill()
        helper.join()


@pytest.mark.parametrize("end", ["timeout", "kill"])
def test_a_helper_that_works_no_more_costs_one_request(local_registry: Start, end: str) -> None:
    anna = local_registry().make_person("anna")
    anna.push_tree("first", THOUSAND, [b"1"])
    timeout = 0.5 if end == "timeout" else 600
    with mock.patch.object(offload, "LIGHT_TIMEOUT", timeout), ThreadPoolExecutor(1) as threads:
        with stopped_helpers():
            waiting = threads.submit(anna.send_push, "anna", "p", THOUSAND, sizes=trees.sizes([b"1"]))
            if end == "timeout":
                answer = waiting.result()
            else:
                assert anna.get("/healthcheck").text == "ok"
        answer = waiting.result()
    # Killed before it got the job, a helper costs nothing.
    assert answer.status_code == 503 or (end == "kill" and answer.status_code == 200)
    if answer.status_code == 503:
        message_of(answer)
    anna.push_tree("p", THOUSAND, [b"1"])


# ---------------------------------------------------------------------------------------------------------- turns


def test_bodies_of_one_member_leave_memory_to_others(local_registry: Start) -> None:
    registry = local_registry(MAX_BODY_BYTES="1000000")
    anna, ben = registry.make_person("anna"), registry.make_person("ben")
    blanks, length = b" " * 900_000, {"Content-Length": "1000000"}

    with socket.create_connection(("127.0.0.1", registry.port)) as connection:
        head = anna.http.build_request("PUT", TARGETS["whole"][1].format("anna", "p"), headers={**JSON, **length})
        lines = [f"{name}: {value}" for name, value in head.headers.items()]
        connection.sendall("\r\n".join([f"PUT {head.url.path} HTTP/1.1", *lines, "", ""]).encode() + blanks)
        wait_until(lambda: send_plain(anna, blanks).status_code == 503, 30)  # when the first body has arrived
        refused = send_plain(anna, blanks)
        assert "your large requests" in message_of(refused)
        assert int(refused.headers["retry-after"]) > 0
        assert send_plain(ben, blanks).status_code == 400
        assert anna.get("/api/me").status_code == 200
    wait_until(lambda: send_plain(anna, blanks).status_code == 400, 30)


def test_helpers_take_turns_by_person(local_registry: Start) -> None:
    people, take = list[str](), Turns.take

    async def record(turns: Turns, *, heavy: bool) -> None:
        people.append(current_person.get())
        await take(turns, heavy=heavy)

    registry = local_registry(TEAM_ID="")
    anna = registry.make_person("anna")
    anna.push_tree("p", THOUSAND, [b"1"], is_public=True)
    with mock.patch.object(Turns, "take", record):
        anna.send_push("anna", "p", THOUSAND, dry_run=True)
        assert set(people) == {"anna"}
        people.clear()
        hashes = registry.nobody().get("/api/package/anna/p/").json()["hashes"]
        registry.nobody().get(f"/api/package/anna/p/{hashes[0]}")
    assert set(people) == {"127.0.0.1"}


def test_large_responses_of_one_person_wait_for_each_other(local_registry: Start) -> None:
    with mock.patch.object(app, "MAX_STREAMED_ENTRIES", 4):
        registry = local_registry()
    anna, ben = registry.make_person("anna"), registry.make_person("ben")
    node = trees.tree({"a": b"1", "b": b"2"})
    url = f"/api/package/anna/p/{anna.push_tree('p', node, [b'1', b'2'], is_team=True)}"
    calls = [
        lambda: anna.get(url),
        lambda: anna.send_push("anna", "p", node, dry_run=True),
        lambda: anna.post("/api/get_objects", json=[trees.sha(b"1"), trees.sha(b"2")]),
    ]
    for first in calls:
        with ThreadPoolExecutor(5) as threads, held_up(Offload, "run", *STREAMS) as gate:
            answers = [threads.submit(first)]
            wait_until(lambda: gate.waiting == 1)
            answers += [threads.submit(anna.get, url) for _ in range(3)]
            answers += [threads.submit(ben.get, url)]
            wait_until(lambda: gate.waiting == 2)
            assert anna.get("/api/me").status_code == 200
            assert gate.waiting == 2
            gate.opened.set()
            assert [each.result().status_code for each in answers] == [200] * 5


STREAMS = render.render, push._urls_json, object_urls._members


def test_a_response_that_breaks_off_lets_the_next_begin(local_registry: Start) -> None:
    with mock.patch.object(app, "MAX_STREAMED_ENTRIES", 1):
        anna = local_registry().make_person("anna")
    url = f"/api/package/anna/p/{anna.push('p', {'a': b'1'})}"
    with held_up(Offload, "run", *STREAMS) as gate:
        for attempt in range(1, 4):
            with contextlib.suppress(httpx.ReadTimeout):
                anna.http.get(url, timeout=0.5)
            wait_until(lambda attempt=attempt: gate.waiting == attempt)


# ------------------------------------------------------------------------------------ calls that everybody can make


def test_an_object_in_many_packages_is_found_once(registry: LocalRegistry, anna: Person) -> None:
    ben = registry.make_person(new_name("ben"))
    data = b"in many packages"
    for i in range(10):
        anna.push(f"p{i}", {"a": data, "b": b"%d" % i})
    anna.grant("p7", ben.name)
    for person, package in ((anna, "p0"), (ben, "p7")):
        answer = person.post("/api/get_objects", json=[trees.sha(data)] * 700).json()
        assert answer["sizes"] == trees.sizes([data])
        installs = [
            i
            for i in range(10)
            for each in registry.events(anna.name, f"p{i}", ("INSTALL",))
            if each["account"] == person.name
        ]
        assert installs == [int(package[1:])]
    assert registry.events(anna.name, "p7")[-1]["extra"] == {"objects": 1}


def test_objects_of_many_statements_and_owners_come_in_one_answer(registry: LocalRegistry, anna: Person) -> None:
    people = [anna, registry.make_person(new_name("ben"))]
    contents = {each.name: {f"f{i}": f"{each.name} {i}".encode() for i in range(30)} for each in people}
    for person in people:
        person.push("p", contents[person.name], is_team=True)
    data = [each for files in contents.values() for each in files.values()]
    with mock.patch("quilt_registry.packages.object_urls.DIGESTS_PER_STATEMENT", 7):
        answer = people[0].post("/api/get_objects", json=[*map(trees.sha, data), "0" * 64]).json()
    assert answer["sizes"] == trees.sizes(data)
    assert all(f"/{owner}/{trees.sha(each)}?" in answer["urls"][trees.sha(each)]
               for owner, files in contents.items() for each in files.values())  # fmt: skip
    installs = [each["extra"] for name in contents for each in registry.events(name, "p", ("INSTALL",))]
    assert installs == [{"objects": 30}, {"objects": 30}]


def test_more_names_than_one_request_may_have_are_refused(anna: Person) -> None:
    names = [f"{i:064x}" for i in range(requested.MAX_NAMES + 1)]
    answer = anna.post("/api/get_objects", json=names)
    assert answer.status_code == 413
    assert "names 100,001 objects, more than the 100,000" in message_of(answer)
    assert anna.post("/api/get_objects", json=names[1:] * 2).status_code == 200
    assert anna.post("/api/get_objects", json=names * 3).status_code == 413  # by its bytes


PUBLIC_CALLS = ["/api/search/?q=word", "/api/search/", "/api/recent_packages/", "/api/package/anna/", "/api/profile"]


def test_calls_that_everybody_can_make_get_little_time_and_not_all_connections(local_registry: Start) -> None:
    registry = local_registry(DATABASE_POOL="4")
    anna = registry.make_person("anna")
    anna.push("p", {"a": b"1"})
    others = [Person(registry, "anna", anna.token) for _ in PUBLIC_CALLS * 2]

    def calls(threads: ThreadPoolExecutor) -> list[Future[httpx.Response]]:
        asked = [threads.submit(other.get, path) for other, path in zip(others, PUBLIC_CALLS * 2, strict=True)]
        return [*asked, threads.submit(others[-1].post, "/api/get_objects", json=[trees.sha(b"1")])]

    with ThreadPoolExecutor(len(others) + 1) as threads:
        with (
            mock.patch.object(database, "PUBLIC_TIMEOUT", 0.5),
            registry.left_open("LOCK TABLE access, package IN ACCESS EXCLUSIVE MODE"),
        ):
            waiting = calls(threads)
            assert anna.get("/api/me").status_code == 200  # needs a connection too
            for each in waiting:
                assert each.result().status_code == 503
                assert "took too long" in message_of(each.result())
        assert {each.result().status_code for each in calls(threads)} == {200}


@pytest.mark.parametrize("compressobj", [messages._compressobj, zlib.compressobj], ids=["isal", "zlib"])
def test_a_large_answer_is_the_same_with_gzip(anna: Person, compressobj: Any) -> None:
    with mock.patch.object(messages, "_compressobj", compressobj):
        answers = []
        for encoding in ("identity", "gzip"):
            with anna.http.stream(
                "PUT", TARGETS["whole"][1].format(anna.name, "p").replace("0" * 64, trees.top_hash(THOUSAND)),
                content=push_body(THOUSAND), headers={"Content-Type": "application/json", "Accept-Encoding": encoding},
            ) as answer:  # fmt: skip
                assert answer.headers.get("content-encoding", "identity") == encoding
                answers.append(b"".join(answer.iter_raw()))
    plain, packed = answers
    assert len(packed) < len(plain)
    assert json.loads(zlib.decompress(packed, 31)).keys() == json.loads(plain).keys() == {"upload_urls"}
