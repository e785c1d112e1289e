"""The page of all accounts, and what admins do to them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import httpx
import pytest

from tests.browsers import Browser, browser, sign_in
from tests.mailbox import Mailbox
from tests.registry import PASSWORD, Person, Registry, new_name

USERS = "/profile/admin/users"


@pytest.fixture(scope="module")
def adas_browser(registry: Registry, ada: Person) -> Iterator[Browser]:
    with browser(registry) as client:
        assert sign_in(client, ada.name).status_code == 303
        yield client


def row_of(page: httpx.Response, name: str) -> str:
    """The row of a user as text, and "" if the list has none."""
    found = re.search(rf'<tr id="user-{name}">(.*?)</tr>', page.text, re.DOTALL)
    return " ".join(re.sub("<[^>]+>", " ", found[1]).split()) if found else ""


def acts_on(page: httpx.Response, name: str) -> set[str]:
    return set(re.findall(rf'"{USERS}/{name}/([a-z-]+)[?"]', page.text))


def find(client: Browser, name: str, **query: str) -> httpx.Response:
    return client.get(USERS, params={"q": name, **query})


@pytest.mark.parametrize("path", [USERS, f"{USERS}/anna/disable"])
def test_only_admins_see_the_pages(annas_browser: Browser, visitor: Browser, path: str) -> None:
    assert annas_browser.get(path).status_code == 403
    assert visitor.get(path).headers["location"].startswith("/signin")


def test_a_user_is_found_by_name_and_by_email_address(registry: Registry, adas_browser: Browser) -> None:
    name = registry.make_person(new_name("fay"), email="Fay.Long@Example.org").name
    for text in (name, name.upper(), "fay.long@example"):
        assert row_of(find(adas_browser, text), name)
    assert not row_of(find(adas_browser, "fay%long"), name)
    assert "No user matches." in find(adas_browser, "a\0nothing").text


def test_the_list_shows_what_users_did(registry: Registry, adas_browser: Browser) -> None:
    fay = registry.make_person(new_name("fay"))
    fay.install(fay.name, "data", fay.push("data", {"a": b"1"}))
    row = row_of(find(adas_browser, fay.name), fay.name)
    assert f"{fay.name}@example.com 1 1 1 0 just now" in row
    page = find(adas_browser, fay.name).text
    assert f"/profile/admin/audit?user={fay.name}&amp;kind=PUSH" in page


def test_users_are_filtered_by_status(registry: Registry, adas_browser: Browser) -> None:
    prefix = new_name("status")
    registry.make_person(f"{prefix}_on")
    registry.make_person(f"{prefix}_off", is_active=False)
    registry.make_person(f"{prefix}_new", is_active=False, awaits_activation=True)
    registry.make_person(f"{prefix}_boss", is_admin=True)

    def shown(**query: str) -> set[str]:
        return set(re.findall(rf'id="user-{prefix}_(\w+)"', find(adas_browser, prefix, **query).text))

    assert shown() == {"on", "off", "new", "boss"} == shown(status="everything")
    assert shown(status="active") == {"on", "boss"}
    assert shown(status="disabled") == {"off", "new"} == shown(status="never")
    assert shown(admins="1") == {"boss"}
    page = find(adas_browser, prefix)
    assert "disabled" in row_of(page, f"{prefix}_off")
    assert "not activated" in row_of(page, f"{prefix}_new")
    assert "never" in row_of(page, f"{prefix}_new")


@pytest.mark.parametrize("sort", ["name", "email", "packages", "pushes", "installs", "views", "seen", "joined", "x"])
def test_users_are_sorted(registry: Registry, adas_browser: Browser, sort: str) -> None:
    prefix = new_name("sort")
    quiet = registry.make_person(
        f"{prefix}_b", email=f"{prefix}_x@example.com", created_at=datetime(2020, 1, 1, tzinfo=UTC), is_active=False
    )
    busy = registry.make_person(f"{prefix}_c", email=f"{prefix}_y@example.com")
    busy.install(busy.name, "data", busy.push("data", {"a": b"1"}))
    busy.get(f"/api/package_preview/{busy.name}/data/{busy.push('data', {'a': b'1'})}").raise_for_status()
    names = re.findall(rf'id="user-({prefix}\w+)"', find(adas_browser, prefix, sort=sort).text)
    expected = [busy.name, quiet.name]
    assert names == (expected if sort not in ("name", "email", "x") else expected[::-1])


def test_a_long_list_has_pages(registry: Registry, adas_browser: Browser) -> None:
    prefix = new_name("many")
    registry.sql(
        "INSERT INTO account (name, email) SELECT $1 || n, $1 || n || '@example.com' FROM generate_series(100, 160) n",
        prefix,
    )
    first, second, third = (find(adas_browser, prefix, page=number) for number in ("", "2", "3"))
    assert "Users (61)" in first.text
    assert first.text.count("<tr id=") == 50
    assert 'rel="next"' in first.text
    assert second.text.count("<tr id=") == 11
    assert 'rel="prev"' in second.text
    assert "There are no users on this page." in third.text


# ------------------------------------------------------------------------------------------------ new accounts


def test_an_admin_creates_an_account_whose_user_chooses_a_password(
    adas_browser: Browser, visitor: Browser, mailbox: Mailbox
) -> None:
    name = new_name("gus")
    response = adas_browser.submit(USERS, {"username": name, "email": f"{name}@example.com"})
    assert response.status_code == 303
    page = adas_browser.get(response.headers["location"])
    assert f"The account {name} is created." in page.text
    assert "never" in row_of(find(adas_browser, name), name)
    letter = mailbox.wait(f"{name}@example.com")
    link = re.search(r"/reset_password/\S+", letter.text)
    assert link
    visitor.submit(link[0], {"password": PASSWORD, "again": PASSWORD})
    assert sign_in(visitor, name).status_code == 303


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"username": "", "email": "a@example.com"}, 422, "Enter a username."),
        ({"username": "Anna B", "email": "a@example.com"}, 422, "starts with a lower-case letter"),
        ({"username": "team", "email": "a@example.com"}, 422, "This username is reserved."),
        ({"username": "gus", "email": "nowhere"}, 422, "This is not a valid email address."),
        ({"username": "anna", "email": "other@example.com"}, 409, "This username is taken."),
        ({"username": "gus", "email": "Anna@example.com"}, 409, "An account with this email address exists."),
    ],
)
@pytest.mark.usefixtures("anna")
def test_a_form_with_a_problem_comes_back(
    adas_browser: Browser, fields: dict[str, str], status: int, message: str
) -> None:
    response = adas_browser.submit(USERS, fields)
    assert response.status_code == status
    assert response.text.count(message) == 2, "in the summary and at the field"
    assert f'value="{fields["username"]}"' in response.text


def test_without_email_the_admin_hands_over_the_link(local_registry: Callable[..., Registry]) -> None:
    registry = local_registry()
    registry.make_person("ada", is_admin=True)
    with browser(registry) as client:
        sign_in(client, "ada")
        page = client.submit(USERS, {"username": "gus", "email": "gus@example.com"})
        assert page.status_code == 200
        assert "No mail server is set" in page.text
        assert "no-store" in page.headers["cache-control"]
        link = re.search(r'<pre id="link" data-text="([^"]+)"', page.text)
        assert link
        with browser(registry) as other:
            path = link[1].removeprefix(registry.url)
            assert other.submit(path, {"password": PASSWORD, "again": PASSWORD}).status_code == 303
            assert sign_in(other, "gus").status_code == 303


# ------------------------------------------------------------------------------------------------ acts


def perform(client: Browser, name: str, act: str, **fields: str) -> httpx.Response:
    response = client.submit(f"{USERS}/{name}/{act}?q={name}", fields)
    if response.status_code != 303:
        return response
    assert response.headers["location"] == f"{USERS}?q={name}#user-{name}"
    return client.get(response.headers["location"])


def test_a_disabled_user_is_signed_out_and_can_be_enabled(registry: Registry, adas_browser: Browser) -> None:
    eve = registry.make_person(new_name("eve"))
    assert acts_on(find(adas_browser, eve.name), eve.name) == {"grant-admin", "reset-password", "sign-out", "disable"}
    question = adas_browser.get(f"{USERS}/{eve.name}/disable?q={eve.name}").text
    assert f"Disable {eve.name}?" in question
    assert f'href="{USERS}?q={eve.name}#user-{eve.name}"' in question
    page = perform(adas_browser, eve.name, "disable")
    assert f"{eve.name} is disabled and signed out everywhere." in page.text
    assert acts_on(page, eve.name) == {"grant-admin", "enable"}
    assert eve.get("/api/me").status_code == 401
    page = perform(adas_browser, eve.name, "enable")
    assert f"{eve.name} can sign in again." in page.text
    registry.sign_in(eve.name)


def test_admin_rights_are_granted_and_revoked(registry: Registry, adas_browser: Browser) -> None:
    eve = registry.make_person(new_name("eve"))
    page = perform(adas_browser, eve.name, "grant-admin")
    assert "admin" in row_of(page, eve.name)
    assert eve.get("/api/v1/audit").status_code == 200
    assert "revoke-admin" in acts_on(page, eve.name)
    perform(adas_browser, eve.name, "revoke-admin")
    assert eve.get("/api/v1/audit").status_code == 403


def test_an_old_sign_in_needs_the_password_to_make_an_admin(registry: Registry) -> None:
    ann, eve = registry.make_person(new_name("ann"), is_admin=True), registry.make_person(new_name("eve"))
    with browser(registry) as client:
        sign_in(client, ann.name)
        registry.sql("UPDATE token SET created_at = now() - interval '16 minutes'")
        assert "Your password" in client.get(f"{USERS}/{eve.name}/grant-admin").text
        response = perform(client, eve.name, "grant-admin", confirm_password="wrong password")
        assert response.status_code == 422
        assert "This is not your password." in response.text
        assert eve.get("/api/v1/audit").status_code == 403
        perform(client, eve.name, "grant-admin", confirm_password=PASSWORD)
    assert eve.get("/api/v1/audit").status_code == 200


def test_a_password_reset_ends_the_password_and_sends_a_link(
    registry: Registry, adas_browser: Browser, visitor: Browser, mailbox: Mailbox
) -> None:
    eve = registry.make_person(new_name("eve"))
    perform(adas_browser, eve.name, "reset-password")
    assert eve.get("/api/me").status_code == 401
    assert sign_in(visitor, eve.name).status_code == 422
    assert "/reset_password/" in mailbox.wait(f"{eve.name}@example.com").text


def test_signing_a_user_out_keeps_personal_tokens(registry: Registry, adas_browser: Browser) -> None:
    eve = registry.make_person(new_name("eve"))
    token = eve.post("/api/v1/tokens", json={"name": "ci"}).json()["token"]
    perform(adas_browser, eve.name, "sign-out")
    assert eve.get("/api/me").status_code == 401
    headers = {"Authorization": f"Bearer {token}"}
    assert httpx.get(registry.url + "/api/me", headers=headers).status_code == 200
    (by,) = registry.sql("SELECT account FROM event WHERE kind = 'SIGN_OUT' AND subject = $1", eve.name)
    assert by["account"] == "ada"


@pytest.mark.parametrize("act", ["disable", "revoke-admin"])
def test_admins_cannot_lock_themselves_out(adas_browser: Browser, act: str) -> None:
    assert act not in acts_on(find(adas_browser, "ada"), "ada")
    assert perform(adas_browser, "ada", act).status_code == 403


@pytest.mark.parametrize("path", [f"{USERS}/nobody_at_all/disable", f"{USERS}/anna/delete", f"{USERS}/anna/enable"])
def test_unknown_users_and_acts_are_not_found(adas_browser: Browser, path: str) -> None:
    assert adas_browser.get(path).status_code == 404


@pytest.mark.parametrize("act", ["disable", "enable"])
def test_an_act_on_an_unknown_user_is_not_found(adas_browser: Browser, act: str) -> None:
    assert perform(adas_browser, "nobody_at_all", act).status_code == 404


def test_the_setting_switches_the_management_of_accounts_off(local_registry: Callable[..., Registry]) -> None:
    registry = local_registry(ENABLE_USER_ENDPOINTS="off")
    registry.make_person("ada", is_admin=True)
    registry.make_person("ben")
    with browser(registry) as client:
        sign_in(client, "ada")
        page = client.get(USERS)
        assert "ENABLE_USER_ENDPOINTS" in page.text
        assert row_of(page, "ben")
        assert not acts_on(page, "ben")
        assert perform(client, "ben", "disable").status_code == 501
        assert client.submit(USERS, {"username": "gus", "email": "gus@example.com"}).status_code == 501
