"""Pushing parts of packages (protocol §10)."""

from __future__ import annotations

import httpx
import pytest

from tests import trees
from tests.registry import Person, Registry, new_name
from tests.trees import Json


def latest(person: Person, owner: str, name: str) -> Json:
    """Install `latest`, with all its objects. Return its contents."""
    top_hash = person.get(f"/api/tag/{owner}/{name}/latest").json()["hash"]
    contents: Json = person.install(owner, name, top_hash)["contents"]
    return contents


def names(node: Json) -> Json:
    """Return the names of a tree as nested dicts."""
    return {name: names(child) if "children" in child else None for name, child in node["children"].items()}


@pytest.fixture
def name(anna: Person) -> str:
    """A package of Anna's with a file, a group, and a group within that group."""
    name = new_name()
    anna.push(name, {"top": b"top", "g": {"a": b"a", "h": {"b": b"b"}}})
    return name


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("new", {"top": None, "g": {"a": None, "h": {"b": None}}, "new": None}),
        ("g/new", {"top": None, "g": {"a": None, "h": {"b": None}, "new": None}}),
        ("g/h", {"top": None, "g": {"a": None, "h": None}}),
        ("g", {"top": None, "g": None}),
        ("x/y/z", {"top": None, "g": {"a": None, "h": {"b": None}}, "x": {"y": {"z": None}}}),
    ],
)
def test_a_part_replaces_what_is_at_its_path(anna: Person, name: str, path: str, expected: Json) -> None:
    response = anna.push_part(name, path, trees.file(b"part"), [b"part"])
    assert response.status_code == 200
    merged = latest(anna, "anna", name)
    assert names(merged) == expected
    assert response.json()["package_hash"] == trees.top_hash(merged)


def test_a_group_replaces_a_group_whole(anna: Person, name: str) -> None:
    part = {"c": b"c", "deep": {"d": b"d"}}
    anna.push_part(name, "g", trees.branch(part), [b"c", b"d"])
    assert names(latest(anna, "anna", name)) == {"top": None, "g": {"c": None, "deep": {"d": None}}}


def test_a_table_with_metadata_goes_in_as_it_is(anna: Person, name: str) -> None:
    part = trees.table(b"one", b"two", metadata={"q_target": "pandas"}, metadata_hash=trees.sha(b"{}"))
    anna.push_part(name, "g/t", part, [b"one", b"two", b"{}"])
    assert latest(anna, "anna", name)["children"]["g"]["children"]["t"] == part


def test_what_was_around_the_part_keeps_its_metadata(anna: Person) -> None:
    name, meta = new_name(), trees.sha(b"{}")
    node = trees.root(
        {"g": trees.group({"a": trees.file(b"a", metadata={"q_path": "a.csv"})}, metadata_hash=meta)},
        metadata_hash=meta,
    )
    anna.push_tree(name, node, [b"a", b"{}"])
    anna.push_part(name, "g/b", trees.file(b"b"), [b"b"])
    merged = latest(anna, "anna", name)
    del merged["children"]["g"]["children"]["b"]
    assert merged == node


def test_the_answer_is_that_of_a_whole_push_and_latest_moves(registry: Registry, anna: Person, name: str) -> None:
    response = anna.push_part(name, "new", trees.file(b"part"), [b"part"]).json()
    assert response["package_url"] == f"{registry.url}/package/anna/{name}"
    assert anna.get(f"/api/tag/anna/{name}/latest").json()["hash"] == response["package_hash"]
    logs = anna.get(f"/api/log/anna/{name}/").json()["logs"]
    assert [entry["tags"] for entry in logs] == [None, ["latest"]]
    (event,) = [e for e in registry.events("anna", name) if e["hash"] == response["package_hash"]]
    assert (event["kind"], event["account"], event["extra"]) == ("PUSH", "anna", {"public": False})


def test_the_former_instance_stays(anna: Person, name: str) -> None:
    before = anna.get(f"/api/tag/anna/{name}/latest").json()["hash"]
    anna.push_part(name, "g", trees.file(b"part"), [b"part"])
    assert names(anna.install("anna", name, before)["contents"]) == {"top": None, "g": {"a": None, "h": {"b": None}}}


def test_the_base_is_the_tag_and_not_the_newest_push(anna: Person, name: str) -> None:
    anna.push(name, {"untagged": b"u"}, tag="")
    anna.push_part(name, "new", trees.file(b"part"), [b"part"])
    assert names(latest(anna, "anna", name)) == {"top": None, "g": {"a": None, "h": {"b": None}}, "new": None}


def test_without_the_tag_the_base_is_empty(anna: Person, name: str) -> None:
    anna.delete(f"/api/tag/anna/{name}/latest").raise_for_status()
    anna.push_part(name, "g/new", trees.file(b"part"), [b"part"])
    assert names(latest(anna, "anna", name)) == {"g": {"new": None}}


def test_a_part_makes_the_package_where_there_is_none(anna: Person) -> None:
    name = new_name()
    assert anna.push_part(name, "a/b", trees.file(b"part"), [b"part"]).status_code == 200
    assert names(latest(anna, "anna", name)) == {"a": {"b": None}}
    assert anna.get(f"/api/access/anna/{name}/").json()["users"] == ["anna"]


