"""The settings page of a package."""

from __future__ import annotations

import pytest

from tests.browsers import Browser
from tests.registry import Person, Registry, new_name


@pytest.fixture
def name(anna: Person, ben: Person) -> str:
    name = new_name()
    anna.push(name, {"a": b"1"})
    anna.grant(name, ben.name)
    return name


def path_of(name: str) -> str:
    return f"/package/anna/{name}/settings"


def test_tags_and_versions_are_added(annas_browser: Browser, anna: Person, name: str) -> None:
    top_hash = anna.get(f"/api/tag/anna/{name}/latest").json()["hash"]
    for act, value in (("tag", "prod"), ("version", "1.0")):
        response = annas_browser.submit(path_of(name), {"act": act, act: value, "hash": top_hash, "push": "0"})
        assert response.headers["location"] == path_of(name)
        assert anna.get(f"/api/{act}/anna/{name}/{value}").json()["hash"] == top_hash
    page = annas_browser.get(path_of(name)).text
    assert f'href="/package/anna/{name}/tags/prod/remove"' in page
    assert f'href="/package/anna/{name}?version=1.0"' in page


def test_a_rejected_name_stays_in_its_form(annas_browser: Browser, anna: Person, name: str) -> None:
    top_hash = anna.get(f"/api/tag/anna/{name}/latest").json()["hash"]
    form = {"act": "version", "version": "abc", "hash": top_hash, "push": "0"}
    page = annas_browser.submit(path_of(name), form)
    assert page.status_code == 422
    assert 'value="abc"' in page.text
    assert 'href="#version-0"' in page.text


def test_deleting_needs_the_name(registry: Registry, annas_browser: Browser, anna: Person, name: str) -> None:
    wrong = annas_browser.submit(path_of(name), {"act": "delete", "confirm": name})
    assert wrong.status_code == 422
    assert 'href="#confirm"' in wrong.text
    assert f'value="{name}"' in wrong.text
    assert anna.get(f"/api/package/anna/{name}/").status_code == 200
    response = annas_browser.submit(path_of(name), {"act": "delete", "confirm": f"anna/{name}"})
    assert response.status_code == 303
    assert response.headers["location"] == "/profile"
    assert annas_browser.get(f"/package/anna/{name}").status_code == 404
    assert registry.events("anna", name)[-1]["kind"] == "DELETE"


def test_only_the_owner_sees_them(bens_browser: Browser, carls_browser: Browser, anna: Person, name: str) -> None:
    form = {"act": "delete", "confirm": f"anna/{name}"}
    assert bens_browser.get(path_of(name)).status_code == 403
    assert bens_browser.submit(path_of(name), form).status_code == 403
    assert carls_browser.get(path_of(name)).status_code == 404
    assert carls_browser.submit(path_of(name), form).status_code == 404
    assert anna.get(f"/api/package/anna/{name}/").status_code == 200


def test_an_unfinished_push(annas_browser: Browser, unpushed: str) -> None:
    assert annas_browser.get(path_of(unpushed)).status_code == 200
