"""Versions, tags and the log (protocol §13)."""

from __future__ import annotations

from urllib.parse import quote

import httpx
import pytest

from tests.registry import Person, Registry, new_name
from tests.trees import Json


class Package:
    """A package of Anna's with two instances, and requests about it."""

    def __init__(self, anna: Person, tag: str = ""):
        self.anna, self.name = anna, new_name()
        self.first = anna.push(self.name, {"a": b"1"}, tag=tag)
        self.second = anna.push(self.name, {"a": b"2"}, tag="")

    def path(self, what: str, key: str = "") -> str:
        return f"/api/{what}/anna/{self.name}/{quote(key, safe='')}"

    def get(self, what: str, key: str = "", by: Person | None = None) -> httpx.Response:
        return (by or self.anna).get(self.path(what, key))

    def put(self, what: str, key: str, top_hash: str | None = None, by: Person | None = None) -> httpx.Response:
        return (by or self.anna).put(self.path(what, key), json={"hash": top_hash or self.first})

    def delete(self, what: str, key: str, by: Person | None = None) -> httpx.Response:
        return (by or self.anna).delete(self.path(what, key))


@pytest.fixture
def package(anna: Person) -> Package:
    return Package(anna)


def error(response: httpx.Response) -> tuple[int, str]:
    """Return the status and the message of an error response."""
    assert response.json().keys() == {"message"}
    return response.status_code, response.json()["message"]


PROVENANCE = {"created_by", "created_at", "updated_by", "updated_at"}

# ------------------------------------------------------------------------------------------------ versions


def test_a_version_names_an_instance(package: Package) -> None:
    assert package.put("version", "1.0").json() == {}
    found = package.get("version", "1.0").json()
    assert found.keys() == {"hash", *PROVENANCE}
    assert (found["hash"], found["created_by"]) == (package.first, "anna")


@pytest.mark.parametrize(
    ("typed", "equivalent", "normal"),
    [
        ("1.0RC1", "1.0rc1", "1.0rc1"),
        ("1.0-1", "1.0.post1", "1.0.post1"),
        ("1.0.dev", "1.0.dev0", "1.0.dev0"),
        ("1.0+A-b", "1.0+a.b", "1.0+a.b"),
        ("v2.0", "2.0", "2.0"),
        (" 2.1 ", "2.1", "2.1"),
        ("1!3.0", "1!3.0", "1!3.0"),
        ("1.0alpha", "1.0a0", "1.0a0"),
        ("01.02", "1.2", "1.2"),
    ],
)
def test_versions_are_normalised(package: Package, typed: str, equivalent: str, normal: str) -> None:
    package.put("version", typed).raise_for_status()
    for spelling in (typed, equivalent, equivalent.upper()):
        assert package.get("version", spelling).json()["hash"] == package.first
    assert package.get("version").json() == {"versions": [{"version": typed, "hash": package.first}]}
    assert package.get("log").json()["logs"][0]["versions"] == [normal]
    assert error(package.put("version", equivalent)) == (409, "Version already exists")


def test_trailing_zeros_stay(package: Package) -> None:
    for version in ("1", "1.0", "1.0.0"):
        assert package.put("version", version).status_code == 200
    assert {each["version"] for each in package.get("version").json()["versions"]} == {"1", "1.0", "1.0.0"}
    assert error(package.get("version", "1.0.0.0")) == (404, "Version 1.0.0.0 does not exist")


def test_versions_are_listed_in_their_own_order(package: Package) -> None:
    ordered = ["0.9", "1.0.dev1", "1.0a1", "1.0rc1", "1.0", "1.0+local", "1.0.post1", "1.2", "1.10", "2", "1!0.1"]
    for version in sorted(ordered):
        package.put("version", version).raise_for_status()
    assert [each["version"] for each in package.get("version").json()["versions"]] == ordered


@pytest.mark.parametrize("version", ["x", "1.", "1 0", "latest", "1.0.x", "1" * 65, "1.0+" + "a" * 61, "1,0"])
def test_an_invalid_version_is_refused(package: Package, version: str) -> None:
    for response in (package.put("version", version), package.get("version", version)):
        status, message = error(response)
        assert (status, message[:17]) == (400, "Malformed version")


def test_the_longest_version(package: Package) -> None:
    assert package.put("version", "1" * 64).status_code == 200


def test_a_version_never_changes(package: Package) -> None:
    package.put("version", "1.0").raise_for_status()
    for top_hash in (package.first, package.second):
        assert error(package.put("version", "1.0", top_hash)) == (409, "Version already exists")
    assert package.delete("version", "1.0").status_code == 405
    assert package.get("version", "1.0").json()["hash"] == package.first


def test_one_instance_may_have_several_versions(package: Package) -> None:
    for version in ("2.0", "1.0"):
        package.put("version", version).raise_for_status()
    assert package.get("log").json()["logs"][0]["versions"] == ["2.0", "1.0"]


def test_the_checks_of_a_version_go_from_owner_to_form_to_hash(package: Package, carl: Person) -> None:
    package.put("version", "1.0").raise_for_status()
    assert error(package.put("version", "x", "none", by=carl)) == (403, "Only the package owner can create versions")
    assert error(package.put("version", "x", "none")) == (400, "Malformed version")
    assert error(package.put("version", "1.0", "none")) == (404, "Package hash does not exist")
    assert error(package.put("version", "1.0")) == (409, "Version already exists")