def test_a_part_that_changes_nothing_is_the_same_instance(anna: Person, name: str) -> None:
    before = anna.get(f"/api/tag/anna/{name}/latest").json()["hash"]
    same = trees.branch({"a": b"a", "h": {"b": b"b"}})
    assert anna.push_part(name, "g", same, [b"a", b"b"]).json()["package_hash"] == before


def test_urls_are_those_of_the_part_only(anna: Person, name: str) -> None:
    part = trees.branch({"a": b"a", "c": b"c"})
    response = anna.send_push("anna", name, part, dry_run=True, path="g")
    assert response.json()["upload_urls"].keys() == {trees.sha(b"a"), trees.sha(b"c")}


def test_sizes_are_those_of_the_part_only(anna: Person, name: str) -> None:
    part = trees.file(b"part")
    anna.upload("anna", name, part, [b"part"], path="x")
    for data, status in (([b"part", b"top"], 400), ([], 400), ([b"part"], 200)):
        response = anna.send_push("anna", name, part, sizes=trees.sizes(data), path="x")
        assert response.status_code == status


def test_a_member_adds_a_part_to_a_team_package(anna: Person, carl: Person) -> None:
    name = new_name()
    anna.push(name, {"a": b"a"}, is_team=True)
    response = carl.push_part(name, "b", trees.file(b"carl's"), [b"carl's"], owner="anna")
    assert response.status_code == 200
    assert names(latest(anna, "anna", name)) == {"a": None, "b": None}


def test_names_in_the_path_are_percent_encoded(anna: Person, name: str) -> None:
    anna.push_part(name, "gr%C3%BC%C3%9Fe/a%20b", trees.file(b"part"), [b"part"])
    assert names(latest(anna, "anna", name))["grüße"] == {"a b": None}


# ------------------------------------------------------------------------------------------------ errors

both = pytest.mark.parametrize("dry_run", [True, False], ids=["dry", "real"])


def error(response: httpx.Response) -> tuple[int, str]:
    """Return the status and the message of an error response."""
    assert response.json().keys() == {"message"}
    return response.status_code, response.json()["message"]


@both
@pytest.mark.parametrize(("path", "leaf"), [("top/x", "top"), ("g/a/x/y", "a"), ("g/h/b/x", "b")])
def test_a_leaf_in_the_way(anna: Person, name: str, path: str, leaf: str, dry_run: bool) -> None:
    response = anna.send_push("anna", name, trees.group({}), dry_run, path=path)
    assert error(response) == (404, f"Target subpath is not a group node: {leaf!r}")


@both
def test_a_root(anna: Person, name: str, dry_run: bool) -> None:
    assert error(anna.send_push("anna", name, trees.root({}), dry_run, path="x")) == (400, "Unexpected node type")


@both
@pytest.mark.parametrize("path", ["a//b", "a/", "/a", "a%2Fb", "%00", "x" * 256])
def test_paths_with_invalid_names_are_refused(anna: Person, name: str, path: str, dry_run: bool) -> None:
    assert error(anna.send_push("anna", name, trees.group({}), dry_run, path=path))[0] == 400


@both
@pytest.mark.parametrize("path", ["", "/"])
def test_an_empty_path_is_not_found(anna: Person, name: str, path: str, dry_run: bool) -> None:
    body = {"contents": trees.group({}), "description": "", "sizes": {}, "dry_run": dry_run}
    response = anna.post(f"/api/package_update/anna/{name}/{path}", json=body)
    assert error(response) == (404, "There is nothing at this URL.")


@both
def test_a_path_that_is_too_deep(anna: Person, name: str, dry_run: bool) -> None:
    path = "/".join(["g"] * 80)
    assert error(anna.send_push("anna", new_name(), trees.group({}), dry_run, path=path))[0] == 400


@both
def test_the_rights_are_those_of_a_whole_push(
    anna: Person, ben: Person, carl: Person, name: str, dry_run: bool
) -> None:
    anna.grant(name, "ben")
    for person, message in (
        (ben, "Only the package owner can push private packages."),
        (carl, "Only the package owner can create packages."),
    ):
        response = person.send_push("anna", name, trees.group({}), dry_run, path="x")
        assert error(response) == (403, message)


@both
def test_the_checks_are_those_of_a_whole_push(anna: Person, name: str, dry_run: bool) -> None:
    def push(name: str, **more: bool) -> tuple[int, str]:
        return error(anna.send_push("anna", name, trees.group({}), dry_run, path="x", **more))

    assert push("1") == (400, "Invalid package name")
    assert push(name.upper()) == (403, f"Package already exists: anna/{name}")
    assert push(name, is_public=True) == (403, "Public access not allowed")
    assert push(name, is_team=True)[1].startswith(f"local:anna/{name} is private.")


def test_objects_that_were_not_uploaded(anna: Person, name: str) -> None:
    before = anna.get(f"/api/tag/anna/{name}/latest").json()["hash"]
    lost = b"not uploaded for a part"
    status, message = error(anna.send_push("anna", name, trees.file(lost), sizes=trees.sizes([lost]), path="x"))
    assert status == 400
    assert trees.sha(lost) in message
    assert anna.get(f"/api/tag/anna/{name}/latest").json()["hash"] == before
