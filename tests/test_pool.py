"""Requests that take long hold no connection of the pool, so that others are answered meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from unittest import mock

import httpx
import pytest

from quilt_registry.database import Database
from quilt_registry.manifests import pushed, render
from quilt_registry.offload import Offload
from quilt_registry.packages import commit, push
from quilt_registry.storage.objects import ObjectStore
from tests import trees
from tests.gates import held_up
from tests.registry import LocalRegistry, Person
from tests.waiting import wait_until

POOL, AT_ONCE = 2, 6  # connections; requests that are held up


@pytest.fixture
def anna(local_registry: Callable[..., LocalRegistry]) -> Person:
    """Has a package, on a registry with two connections."""
    anna = local_registry(DATABASE_POOL=str(POOL)).make_person("anna")
    anna.push("p", {"before": b"0"})
    return anna


def answers(person: Person) -> None:
    """Check that small requests are answered, which need the database."""
    for path in ("/api/tag/anna/p/latest", "/api/package/anna/", "/readyz"):
        assert person.http.get(path, timeout=5).status_code == 200


def results(futures: list[Future[httpx.Response]]) -> list[int]:
    return [future.result(60).status_code for future in futures]


def prepare_parts(anna: Person, count: int) -> list[Callable[[], httpx.Response]]:
    """Upload parts. Return their pushes."""
    parts = [b"part %d" % i for i in range(count)]
    for i, part in enumerate(parts):
        anna.upload("anna", "p", trees.file(part), [part], path=f"g/p{i}")
    return [
        lambda i=i, part=part: anna.send_push("anna", "p", trees.file(part), sizes=trees.sizes([part]), path=f"g/p{i}")
        for i, part in enumerate(parts)
    ]


def test_parts_that_wait_for_a_helper_hold_no_connection_and_are_all_kept(anna: Person) -> None:
    pushes = prepare_parts(anna, AT_ONCE)
    with ThreadPoolExecutor(AT_ONCE) as threads, held_up(Offload, "run", pushed.merge) as gate:
        futures = [threads.submit(send) for send in pushes]
        wait_until(lambda: gate.waiting > 0)
        answers(anna)
        gate.opened.set()
        assert results(futures) == [200] * AT_ONCE
    top_hash = anna.get("/api/tag/anna/p/latest").json()["hash"]
    children = anna.install("anna", "p", top_hash)["contents"]["children"]
    assert children.keys() == {"before", "g"}
    assert children["g"]["children"].keys() == {f"p{i}" for i in range(AT_ONCE)}


def test_parts_that_two_workers_merge_at_the_same_time_are_all_kept(
    anna: Person, local_registry: Callable[..., LocalRegistry]
) -> None:
    """Workers do not know of each other's locks: the second finds that `latest` has moved, and merges again."""
    home = str(anna.registry.home)
    other = local_registry(anna.registry.database_url, DATABASE_POOL=str(POOL), QUILT_HOME=home)
    pushes = prepare_parts(anna, 2)
    colleague = Person(other, "anna", anna.token)
    with ThreadPoolExecutor(2) as threads, held_up(Offload, "run", pushed.merge) as gate:
        futures = [threads.submit(pushes[0]), threads.submit(_push_second, colleague)]
        wait_until(lambda: gate.waiting == 2)
        gate.opened.set()
        assert results(futures) == [200, 200]
        assert gate.waiting == 3
    contents = anna.get(f"/api/package/anna/p/{anna.get('/api/tag/anna/p/latest').json()['hash']}").json()["contents"]
    assert contents["children"]["g"]["children"].keys() == {"p0", "p1"}
    assert len(anna.get("/api/log/anna/p/").json()["logs"]) == 3


def _push_second(person: Person) -> httpx.Response:
    return person.send_push("anna", "p", trees.file(b"part 1"), sizes=trees.sizes([b"part 1"]), path="g/p1")


@pytest.mark.parametrize(("max_light", "attempts"), [(push.MAX_LIGHT_WEIGHT, 20), (0, 5)], ids=["light", "heavy"])
def test_a_part_whose_base_never_stands_still_is_refused_with_a_sentence(
    anna: Person, max_light: int, attempts: int
) -> None:
    """It is merged again and again, but parsed once."""
    (send,) = prepare_parts(anna, 1)
    other = anna.push("p", {"other": b"1"}, tag="other")
    latest = anna.get("/api/tag/anna/p/latest").json()["hash"]
    moves, jobs = iter([other, latest] * 50), Counter[Any]()
    original = Offload.run

    async def run(self: Any, weight: int, function: Any, *args: Any, **options: Any) -> Any:
        jobs[function] += 1
        if function is pushed.merge:
            to = bytes.fromhex(next(moves))
            await asyncio.to_thread(anna.registry.sql, _MOVE_LATEST, to)
        return await original(self, weight, function, *args, **options)

    with mock.patch.object(Offload, "run", run), mock.patch.object(push, "MAX_LIGHT_WEIGHT", max_light):
        answer = send()
    assert answer.status_code == 409
    assert (jobs[pushed.parse_part], jobs[pushed.merge]) == (1, attempts)
    assert answer.json() == {"message": "The package changed again and again during the push. Push again in a moment."}


_MOVE_LATEST = """
    UPDATE tag SET instance_id = (SELECT id FROM instance WHERE top_hash = $1) WHERE name = 'latest'
"""


