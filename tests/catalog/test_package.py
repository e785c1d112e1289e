"""The package page and the home page."""

from __future__ import annotations

import httpx
import pytest

from tests.browsers import browser, without_tokens
from tests.registry import Person, Registry, new_name


def events(registry: Registry, name: str, kind: str) -> list[str]:
    return [event["account"] for event in registry.events("anna", name) if event["kind"] == kind]


@pytest.fixture(scope="module")
def package(anna: Person) -> str:
    name = new_name()
    readme = b"# T\xc3\xa4bles\n<script>alert('x')</script> <img src=x onerror=alert(1)> & more"
    anna.push(name, {"README": readme, "data": {"<b>bold": b"1,2\n"}})
    return name


def test_a_reader_sees_the_package(annas_browser: httpx.Client, package: str) -> None:
    page = annas_browser.get(f"/package/anna/{package}")
    assert page.status_code == 200
    assert f"quilt install local:anna/{package}" in page.text
    assert "data/" in page.text
    assert "private" in page.text


def test_html_in_a_readme_and_in_names_is_shown_as_text(annas_browser: httpx.Client, package: str) -> None:
    text = annas_browser.get(f"/package/anna/{package}").text
    assert "Täbles" in text
    assert "&lt;script&gt;" in text
    assert "&lt;b&gt;bold" in text
    assert "<script" not in text
    assert "<img src=x" not in text
    assert "<b>" not in text


def test_a_hidden_package_looks_like_a_missing_one(carls_browser: httpx.Client, package: str) -> None:
    hidden = carls_browser.get(f"/package/anna/{package}")
    missing = carls_browser.get("/package/anna/missing")
    assert hidden.status_code == missing.status_code == 404
    assert without_tokens(hidden.text).replace(package, "missing") == without_tokens(missing.text)
    assert hidden.headers["content-type"].startswith("text/html")


def test_the_package_page_sends_anonymous_visitors_to_sign_in(visitor: httpx.Client, package: str) -> None:
    responses = [visitor.get(f"/package/anna/{name}") for name in (package, "missing")]
    assert [response.status_code for response in responses] == [302, 302]
    assert responses[0].headers["location"] == f"/signin?next=/package/anna/{package}"


def test_looking_at_a_package_is_recorded_once(
    registry: Registry, anna: Person, annas_browser: httpx.Client, carls_browser: httpx.Client
) -> None:
    name = new_name()
    anna.push(name, {"a": b"1"})
    annas_browser.get(f"/package/anna/{name}")
    assert annas_browser.head(f"/package/anna/{name}").status_code == 200
    carls_browser.get(f"/package/anna/{name}")
    assert events(registry, name, "PREVIEW") == ["anna"]


def test_home_lists_readable_packages(annas_browser: httpx.Client, carls_browser: httpx.Client, package: str) -> None:
    path = f"/package/anna/{package}"
    assert path in annas_browser.get("/").text
    assert path not in carls_browser.get("/").text


def test_a_package_without_latest_has_a_page(anna: Person, annas_browser: httpx.Client) -> None:
    name = new_name()
    anna.push(name, {"a": b"1"}, tag="")
    page = annas_browser.get(f"/package/anna/{name}")
    assert page.status_code == 200
    assert "no <code>latest</code> tag yet" in page.text


def test_an_empty_package_has_a_page(anna: Person, annas_browser: httpx.Client) -> None:
    name = new_name()
    anna.push(name, {})
    assert "This package is empty." in annas_browser.get(f"/package/anna/{name}").text


def test_in_open_mode_anybody_sees_public_packages(open_registry: Registry) -> None:
    owner = open_registry.make_person("anna_pages")
    owner.push("open_data", {"a": b"1"}, is_public=True)
    owner.push("own_data", {"a": b"1"})
    with browser(open_registry) as page:
        assert "open_data" in page.get("/").text
        assert "own_data" not in page.get("/").text
        assert "public" in page.get("/package/anna_pages/open_data").text
        assert page.get("/package/anna_pages/own_data").status_code == 404
