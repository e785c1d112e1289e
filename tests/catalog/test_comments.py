"""The comments page, to which emails about comments link."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.browsers import Browser, browser, sign_in
from tests.registry import Person, Registry, new_name


@pytest.fixture
def name(anna: Person, ben: Person) -> str:
    name = new_name()
    anna.push(name, {"a": b"1"})
    anna.grant(name, ben.name)
    return name


def path_of(name: str) -> str:
    return f"/package/anna/{name}/comments"


def comments(person: Person, name: str) -> list[str]:
    return [each["contents"] for each in person.get(f"/api/comments/anna/{name}/").json()["comments"]]


def shown_keys(page: str) -> list[str]:
    return re.findall('id="c-([0-9a-f]+)"', page)


def fill(registry: Registry, name: str, count: int) -> None:
    registry.sql(
        """INSERT INTO comment (key, package_id, author, contents)
           SELECT md5(p.id::text || n::text), p.id, 'ben', n::text FROM package p, generate_series(1, $2::int) n
           WHERE p.owner = 'anna' AND p.name = $1 ORDER BY n""",
        name, count,
    )  # fmt: skip


def test_a_comment_is_written_and_shown(bens_browser: Browser, anna: Person, name: str) -> None:
    assert "No comments yet" in bens_browser.get(path_of(name)).text
    response = bens_browser.submit(path_of(name), {"contents": "<script>alert(1)</script>\r\nIn **feet**?"})
    assert response.status_code == 303
    (comment,) = anna.get(f"/api/comments/anna/{name}/").json()["comments"]
    assert comment["contents"] == "<script>alert(1)</script>\nIn **feet**?"
    assert response.headers["location"] == f"{path_of(name)}#c-{comment['id']}"
    page = bens_browser.get(path_of(name)).text
    assert "<script>alert" not in page
    assert "<strong>feet</strong>" in page
    assert shown_keys(page) == [comment["id"]]


def test_comments_of_the_owner_are_marked(annas_browser: Browser, bens_browser: Browser, name: str) -> None:
    annas_browser.submit(path_of(name), {"contents": "Mine"})
    page = bens_browser.get(path_of(name)).text
    assert '<span class="badge ">owner</span>' in page


@pytest.mark.parametrize(("contents", "expected"), [(" \n ", "blank"), ("x" * 10_241, "at most 10,240")])
def test_what_is_rejected_stays_in_the_form(bens_browser: Browser, name: str, contents: str, expected: str) -> None:
    for act in ("", "preview"):
        response = bens_browser.submit(path_of(name), {"contents": contents, "act": act})
        assert response.status_code == 422
        assert expected in response.text
        assert contents.strip() in response.text
        assert 'href="#contents"' in response.text


def test_a_preview_looks_like_the_comment(bens_browser: Browser, anna: Person, name: str) -> None:
    form = {"contents": "`x` and **y**", "act": "preview"}
    page = bens_browser.submit(path_of(name), form)
    part = bens_browser.submit(path_of(name), form, headers={"HX-Request": "true"})
    assert page.status_code == part.status_code == 200
    for each in (page, part):
        assert "<code>x</code> and <strong>y</strong>" in each.text
    assert "`x` and **y**" in page.text
    assert "<html" not in part.text
    assert "HX-Request" in part.headers["vary"]
    assert comments(anna, name) == []


def test_a_rejected_preview_tells_why(bens_browser: Browser, name: str) -> None:
    form = {"contents": " ", "act": "preview"}
    part = bens_browser.submit(path_of(name), form, headers={"HX-Request": "true"})
    assert part.status_code == 422
    assert "blank" in part.text
    assert "<html" not in part.text


def test_comments_have_pages_and_links_that_last(registry: Registry, bens_browser: Browser, name: str) -> None:
    fill(registry, name, 60)
    first, second, beyond = (bens_browser.get(path_of(name), params={"page": page}).text for page in (1, 2, 3))
    assert len(shown_keys(first)) == 50
    assert len(shown_keys(second)) == 10
    assert "First page" in beyond
    location = bens_browser.submit(path_of(name), {"contents": "The last word"}).headers["location"]
    key = location.rpartition("#c-")[2]
    assert shown_keys(bens_browser.get(location).text)[-1] == key
    assert f'href="{location}"' in bens_browser.get(location).text
    assert len(shown_keys(bens_browser.get(path_of(name), params={"comment": "unknown"}).text)) == 50


def test_deleting_a_comment_asks_first(bens_browser: Browser, annas_browser: Browser, anna: Person, name: str) -> None:
    for client, author in ((bens_browser, "ben"), (annas_browser, "ben"), (annas_browser, "anna")):
        writer = bens_browser if author == "ben" else annas_browser
        key = writer.submit(path_of(name), {"contents": f"By {author}"}).headers["location"].rpartition("#c-")[2]
        path = f"{path_of(name)}/{key}/delete"
        assert f'href="{path}"' in client.get(path_of(name)).text
        assert f"By {author}" in client.get(path).text
        assert comments(anna, name) == [f"By {author}"]
        assert client.submit(path).headers["location"] == path_of(name)
        assert comments(anna, name) == []
        assert client.get(path).status_code == 404


def test_others_delete_nothing(
    annas_browser: Browser, bens_browser: Browser, carls_browser: Browser, anna: Person, name: str
) -> None:
    key = annas_browser.submit(path_of(name), {"contents": "Stays"}).headers["location"].rpartition("#c-")[2]
    path = f"{path_of(name)}/{key}/delete"
    assert path not in bens_browser.get(path_of(name)).text
    for respond in (bens_browser.get, bens_browser.submit):
        assert respond(path).status_code == 403
    for respond in (carls_browser.get, carls_browser.submit):
        assert respond(path).status_code == 404
    assert comments(anna, name) == ["Stays"]


def test_users_without_access_do_not_find_the_page(registry: Registry, carl: Person, name: str) -> None:
    with browser(registry) as client:
        assert client.get(path_of(name)).status_code == 302
        assert client.submit(path_of(name), {"contents": "x"}).status_code == 303
        sign_in(client, "carl")
        assert client.get(path_of(name)).status_code == 404
        for act in ("", "preview"):
            assert client.submit(path_of(name), {"contents": "x", "act": act}).status_code == 404


def test_everybody_reads_comments_on_what_is_public(open_registry: Registry) -> None:
    olga = open_registry.make_person(new_name("olga"))
    olga.push("p", {"a": b"1"}, is_public=True)
    olga.post(f"/api/comments/{olga.name}/p/", json={"contents": "Free to use"}).raise_for_status()
    path = f"/package/{olga.name}/p/comments"
    page = httpx.get(open_registry.url + path).text
    assert "Free to use" in page
    assert f'href="/signin?next={path.replace("/", "%2F")}">Sign in to comment' in page
    assert "<textarea" not in page
