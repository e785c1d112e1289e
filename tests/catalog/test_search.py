"""The search page."""

from __future__ import annotations

import html
import re
from typing import Any

import httpx
import pytest

from tests import trees
from tests.browsers import Browser, browser, sign_in
from tests.registry import Person, Registry, new_name


@pytest.fixture(scope="module")
def zebras(anna: Person, ben: Person) -> dict[str, str]:
    """Packages that the word `zebra` finds."""
    readme = b"# Zebras\n\nStripes of every **zebra** in the [park](https://example.com).\n"
    files: Any = {"README": readme, "stripes": b"1"}
    names = {key: new_name(f"zebra_{key}") for key in ("team", "shared", "private", "bens")}
    for key in ("team", "shared", "private"):
        anna.push(names[key], files)
    anna.grant(names["team"], "team")
    anna.grant(names["shared"], "ben")
    ben.push(names["bens"], {**files, "table.csv": b"a,b\n1,2\n"})
    return names


def found(client: httpx.Client, path: str) -> list[str]:
    """The full names of the rows, in order."""
    response = client.get(path)
    assert response.status_code == 200, response.text
    rows = response.text.partition("package-list")[2]
    return re.findall(r'class="handle" href="/package/([^"?]+)"', rows)


@pytest.fixture(scope="module")
def bens_browser(registry: Registry, ben: Person) -> Any:
    with browser(registry) as client:
        sign_in(client, "ben")
        yield client


def test_a_reader_finds_only_what_they_may_read(
    annas_browser: httpx.Client, bens_browser: Browser, carls_browser: httpx.Client, zebras: dict[str, str]
) -> None:
    team, shared, private, bens = (zebras[key] for key in ("team", "shared", "private", "bens"))
    assert set(found(annas_browser, "/search?q=zebra")) == {f"anna/{each}" for each in (team, shared, private)}
    assert set(found(bens_browser, "/search?q=zebra")) == {f"anna/{team}", f"anna/{shared}", f"ben/{bens}"}
    assert found(carls_browser, "/search?q=zebra") == [f"anna/{team}"]
    assert "1\N{NO-BREAK SPACE}package matches" in " ".join(carls_browser.get("/search?q=zebra").text.split("\n"))


def test_matches_are_marked_in_the_readme_without_its_markdown(
    carls_browser: httpx.Client, zebras: dict[str, str]
) -> None:
    text = carls_browser.get("/search?q=zebras").text
    assert "<mark>Zebras</mark> · Stripes of every <mark>zebra</mark> in the park." in text


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        ("visibility=mine", {"private", "shared", "team"}),
        ("visibility=team", {"team"}),
        ("owner=anna", {"private", "shared", "team"}),
        ("owner=nobody", set()),
        ("type=csv", set()),
        ("within=7", {"private", "shared", "team"}),
        # What means nothing counts as absent.
        ("visibility=everything&within=soon&sort=colour&page=x&owner=%00&type=/", {"private", "shared", "team"}),
    ],
)
def test_filters(annas_browser: httpx.Client, zebras: dict[str, str], query: str, keys: set[str]) -> None:
    assert set(found(annas_browser, f"/search?q=zebra&{query}")) == {f"anna/{zebras[key]}" for key in keys}


def test_file_types(annas_browser: httpx.Client, eve: Person) -> None:
    word = new_name("oryx")
    for extension in ("csv", "csv_2", "xcsv"):
        eve.push_tree(
            f"{word}_{extension}", trees.root({"a": trees.file(b"1", metadata={"q_path": f"a.{extension}"})}), [b"1"]
        )
        eve.grant(f"{word}_{extension}", "team")
    assert found(annas_browser, f"/search?q={word}&type=csv") == [f"{eve.name}/{word}_csv"]
    assert len(found(annas_browser, f"/search?q={word}&type=.CSV&type=xcsv")) == 2
    assert 'value="csv_2"' in annas_browser.get(f"/search?q={word}").text


