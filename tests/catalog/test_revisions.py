"""The revisions page, and its forms for tags and versions."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.browsers import Browser
from tests.registry import Person, Registry, new_name


@pytest.fixture
def pushes(anna: Person, ben: Person) -> tuple[str, list[str]]:
    """A package that is shared with Ben, and the hashes of its two pushes."""
    name = new_name()
    hashes = [anna.push(name, {"a": data}) for data in (b"1", b"2")]
    anna.grant(name, ben.name)
    return name, hashes


def path_of(name: str) -> str:
    return f"/package/anna/{name}/revisions"


def shown_hashes(page: str) -> list[str]:
    return re.findall('data-text="([0-9a-f]{64})"', page)


def add(client: Browser, name: str, act: str, value: str, top_hash: str) -> httpx.Response:
    return client.submit(path_of(name), {"act": act, act: value, "hash": top_hash, "push": "1"})


def test_pushes_are_listed_newest_first_with_what_names_them(
    anna: Person, annas_browser: Browser, pushes: tuple[str, list[str]]
) -> None:
    name, hashes = pushes
    anna.put(f"/api/version/anna/{name}/1.0", json={"hash": hashes[0]}).raise_for_status()
    page = annas_browser.get(path_of(name))
    assert page.status_code == 200
    assert shown_hashes(page.text) == hashes[::-1]
    assert f'href="/package/anna/{name}?hash={hashes[0]}"' in page.text
    assert f'href="/package/anna/{name}?version=1.0"' in page.text
    assert f'href="/package/anna/{name}?tag=latest"' in page.text
    assert page.text.count('href="/user/anna"') >= 2


def test_a_repeated_push_is_an_entry_of_its_own(
    anna: Person, annas_browser: Browser, pushes: tuple[str, list[str]]
) -> None:
    name, hashes = pushes
    anna.push(name, {"a": b"1"})
    page = annas_browser.get(path_of(name)).text
    assert shown_hashes(page) == [hashes[0], hashes[1], hashes[0]]
    assert page.count(f"same content as {hashes[0][:8]}") == 1


def test_long_histories_have_pages(registry: Registry, annas_browser: Browser, pushes: tuple[str, list[str]]) -> None:
    name, hashes = pushes
    registry.sql(
        """INSERT INTO push (package_id, instance_id, author)
           SELECT i.package_id, i.id, 'anna' FROM instance i, generate_series(1, 60)
           WHERE i.top_hash = decode($1, 'hex')""",
        hashes[1],
    )
    registry.sql("UPDATE package SET pushes = 62 WHERE owner = 'anna' AND name = $1", name)
    first, second, beyond = (annas_browser.get(path_of(name), params={"page": page}).text for page in (1, 2, 3))
    assert len(shown_hashes(first)) == 50
    assert shown_hashes(second)[-1] == hashes[0]
    assert len(shown_hashes(second)) == 12
    assert f'rel="next" href="{path_of(name)}?page=2"' in first
    assert shown_hashes(beyond) == []
    assert "First page" in beyond
    for page in ("0", "-1", "x", "9" * 30):
        assert shown_hashes(annas_browser.get(path_of(name), params={"page": page}).text) == shown_hashes(first)


def test_an_owner_adds_and_moves_tags(anna: Person, annas_browser: Browser, pushes: tuple[str, list[str]]) -> None:
    name, hashes = pushes
    for top_hash in hashes:
        response = add(annas_browser, name, "tag", "prod", top_hash)
        assert response.status_code == 303
        assert f"now points at {top_hash[:8]}" in annas_browser.get(response.headers["location"]).text
        assert anna.get(f"/api/tag/anna/{name}/prod").json()["hash"] == top_hash


def test_a_form_returns_to_its_page(annas_browser: Browser, pushes: tuple[str, list[str]]) -> None:
    name, hashes = pushes
    path = f"{path_of(name)}?tag=latest&page=2"
    response = annas_browser.submit(path, {"act": "tag", "tag": "a", "hash": hashes[0], "push": "1"})
    assert response.headers["location"] == path


def test_versions_are_added_once(anna: Person, annas_browser: Browser, pushes: tuple[str, list[str]]) -> None:
    name, hashes = pushes
    assert add(annas_browser, name, "version", " 1.0-rc1", hashes[0]).status_code == 303
    assert anna.get(f"/api/version/anna/{name}/1.0rc1").json()["hash"] == hashes[0]
    assert add(annas_browser, name, "version", "1.0rc1", hashes[1]).status_code == 409


@pytest.mark.parametrize(("act", "value"), [("version", "abc"), ("version", ""), ("tag", "a/b"), ("tag", "")])
def test_a_rejected_name_stays_in_its_form(
    annas_browser: Browser, pushes: tuple[str, list[str]], act: str, value: str
) -> None:
    name, hashes = pushes
    (push, _) = re.findall('id="push-([0-9]+)"', annas_browser.get(path_of(name)).text)
    response = annas_browser.submit(path_of(name), {"act": act, act: value, "hash": hashes[1], "push": push})
    assert response.status_code == 422
    field = re.search(f'<input id="{act}-{push}"[^>]*>', response.text)
    assert field
    assert f'value="{value}"' in field[0]
    assert 'aria-invalid="true"' in field[0]
    assert f'href="#{act}-{push}"' in response.text


def test_removing_a_tag_asks_first(anna: Person, annas_browser: Browser, pushes: tuple[str, list[str]]) -> None:
    name, hashes = pushes
    add(annas_browser, name, "tag", "old one", hashes[0])
    path = f"/package/anna/{name}/tags/old%20one/remove"
    question = annas_browser.get(path)
    assert question.status_code == 200
    assert "Remove tag old one" in question.text
    assert anna.get(f"/api/tag/anna/{name}/old%20one").status_code == 200
    response = annas_browser.submit(path)
    assert response.headers["location"] == path_of(name)
    assert anna.get(f"/api/tag/anna/{name}/old%20one").status_code == 404
    assert annas_browser.get(path).status_code == 404


def test_readers_see_no_forms_and_may_not_send_them(bens_browser: Browser, pushes: tuple[str, list[str]]) -> None:
    name, hashes = pushes
    page = bens_browser.get(path_of(name)).text
    assert shown_hashes(page) == hashes[::-1]
    assert "Add tag" not in page
    assert "Remove tag" not in page
    for act in ("tag", "version"):
        assert add(bens_browser, name, act, "1.0", hashes[0]).status_code == 403
    for respond in (bens_browser.get, bens_browser.submit):
        assert respond(f"/package/anna/{name}/tags/latest/remove").status_code == 403


def test_team_members_move_tags_only(anna: Person, carls_browser: Browser, pushes: tuple[str, list[str]]) -> None:
    name, hashes = pushes
    anna.grant(name, "team")
    page = carls_browser.get(path_of(name)).text
    assert "Add tag" in page
    assert "Add version" not in page
    assert "Remove tag" not in page
    assert add(carls_browser, name, "tag", "checked", hashes[0]).status_code == 303
    assert add(carls_browser, name, "version", "1.0", hashes[0]).status_code == 403


def test_strangers_find_nothing(carls_browser: Browser, pushes: tuple[str, list[str]]) -> None:
    name, hashes = pushes
    assert carls_browser.get(path_of(name)).status_code == 404
    for act in ("tag", "version"):
        assert add(carls_browser, name, act, "1.0", hashes[0]).status_code == 404
    for respond in (carls_browser.get, carls_browser.submit):
        assert respond(f"/package/anna/{name}/tags/latest/remove").status_code == 404


def test_an_unfinished_push(annas_browser: Browser, unpushed: str) -> None:
    assert "No pushes yet." in annas_browser.get(path_of(unpushed)).text
