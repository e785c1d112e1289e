"""The page of a user."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from tests.browsers import browser, sign_in, without_tokens
from tests.registry import Person, Registry, new_name


@pytest.fixture(scope="module")
def adas_browser(registry: Registry, ada: Person) -> Iterator[httpx.Client]:
    with browser(registry) as client:
        sign_in(client, "ada")
        yield client


def test_a_reader_sees_packages_that_they_may_read(
    anna: Person, annas_browser: httpx.Client, carls_browser: httpx.Client
) -> None:
    hidden, shown = new_name(), new_name()
    anna.push(hidden, {"a": b"1"})
    anna.push(shown, {"README": b"For all of us.", "a": b"1"})
    anna.grant(shown, "team")
    for path in ("/user/anna", "/package/anna"):
        text = carls_browser.get(path).text
        assert f"/package/anna/{shown}" in text
        assert "For all of us." in text
        assert hidden not in text
        assert re.search(r'rel="canonical" href="[^"]+/user/anna"', text)
    assert hidden in annas_browser.get("/user/anna").text


def test_unknown_users_have_no_page(annas_browser: httpx.Client, registry: Registry) -> None:
    registry.make_person("not_activated", is_active=False, awaits_activation=True)
    statuses = {annas_browser.get(f"/user/{name}").status_code for name in ("not_activated", "unknown", "a%20b", "<b>")}
    assert statuses == {404}


def test_email_addresses_are_for_admins(annas_browser: httpx.Client, adas_browser: httpx.Client, carl: Person) -> None:
    assert "carl@example.com" not in annas_browser.get("/user/carl").text
    text = adas_browser.get("/user/carl").text
    assert "carl@example.com" in text
    assert "Manage in admin" in text


def test_a_user_without_packages_has_a_page(annas_browser: httpx.Client, ada: Person) -> None:
    text = annas_browser.get("/user/ada").text
    assert "No packages you can see." in text
    assert ">admin<" in text


def test_long_lists_have_pages(eve: Person, annas_browser: httpx.Client) -> None:
    for number in range(51):
        eve.push(f"p{number:02}", {"a": b"1"})
        eve.grant(f"p{number:02}", "team")
    path = f"/user/{eve.name}?sort=name"
    first, second = annas_browser.get(path).text, annas_browser.get(f"{path}&page=2").text
    assert "<b>p49</b>" in first
    assert "<b>p50</b>" not in first
    assert "<b>p50</b>" in second
    assert "Page 2 of 2" in second
    assert "There is no page 3" in annas_browser.get(f"{path}&page=3").text


def test_visitors_cannot_tell_users_without_public_packages_from_unknown_ones(open_registry: Registry) -> None:
    owner = open_registry.make_person("anna_user")
    owner.push("own", {"a": b"1"})
    with browser(open_registry) as visitor:
        hidden, unknown = visitor.get("/user/anna_user"), visitor.get("/user/unknown")
        assert hidden.status_code == unknown.status_code == 404
        assert without_tokens(hidden.text).replace("anna_user", "unknown") == without_tokens(unknown.text)
        owner.push("open", {"a": b"1"}, is_public=True)
        assert "/package/anna_user/open" in visitor.get("/user/anna_user").text