@pytest.mark.parametrize("method", ["fsync", "beginning"])
def test_pushes_that_wait_for_the_object_store_hold_no_connection(anna: Person, method: str) -> None:
    nodes = [trees.tree({"README": b"readme %d" % i}) for i in range(AT_ONCE)]
    for i, node in enumerate(nodes):
        anna.upload("anna", f"new{i}", node, [b"readme %d" % i])
    with ThreadPoolExecutor(AT_ONCE) as threads, held_up(ObjectStore, method) as gate:
        futures = [
            threads.submit(anna.send_push, "anna", f"new{i}", node, sizes=trees.sizes([b"readme %d" % i]))
            for i, node in enumerate(nodes)
        ]
        wait_until(lambda: gate.waiting == AT_ONCE)
        answers(anna)
        gate.opened.set()
        assert results(futures) == [200] * AT_ONCE


def test_answers_that_are_still_being_made_hold_no_connection(anna: Person) -> None:
    top_hash = anna.get("/api/tag/anna/p/latest").json()["hash"]
    half = AT_ONCE // 2
    with ThreadPoolExecutor(AT_ONCE) as threads, held_up(Offload, "run", render.render, push._urls_json) as gate:
        futures = [threads.submit(anna.get, f"/api/package/anna/p/{top_hash}") for _ in range(half)]
        node = trees.tree({"before": b"0"})
        futures += [threads.submit(anna.send_push, "anna", "p", node, dry_run=True) for _ in range(half)]
        wait_until(lambda: gate.waiting == 2 * half)
        answers(anna)
        gate.opened.set()
        assert results(futures) == [200] * 2 * half


def test_those_who_wait_for_a_package_that_is_being_changed_hold_one_connection_together(anna: Person) -> None:
    """Another worker holds the package's row: of this worker's requests for the row only one waits for it."""
    top_hash = anna.get("/api/tag/anna/p/latest").json()["hash"]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        with anna.registry.left_open("SELECT FROM package WHERE name = 'p' FOR NO KEY UPDATE"):
            futures = [
                threads.submit(anna.put, f"/api/tag/anna/p/t{i}", json={"hash": top_hash}) for i in range(AT_ONCE)
            ]
            wait_until(lambda: anna.registry.sql(_WAITING_FOR_A_ROW)[0][0] == 1)
            answers(anna)
            # Comments and access need not wait for it at all.
            assert anna.post("/api/comments/anna/p/", json={"contents": "Hello"}).status_code == 200
            assert anna.put("/api/access/anna/p/team").status_code == 200
            assert anna.registry.sql(_WAITING_FOR_A_ROW)[0][0] == 1
        assert results(futures) == [200] * AT_ONCE


_WAITING_FOR_A_ROW = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%package%'"


def test_long_transactions_leave_half_of_the_pool_to_others(anna: Person) -> None:
    """Another worker holds rows that six pushes to different packages want, so that their transactions take long."""
    nodes = [trees.tree({"a": b"%d" % i}) for i in range(AT_ONCE)]
    for i in range(AT_ONCE):
        anna.push(f"of{i}", {"a": b"%d" % i})
    with ThreadPoolExecutor(AT_ONCE) as threads:
        with anna.registry.left_open("SELECT FROM package FOR NO KEY UPDATE"):
            futures = [
                threads.submit(anna.send_push, "anna", f"of{i}", node, sizes=trees.sizes([b"%d" % i]))
                for i, node in enumerate(nodes)
            ]
            wait_until(lambda: anna.registry.sql(_WAITING_FOR_A_ROW)[0][0] == POOL // 2)
            answers(anna)
        assert results(futures) == [200] * AT_ONCE


def test_large_pushes_leave_a_transaction_to_small_pushes_of_others(
    local_registry: Callable[..., LocalRegistry], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With four connections, two are for pushes."""
    monkeypatch.setattr(commit, "MAX_LIGHT_WEIGHT", 2)
    registry = local_registry(DATABASE_POOL="4")
    anna, ben = registry.make_person("anna"), registry.make_person("ben")
    large = [[b"%d %d" % (i, j) for j in range(3)] for i in range(AT_ONCE)]
    nodes = [trees.tree({f"f{j}": each for j, each in enumerate(data)}) for data in large]
    for i, data in enumerate(large):
        anna.push(f"p{i}", {})
        anna.upload("anna", f"p{i}", nodes[i], data)
    with ThreadPoolExecutor(AT_ONCE) as threads:
        with registry.left_open("SELECT FROM package FOR NO KEY UPDATE"):
            futures = [
                threads.submit(anna.send_push, "anna", f"p{i}", nodes[i], sizes=trees.sizes(data))
                for i, data in enumerate(large)
            ]
            wait_until(lambda: registry.sql(_WAITING_FOR_A_ROW)[0][0] == 1)
            ben.push("small", {"a": b"1"})
            assert registry.sql(_WAITING_FOR_A_ROW)[0][0] == 1
        assert results(futures) == [200] * AT_ONCE


def test_the_check_itself(new_database: Callable[[], str]) -> None:
    url = new_database()

    async def run() -> None:
        database = Database(url, 2)
        await database.open()
        async with database.transaction():
            with pytest.raises(AssertionError, match="a second connection"):
                await database.fetchval("SELECT 1")
            with pytest.raises(AssertionError, match=r"Offload\.run"):
                await Offload(1).run(1, len, ())
        assert await database.fetchval("SELECT 1") == 1
        await database.close()

    asyncio.run(run())
