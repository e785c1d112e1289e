"""Search in package names, node names, user metadata and READMEs of `latest` instances (protocol §15)."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from alembic import command
from hypothesis import given, settings, strategies as st

from quilt_registry import schema
from tests import trees
from tests.registry import Person, Registry, new_name, run_sql


def search(person: Person, query: str, **more: Any) -> trees.Json:
    response = person.get("/api/search/", params={"q": query, **more})
    assert response.status_code == 200, response.text
    body: trees.Json = response.json()
    return body


def found(person: Person, query: str) -> list[str]:
    return [f"{hit['owner']}/{hit['name']}" for hit in search(person, query)["packages"]]


@pytest.fixture(scope="module")
def name(anna: Person) -> str:
    name = new_name("landuse_austin_tx_24dates_")
    readme = "Surveys of meadows, done running, see data-v2/plan.csv and Größe".encode()
    anna.push(name, {"README": readme, "barometers": {"zugspitze_2019": b"1", "jumping.txt": b"2"}})
    return name


@pytest.mark.parametrize(
    "query",
    [
        "landuse",
        "land",
        "use",
        "AUSTIN",
        "tx",
        "24dates",
        "24",
        "dates",
        "landuse_austin",
        "anna/landuse_austin_tx_24dates",
        "meadow",
        "run",
        "barometer",
        "zugspitze",
        "2019",
        "jumping.txt",
        "txt",
        "plan.csv",
        "data-v2",
        "v2",
        "GRÖSSE",
        "gr\u006f\u0308\u00dfe",
        "anna austin",
        "the austin of a meadow",
        "landuse zugspitze",
    ],
)
def test_a_package_is_found_by_its_words(anna: Person, name: str, query: str) -> None:
    assert f"anna/{name}" in found(anna, query)


@pytest.mark.parametrize(
    "query",
    ["austin nowhereatall", "aus nowhereatall", "x" * 20_000, "z", "ugspitze"],
)
def test_other_words_do_not_find_it(anna: Person, name: str, query: str) -> None:
    assert f"anna/{name}" not in found(anna, query)


@pytest.mark.parametrize("query", ["the", "of the", " ", "!&|():*'"])
def test_a_query_without_words_that_count_finds_nothing(anna: Person, name: str, query: str) -> None:
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


def test_an_empty_query_lists_packages_without_latest(anna: Person, carl: Person, eve: Person) -> None:
    """Their README is that of no instance, and only readers see them."""
    name = new_name("untagged")
    eve.push(name, {"README": b"unseen", "a": b"1"}, tag="")
    for query in ({}, {"q": ""}, {"limit": "1000"}):
        (found,) = [row for row in eve.get("/api/search/", params=query).json()["packages"] if row["name"] == name]
        assert found == {
            "owner": eve.name,
            "name": name,
            "is_public": False,
            "is_team": False,
            "readme_preview": None,
            "rank": 0,
        }
    assert name not in carl.get("/api/search/").text
    assert eve.get("/api/search/", params={"q": name}).json() == {"packages": []}
    eve.grant(name, "carl")
    assert name in carl.get("/api/search/").text


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


@pytest.mark.parametrize(
    "query", ["zu", "zugsp", "2019 baro", "runni", "meadow", "jumpi", "JUMPI", "austin jum", "lan", "24da", "ann"]
)
def test_the_last_word_is_found_while_it_is_typed(anna: Person, name: str, query: str) -> None:
    assert f"anna/{name}" in found(anna, query)


@pytest.mark.parametrize("query", ["zugsp 2019", "jumpi the"])
def test_only_the_last_word_may_be_a_beginning_and_a_stop_word_is_dropped(anna: Person, name: str, query: str) -> None:
    assert f"anna/{name}" not in found(anna, query)


def test_a_word_counts_by_its_best_place_however_often_it_is_there(anna: Person) -> None:
    names = [new_name(prefix) for prefix in ("carillon_", "carillonists_", "mycarillon", "d", "e", "f")]
    whole, beginning, piece, node, metadata, readme = names
    anna.push(readme, {"README": b"carillon " * 3000})
    push_metadata(anna, metadata, [{"instrument": "carillon"}])
    anna.push(node, {"carillon": b"1", "carillon_2": {"carillons": b"2"}})
    for each in (whole, beginning, piece):
        anna.push(each, {"x": b"1"})
    hits = search(anna, "carillon")["packages"]
    assert [hit["name"] for hit in hits] == [whole, beginning, piece, node, metadata, readme]
    ranks = [hit["rank"] for hit in hits]
    assert ranks == sorted(ranks, reverse=True)
    assert len(set(ranks)) == 5  # metadata and README count alike
    assert all(0 < rank < 1 for rank in ranks)


def test_hits_of_one_rank_come_by_owner_and_name(anna: Person, ben: Person) -> None:
    for person in (ben, anna):
        for name in ("obelisk_b", "obelisk_a"):
            person.push(name, {"x": b"1"}, is_team=True)
    ordered = [f"{owner}/obelisk_{letter}" for owner in ("anna", "ben") for letter in "ab"]
    assert found(anna, "obelisk") == found(ben, "obelisk") == ordered


# ------------------------------------------------------------------------------------------------ user metadata


def push_metadata(person: Person, name: str, values: list[Any], owner: str | None = None) -> str:
    """Push a tree whose nodes have user metadata. Values are sent as JSON, bytes unchanged."""
    data = [value if isinstance(value, bytes) else json.dumps(value, sort_keys=True).encode() for value in values]
    files = {f"x{i}": trees.file(b"1", metadata_hash=trees.sha(each)) for i, each in enumerate(data)}
    return person.push_tree(name, trees.root({"g": trees.group(files)}), [b"1", *data], owner)


@pytest.mark.parametrize("query", ["licence", "cormorants", "Wadden Sea", "nested", "2031", "wadd", "anna seabird"])
def test_user_metadata_is_found_by_keys_and_values(anna: Person, query: str) -> None:
    name = new_name()
    push_metadata(anna, name, [{"licence": ["cormorant", {"nested": "Wadden Sea"}]}, {"seabirds": {"year": 2031}}])
    assert f"anna/{name}" in found(anna, query)


def test_metadata_of_the_root_and_of_groups_is_found(anna: Person) -> None:
    name, top, middle = new_name(), b'{"a":"marzipan"}', b'{"a":"nougat"}'
    group = trees.group({"x": trees.file(b"1")}, metadata_hash=trees.sha(middle))
    anna.push_tree(name, trees.root({"g": group}, metadata_hash=trees.sha(top)), [b"1", top, middle])
    assert found(anna, "marzipan nougat") == [f"anna/{name}"]


def test_metadata_goes_with_what_latest_points_at(anna: Person) -> None:
    name = new_name()
    push_metadata(anna, name, [{"bird": "hoopoe"}])
    push_metadata(anna, name, [{"bird": "bittern"}])
    assert found(anna, "hoopoe") == []
    assert found(anna, "bittern") == [f"anna/{name}"]


def test_metadata_of_a_part_is_found_beside_that_of_the_whole(anna: Person) -> None:
    name, meta = new_name(), b'{"tree":"rowan"}'
    push_metadata(anna, name, [{"tree": "hornbeam"}])
    part = trees.file(b"2", metadata_hash=trees.sha(meta))
    assert anna.push_part(name, "new/part", part, [b"2", meta]).status_code == 200
    assert found(anna, "hornbeam rowan") == [f"anna/{name}"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no JSON: {",
        b"\xff\xfe\0",
        b"[" * 5000,
        b"1" * 5000,
        b'{"a":"' + b"\\u0000\\ud800" * 100 + b'"}',
        b'{"a":"' + b"x " * 40_000 + b'"}',
        b"\x1f\x8bno gzip",
    ],
    ids=range(8),
)  # fmt: skip
def test_metadata_that_cannot_be_read_does_no_harm(anna: Person, data: bytes) -> None:
    name = new_name()
    push_metadata(anna, name, [data, {"after": f"quagga{name}"}])
    assert found(anna, f"quagga{name}") == [f"anna/{name}"]


def test_metadata_of_older_clients_is_read(anna: Person) -> None:
    """Older clients compressed objects and wrote NaN."""
    name = new_name()
    push_metadata(anna, name, [gzip.compress(b'{"fruit":"medlar"}'), b'{"fruit":"quince","size":NaN}'])
    assert found(anna, "medlar quince") == [f"anna/{name}"]


def test_of_many_metadata_the_first_are_looked_at(anna: Person) -> None:
    name = new_name()
    files = {f"n{i:03}": json.dumps({"serial": f"serial{name}no{i}"}).encode() for i in range(150)}
    tree = trees.root({key: trees.file(b"1", metadata_hash=trees.sha(data)) for key, data in files.items()})
    anna.push_tree(name, tree, [b"1", *files.values()])
    assert found(anna, f"serial{name}no0") == found(anna, f"serial{name}no99") == [f"anna/{name}"]
    assert found(anna, f"serial{name}no100") == []


def test_metadata_is_read_once(registry: Registry, anna: Person) -> None:
    """A later instance with the same metadata is found by it, whatever became of the object after the first push."""
    name, meta, other = new_name(), b'{"gem":"chrysoprase"}', b'{"gem":"aquamarines"}'
    node = trees.root({"x": trees.file(b"1", metadata_hash=trees.sha(meta))})
    anna.push_tree(name, node, [b"1", meta])
    (registry.objects / "objs" / "anna" / trees.sha(meta)).write_bytes(other)
    node["children"]["y"] = trees.file(b"2")
    response = anna.upload("anna", name, node, [b"1", b"2"])
    assert response
    response = anna.send_push("anna", name, node, sizes=trees.sizes([b"1", b"2", meta]))
    assert response.status_code == 200, response.text
    anna.put(f"/api/tag/anna/{name}/latest", json={"hash": trees.top_hash(node)}).raise_for_status()
    assert found(anna, "chrysoprase") == [f"anna/{name}"]


def test_nobody_reads_the_metadata_of_others_by_naming_it(anna: Person, carl: Person) -> None:
    """Carl may push to a package of Anna's and knows the digest of her private metadata."""
    secret, shared, meta = new_name(), new_name(), b'{"password":"aardvark99"}'
    push_metadata(anna, secret, [meta])
    anna.push(shared, {"x": b"1"}, is_team=True)
    node = trees.root({"x": trees.file(b"1", metadata_hash=trees.sha(meta))})
    response = carl.send_push("anna", shared, node, sizes=trees.sizes([b"1", meta]))
    assert response.status_code == 400
    assert trees.sha(meta) in response.json()["message"]
    assert found(carl, "aardvark99") == []


