"""The comments page, to which emails about comments link."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.registry import PASSWORD, Person, Registry, new_name


@pytest.fixture(scope="module")
def name(anna: Person) -> str:
    name = new_name()
    anna.push(name, {"a": b"1"})
    anna.grant(name, "ben")
    return name


@pytest.fixture(scope="module")
def bens_browser(registry: Registry, ben: Person) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=registry.url, timeout=30) as client:
        client.post("/signin", data={"username": "ben", "password": PASSWORD})
        yield client


def test_a_comment_is_written_and_shown(bens_browser: httpx.Client, anna: Person, name: str) -> None:
    path = f"/package/anna/{name}/comments"
    assert "No comments yet" in bens_browser.get(path).text
    response = bens_browser.post(path, data={"contents": "<script>alert(1)</script>\r\nIn feet?"})
    assert response.status_code == 303
    (comment,) = anna.get(f"/api/comments/anna/{name}/").json()["comments"]
    assert comment["contents"] == "<script>alert(1)</script>\nIn feet?"
    assert response.headers["location"] == f"{path}#c-{comment['id']}"
    page = bens_browser.get(path).text
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>" not in page
    assert f'id="c-{comment["id"]}"' in page


@pytest.mark.parametrize(("contents", "expected"), [(" \n ", "blank"), ("x" * 10_241, "at most 10,240")])
def test_what_is_refused_stays_in_the_form(bens_browser: httpx.Client, name: str, contents: str, expected: str) -> None:
    response = bens_browser.post(f"/package/anna/{name}/comments", data={"contents": contents})
    assert response.status_code == 422
    assert expected in response.text
    assert contents.strip() in response.text


def test_users_without_access_do_not_find_the_page(registry: Registry, carl: Person, name: str) -> None:
    with httpx.Client(base_url=registry.url) as browser:
        for method in ("GET", "POST"):
            response = browser.request(method, f"/package/anna/{name}/comments")
            assert response.status_code in (302, 401)
        browser.post("/signin", data={"username": "carl", "password": PASSWORD})
        assert browser.get(f"/package/anna/{name}/comments").status_code == 404
        assert browser.post(f"/package/anna/{name}/comments", data={"contents": "x"}).status_code == 404


def test_everybody_reads_comments_on_what_is_public(open_registry: Registry) -> None:
    olga = open_registry.make_person(new_name("olga"))
    olga.push("p", {"a": b"1"}, is_public=True)
    olga.post(f"/api/comments/{olga.name}/p/", json={"contents": "Free to use"}).raise_for_status()
    page = httpx.get(f"{open_registry.url}/package/{olga.name}/p/comments").text
    assert "Free to use" in page
    assert "Sign in to comment" in page
    assert "<textarea" not in page
