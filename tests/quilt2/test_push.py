"""Pushing whole packages (protocol §9)."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests import trees
from tests.registry import Person, Registry, new_name
from tests.trees import DATA, EVERYTHING, Json


def error(response: httpx.Response) -> tuple[int, str]:
    """Return the status and the message of an error response."""
    assert response.json().keys() == {"message"}
    return response.status_code, response.json()["message"]


def dry_push(person: Person, owner: str, name: str, node: Json, **more: Any) -> httpx.Response:
    return person.send_push(owner, name, node, dry_run=True, **more)


def real_push(person: Person, owner: str, name: str, node: Json, data: list[bytes], **more: Any) -> httpx.Response:
    return person.send_push(owner, name, node, sizes=trees.sizes(data), **more)


def users(person: Person, owner: str, name: str) -> list[str]:
    """Return the sorted grantees of a package."""
    found: list[str] = person.get(f"/api/access/{owner}/{name}/").json()["users"]
    return sorted(found)


# ------------------------------------------------------------------------------------------------ successful pushes


def test_a_push_can_be_installed_again(registry: Registry, anna: Person) -> None:
    name = new_name()
    files = {"README": b"# Hello", "empty": b"", "data": {"a": b"1,2\n", "deep": {"b": b"\0\1" * 5000}}}
    top_hash = anna.push(name, files)
    package = anna.install("anna", name, top_hash)
    assert package["contents"] == {**trees.tree(files)}
    assert package["created_by"] == package["updated_by"] == "anna"
    kinds = [event["kind"] for event in registry.events("anna", name)]
    assert kinds == ["PUSH", "INSTALL"]


def test_the_answer_names_the_page_and_the_hash(registry: Registry, anna: Person) -> None:
    name = new_name()
    anna.upload("anna", name, EVERYTHING, DATA)
    response = real_push(anna, "anna", name, EVERYTHING, DATA).json()
    assert response["package_url"] == f"{registry.url}/package/anna/{name}"
    assert response["package_hash"] == trees.top_hash(EVERYTHING)


def test_a_dry_run_has_urls_for_exactly_the_objects_of_the_tree(registry: Registry, anna: Person) -> None:
    name = new_name()
    new = dry_push(anna, "anna", name, EVERYTHING).json()
    assert new.keys() == {"upload_urls"}
    assert new["upload_urls"].keys() == {trees.sha(data) for data in DATA}
    assert all(urls.keys() == {"head", "put"} for urls in new["upload_urls"].values())
    anna.push_tree(name, EVERYTHING, DATA)
    assert dry_push(anna, "anna", name, EVERYTHING).json()["upload_urls"].keys() == new["upload_urls"].keys()


def test_a_dry_run_stores_nothing(registry: Registry, anna: Person) -> None:
    name = new_name()
    assert dry_push(anna, "anna", name, EVERYTHING).status_code == 200
    assert anna.get(f"/api/package/anna/{name}/").status_code == 404
    assert registry.events("anna", name) == []


def test_a_dry_run_of_an_empty_tree_has_no_urls(anna: Person) -> None:
    assert dry_push(anna, "anna", new_name(), trees.root({})).json() == {"upload_urls": {}}


def test_uploaded_objects_are_there_at_the_next_try(anna: Person) -> None:
    name, data = new_name(), b"uploaded by a push that never came to its end"
    anna.upload("anna", name, trees.tree({"a": data}), [data])
    urls = dry_push(anna, "anna", name, trees.tree({"a": data})).json()["upload_urls"][trees.sha(data)]
    assert httpx.head(urls["head"]).status_code == 200


def test_objects_of_all_packages_of_the_owner_are_reused(anna: Person, ben: Person) -> None:
    data = b"in another package of anna's"
    anna.push(new_name(), {"a": data})
    for person, status in ((anna, 200), (ben, 404)):
        urls = dry_push(person, person.name, new_name(), trees.tree({"b": data})).json()["upload_urls"][trees.sha(data)]
        assert httpx.head(urls["head"]).status_code == status


def test_a_push_moves_no_tag(anna: Person) -> None:
    name = new_name()
    first = anna.push(name, {"a": b"1"})
    anna.push(name, {"a": b"2"}, tag="")
    assert anna.get(f"/api/tag/anna/{name}/").json()["tags"] == [{"tag": "latest", "hash": first}]


@pytest.mark.parametrize(("flags", "more"), [({}, []), ({"is_team": True}, ["team"]), ({"is_team": False}, [])])
def test_a_new_package_is_shared_as_requested(anna: Person, flags: Json, more: list[str]) -> None:
    name = new_name()
    anna.push(name, {"a": b"1"}, **flags)
    assert users(anna, "anna", name) == ["anna", *more]


@pytest.mark.parametrize(
    ("flags", "public"),
    [
        ({"is_public": True}, True),
        ({"public": True}, True),
        ({"public": True, "is_public": False}, False),
        ({"public": False, "is_public": True}, True),
        ({}, False),
    ],
)
def test_public_is_an_old_name_of_is_public(open_registry: Registry, flags: Json, public: bool) -> None:
    olga, name = open_registry.make_person(new_name("olga")), new_name()
    olga.push(name, {"a": b"1"}, **flags)
    assert users(olga, olga.name, name) == [olga.name, *(["public"] if public else [])]
    assert open_registry.events(olga.name, name)[0]["extra"] == {"public": public}


def test_flags_change_nothing_on_a_package_that_is_there(anna: Person) -> None:
    name = new_name()
    anna.push(name, {"a": b"1"}, is_team=True)
    anna.push(name, {"a": b"2"})
    anna.push(name, {"a": b"3"}, is_team=True)
    assert users(anna, "anna", name) == ["anna", "team"]


def test_a_push_is_recorded_with_who_and_what(registry: Registry, anna: Person, carl: Person) -> None:
    name = new_name()
    first = anna.push(name, {"a": b"1"}, is_team=True)
    second = carl.push(name, {"a": b"by carl"}, owner="anna", tag="")
    assert [(e["kind"], e["account"], e["hash"], e["extra"]) for e in registry.events("anna", name)] == [
        ("PUSH", "anna", first, {"public": False}),
        ("PUSH", "carl", second, {"public": False}),
    ]


def test_a_member_pushes_to_a_team_package_under_their_own_name(anna: Person, carl: Person) -> None:
    name = new_name()
    anna.push(name, {"a": b"1"}, is_team=True)
    top_hash = carl.push(name, {"a": b"by carl", "b": b"also"}, owner="anna")
    package = anna.install("anna", name, top_hash)
    assert (package["created_by"], package["updated_by"]) == ("carl", "carl")
    assert [entry["author"] for entry in anna.get(f"/api/log/anna/{name}/").json()["logs"]] == ["anna", "carl"]


# ------------------------------------------------------------------------------------------------ repeated pushes


def test_the_same_push_again_is_one_instance_and_two_log_entries(registry: Registry, anna: Person) -> None:
    name = new_name()
    top_hash = anna.push(name, {"a": b"1"})
    before = anna.install("anna", name, top_hash)
    assert anna.push(name, {"a": b"1"}) == top_hash
    after = anna.install("anna", name, top_hash)
    assert anna.get(f"/api/package/anna/{name}/").json()["hashes"] == [top_hash]
    assert [entry["hash"] for entry in anna.get(f"/api/log/anna/{name}/").json()["logs"]] == [top_hash] * 2
    assert (after["created_at"], after["created_by"]) == (before["created_at"], "anna")
    assert after["updated_at"] > before["updated_at"]


def test_pushing_again_replaces_metadata_that_is_not_hashed(anna: Person, carl: Person) -> None:
    name = new_name()
    old, new = (trees.root({"a": trees.file(b"1", metadata={"q_path": path})}) for path in ("old.csv", "new.txt"))
    top_hash = anna.push_tree(name, old, [b"1"], is_team=True)
    assert carl.push_tree(name, new, [b"1"], owner="anna", tag="") == top_hash
    package = anna.install("anna", name, top_hash)
    assert package["contents"] == new
    assert (package["created_by"], package["updated_by"]) == ("anna", "carl")
    preview = anna.get(f"/api/package_preview/anna/{name}/{top_hash}").json()
    assert preview["file_types"] == {".txt": 1}


def test_a_second_tree_with_the_same_hash_is_refused(anna: Person) -> None:
    """The top hash is the same whether the metadata belongs to the last child or to its group."""
    name, meta = new_name(), trees.sha(b"{}")
    on_group = trees.root({"g": trees.group({"a": trees.file(b"1")}, metadata_hash=meta)})
    on_child = trees.root({"g": trees.group({"a": trees.file(b"1", metadata_hash=meta)})})
    assert trees.top_hash(on_group) == trees.top_hash(on_child)
    top_hash = anna.push_tree(name, on_group, [b"1", b"{}"])
    response = real_push(anna, "anna", name, on_child, [b"1", b"{}"])
    assert response.status_code == 409
    assert anna.install("anna", name, top_hash)["contents"]["children"]["g"]["metadata_hash"] == meta


# ------------------------------------------------------------------------------------------------ errors

both = pytest.mark.parametrize("dry_run", [True, False], ids=["dry", "real"])


@both
def test_an_invalid_name_is_refused(anna: Person, dry_run: bool) -> None:
    response = anna.send_push("anna", "1", trees.root({}), dry_run)
    assert error(response) == (400, "Invalid package name")


@both
@pytest.mark.parametrize("node", [trees.group({}), trees.file(b"1"), trees.table()], ids=["group", "file", "table"])
def test_anything_but_a_root(anna: Person, node: Json, dry_run: bool) -> None:
    response = anna.send_push("anna", new_name(), node, dry_run, top_hash="0" * 64)
    assert error(response) == (400, "Unexpected node type")


@both
@pytest.mark.parametrize("flag", ["is_public", "public"])
def test_public_packages_are_refused_in_team_mode(anna: Person, flag: str, dry_run: bool) -> None:
    response = anna.send_push("anna", new_name(), trees.root({}), dry_run, **{flag: True})
    assert error(response) == (403, "Public access not allowed")


@both
def test_team_packages_are_refused_in_open_mode(open_registry: Registry, dry_run: bool) -> None:
    olga = open_registry.make_person(new_name("olga"))
    response = olga.send_push(olga.name, new_name(), trees.root({}), dry_run, is_team=True)
    assert error(response) == (403, "Team access not allowed")


@both
@pytest.mark.parametrize("wrong", ["0" * 64, trees.top_hash(trees.root({})).upper(), "x", "latest"])
def test_a_hash_that_is_not_the_trees(anna: Person, wrong: str, dry_run: bool) -> None:
    status, message = error(anna.send_push("anna", new_name(), trees.root({}), dry_run, top_hash=wrong))
    assert (status, message[:19]) == (400, "Wrong contents hash")


@pytest.mark.parametrize(
    "sizes",
    [{}, {trees.sha(b"1"): 1, trees.sha(b"2"): 1}, {trees.sha(b"2"): 1}, {"x": 1}],
    ids=["missing", "more", "other", "no name"],
)
def test_sizes_of_other_objects_than_the_trees(anna: Person, sizes: dict[str, int]) -> None:
    name, node = new_name(), trees.tree({"a": b"1"})
    anna.upload("anna", name, node, [b"1"])
    status, message = error(anna.send_push("anna", name, node, sizes=sizes))
    assert status == 400
    assert message.startswith("Sizes don't match the hashes")
    assert anna.get(f"/api/package/anna/{name}/").status_code == 404


@both
def test_a_new_package_of_another_owner_is_refused(anna: Person, carl: Person, dry_run: bool) -> None:
    for owner in ("anna", "nobody_at_all"):
        response = carl.send_push(owner, new_name(), trees.root({}), dry_run)
        assert error(response) == (403, "Only the package owner can create packages.")


@both
def test_a_name_taken_in_another_case(anna: Person, dry_run: bool) -> None:
    name = new_name("Big")
    anna.push(name, {"a": b"1"})
    response = anna.send_push("anna", name.upper(), trees.root({}), dry_run)
    assert error(response) == (403, f"Package already exists: anna/{name}")


@both
def test_a_package_shared_for_reading_is_refused(anna: Person, ben: Person, dry_run: bool) -> None:
    name = new_name()
    anna.push(name, {"a": b"1"})
    anna.grant(name, "ben")
    response = ben.send_push("anna", name, trees.root({}), dry_run)
    assert error(response) == (403, "Only the package owner can push private packages.")


@both
def test_a_team_flag_for_a_package_that_is_private(anna: Person, dry_run: bool) -> None:
    name = new_name()
    anna.push(name, {"a": b"1"})
    status, message = error(anna.send_push("anna", name, trees.root({}), dry_run, is_team=True))
    full = f"local:anna/{name}"
    assert (status, message) == (
        403,
        f"{full} is private. To share it with the team, run `quilt access add {full} team`.",
    )


@both
def test_a_public_flag_for_a_package_that_is_private(open_registry: Registry, dry_run: bool) -> None:
    olga, name = open_registry.make_person(new_name("olga")), new_name()
    olga.push(name, {"a": b"1"})
    status, message = error(olga.send_push(olga.name, name, trees.root({}), dry_run, is_public=True))
    full = f"{olga.name}/{name}"
    assert (status, message) == (403, f"{full} is private. To make it public, run `quilt access add {full} public`.")


def test_a_missing_object_is_named_and_nothing_is_stored(registry: Registry, anna: Person) -> None:
    name = new_name()
    node = trees.tree({"a": b"there", "b": b"never uploaded"})
    anna.upload("anna", name, node, [b"there"])
    status, message = error(real_push(anna, "anna", name, node, [b"there", b"never uploaded"]))
    assert status == 400
    assert trees.sha(b"never uploaded") in message
    assert trees.sha(b"there") not in message
    assert anna.get(f"/api/package/anna/{name}/").status_code == 404
    assert registry.events("anna", name) == []


def test_of_many_missing_objects_some_are_named(anna: Person) -> None:
    data = [b"missing %d" % i for i in range(500)]
    node = trees.tree({f"f{i}": each for i, each in enumerate(data)})
    _, message = error(real_push(anna, "anna", new_name(), node, data))
    assert "490 more" in message
    assert len(message) < 1000


@pytest.mark.parametrize("size", [-1, 0, 2, 2**63])
def test_a_size_that_is_not_the_objects(anna: Person, size: int) -> None:
    name, node = new_name(), trees.tree({"a": b"1"})
    anna.upload("anna", name, node, [b"1"])
    status, message = error(anna.send_push("anna", name, node, sizes={trees.sha(b"1"): size}))
    assert status == 400
    assert trees.sha(b"1") in message


def test_a_refused_push_leaves_the_package_as_it_was(anna: Person) -> None:
    name = new_name()
    top_hash = anna.push(name, {"a": b"1"})
    assert real_push(anna, "anna", name, trees.tree({"a": b"lost"}), [b"lost"]).status_code == 400
    assert anna.get(f"/api/package/anna/{name}/").json()["hashes"] == [top_hash]
    assert len(anna.get(f"/api/log/anna/{name}/").json()["logs"]) == 1


# ------------------------------------------------------------------------------------------------ malformed contents

HEX = "0" * 64


@pytest.mark.parametrize(
    ("child", "reason"),
    [
        ('{"hashes":[]}', "type"),
        ('{"type":"OTHER"}', "OTHER"),
        ('{"type":"ROOT","children":{}}', "ROOT"),
        ('{"type":"GROUP"}', "children"),
        ('{"type":"GROUP","children":{},"hashes":[]}', "hashes"),
        ('{"type":"GROUP","children":{},"metadata":{}}', "metadata"),
        ('{"type":"FILE"}', "hashes"),
        ('{"type":"FILE","hashes":[],"format":"PARQUET"}', "format"),
        ('{"type":"TABLE","hashes":[]}', "format"),
        ('{"type":"TABLE","hashes":[],"format":"HDF5"}', "HDF5"),
        ('{"type":"FILE","hashes":[],"metadata":null}', "metadata"),
        ('{"type":"FILE","hashes":[],"metadata":{"a":{"type":1}}}', "key 'type'"),
        ('{"type":"FILE","hashes":[],"metadata":{"a":NaN}}', "not valid JSON"),
        ('{"type":"FILE","hashes":[],"metadata_hash":null}', "metadata_hash"),
        ('{"type":"FILE","hashes":[],"metadata_hash":"x"}', "not an object name"),
        (f'{{"type":"FILE","hashes":["{HEX}0"]}}', "not an object name"),
        (f'{{"type":"FILE","hashes":["{HEX[1:]}"]}}', "not an object name"),
        ('{"type":"FILE","hashes":[null]}', "hashes"),
    ],
)
def test_d_a_node_that_breaks_a_rule_is_refused_for_that_rule(anna: Person, child: str, reason: str) -> None:
    """The top hash is wrong too, but the registry checks the contents first."""
    body = f'{{"contents":{{"type":"ROOT","children":{{"x":{child}}}}},"description":"","sizes":{{}}}}'
    response = anna.put(
        f"/api/package/anna/{new_name()}/{HEX}", content=body.encode(), headers={"Content-Type": "application/json"}
    )
    status, message = error(response)
    assert status == 400
    assert reason in message
    assert "Wrong contents hash" not in message


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "empty name"),
        ("a/b", "not allowed"),
        ("\\u0000", "not allowed"),
        ("\\ud800", "surrogate"),
        (".", "not allowed"),
        ("..", "not allowed"),
    ],
)
def test_d_an_invalid_node_name_is_refused_for_that(anna: Person, name: str, reason: str) -> None:
    body = f'{{"contents":{{"type":"ROOT","children":{{"{name}":{{"type":"GROUP","children":{{}}}}}}}},'
    body += '"description":"","sizes":{}}'
    response = anna.put(
        f"/api/package/anna/{new_name()}/{HEX}", content=body.encode(), headers={"Content-Type": "application/json"}
    )
    status, message = error(response)
    assert status == 400
    assert reason in message


@pytest.mark.parametrize("hashes", [[], [b"1", b"2"]], ids=["none", "two"])
def test_d_a_readme_with_its_right_top_hash_still_needs_one_object(anna: Person, hashes: list[bytes]) -> None:
    name, node = new_name(), trees.root({"README": trees.file(*hashes)})
    anna.upload("anna", name, node, hashes)
    status, message = error(real_push(anna, "anna", name, node, hashes))
    assert (status, message) == (400, f"README must have exactly one object, not {len(hashes)}.")


@pytest.mark.parametrize("damaged", [False, True], ids=["all new", "one has a row"])
def test_many_new_objects_are_copied(registry: Registry, anna: Person, *, damaged: bool) -> None:
    """They are added without a look at each row, so that a row which exists must lead to another way."""
    name, first = new_name(), new_name("first").encode()
    anna.push(name, {"f": first})
    if damaged:
        registry.sql("UPDATE object SET state = 2 WHERE digest = sha256($1)", first)
    contents = [f"{name} {i}".encode() for i in range(1_100)]
    for each in contents:  # where uploads end up, which would take longer
        (registry.objects / "objs/anna" / trees.sha(each)).write_bytes(each)
    node = trees.tree({"f": first, "many": {f"f{i}": each for i, each in enumerate(contents)}})
    anna.send_push("anna", new_name(), node, sizes=trees.sizes([*contents, first])).raise_for_status()
    rows = registry.sql(
        """
        SELECT o.size, o.state, p.name FROM object o JOIN package_object po ON po.object_id = o.id
        JOIN package p ON p.id = po.package_id WHERE o.digest = ANY($1)
        """,
        [bytes.fromhex(trees.sha(each)) for each in [*contents, first]],
    )
    assert len(rows) == len(contents) + 2, "the first is in two packages"
    assert {row["state"] for row in rows} == {1}
    assert sorted(row["size"] for row in rows if row["name"] != name) == sorted(map(len, [*contents, first]))
