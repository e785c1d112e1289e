"""Package lists, previews and deletion (protocol §12)."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests import trees
from tests.registry import Person, Registry, new_name
from tests.trees import Json


def preview(person: Person, owner: str, name: str, top_hash: str) -> Json:
    response = person.get(f"/api/package_preview/{owner}/{name}/{top_hash}")
    assert response.status_code == 200, response.text
    found: Json = response.json()
    return found


def pushed_preview(anna: Person, node: Json, data: list[bytes]) -> Json:
    """Push a tree as a new package. Return its preview."""
    name = new_name()
    return preview(anna, "anna", name, anna.push_tree(name, node, data))


# ------------------------------------------------------------------------------------------------ lists


def test_an_owners_packages_are_listed_by_name_with_what_counts_for_the_caller(
    registry: Registry, carl: Person
) -> None:
    olga = registry.make_person(new_name("olga"))
    for name in ("b", "a", "c"):
        olga.push(name, {"x": b"1"})
    olga.grant("c", "team")
    olga.grant("a", "carl")

    def listed(person: Person) -> list[tuple[str, bool, bool]]:
        rows = person.get(f"/api/package/{olga.name}/").json()["packages"]
        assert all(row.keys() == {"name", "is_public", "is_team"} for row in rows)
        return [(row["name"], row["is_public"], row["is_team"]) for row in rows]

    assert listed(olga) == [("a", False, False), ("b", False, False), ("c", False, True)]
    assert listed(carl) == [("a", False, False), ("c", False, True)]


def test_a_team_entry_left_over_from_team_mode_is_not_shown(open_registry: Registry) -> None:
    olga, name = open_registry.make_person(new_name("olga")), new_name()
    top_hash = olga.push(name, {"x": b"1"}, is_public=True)
    open_registry.sql("INSERT INTO access SELECT id, 'team' FROM package WHERE name = $1", name)
    row = {"name": name, "is_public": True, "is_team": False}
    for person in (olga, open_registry.nobody()):
        assert person.get(f"/api/package/{olga.name}/").json() == {"packages": [row]}
        shown = preview(person, olga.name, name, top_hash)
        assert (shown["is_public"], shown["is_team"]) == (True, False)


def pages(person: Person, path: str, limit: int) -> list[Json]:
    """Return all pages of a list, which end with `next` null."""
    found: list[Json] = [person.get(path, params={"limit": str(limit)}).json()]
    while found[-1]["next"]:
        found.append(person.get(path, params={"limit": str(limit), "after": found[-1]["next"]}).json())
    return found


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_the_pages_of_an_owners_packages_are_the_whole_list(registry: Registry, ada: Person, limit: int) -> None:
    owner = registry.make_person(new_name("owner"))
    for name in ("b", "A", "c"):
        owner.push(name, {})
    for person, path in ((owner, f"/api/package/{owner.name}/"), (ada, f"/api/admin/package_list/{owner.name}/")):
        whole = person.get(path).json()
        assert whole.keys() == {"packages"}
        parts = [page["packages"] for page in pages(person, path, limit)]
        assert [each for part in parts for each in part] == whole["packages"]
        assert max(map(len, parts)) <= limit
        assert len(whole["packages"]) == 3


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 100])
def test_the_pages_of_a_profile_are_the_whole_profile(registry: Registry, anna: Person, limit: int) -> None:
    owner = registry.make_person(new_name("owner"))
    for name in ("b", "A"):
        owner.push(name, {})
    for _ in range(3):
        name = new_name("Shared")
        anna.push(name, {})
        anna.grant(name, owner.name)
    whole = owner.get("/api/profile").json()
    assert "next" not in whole
    parts = [page["packages"] for page in pages(owner, "/api/profile", limit)]
    for kind, count in (("own", 2), ("shared", 3)):
        assert [each for part in parts for each in part[kind]] == whole["packages"][kind]
        assert len(whole["packages"][kind]) == count
    assert max(len(part["own"]) + len(part["shared"]) for part in parts) <= limit


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "after=%00"])
@pytest.mark.parametrize("path", ["/api/package/anna/", "/api/profile"])
def test_a_page_that_cannot_be_asked_for(anna: Person, path: str, query: str) -> None:
    assert anna.get(f"{path}?{query}").status_code == 400


@pytest.mark.parametrize("after", ["zzz", "anna", "anna/zzz", "zed/a", "/", "Ü"])
def test_a_page_after_what_is_not_in_the_list(anna: Person, after: str) -> None:
    for path in ("/api/package/anna/", "/api/profile"):
        assert anna.get(path, params={"after": after}).status_code == 200


@pytest.mark.parametrize("owner", ["nobody_at_all", "Anna", "1"])
def test_an_owner_without_packages_has_an_empty_list(anna: Person, owner: str) -> None:
    assert anna.get(f"/api/package/{owner}/").json() == {"packages": []}


def test_all_instances_of_a_package_are_listed(anna: Person) -> None:
    name = new_name()
    hashes = {anna.push(name, {"x": b"%d" % i}, tag="") for i in range(3)}
    assert set(anna.get(f"/api/package/anna/{name}/").json()["hashes"]) == hashes


@pytest.mark.parametrize("name", ["nothing_here", "1"])
def test_a_package_that_is_not_there(anna: Person, open_registry: Registry, name: str) -> None:
    response = anna.get(f"/api/package/anna/{name}/")
    assert (response.status_code, response.json()["message"]) == (404, f"Package anna/{name} does not exist")
    message = open_registry.nobody().get(f"/api/package/anna/{name}/").json()["message"]
    assert message == f"Package anna/{name} does not exist (do you need to log in?)"


# ------------------------------------------------------------------------------------------------ preview


def test_a_preview_has_these_fields(registry: Registry, anna: Person) -> None:
    name = new_name()
    files = {"README": b"# Read me", "a": b"12345"}
    top_hash = anna.push(name, files, is_team=True)
    anna.push(name, files, tag="")
    shown = preview(anna, "anna", name, top_hash)
    package = anna.install("anna", name, top_hash)
    for stamp in ("created_by", "created_at", "updated_by", "updated_at"):
        assert shown.pop(stamp) == package[stamp]
    assert httpx.get(shown.pop("readme_url")).content == b"# Read me"
    assert shown == {
        "preview": [["README", None], ["a", None]],
        "readme_preview": "# Read me",
        "is_public": False,
        "is_team": True,
        "total_size_uncompressed": 14,
        "file_types": {".bin": 2},
        "log_count": 2,
    }
    event = registry.events("anna", name)[-2]
    assert (event["kind"], event["account"], event["hash"]) == ("PREVIEW", "anna", top_hash)


def level(depth: int) -> str:
    return "abcdefghij"[depth]


def nested(depth: int) -> Json:
    """Return a tree of nested groups with a file in the innermost one."""
    node: Json = trees.file(b"1")
    for i in reversed(range(depth)):
        node = trees.group({level(i): node})
    return {**node, "type": "ROOT"}


@pytest.mark.parametrize(
    ("depth", "shown"),
    [
        (1, [["a", None]]),
        (2, [["a", [["b", None]]]]),
        (4, [["a", [["b", [["c", [["d", None]]]]]]]]),
        (5, [["a", [["b", [["c", [["d", [["...", None]]]]]]]]]]),
        (7, [["a", [["b", [["c", [["d", [["...", None]]]]]]]]]]),
    ],
)
def test_four_levels_are_shown(anna: Person, depth: int, shown: Any) -> None:
    assert pushed_preview(anna, nested(depth), [b"1"])["preview"] == shown


def test_empty_groups_are_empty_at_every_level(anna: Person) -> None:
    node = trees.root(
        {"a": trees.group({"b": trees.group({"c": trees.group({"d": trees.group({})})}), "e": trees.group({})})}
    )
    assert pushed_preview(anna, node, [])["preview"] == [["a", [["b", [["c", [["d", []]]]]], ["e", []]]]]


@pytest.mark.parametrize("count", [9, 10, 11, 200])
def test_ten_names_a_level_are_shown(anna: Person, count: int) -> None:
    names = [f"n{i:03}" for i in range(count)]
    node = trees.root({"g": trees.group({name: trees.file(b"1") for name in names})})
    rest = [["...", None]] if count > 10 else []
    assert pushed_preview(anna, node, [b"1"])["preview"] == [["g", [[name, None] for name in names[:10]] + rest]]


def test_names_go_by_code_point(anna: Person) -> None:
    names = ["Z", "_", "a", "e\u0301", "\u00e9", "\uff5e", "\U0001f600"]
    node = trees.root({name: trees.file(b"1") for name in reversed(names)})
    assert pushed_preview(anna, node, [b"1"])["preview"] == [[name, None] for name in names]


def test_a_table_is_a_leaf(anna: Person) -> None:
    assert pushed_preview(anna, trees.root({"t": trees.table()}), [])["preview"] == [["t", None]]


@pytest.mark.parametrize(
    ("path", "extension"),
    [
        ("a.csv", ".csv"),
        ("a.CSV", ".csv"),
        ("dir.d/a.tar.gz", ".gz"),
        ("dir\\a.txt", ".txt"),
        ("dir.d/a", ""),
        ("dir.d\\a", ""),
        (".hidden", ""),
        ("dir/.hidden", ""),
        ("dir/.hidden.txt", ".txt"),
        ("dir\\.hidden", ""),
        ("a.", ""),
        ("a..", ""),
        ("/abs/a.b c", ".b c"),
        ("", ""),
        (None, ""),
        (7, ""),
        (["a.csv"], ""),
    ],
)
def test_file_types_are_counted_by_extension(anna: Person, path: Any, extension: str) -> None:
    node = trees.root({"a": trees.file(b"1", metadata={"q_path": path})})
    assert pushed_preview(anna, node, [b"1"])["file_types"] == {extension: 1}


def test_file_types_count_files_and_tables_but_no_groups(anna: Person) -> None:
    csv, none = {"metadata": {"q_path": "x.csv"}}, {"metadata": {"q_ext": "csv"}}
    node = trees.root(
        {
            "a": trees.file(b"1", **csv),
            "t": trees.table(**csv),
            "g": trees.group({"b": trees.file(b"1", **none), "c": trees.file(b"1"), "d": trees.group({})}),
        }
    )
    assert pushed_preview(anna, node, [b"1"])["file_types"] == {".csv": 2, "": 2}


def test_the_size_is_that_of_distinct_objects_metadata_included(anna: Person) -> None:
    node = trees.root({"a": trees.file(b"12345", metadata_hash=trees.sha(b"{}")), "t": trees.table(b"12345", b"123")})
    assert pushed_preview(anna, node, [b"12345", b"{}", b"123"])["total_size_uncompressed"] == 5 + 2 + 3


@pytest.mark.parametrize(
    "node",
    [
        trees.root({"readme": trees.file(b"# Hi")}),
        trees.root({"README.md": trees.file(b"# Hi")}),
        trees.root({"g": trees.group({"README": trees.file(b"# Hi")})}),
        trees.root({"README": trees.table(b"# Hi")}),
        trees.root({"README": trees.group({"a": trees.file(b"# Hi")})}),
    ],
    ids=["case", "extension", "deeper", "table", "group"],
)
def test_only_a_file_named_readme_at_the_top_is_the_readme(anna: Person, node: Json) -> None:
    shown = pushed_preview(anna, node, [b"# Hi"])
    assert shown["readme_url"] is shown["readme_preview"] is None


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", ""),
        ("Grüße \U0001f600".encode(), "Grüße \U0001f600"),
        (b"bad \xff bytes \xc3", "bad  bytes "),
        (b"\xef\xbb\xbfmark", "mark"),
    ],
)
def test_the_readme_is_read_as_utf8(anna: Person, data: bytes, text: str) -> None:
    assert pushed_preview(anna, trees.root({"README": trees.file(data)}), [data])["readme_preview"] == text


def test_a_readme_of_a_member_is_shown_too(anna: Person, carl: Person) -> None:
    name, text = new_name(), b"by carl, not by anna"
    anna.push(name, {"a": b"1"}, is_team=True)
    top_hash = carl.push(name, {"README": text}, owner="anna")
    assert preview(anna, "anna", name, top_hash)["readme_preview"] == text.decode()


@pytest.mark.parametrize("top_hash", ["0" * 64, "x"])
def test_a_preview_of_an_unknown_hash_is_not_found(anna: Person, top_hash: str) -> None:
    name = new_name()
    anna.push(name, {"a": b"1"})
    response = anna.get(f"/api/package_preview/anna/{name}/{top_hash}")
    assert (response.status_code, response.json()["message"]) == (404, "Package hash does not exist")


# ------------------------------------------------------------------------------------------------ deletion


def test_a_deleted_package_is_gone_with_its_history(registry: Registry, anna: Person) -> None:
    name = new_name()
    top_hash = anna.push(name, {"a": b"1"}, is_team=True)
    anna.put(f"/api/version/anna/{name}/1.0", json={"hash": top_hash}).raise_for_status()
    assert anna.delete(f"/api/package/anna/{name}/").json() == {}
    for path in (
        f"/api/package/anna/{name}/",
        f"/api/package/anna/{name}/{top_hash}",
        f"/api/tag/anna/{name}/latest",
        f"/api/version/anna/{name}/1.0",
        f"/api/log/anna/{name}/",
        f"/api/access/anna/{name}/",
    ):
        assert anna.get(path).status_code == 404
    assert [(event["kind"], event["account"]) for event in registry.events("anna", name)] == [
        ("PUSH", "anna"),
        ("DELETE", "anna"),
    ]


def test_a_package_made_again_starts_empty(anna: Person, carl: Person) -> None:
    name = new_name()
    top_hash = anna.push(name, {"a": b"1"}, is_team=True)
    anna.delete(f"/api/package/anna/{name}/").raise_for_status()
    assert anna.push(name, {"a": b"1"}, tag="") == top_hash
    anna.install("anna", name, top_hash)
    assert anna.get(f"/api/tag/anna/{name}/").json() == {"tags": []}
    assert anna.get(f"/api/version/anna/{name}/").json() == {"versions": []}
    assert carl.get(f"/api/package/anna/{name}/").status_code == 404


def test_another_package_with_the_same_objects_survives(anna: Person) -> None:
    deleted, kept, files = new_name(), new_name(), {"a": b"in two packages", "README": b"of two"}
    top_hash = anna.push(deleted, files)
    anna.push(kept, files)
    anna.delete(f"/api/package/anna/{deleted}/").raise_for_status()
    anna.install("anna", kept, top_hash)
    assert preview(anna, "anna", kept, top_hash)["readme_preview"] == "of two"


def test_a_name_is_free_again_in_any_case(anna: Person) -> None:
    name = new_name("Case")
    anna.push(name, {"a": b"1"})
    anna.delete(f"/api/package/anna/{name}/").raise_for_status()
    anna.push(name.upper(), {"a": b"1"})


def test_only_the_owner_deletes_and_others_learn_nothing(anna: Person, ben: Person, carl: Person, ada: Person) -> None:
    name = new_name()
    anna.push(name, {"a": b"1"}, is_team=True)
    for person in (ben, carl, ada):
        for path in (f"/api/package/anna/{name}/", "/api/package/anna/nothing_here/"):
            response = person.delete(path)
            assert (response.status_code, response.json()["message"]) == (
                403,
                "Only the package owner can delete packages.",
            )
    assert anna.get(f"/api/package/anna/{name}/").status_code == 200


def test_deleting_what_is_not_there(anna: Person) -> None:
    response = anna.delete("/api/package/anna/nothing_here/")
    assert (response.status_code, response.json()["message"]) == (404, "Package anna/nothing_here does not exist")
