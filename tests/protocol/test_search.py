"""Search over names, node names and README of what `latest` points at (protocol §15)."""

from __future__ import annotations

import pytest

from tests import trees
from tests.registry import Person, new_name


def found(person: Person, query: str) -> list[str]:
    answer = person.get("/api/search/", params={"q": query})
    assert answer.status_code == 200, answer.text
    return [f"{hit['owner']}/{hit['name']}" for hit in answer.json()["packages"]]


@pytest.fixture(scope="module")
def name(anna: Person) -> str:
    name = new_name("landuse_austin_24dates")
    anna.push(name, {"README": b"Surveys of meadows, done running", "barometers": {"zugspitze_2019": b"1"}})
    return name


@pytest.mark.parametrize(
    "query",
    [
        "landuse",
        "AUSTIN",
        "24",
        "dates",
        "meadow",
        "run",
        "barometer",
        "zugspitze",
        "2019",
        "anna austin",
        "landuse zugspitze",
    ],
)
def test_a_package_is_found_by_its_words(anna: Person, name: str, query: str) -> None:
    assert f"anna/{name}" in found(anna, query)


@pytest.mark.parametrize("query", ["the", " ", "austin nowhereatall", "aust", "x" * 20_000, "!&|():*'"])
def test_other_words_find_nothing(anna: Person, name: str, query: str) -> None:
    assert found(anna, query) == []


def test_a_stranger_does_not_find_it_until_it_is_shared(anna: Person, carl: Person, name: str) -> None:
    assert found(carl, "zugspitze") == []
    anna.grant(name, "carl")
    assert found(carl, "zugspitze") == [f"anna/{name}"]


def test_names_come_before_nodes_before_readme(anna: Person) -> None:
    by_readme, by_node, by_name = new_name("a"), new_name("b"), new_name("glockenspiel_")
    anna.push(by_readme, {"README": b"a glockenspiel"})
    anna.push(by_node, {"glockenspiel": b"1"})
    anna.push(by_name, {"x": b"1"})
    assert found(anna, "glockenspiel") == [f"anna/{name}" for name in (by_name, by_node, by_readme)]


def test_an_empty_query_lists_everything_visible(anna: Person, name: str) -> None:
    hits = anna.get("/api/search/").json()["packages"]
    assert f"anna/{name}" in [f"{hit['owner']}/{hit['name']}" for hit in hits]
    assert {hit["rank"] for hit in hits} == {0}


def test_only_what_latest_points_at_is_found(anna: Person) -> None:
    name = new_name()
    first = anna.push(name, {"cormorant": b"1"})
    anna.push(name, {"pelican": b"1"})
    assert found(anna, "cormorant") == []
    assert found(anna, "pelican") == [f"anna/{name}"]
    anna.put(f"/api/tag/anna/{name}/latest", json={"hash": first}).raise_for_status()
    assert found(anna, "cormorant") == [f"anna/{name}"]
    anna.delete(f"/api/tag/anna/{name}/latest").raise_for_status()
    assert found(anna, "cormorant") == []


def test_a_tree_with_more_names_than_a_search_vector_holds_is_accepted(anna: Person) -> None:
    name = new_name()
    anna.push_tree(name, trees.root({f"n{i:05}" + "y" * 60: trees.file(b"1") for i in range(20_000)}), [b"1"])
    assert f"anna/{name}" in found(anna, name)
