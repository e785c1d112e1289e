"""The page of an account: its password, and the theme of pages."""

from __future__ import annotations

import httpx
import pytest

from tests.browsers import Browser, browser, sign_in, submit
from tests.registry import PASSWORD, Person, Registry


@pytest.fixture
def eves_browser(visitor: Browser, eve: Person) -> Browser:
    assert sign_in(visitor, eve.name).status_code == 303
    return visitor


def change_password(client: Browser, **fields: str) -> httpx.Response:
    form = {"current": PASSWORD, "password": "brand new one", "again": "brand new one", **fields}
    return client.submit("/profile/account", form)


def test_a_changed_password_signs_out_all_but_this_browser(
    registry: Registry, eve: Person, eves_browser: Browser
) -> None:
    cookie = eves_browser.cookies["quilt_session"]
    with browser(registry) as other:
        sign_in(other, eve.name)
        response = change_password(eves_browser)
        assert (response.status_code, response.headers["location"]) == (303, "/profile/account")
        assert other.get("/code").status_code == 302
    assert eve.get("/api/me").status_code == 401
    assert eves_browser.cookies["quilt_session"] != cookie
    assert "Your password is changed." in eves_browser.get("/profile/account").text
    assert submit(registry, "/signin", {"username": eve.name, "password": PASSWORD}).status_code == 422
    assert submit(registry, "/signin", {"username": eve.name, "password": "brand new one"}).status_code == 303


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"current": ""}, "current"),
        ({"current": "wrong password"}, "current"),
        ({"password": "", "again": ""}, "password"),
        ({"password": "short", "again": "short"}, "password"),
        ({"again": "another one"}, "again"),
    ],
)
def test_a_wrong_field_changes_nothing(eve: Person, eves_browser: Browser, fields: dict[str, str], field: str) -> None:
    page = change_password(eves_browser, **fields)
    assert page.status_code == 422
    assert f'<a href="#{field}">' in page.text
    assert f'id="{field}-problem"' in page.text
    assert PASSWORD not in page.text
    assert eve.get("/api/me").status_code == 200


def test_the_theme_is_in_the_page_that_comes_next(visitor: Browser) -> None:
    assert '<html lang="en" data-theme="auto">' in visitor.get("/signin").text
    response = visitor.submit("/preferences", {"theme": "dark", "next": "/signin"})
    assert (response.status_code, response.headers["location"]) == (303, "/signin")
    assert '<html lang="en" data-theme="dark">' in visitor.get("/signin").text
    sent = {"Referer": f"{visitor.base_url}/signin?next=/code"}
    response = visitor.submit("/preferences", {"theme": "dark", "next": "/signin"}, headers=sent)
    assert response.headers["location"] == "/signin?next=/code"
    assert visitor.submit("/preferences", {"theme": '"><script>', "next": "//evil.example"}).headers["location"] == "/"
    assert '<html lang="en" data-theme="dark">' in visitor.get("/signin").text
