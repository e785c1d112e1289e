"""The overview for admins, and the page of the system."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.browsers import Browser, browser, sign_in
from tests.registry import PASSWORD, Person, Registry, new_name

ADMIN = "/profile/admin"


@pytest.fixture(scope="module")
def adas_browser(registry: Registry, ada: Person) -> Iterator[Browser]:
    with browser(registry) as client:
        assert sign_in(client, ada.name).status_code == 303
        yield client


def test_the_overview_shows_the_newest_users_and_events(registry: Registry, adas_browser: Browser) -> None:
    eve, name = registry.make_person(new_name("eve")), new_name()
    eve.push(name, {"a": b"1"})
    page = adas_browser.get(ADMIN).text
    assert "<h1>Team local</h1>" in page
    assert 'data-page="admin"' in page
    assert f"{eve.name}@example.com" in page
    assert f"<b>{name}</b>" in page


def test_the_overview_counts(local_registry: Callable[..., Registry]) -> None:
    registry = local_registry()
    ada = registry.make_person("ada", is_admin=True)
    registry.make_person("dan", is_active=False)
    ada.push("data", {"a": b"12345"})
    with browser(registry) as client:
        sign_in(client, "ada")
        page = client.get(ADMIN).text
    numbers = page[page.index('<dl class="numbers">') : page.index("</dl>")]
    for text in ('status=active">1<', 'status=disabled">1<', 'admins=1">1<', "<dd>5 B</dd>", "kind=INSTALL&amp;since="):
        assert text in numbers


@pytest.mark.parametrize(
    ("old", "new"), [("anna", "audit?user=anna"), ("anna/data", "audit?package=anna%2Fdata")]
)  # fmt: skip
def test_links_of_the_original_catalog_lead_to_the_trail(adas_browser: Browser, old: str, new: str) -> None:
    response = adas_browser.get(ADMIN, params={"audit": old})
    assert (response.status_code, response.headers["location"]) == (303, f"{ADMIN}/{new}")


def test_the_system_page_tells_what_works(adas_browser: Browser, registry: Registry) -> None:
    page = adas_browser.get(f"{ADMIN}/system").text
    assert page.count("<dd>responds in ") == 2
    assert f"{registry.url}, where you opened this page" in page
    assert "SIGNUP_DOMAINS" in page
    assert "a secret for tests" not in page


def test_everybody_is_signed_out_at_once(local_registry: Callable[..., Registry]) -> None:
    registry = local_registry()
    registry.make_person("ada", is_admin=True)
    ben = registry.make_person("ben")
    with browser(registry) as client:
        sign_in(client, "ada")
        assert "Type everybody to confirm" in client.get(f"{ADMIN}/sign-out").text
        assert client.submit(f"{ADMIN}/sign-out", {"confirm": "yes"}).status_code == 422
        assert ben.get("/api/me").status_code == 200
        response = client.submit(f"{ADMIN}/sign-out", {"confirm": "everybody"})
        assert response.headers["location"] == "/signin"
        assert "Everybody is signed out." in client.get("/signin").text
        assert client.get(ADMIN).status_code == 302
        assert sign_in(client, "ada", PASSWORD).status_code == 303
    assert ben.get("/api/me").status_code == 401
