"""The page of tokens and sign-ins."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.browsers import Browser, browser, sign_in
from tests.registry import PASSWORD, Person, Registry, new_name

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@pytest.fixture
def eves_browser(registry: Registry, visitor: Browser, eve: Person) -> Browser:
    visitor.headers["User-Agent"] = FIREFOX
    assert sign_in(visitor, eve.name).status_code == 303
    return visitor


def create(client: Browser, **fields: str) -> httpx.Response:
    return client.submit("/profile/tokens", {"name": "ci", "expires": "30", "access": "read-only", **fields})


def secret_of(page: httpx.Response) -> str:
    found = re.search(r'<pre id="secret" data-text="([^"]+)"', page.text)
    assert found
    return found[1]


def status_of(registry: Registry, token: str) -> int:
    return httpx.get(registry.url + "/api/me", headers={"Authorization": f"Bearer {token}"}).status_code


def sign_in_long_ago(registry: Registry, name: str) -> None:
    registry.sql(
        """UPDATE token SET created_at = now() - interval '16 minutes', confirmed_at = NULL
           WHERE account_id = (SELECT id FROM account WHERE name = $1)""",
        name,
    )


def revoke_link(page: httpx.Response, name: str) -> str:
    """The link that revokes the token or sign-in of this name."""
    row = re.search(rf'id="((?:token|session)-\d+)">\s*{re.escape(name)}', page.text)
    assert row
    link = re.search(rf'href="([^"]+)" aria-describedby="{row[1]}"', page.text)
    assert link
    return link[1]


def test_a_token_is_created_shown_once_and_revoked(registry: Registry, eves_browser: Browser) -> None:
    assert "You have no tokens yet." in eves_browser.get("/profile/tokens").text
    page = create(eves_browser)
    assert page.status_code == 200
    assert "no-store" in page.headers["cache-control"]
    secret = secret_of(page)
    assert status_of(registry, secret) == 200
    page = eves_browser.get("/profile/tokens")
    assert secret not in page.text

    link = revoke_link(page, "ci")
    assert "Revoke the token ci?" in eves_browser.get(link).text
    assert status_of(registry, secret) == 200, "a link changes nothing"
    assert eves_browser.submit(link).headers["location"] == "/profile/tokens"
    assert status_of(registry, secret) == 401
    assert "ci</th>" not in eves_browser.get("/profile/tokens").text


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": " "}, "name"),
        ({"name": "x" * 65}, "name"),
        ({"name": "a\x07b"}, "name"),
        ({"expires": "10000"}, "expires"),
        ({"access": "all"}, "access"),
    ],
)
def test_a_wrong_field_is_named_and_the_others_stay(eves_browser: Browser, fields: dict[str, str], field: str) -> None:
    page = create(eves_browser, **fields)
    assert page.status_code == 422
    assert f'<a href="#{field}">' in page.text
    assert '<option value="30" selected>' in page.text or field == "expires"


def test_a_name_is_used_once(eves_browser: Browser) -> None:
    create(eves_browser)
    page = create(eves_browser)
    assert page.status_code == 409
    assert "already have a token named" in page.text


def test_long_after_the_sign_in_the_password_is_asked_again(
    registry: Registry, eve: Person, eves_browser: Browser
) -> None:
    assert 'name="confirm_password"' not in eves_browser.get("/profile/tokens").text
    sign_in_long_ago(registry, eve.name)
    assert 'name="confirm_password"' in eves_browser.get("/profile/tokens").text
    for password, problem in (("", "Enter your password"), ("wrong password", "This is not your password.")):
        page = create(eves_browser, confirm_password=password)
        assert page.status_code == 422
        assert problem in page.text
        assert 'value="ci"' in page.text
    secret_of(create(eves_browser, confirm_password=PASSWORD))
    secret_of(create(eves_browser, name="another"))


def test_sign_ins_are_told_apart(registry: Registry, eve: Person, eves_browser: Browser) -> None:
    code = eve.get("/api/code").json()["code"]
    token = httpx.post(registry.url + "/api/token", data={"refresh_token": code}).json()["refresh_token"]
    httpx.post(registry.url + "/api/token", data={"refresh_token": token}).raise_for_status()
    page = eves_browser.get("/profile/tokens").text
    sessions = re.findall(r'id="session-\d+">\s*([^<,]+)', page)
    assert [each.strip() for each in sessions[:1]] == ["Firefox on Linux"]
    assert page.count("this browser") == 1
    assert sorted(each.strip() for each in sessions[1:]) == ["Command line"] * 2 + ["Program with your password"]


def test_ending_a_sign_in(registry: Registry, eve: Person, eves_browser: Browser) -> None:
    link = revoke_link(eves_browser.get("/profile/tokens"), "Program with your password")
    assert eves_browser.get(link).status_code == 200
    eves_browser.submit(link)
    assert eve.get("/api/me").status_code == 401


def test_signing_out_other_browsers(registry: Registry, eve: Person, eves_browser: Browser) -> None:
    with browser(registry) as other:
        sign_in(other, eve.name)
        eves_browser.submit("/profile/tokens/sign-out-browsers")
        assert other.get("/code").status_code == 302
    assert eves_browser.get("/code").status_code == 200
    assert eve.get("/api/me").status_code == 200


def test_revoking_all_others(registry: Registry, eve: Person, eves_browser: Browser) -> None:
    secret = secret_of(create(eves_browser))
    assert eves_browser.get("/profile/tokens/revoke-others").status_code == 200
    eves_browser.submit("/profile/tokens/revoke-others")
    assert [status_of(registry, token) for token in (secret, str(eve.token))] == [401, 401]
    page = eves_browser.get("/profile/tokens").text
    assert "You have no tokens yet." in page
    assert "All others are revoked." in page


def test_tokens_of_others_are_not_there(eves_browser: Browser, anna: Person) -> None:
    token = anna.post("/api/v1/tokens", json={"name": new_name("ci")}).json()
    path = f"/profile/tokens/{token['id']}/revoke"
    assert eves_browser.get(path).status_code == eves_browser.submit(path).status_code == 404
    assert eves_browser.get(f"/profile/tokens/{'9' * 30}/revoke").status_code == 404


def test_a_name_is_text(eves_browser: Browser) -> None:
    page = create(eves_browser, name="<b>x</b>")
    assert "&lt;b&gt;x&lt;/b&gt;" in page.text
    assert "<b>x</b>" not in page.text


def test_a_token_that_ends_soon_is_marked(eves_browser: Browser) -> None:
    create(eves_browser, name="long")
    assert "expires soon" not in eves_browser.get("/profile/tokens").text
    create(eves_browser, name="short", expires="7")
    assert "expires soon" in eves_browser.get("/profile/tokens").text