# ------------------------------------------------------------------------------------------------ tags


def test_a_tag_is_made_and_moved(package: Package) -> None:
    for top_hash in (package.first, package.second):
        assert package.put("tag", "stable", top_hash).json() == {}
        found = package.get("tag", "stable").json()
        assert found.keys() == {"hash", "is_public", "is_team", *PROVENANCE}
        assert (found["hash"], found["is_public"], found["is_team"]) == (top_hash, False, False)


def test_tags_are_listed_by_name(package: Package) -> None:
    for tag in ("b", "latest", "a"):
        package.put("tag", tag).raise_for_status()
    tags = [{"tag": tag, "hash": package.first} for tag in ("a", "b", "latest")]
    assert package.get("tag").json() == {"tags": tags}


def test_a_tag_shows_any_team_or_public_entry(open_registry: Registry) -> None:
    """Unlike all other responses, this one also shows entries that the registry's mode disables."""
    olga, name = open_registry.make_person(new_name("olga")), new_name()
    olga.push(name, {"a": b"1"}, is_public=True)
    open_registry.sql("INSERT INTO access SELECT id, 'team' FROM package WHERE name = $1", name)
    found = open_registry.nobody().get(f"/api/tag/{olga.name}/{name}/latest").json()
    assert (found["is_public"], found["is_team"]) == (True, True)


@pytest.mark.parametrize("tag", ["nothing", "Latest", "it's", 'say "x"'])
def test_a_tag_that_is_not_there(anna: Person, tag: str) -> None:
    package = Package(anna, tag="latest")
    assert error(package.get("tag", tag)) == (404, f"Tag {tag!r} does not exist")
    message = f"Package anna/{package.name} tag {tag!r} does not exist"
    assert error(package.delete("tag", tag)) == (404, message)


def test_a_deleted_tag_is_gone_and_the_instance_stays(package: Package) -> None:
    package.put("tag", "x").raise_for_status()
    assert package.delete("tag", "x").json() == {}
    assert package.get("tag").json() == {"tags": []}
    package.anna.install("anna", package.name, package.first)


@pytest.mark.parametrize("top_hash", ["0" * 64, "", "x\0", "short"])
def test_a_tag_needs_a_hash_of_this_package_in_full(anna: Person, package: Package, top_hash: str) -> None:
    other = anna.push(new_name(), {"of": b"another package"})
    for wrong in (top_hash or package.first[:10], package.first.upper(), other):
        assert error(package.put("tag", "x", wrong)) == (404, "Package hash does not exist")
    assert package.get("tag").json() == {"tags": []}


def test_a_member_moves_tags_of_a_team_package_but_deletes_none(package: Package, carl: Person) -> None:
    package.anna.grant(package.name, "team")
    package.put("tag", "x").raise_for_status()
    assert package.put("tag", "x", package.second, by=carl).status_code == 200
    assert package.get("tag", "x", by=carl).json()["hash"] == package.second
    assert error(package.delete("tag", "x", by=carl)) == (403, "Only the package owner can delete tags")


def test_a_reader_moves_no_tag_of_a_private_package(package: Package, ben: Person) -> None:
    package.anna.grant(package.name, "ben")
    message = "Private package: only the package owner can modify tags"
    assert error(package.put("tag", "x", by=ben)) == (403, message)


def test_a_reader_of_a_public_package_moves_no_tag(open_registry: Registry) -> None:
    olga, pete = (open_registry.make_person(new_name(name)) for name in ("olga", "pete"))
    name = new_name()
    top_hash = olga.push(name, {"a": b"1"}, is_public=True)
    response = pete.put(f"/api/tag/{olga.name}/{name}/latest", json={"hash": top_hash})
    assert error(response) == (403, "Only the package owner can modify tags")


# ------------------------------------------------------------------------------------------------ log


def log(package: Package) -> list[Json]:
    found: list[Json] = package.get("log").json()["logs"]
    assert all(entry.keys() == {"hash", "created", "author", "tags", "versions"} for entry in found)
    return found


def test_the_log_has_every_push_oldest_first(package: Package) -> None:
    package.anna.push(package.name, {"a": b"1"}, tag="")
    entries = log(package)
    assert [entry["hash"] for entry in entries] == [package.first, package.second, package.first]
    times = [entry["created"] for entry in entries]
    assert times == sorted(times)
    assert all(isinstance(time, float) for time in times)
    assert {entry["author"] for entry in entries} == {"anna"}


def test_the_log_has_null_where_there_are_no_tags_and_versions(package: Package) -> None:
    assert [(entry["tags"], entry["versions"]) for entry in log(package)] == [(None, None)] * 2


def test_the_log_has_the_tags_and_versions_of_now(package: Package) -> None:
    package.put("tag", "b").raise_for_status()
    package.put("tag", "a").raise_for_status()
    package.put("version", "1.0RC1").raise_for_status()
    assert [(entry["tags"], entry["versions"]) for entry in log(package)] == [(["a", "b"], ["1.0rc1"]), (None, None)]
    package.put("tag", "a", package.second).raise_for_status()
    package.delete("tag", "b").raise_for_status()
    assert [entry["tags"] for entry in log(package)] == [None, ["a"]]