def test_a_member_s_own_metadata_in_another_s_package_is_found(anna: Person, carl: Person) -> None:
    name = new_name()
    anna.push(name, {"x": b"1"}, is_team=True)
    push_metadata(carl, name, [{"by": "wolverine"}], owner="anna")
    assert found(anna, "wolverine") == [f"anna/{name}"]


# ------------------------------------------------------------------------------------------------ pagination


@pytest.fixture(scope="module")
def many(anna: Person) -> list[str]:
    """The search results for a word that is in different places, so that some packages share a rank."""
    for i in range(12):
        files = {f"sextant_{i}" if i % 3 == 1 else "x": b"1", **({"README": b"sextant"} if i % 3 == 2 else {})}
        anna.push(f"sextant{i}" if i % 3 == 0 else new_name("q"), files)
    return found(anna, "sextant")


@pytest.mark.parametrize("limit", [1, 3, 5, 12, 13, 1000])
@pytest.mark.parametrize("query", ["sextant", ""])
def test_pages_together_are_the_whole_list(anna: Person, many: list[str], query: str, limit: int) -> None:
    assert len(many) == 12
    shown, after = list[trees.Json](), dict[str, str]()
    for _ in itertools.count():
        page = search(anna, query, limit=limit, **after)
        assert len(page["packages"]) <= limit
        shown += page["packages"]
        if page["next"] is None:
            break
        assert len(page["packages"]) == limit
        after = {"after": page["next"]}
    assert shown == search(anna, query)["packages"]