def test_packages_shared_with_me(bens_browser: Browser, zebras: dict[str, str]) -> None:
    assert found(bens_browser, "/search?q=zebra&visibility=shared") == [f"anna/{zebras['shared']}"]


def test_each_active_filter_can_be_removed(annas_browser: httpx.Client, zebras: dict[str, str]) -> None:
    text = annas_browser.get("/search?q=zebra&visibility=mine&type=csv&type=md&sort=name").text
    links = {html.unescape(each) for each in re.findall(r'href="([^"]+)" aria-label="Remove the filter', text)}
    assert links == {
        "/search?q=zebra&sort=name&type=csv&type=md",
        "/search?q=zebra&sort=name&visibility=mine&type=md",
        "/search?q=zebra&sort=name&visibility=mine&type=csv",
    }


def test_orders(annas_browser: httpx.Client, anna: Person) -> None:
    word = new_name("okapi")
    for name, size in (("b", 3), ("a", 1), ("c", 2)):
        anna.push(f"{word}_{name}", {"a": b"x" * size})

    def names(sort: str) -> str:
        return "".join(each[-1] for each in found(annas_browser, f"/search?q={word}&sort={sort}"))

    assert names("pushed") == "cab"
    assert names("name") == "abc"
    assert names("size") == "bca"


def test_a_full_name_finds_its_package_first(annas_browser: httpx.Client, anna: Person) -> None:
    name = new_name("quagga")
    anna.push(f"{name}_more", {"README": f"anna {name}".encode() * 20})
    anna.push(name, {"a": b"1"}, tag="")
    for query in (f"anna/{name}", f"local:anna/{name}"):
        assert found(annas_browser, f"/search?q={query}&sort=size")[0] == f"anna/{name}"
    assert ">exact<" in annas_browser.get(f"/search?q=anna/{name}").text


def test_without_words_every_visible_package_is_found_once(anna: Person, annas_browser: httpx.Client) -> None:
    for _ in range(26):
        anna.push(new_name(), {"a": b"1"}, tag="")
    rows: list[str] = []
    page = 1
    while names := found(annas_browser, f"/search?page={page}"):
        assert len(names) <= 25
        rows += names
        page += 1
    assert len(rows) == len(set(rows))
    assert f"There is no page {page} of this list." in annas_browser.get(f"/search?page={page}").text
    assert ">Next<" in annas_browser.get("/search").text
    assert ">Previous<" not in annas_browser.get("/search").text


def test_a_search_without_results_gives_hints(annas_browser: httpx.Client) -> None:
    text = annas_browser.get("/search", params={"q": "zzzz <script>alert(1)</script>"}).text
    assert "Check the spelling" in text
    assert "Browse all packages" in text
    assert "<script>alert" not in text


@pytest.mark.parametrize("query", ["the", "!!!", "'", "\\", "a & !b", "\x00", "x" * 300, "ä/ö", "\u202e"])
def test_odd_searches_have_a_page(annas_browser: httpx.Client, query: str) -> None:
    response = annas_browser.get("/search", params={"q": query})
    assert response.status_code == 200
    assert ("The rest was left out" in response.text) == (len(query) > 200)


def test_visitors_of_an_open_registry_find_public_packages(open_registry: Registry) -> None:
    owner = open_registry.make_person("anna_search")
    owner.push("lion_open", {"a": b"1"}, is_public=True)
    owner.push("lion_own", {"a": b"1"})
    with browser(open_registry) as visitor:
        assert found(visitor, "/search?q=lion") == ["anna_search/lion_open"]
        text = visitor.get("/search?q=lion").text
    assert "Shared with me" not in text
    assert "Public" in text


def test_the_search_of_a_team_needs_a_sign_in(visitor: httpx.Client) -> None:
    response = visitor.get("/search?q=zebra&sort=name")
    assert response.headers["location"] == "/signin?next=/search%3Fq%3Dzebra%26sort%3Dname"
