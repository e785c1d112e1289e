"""Concurrent requests. The races that crashed the original (protocol §18 R) are in test_differences.py."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import httpx

from tests import trees
from tests.registry import Person, Registry, new_name

AT_ONCE = 4


def at_once(work: Callable[[int], httpx.Response]) -> list[httpx.Response]:
    """Return the responses to four requests that start together."""
    barrier = Barrier(AT_ONCE)

    def run(i: int) -> httpx.Response:
        barrier.wait(30)
        return work(i)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(run, range(AT_ONCE)))


def statuses(responses: list[httpx.Response]) -> list[int]:
    return sorted(response.status_code for response in responses)


def test_parts_of_a_package_that_is_there_are_all_kept(anna: Person) -> None:
    name = new_name()
    anna.push(name, {"before": b"0"})
    parts = [b"part %d" % i for i in range(AT_ONCE)]
    for i, part in enumerate(parts):
        anna.upload("anna", name, trees.file(part), [part], path=f"g/p{i}")
    responses = at_once(
        lambda i: anna.send_push("anna", name, trees.file(parts[i]), sizes=trees.sizes([parts[i]]), path=f"g/p{i}")
    )
    assert statuses(responses) == [200] * AT_ONCE
    top_hash = anna.get(f"/api/tag/anna/{name}/latest").json()["hash"]
    children = anna.install("anna", name, top_hash)["contents"]["children"]
    assert children.keys() == {"before", "g"}
    assert children["g"]["children"].keys() == {"p0", "p1", "p2", "p3"}


def test_different_first_pushes_of_one_name_are_all_instances_of_one_package(anna: Person) -> None:
    name = new_name()
    nodes = [trees.tree({"a": b"%d" % i}) for i in range(AT_ONCE)]
    for i, node in enumerate(nodes):
        anna.upload("anna", name, node, [b"%d" % i])
    responses = at_once(lambda i: anna.send_push("anna", name, nodes[i], sizes=trees.sizes([b"%d" % i])))
    assert statuses(responses) == [200] * AT_ONCE
    assert set(anna.get(f"/api/package/anna/{name}/").json()["hashes"]) == {trees.top_hash(node) for node in nodes}
    assert anna.get(f"/api/access/anna/{name}/").json()["users"] == ["anna"]


def test_of_names_that_differ_in_case_one_is_made(anna: Person) -> None:
    name = new_name("race")
    names = [name, name.upper(), name.capitalize(), name[0] + name[1:].upper()]
    responses = at_once(lambda i: anna.send_push("anna", names[i], trees.root({})))
    made = {each["name"] for each in anna.get("/api/package/anna/").json()["packages"]} & set(names)
    assert len(made) == 1
    for sent, response in zip(names, responses, strict=True):
        assert response.status_code == (200 if sent in made else 403)


def test_members_with_the_same_new_object_all_push_it(registry: Registry, anna: Person) -> None:
    name, data = new_name(), b"uploaded by four at once"
    anna.push(name, {"a": b"1"}, is_team=True)
    members = [registry.make_person(new_name("member")) for _ in range(AT_ONCE)]
    nodes = [trees.tree({f"by{i}": data}) for i in range(AT_ONCE)]
    for member, node in zip(members, nodes, strict=True):
        member.upload("anna", name, node, [data])
    responses = at_once(lambda i: members[i].send_push("anna", name, nodes[i], sizes=trees.sizes([data])))
    assert statuses(responses) == [200] * AT_ONCE
    for node in nodes:
        anna.install("anna", name, trees.top_hash(node))


def test_one_grant_wins_and_the_others_get_an_error(anna: Person, ben: Person) -> None:
    name = new_name()
    anna.push(name, {"a": b"1"})
    assert statuses(at_once(lambda _: anna.put(f"/api/access/anna/{name}/ben"))) == [200, 409, 409, 409]
    assert statuses(at_once(lambda _: anna.delete(f"/api/access/anna/{name}/ben"))) == [200, 404, 404, 404]


def test_a_package_is_deleted_once(registry: Registry, anna: Person) -> None:
    name = new_name()
    anna.push(name, {"a": b"1"})
    assert statuses(at_once(lambda _: anna.delete(f"/api/package/anna/{name}/"))) == [200, 404, 404, 404]
    assert [event["kind"] for event in registry.events("anna", name)] == ["PUSH", "DELETE"]


def test_pushing_while_the_package_is_deleted_leaves_a_whole_package_or_none(anna: Person) -> None:
    for _ in range(5):
        name, node = new_name(), trees.tree({"a": b"1"})
        top_hash = anna.push(name, {"a": b"1"})

        def work(i: int, name: str = name, node: trees.Json = node) -> httpx.Response:
            if i == 0:
                return anna.delete(f"/api/package/anna/{name}/")
            return anna.send_push("anna", name, node, sizes=trees.sizes([b"1"]))

        responses = at_once(work)
        assert [response.status_code for response in responses] == [200] * AT_ONCE
        found = anna.get(f"/api/package/anna/{name}/")
        assert found.status_code in (200, 404)
        if found.status_code == 200:
            anna.install("anna", name, top_hash)


def test_tagging_while_the_package_is_deleted_is_no_crash(anna: Person) -> None:
    for _ in range(5):
        name = new_name()
        top_hash = anna.push(name, {"a": b"1"})

        def work(i: int, name: str = name, top_hash: str = top_hash) -> httpx.Response:
            if i == 0:
                return anna.delete(f"/api/package/anna/{name}/")
            kind = "version" if i == 1 else "tag"
            return anna.put(f"/api/{kind}/anna/{name}/1.{i}", json={"hash": top_hash})

        responses = at_once(work)
        assert responses[0].status_code == 200
        assert {response.status_code for response in responses[1:]} <= {200, 404}
        assert anna.get(f"/api/package/anna/{name}/").status_code == 404


def test_a_token_renewed_by_several_at_once_serves_them_all(registry: Registry) -> None:
    eve = registry.make_person(new_name("eve"))
    form = {"refresh_token": eve.token}
    responses = at_once(lambda _: httpx.post(registry.url + "/api/token", data=form))
    assert statuses(responses) == [200] * AT_ONCE
    assert len({response.json()["access_token"] for response in responses}) == AT_ONCE