def test_a_page_continues_where_the_last_one_ended_despite_later_pushes(anna: Person) -> None:
    for letter in "bdf":
        anna.push(f"theodolite_{letter}", {"x": b"1"})
    first = search(anna, "theodolite", limit=2)
    anna.push("theodolite_a", {"x": b"1"})
    anna.push("theodolite_e", {"x": b"1"})
    rest = search(anna, "theodolite", limit=2, after=first["next"])
    assert [hit["name"][-1] for hit in first["packages"] + rest["packages"]] == ["b", "d", "e", "f"]
    assert rest["next"] is None


def test_a_page_of_nothing_is_the_last(anna: Person) -> None:
    for query in ("the", "nowhereatall"):
        assert search(anna, query, limit=5) == {"packages": [], "next": None}


def test_without_a_limit_there_is_no_next(anna: Person, many: list[str]) -> None:
    assert search(anna, "sextant").keys() == {"packages"}
    assert search(anna, "the").keys() == {"packages"}


def _cursor(value: str) -> str:
    return base64.urlsafe_b64encode(value.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "wrong",
    [
        *[{"limit": limit} for limit in ("0", "1001", "-1", "x", "", "1.5", "٣", "9" * 30, "00001")],
        *[{"after": after} for after in ("", "!", "x", "%00", "é", "AAAA", "a" * 3000)],
        *[
            {"after": _cursor(text)}
            for text in ("[]", '["x","a","b"]', '[0.5,"a\\u0000","b"]', "[NaN,1,2]", "[1e999,1]")
        ],
        *[{"after": _cursor(text)} for text in ('[0.5,"a","b",1]', '[0.5,"\\ud800","b"]', "{}", "[" * 500)],
    ],
)
def test_a_page_that_cannot_be_is_refused(anna: Person, wrong: dict[str, str]) -> None:
    response = anna.get("/api/search/", params={"q": "x", **wrong})
    assert response.status_code == 400
    assert next(iter(wrong)) in response.json()["message"]


