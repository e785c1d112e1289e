"""The profile: one's own packages, those that others shared, and invitations that became access."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.browsers import Browser, sign_in
from tests.registry import Person, Registry, new_name


@pytest.fixture
def eves_browser(visitor: Browser, eve: Person) -> Browser:
    assert sign_in(visitor, eve.name).status_code == 303
    return visitor


def test_a_new_member_learns_how_to_begin(eve: Person, eves_browser: Browser) -> None:
    page = eves_browser.get("/profile").text
    assert f"quilt push local:{eve.name}/first" in page
    assert "No package has been shared with you" in page
    assert f"{eve.name}@example.com" in page


def test_own_and_shared_packages(registry: Registry, eve: Person, eves_browser: Browser, anna: Person) -> None:
    own, shared, hidden = new_name(), new_name(), new_name()
    eve.push(own, {"a": b"1"})
    eve.put(f"/api/access/{eve.name}/{own}/guest@example.org").raise_for_status()
    for name in (shared, hidden):
        anna.push(name, {"a": b"1"})
    anna.grant(shared, eve.name)
    page = eves_browser.get("/profile").text
    mine, theirs = page.split('id="shared-title"')
    assert f'href="/package/{eve.name}/{own}"' in mine
    assert "1\u00a0pending invitation" in mine
    assert f'href="/package/anna/{shared}"' in theirs
    assert f"shared {datetime.now(UTC):%-d %B %Y}" in theirs
    assert hidden not in page


def test_long_lists_end_with_a_link_to_the_rest(registry: Registry, eve: Person, eves_browser: Browser) -> None:
    for number in range(26):
        eve.push(f"p{number:02}", {"a": b"1"})
    page = eves_browser.get("/profile").text
    assert page.count(f'href="/package/{eve.name}/') == 25
    assert "p00" not in page, "the latest first"
    assert 'href="/search?visibility=mine"' in page


def test_an_invitation_since_the_sign_in_is_announced(eve: Person, eves_browser: Browser, anna: Person) -> None:
    name = new_name()
    anna.push(name, {"a": b"1"})
    anna.put(f"/api/access/anna/{name}/{eve.name}@example.com").raise_for_status()
    eves_browser.get("/profile", headers={"Sec-Purpose": "prefetch"})
    assert f"anna shared anna/{name} with you." in eves_browser.get("/profile").text
    assert "with you." not in eves_browser.get("/profile").text


def test_admins_have_a_way_to_the_admin_pages(registry: Registry, visitor: Browser, ada: Person) -> None:
    sign_in(visitor, "ada")
    assert visitor.get("/profile").text.count('href="/profile/admin"') == 2
