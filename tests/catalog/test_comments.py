"""The comments page, to which emails about comments link."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.browsers import Browser, browser, sign_in
from tests.registry import Person, Registry, new_name


@pytest.fixture(scope="module")
def name(anna: Person) -> str:
    name = new_name()
    anna.push(name, {"a": b"1"})
    anna.grant(name, "ben")
    return name


@pytest.fixture(scope="module")
def bens_browser(registry: Registry, ben: Person) -> Iterator[Browser]:
    with browser(registry) as client:
        assert sign_in(client, "ben").status_code == 303
        yield client


def test_a_comment_is_written_and_shown(bens_browser: Browser, anna: Person, name: str) -> None:
    path = f"/package/anna/{name}/comments"
    assert "No comments yet" in bens_browser.get(path).text
    response = bens_browser.submit(path, {"contents": "<script>alert(1)</script>\r\nIn feet?"})
    assert response.status_code == 303
    (comment,) = anna.get(f"/api/comments/anna/{name}/").json()["comments"]
    assert comment["contents"] == "<script>alert(1)</script>\nIn feet?"
    assert response.headers["location"] == f"{path}#c-{comment['id']}"
    page = bens_browser.get(path).text
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>" not in page
    assert f'id="c-{comment["id"]}"' in page


@pytest.mark.parametrize(("contents", "expected"), [(" \n ", "blank"), ("x" * 10_241, "at most 10,240")])
def test_what_is_refused_stays_in_the_form(bens_browser: Browser, name: str, contents: str, expected: str) -> None:
    response = bens_browser.submit(f"/package/anna/{name}/comments", {"contents": contents})
    assert response.status_code == 422
    assert expected in response.text
    assert contents.strip() in response.text


def test_users_without_access_do_not_find_the_page(registry: Registry, carl: Person, name: str) -> None:
    path = f"/package/anna/{name}/comments"
    with browser(registry) as client:
        assert client.get(path).status_code == 302
        assert client.submit(path, {"contents": "x"}).status_code == 303
        sign_in(client, "carl")
        assert client.get(path).status_code == 404
        assert client.submit(path, {"contents": "x"}).status_code == 404


def test_everybody_reads_comments_on_what_is_public(open_registry: Registry) -> None:
    olga = open_registry.make_person(new_name("olga"))
    olga.push("p", {"a": b"1"}, is_public=True)
    olga.post(f"/api/comments/{olga.name}/p/", json={"contents": "Free to use"}).raise_for_status()
    page = httpx.get(f"{open_registry.url}/package/{olga.name}/p/comments").text
    assert "Free to use" in page
    assert "Sign in to comment" in page
    assert "<textarea" not in page
