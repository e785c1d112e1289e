"""The home page, the welcome of a new registry, and the guide."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.browsers import Browser, browser, sign_in
from tests.registry import LocalRegistry, Person, Registry, new_name


@pytest.fixture
def new_registry(local_registry: Callable[..., LocalRegistry]) -> Iterator[tuple[LocalRegistry, Browser]]:
    """A registry without packages, and a browser of its admin."""
    new = local_registry(TEAM_ID="acme", TEAM_NAME="Acme Data", TEAM_TAGLINE="Reference tables", RATE_LIMITS="off")
    new.make_person("ada", is_admin=True)
    with browser(new) as client:
        sign_in(client, "ada")
        yield new, client


def order(text: str, *names: str) -> bool:
    places = [text.index(f"<b>{name}</b>") for name in names]
    return places == sorted(places)


def test_recently_updated_packages_come_first(anna: Person, annas_browser: httpx.Client) -> None:
    old, new = new_name(), new_name()
    anna.push(old, {"README": b"# Title\n\nPrices of week 1, in *euros*. More follows."})
    anna.push(new, {"a": b"1"})
    text = annas_browser.get("/").text.partition("Recently updated")[2]
    assert order(text, new, old)
    assert "Prices of week 1, in euros.<" in text


def test_home_shows_what_the_reader_pushed_last(anna: Person, ben: Person, registry: Registry) -> None:
    name = new_name()
    anna.push(name, {"a": b"1"})
    anna.grant(name, "team")
    ben.push(name, {"a": b"2"}, owner="anna")
    with browser(registry) as client:
        sign_in(client, "ben")
        yours = client.get("/").text.partition("Yours")[2].partition("Recently updated")[0]
    assert f"/package/anna/{name}" in yours


def test_a_new_registry_says_how_to_push_the_first_package(new_registry: tuple[LocalRegistry, Browser]) -> None:
    registry, client = new_registry
    text = client.get("/").text
    assert 'data-page="welcome"' in text
    assert "Welcome to Acme Data" in text
    assert all(command in text for command in ("quilt config acme", "quilt login acme", "quilt push acme:ada/first"))
    assert registry.url in text


def test_admins_of_a_new_registry_get_a_list_of_what_to_see_to(new_registry: tuple[LocalRegistry, Browser]) -> None:
    registry, client = new_registry
    text = client.get("/").text
    assert "Emails are only written to the log." in text
    assert "Make another user an admin" in text
    registry.make_person("bo")
    with browser(registry) as bo:
        sign_in(bo, "bo")
        assert "Make another user an admin" not in bo.get("/").text


def test_the_welcome_stays_above_sample_packages(new_registry: tuple[LocalRegistry, Browser]) -> None:
    registry, client = new_registry
    registry.sign_in("ada").push("sample_weather", {"a": b"1"})
    text = client.get("/").text
    assert 'data-page="welcome"' in text
    assert "quilt-registry remove-samples" in text
    assert order(text, "sample_weather")


def test_the_welcome_disappears_with_the_first_visible_package(new_registry: tuple[LocalRegistry, Browser]) -> None:
    registry, client = new_registry
    bo = registry.make_person("bo")
    bo.push("iris", {"a": b"1"})
    assert "Nothing has been shared with you yet." in client.get("/").text
    bo.grant("iris", "team")
    text = client.get("/").text
    assert 'data-page="home"' in text
    assert "Reference tables" in text
    assert "1\N{NO-BREAK SPACE}package" in text
    assert "2\N{NO-BREAK SPACE}members" in text


def test_visitors_of_a_new_open_registry_can_sign_in(local_registry: Callable[..., LocalRegistry]) -> None:
    with browser(local_registry(TEAM_ID="")) as visitor:
        text = visitor.get("/").text
    assert "This registry is new." in text
    assert "quilt login" not in text


def test_the_guide_has_the_names_of_this_registry(annas_browser: httpx.Client, registry: Registry) -> None:
    text = annas_browser.get("/help/start").text
    assert "quilt install local:anna/first -v 1.0" in text
    assert "from quilt.team.local.anna import first" in text
    assert registry.url in text


def test_visitors_can_read_the_guide(visitor: httpx.Client) -> None:
    assert visitor.get("/help/start").status_code == 200
