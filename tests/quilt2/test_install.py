"""Installing packages, and fetching objects by digest (protocol §11)."""

from __future__ import annotations

from typing import Any

import pytest

from tests import trees
from tests.registry import Person, Registry, download, new_name
from tests.trees import DATA, EVERYTHING


@pytest.fixture(scope="module")
def name(anna: Person) -> str:
    """A package with nodes of every kind."""
    name = new_name()
    anna.push_tree(name, EVERYTHING, DATA)
    return name


TOP_HASH = trees.top_hash(EVERYTHING)


def shas(*data: bytes) -> set[str]:
    return {trees.sha(each) for each in data}


def test_every_object_of_every_kind_of_node_comes_back(anna: Person, name: str) -> None:
    package = anna.install("anna", name, TOP_HASH)
    assert package["urls"].keys() == shas(*DATA)
    assert package["sizes"] == trees.sizes(DATA)
    assert package.keys() == {"contents", "urls", "sizes", "created_by", "created_at", "updated_by", "updated_at"}
    assert (package["created_by"], package["updated_by"]) == ("anna", "anna")
    assert all(isinstance(package[time], float) for time in ("created_at", "updated_at"))


def test_nodes_have_exactly_the_fields_that_old_clients_know(anna: Person, name: str) -> None:
    """FILE and TABLE always have `metadata`; `metadata_hash` appears only if set."""
    children = anna.install("anna", name, TOP_HASH)["contents"]["children"]
    assert children["empty"] == {"type": "FILE", "hashes": [trees.sha(b"")], "metadata": {}}
    assert children["nothing"] == {"type": "GROUP", "children": {}}
    group = children["g"]["children"]
    assert group["none"] == {"type": "TABLE", "format": "PARQUET", "hashes": [], "metadata": {}}
    assert group["t"]["hashes"] == [trees.sha(data) for data in (b"one", b"two", b"one")]
    assert group["f"].keys() == {"type", "hashes", "metadata", "metadata_hash"}
    assert children["g"].keys() == {"type", "children", "metadata_hash"}


def test_metadata_comes_back_as_it_was_sent(anna: Person) -> None:
    name = new_name()
    metadata = {"q_path": "a\\b.csv", "n": [1.0, True, None, 2**70, "\u2028é\x7f"], "": {"q_ext": ""}}
    node = trees.root({"a": trees.file(b"1", metadata=metadata)})
    top_hash = anna.push_tree(name, node, [b"1"])
    assert anna.install("anna", name, top_hash)["contents"] == node


def test_the_empty_package_can_be_installed(anna: Person) -> None:
    name = new_name()
    top_hash = anna.push(name, {})
    package = anna.install("anna", name, top_hash)
    assert package["contents"] == {"type": "ROOT", "children": {}}
    assert package["urls"] == package["sizes"] == {}


@pytest.mark.parametrize(
    ("subpath", "objects"),
    [
        ("", shas(*DATA)),
        ("README", shas(b"# Everything")),
        ("g", shas(b"one", b"two", b"{}", b'{"a":1}')),
        ("g/t", shas(b"one", b"two")),
        ("g/f", shas(b"one", b"{}")),
        ("g/none", set()),
        ("nothing", set()),
    ],
)
def test_a_subpath_limits_the_objects_but_not_the_contents(
    registry: Registry, anna: Person, name: str, subpath: str, objects: set[str]
) -> None:
    package = anna.install("anna", name, TOP_HASH, subpath=subpath)
    assert package["urls"].keys() == objects
    assert trees.top_hash(package["contents"]) == TOP_HASH
    event = registry.events("anna", name)[-1]
    assert (event["kind"], event["hash"], event["extra"]) == ("INSTALL", TOP_HASH, {"subpath": subpath or None})


@pytest.mark.parametrize(
    ("subpath", "wrong"),
    [("x", "x"), ("g/x/t", "x"), ("g/t/x", "x"), ("README/g", "g"), ("g//t", ""), ("g/", ""), ("G", "G"), ("/g", "")],
)
def test_an_invalid_subpath_is_not_found(anna: Person, name: str, subpath: str, wrong: str) -> None:
    response = anna.get(f"/api/package/anna/{name}/{TOP_HASH}", params={"subpath": subpath})
    assert (response.status_code, response.json()["message"]) == (404, f"Invalid subpath: {wrong!r}")


@pytest.mark.parametrize(
    ("subpath", "objects"),
    [("", shas(b"{}", b'{"a":1}')), ("g", shas(b"{}", b'{"a":1}')), ("g/f", shas(b"{}")), ("g/t", set())],
)
def test_meta_only_has_the_metadata_objects(anna: Person, name: str, subpath: str, objects: set[str]) -> None:
    assert anna.install("anna", name, TOP_HASH, subpath=subpath, meta_only="true")["urls"].keys() == objects


@pytest.mark.parametrize(("text", "count"), [("", 6), ("false", 6), ("0", 6), ("true", 2), ("True", 2), ("1", 2)])
def test_meta_only_is_a_boolean(anna: Person, name: str, text: str, count: int) -> None:
    assert len(anna.install("anna", name, TOP_HASH, meta_only=text)["urls"]) == count


