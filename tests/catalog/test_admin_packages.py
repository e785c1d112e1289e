"""The page of all packages."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from tests.browsers import Browser, browser, sign_in
from tests.registry import Person, Registry, new_name

PACKAGES = "/profile/admin/packages"


@pytest.fixture(scope="module")
def adas_browser(registry: Registry, ada: Person) -> Iterator[Browser]:
    with browser(registry) as client:
        assert sign_in(client, ada.name).status_code == 303
        yield client


def find(client: Browser, text: str, **query: str) -> httpx.Response:
    return client.get(PACKAGES, params={"q": text, **query})


def rows_of(page: httpx.Response) -> list[str]:
    body = page.text.partition("<tbody>")[2].partition("</tbody>")[0]
    return [" ".join(re.sub("<[^>]+>", " ", each).split()) for each in re.findall("<tr>(.*?)</tr>", body, re.DOTALL)]


def test_only_admins_see_the_page(annas_browser: Browser, visitor: Browser) -> None:
    assert annas_browser.get(PACKAGES).status_code == 403
    assert visitor.get(PACKAGES).headers["location"].startswith("/signin")


def test_a_package_is_listed_with_its_activity(registry: Registry, adas_browser: Browser) -> None:
    fay, name = registry.make_person(new_name("fay")), new_name()
    top_hash = fay.push(name, {"a": b"12345"})
    fay.install(fay.name, name, top_hash)
    page = find(adas_browser, f"{fay.name}/{name}".upper())
    assert rows_of(page) == [f"{fay.name} / {name} private 1 5 B 1 1 0 just now just now"]
    assert f"/profile/admin/audit?package={fay.name}%2F{name}&amp;kind=INSTALL" in page.text


def test_admins_can_open_only_what_is_shared_with_them(registry: Registry, adas_browser: Browser) -> None:
    fay, name = registry.make_person(new_name("fay")), new_name()
    fay.push(name, {"a": b"1"})
    link = f'href="/package/{fay.name}/{name}"'
    assert link not in find(adas_browser, name).text
    fay.grant(name, "ada")
    page = find(adas_browser, name)
    assert link in page.text
    assert "shared" in rows_of(page)[0]


def test_deleted_packages_stay_in_the_list(registry: Registry, adas_browser: Browser) -> None:
    fay, name = registry.make_person(new_name("fay")), new_name()
    fay.push(name, {"a": b"1"})
    fay.delete(f"/api/package/{fay.name}/{name}/").raise_for_status()
    assert rows_of(find(adas_browser, name)) == [f"{fay.name} / {name} deleted 1 0 0 just now never"]
    fay.push(name, {"a": b"2"})
    assert len(rows_of(find(adas_browser, f"{fay.name}/{name}"))) == 2


@pytest.mark.parametrize(
    ("sort", "is_first"),
    [
        *[(key, "busy") for key in ("versions", "size", "pushes", "installs", "views", "pushed", "installed", "name")],
        ("nothing", "busy"),
    ],
)
def test_packages_are_sorted(registry: Registry, adas_browser: Browser, sort: str, is_first: str) -> None:
    fay = registry.make_person(new_name("fay"))
    fay.push("quiet", {"a": b"1"})
    fay.push("busy", {"a": b"1"})
    top_hash = fay.push("busy", {"a": b"1", "b": b"22"})
    fay.install(fay.name, "busy", top_hash)
    fay.get(f"/api/package_preview/{fay.name}/busy/{top_hash}").raise_for_status()
    rows = rows_of(find(adas_browser, f"{fay.name}/", sort=sort))
    assert [is_first in row for row in rows] == [True, False]


def test_a_long_list_has_pages(registry: Registry, adas_browser: Browser) -> None:
    fay = registry.make_person(new_name("fay"))
    registry.sql(
        """INSERT INTO package (owner_id, owner, name)
           SELECT a.id, a.name, 'p' || n FROM account a, generate_series(100, 160) n WHERE a.name = $1""",
        fay.name,
    )
    first, second, third = (find(adas_browser, f"{fay.name}/", page=number) for number in ("1", "2", "3"))
    assert "Packages (61)" in first.text
    assert (len(rows_of(first)), len(rows_of(second))) == (50, 11)
    assert 'rel="next"' in first.text
    assert 'rel="prev"' in second.text
    assert "There are no packages on this page." in third.text
    assert "No package matches." in find(adas_browser, "nothing\0like_this").text