# ------------------------------------------------------------------------------------------------ unusual queries


@pytest.mark.parametrize(
    "raw",
    [
        "a%20%26%20!b", "%27%3A*", "%5C", "a%3A*%20%7C%20b%3AA", "%22a%20b%22",
        "%3C-%3E", "+", "%E2%80%AE", "%F0%9F%98%80", "%EF%B7%BA", "1e400", "1e5x.y", "http%3A%2F%2Fx.org%2Fa%3Fb%3Dc",
        "a%40b.org", "-1.5e-7", "%C2%BD", "%3Cb%3E%26amp%3B", "a+" * 5000, "%20".join(f"w{i}" for i in range(2000)),
        "x" * 10_000, "%E5%AD%B8" * 3000,
    ],
)  # fmt: skip
def test_any_query_text_is_accepted(anna: Person, raw: str) -> None:
    for more in ("", "&limit=3"):
        response = anna.get(f"/api/search/?q={raw}{more}")
        assert response.status_code == 200, response.text


@pytest.mark.parametrize("raw", ["%ED%A0%80", "%FF%FE"])
def test_a_query_that_is_not_utf_8_is_refused(anna: Person, raw: str) -> None:
    assert anna.get(f"/api/search/?q={raw}").status_code == 400


@pytest.mark.parametrize("raw", ["%00", "a%00b"])
def test_nul_in_a_query_is_refused(anna: Person, raw: str) -> None:
    response = anna.get(f"/api/search/?q={raw}")
    assert (response.status_code, response.json()) == (400, {"message": "q contains a NUL character."})


@settings(max_examples=150)
@given(query=st.text(max_size=40) | st.text("ab1_'\\:*&|!()<-> ", max_size=20))
def test_any_text_has_an_answer(anna: Person, query: str) -> None:
    """Lone surrogates are sent as the bytes that `surrogatepass` encodes. NUL is removed, because queries refuse it."""
    query = query.replace("\0", "")
    raw = "".join(f"%{byte:02x}" for byte in query.encode("utf-8", "surrogatepass"))
    whole = anna.get(f"/api/search/?q={raw}")
    assert whole.status_code == 200, whole.text
    hits = whole.json()["packages"]
    page = anna.get(f"/api/search/?q={raw}&limit=2").json()
    assert page["packages"] == hits[:2]
    assert (page["next"] is None) == (len(hits) <= 2)