def test_meta_only_that_is_no_boolean_is_refused(anna: Person, name: str) -> None:
    response = anna.get(f"/api/package/anna/{name}/{TOP_HASH}", params={"meta_only": "perhaps"})
    assert response.status_code == 400


@pytest.mark.parametrize("top_hash", ["0" * 64, TOP_HASH[:10], TOP_HASH.upper(), TOP_HASH + "0", "latest"])
def test_an_unknown_hash_is_not_found(anna: Person, name: str, top_hash: str) -> None:
    response = anna.get(f"/api/package/anna/{name}/{top_hash}")
    assert (response.status_code, response.json()["message"]) == (404, "Package hash does not exist")


def test_a_hash_of_another_package_is_not_found(anna: Person, name: str) -> None:
    other = anna.push(new_name(), {"a": b"another"})
    assert anna.get(f"/api/package/anna/{name}/{other}").status_code == 404


def test_who_installs_is_recorded(registry: Registry, open_registry: Registry, anna: Person, ben: Person) -> None:
    name = new_name()
    top_hash = anna.push(name, {"a": b"1"})
    anna.grant(name, "ben")
    ben.install("anna", name, top_hash)
    assert registry.events("anna", name)[-1]["account"] == "ben"
    olga = open_registry.make_person(new_name("olga"))
    olga.push(name, {"a": b"1"}, is_public=True)
    open_registry.nobody().install(olga.name, name, top_hash)
    event = open_registry.events(olga.name, name)[-1]
    assert (event["kind"], event["account"]) == ("INSTALL", None)


def test_a_refused_install_is_not_recorded(registry: Registry, anna: Person, carl: Person) -> None:
    name = new_name()
    top_hash = anna.push(name, {"a": b"1"})
    carl.get(f"/api/package/anna/{name}/{top_hash}")
    anna.get(f"/api/package/anna/{name}/{top_hash}", params={"subpath": "x"})
    assert [event["kind"] for event in registry.events("anna", name)] == ["PUSH"]


def test_a_package_of_several_pages_is_whole(anna: Person) -> None:
    """A manifest longer than one page, with groups that begin in one page and end in another."""
    name = new_name()
    files: dict[str, Any] = {f"g{i:02}": {f"f{j:03}": b"%d" % (j % 50) for j in range(300)} for i in range(30)}
    node = trees.tree(files)
    top_hash = anna.push_tree(name, node, [b"%d" % j for j in range(50)])
    whole = anna.get(f"/api/package/anna/{name}/{top_hash}").json()
    assert whole["contents"] == node
    assert whole["urls"].keys() == whole["sizes"].keys() == shas(*(b"%d" % j for j in range(50)))
    for subpath in ("g00/f000", "g17/f299", "g29/f123"):
        some = anna.install("anna", name, top_hash, subpath=subpath)
        assert some["urls"].keys() == shas(b"%d" % (int(subpath[-3:]) % 50))


# ------------------------------------------------------------------------------------------------ objects by digest


def test_objects_are_fetched_by_name_from_every_readable_package(anna: Person, ben: Person, carl: Person) -> None:
    mine, shared, hidden = b"ben's own", b"anna's, shared with ben", b"anna's alone"
    name = new_name()
    ben.push(new_name(), {"a": mine})
    anna.push(name, {"a": shared})
    anna.grant(name, "ben")
    anna.push(new_name(), {"a": hidden})
    requested = sorted(shas(mine, shared, hidden, b"of nobody"))
    for person, may_read in ((ben, [mine, shared]), (anna, [shared, hidden]), (carl, [])):
        response = person.post("/api/get_objects", json=requested).json()
        assert response["sizes"] == trees.sizes(may_read)
        assert response["urls"].keys() == response["sizes"].keys()
        for data in may_read:
            assert download(response["urls"][trees.sha(data)], len(data)) == data


def test_an_object_of_a_former_instance_is_found(anna: Person) -> None:
    name, former = new_name(), b"only in a former instance"
    anna.push(name, {"a": former})
    anna.push(name, {"a": b"now"})
    assert trees.sha(former) in anna.post("/api/get_objects", json=[trees.sha(former)]).json()["urls"]


def test_an_object_of_a_deleted_package_is_not_found(anna: Person) -> None:
    name, deleted = new_name(), b"in a package that was deleted"
    anna.push(name, {"a": deleted})
    anna.delete(f"/api/package/anna/{name}/").raise_for_status()
    assert anna.post("/api/get_objects", json=[trees.sha(deleted)]).json() == {"urls": {}, "sizes": {}}


def test_the_same_object_twice_in_one_request_is_fine(anna: Person) -> None:
    data = b"asked for twice"
    anna.push(new_name(), {"a": data})
    response = anna.post("/api/get_objects", json=[trees.sha(data)] * 2).json()
    assert response["sizes"] == trees.sizes([data])


def test_a_request_for_no_objects_is_fine(anna: Person) -> None:
    assert anna.post("/api/get_objects", json=[]).json() == {"urls": {}, "sizes": {}}


@pytest.mark.parametrize("wrong", ["", "0" * 63, "0" * 65, "A" * 64, "0" * 64 + "\n", "../" + "0" * 61, 7])
def test_an_invalid_object_name_is_refused(anna: Person, wrong: Any) -> None:
    response = anna.post("/api/get_objects", json=["0" * 64, wrong])
    assert response.status_code == 400
    assert response.json()["message"]