@settings(max_examples=15)
@given(text=st.text(st.characters(blacklist_categories=["Cs"]), max_size=30))
def test_a_package_is_found_by_any_readme_text(anna: Person, text: str) -> None:
    name = new_name("r")
    anna.push(name, {"README": f"{text} {name} {text}".encode()})
    assert f"anna/{name}" in found(anna, f"{name} {text} {name}".replace("\0", ""))


# ------------------------------------------------------------------------------------------------ size, older indexes


def test_of_many_node_names_the_groups_and_distinct_words_are_looked_at(anna: Person) -> None:
    """20,000 numbered files with long names do not crowd distinct words out of the index."""
    name = new_name()
    files = {f"file_{i:05}_{trees.sha(str(i).encode())}": trees.file(b"1") for i in range(20_000)}
    late = trees.group(
        {f"file_{i:05}": trees.file(b"1") for i in range(30_000, 40_000)} | {"notes_17": trees.file(b"1")}
    )
    anna.push_tree(name, trees.root({"calorimetry": trees.group(files), "zymurgy": late}), [b"1"])
    for query in ("calorimetry", "zymurgy notes", "file_00000"):
        assert f"anna/{name}" in found(anna, f"{query} {name}"), query


@pytest.mark.drill
def test_texts_that_fill_the_vector_to_its_bounds_are_accepted(anna: Person) -> None:
    """Four-byte characters and distinct words, in README, names and metadata at once."""

    def words(start: int, count: int) -> list[str]:
        letters = [chr(0x10400 + i) for i in range(40)]
        pairs = ("".join(each) for each in itertools.product(letters, repeat=4))
        return list(itertools.islice(pairs, start, start + count))

    name = new_name()
    meta = [json.dumps(words(40_000 + i * 1000, 1000), ensure_ascii=False).encode() for i in range(60)]
    files = {word: trees.file(b"1", metadata_hash=trees.sha(meta[i % 60])) for i, word in enumerate(words(0, 15_000))}
    readme = " ".join(words(20_000, 20_000)).encode()
    tree = trees.root({**files, "README": trees.file(readme)})
    anna.push_tree(name, tree, [b"1", readme, *meta])
    assert f"anna/{name}" in found(anna, f"{words(0, 1)[0]} {words(20_000, 1)[0]} {words(40_000, 1)[0]} {name}")


def test_packages_indexed_by_the_previous_release_are_found(
    postgres: str, local_registry: Callable[..., Registry]
) -> None:
    """That index has weights but neither prefixes nor places. A package is indexed again when `latest` moves."""
    run_sql(postgres.format("postgres"), "CREATE DATABASE search_of_the_release_before")
    url = postgres.format("search_of_the_release_before")
    command.upgrade(schema._alembic(url), "0001")
    run_sql(url, "INSERT INTO account (name, email) VALUES ('olga', 'olga@example.com')")
    for name, weight in (("by_readme", "D"), ("by_node", "C"), ("named", "A")):
        run_sql(
            url,
            """
            WITH made AS (INSERT INTO package (owner_id, owner, name) SELECT id, name, $1 FROM account RETURNING id),
                 shared AS (INSERT INTO access SELECT id, 'team' FROM made)
            INSERT INTO package_search SELECT id, setweight(to_tsvector('english', 'harpsichords'), $2) FROM made
            """,
            name, weight.encode(),
        )  # fmt: skip
    schema.migrate(url)
    registry = local_registry(database_url=url)
    person = registry.make_person("anna")
    assert found(person, "harpsichord") == ["olga/named", "olga/by_node", "olga/by_readme"]


def test_packages_indexed_by_the_previous_release_during_an_upgrade_are_found(
    local_registry: Callable[..., Registry],
) -> None:
    """Both releases run side by side during a rolling upgrade."""
    registry = local_registry()
    person = registry.make_person("anna")
    top_hash = person.push("harpsichords", {"x": b"1"})
    registry.sql("UPDATE package_search SET words = to_tsvector('english', 'harpsichords'), names = '', nodes = ''")
    assert found(person, "harpsichord") == ["anna/harpsichords"]
    person.put("/api/tag/anna/harpsichords/latest", json={"hash": top_hash}).raise_for_status()
    assert found(person, "harpsi") == ["anna/harpsichords"]
    assert search(person, "harpsichord")["packages"][0]["rank"] == 0.5
