"""Pages for sign-up, activation and password reset, and the API reference page."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from tests.browsers import browser, sign_in, submit, without_tokens
from tests.mailbox import Mailbox
from tests.registry import PASSWORD, Person, Registry, new_name

# Headers that a browser sends from a page with `Referrer-Policy: no-referrer`.
OWN = {"Origin": "null", "Sec-Fetch-Site": "same-origin"}


def sign_up(registry: Registry, name: str, **fields: str) -> httpx.Response:
    form = {"username": name, "email": f"{name}@example.org", "password": PASSWORD, "again": PASSWORD, **fields}
    return submit(registry, "/signup", form)


def test_from_sign_up_to_signing_in(open_registry: Registry, mailbox: Mailbox) -> None:
    name = new_name("hal")
    page = sign_up(open_registry, f" {name} ", email=f" {name}@example.org ")
    assert page.status_code == 200
    assert f"{name}@example.org" in page.text
    link = mailbox.wait(f"{name}@example.org").link("activate")
    with browser(open_registry) as client:
        client.follow_redirects = True
        page_after = client.get(f"/activate/{link}").text
        assert 'data-page="signin"' in page_after
        assert "Your account is active." in page_after
        sign_in(client, name).raise_for_status()
        assert name in client.get("/").text
        assert client.get("/signup").url.path == "/", "signed-in users are redirected"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"username": "Bo"}, "starts with a lower-case letter"),
        ({"username": "team"}, "This username is reserved"),
        ({"username": "ben_taken"}, "Choose another one"),
        ({"email": "none"}, "not a valid email address"),
        ({"password": "short", "again": "short"}, "at least 8 characters"),
        ({"again": "another one"}, "do not match"),
        ({"username": ""}, "Enter a username"),
    ],
)
def test_invalid_fields_are_reported_and_valid_ones_kept(
    open_registry: Registry, fields: dict[str, str], expected: str
) -> None:
    if not open_registry.sql("SELECT FROM account WHERE name = 'ben_taken'"):
        open_registry.make_person("ben_taken")
    name = new_name("hal")
    page = sign_up(open_registry, name, **fields)
    assert page.status_code == (409 if "taken" in fields.get("username", "") else 422)
    assert expected in page.text
    assert 'role="alert"' in page.text
    assert f'value="{fields.get("email", f"{name}@example.org")}"' in page.text
    assert PASSWORD not in page.text


def test_all_problems_are_reported_at_once(open_registry: Registry) -> None:
    page = sign_up(open_registry, "9x", email="x@", again="another one")
    for field in ("username", "email", "again"):
        assert f'<a href="#{field}">' in page.text
        assert f'id="{field}-problem"' in page.text


def test_a_taken_address_comes_with_the_way_to_its_account(open_registry: Registry) -> None:
    name = open_registry.make_person(new_name("ida")).name
    page = sign_up(open_registry, new_name("hal"), email=f"{name}@example.com")
    assert page.status_code == 409
    assert 'id="email-problem"' in page.text
    assert 'href="/reset_password"' in page.text


def test_the_first_password_of_an_account(registry: Registry, ada: Person, mailbox: Mailbox) -> None:
    name = new_name("hal")
    ada.post("/api/users/create", json={"username": name, "email": f"{name}@example.org"}).raise_for_status()
    page = httpx.get(f"{registry.url}/reset_password/{mailbox.wait(f'{name}@example.org').link('reset_password')}").text
    assert "Set your password" in page
    assert name in page


def test_markup_in_a_field_stays_text(open_registry: Registry) -> None:
    page = sign_up(open_registry, '"><script>alert(1)</script>')
    assert page.status_code == 422
    assert "<script>" not in page.text


def test_sign_up_that_is_closed(local_registry: Callable[..., Registry]) -> None:
    registry = local_registry(SIGNUP="closed")
    page = httpx.get(registry.url + "/signup")
    assert page.status_code == 200
    assert 'action="/signup"' not in page.text
    assert "created by an admin" in page.text
    assert "/signup" not in httpx.get(registry.url + "/signin").text
    assert sign_up(registry, "hal").status_code == 501


def test_sign_up_by_invitation_says_so(registry: Registry) -> None:
    page = httpx.get(registry.url + "/signup").text
    assert "by invitation" in page
    assert "welcome.example" in page
    refused = sign_up(registry, new_name("hal"))
    assert refused.status_code == 403
    assert "Sign-up is by invitation" in refused.text


def test_choosing_a_password(registry: Registry, mailbox: Mailbox) -> None:
    name = new_name("hal")
    person = registry.make_person(name, email=f"{name}@example.org")
    known = submit(registry, "/reset_password", {"email": f"{name}@example.org"})
    unknown = submit(registry, "/reset_password", {"email": "none@example.org"})
    assert without_tokens(known.text).replace(name, "none") == without_tokens(unknown.text)
    link = mailbox.wait(f"{name}@example.org").link("reset_password")
    url = f"{registry.url}/reset_password/{link}"
    for _ in range(2):
        page = httpx.get(url)
        assert page.status_code == 200
        assert page.headers["referrer-policy"] == "no-referrer"
        assert "no-store" in page.headers["cache-control"]
        assert link not in page.text
        assert "<title>Choose a password" in page.text
    different = submit(registry, url, {"password": "brand new one", "again": "brand new two"}, headers=OWN)
    short = submit(registry, url, {"password": "short", "again": "short"}, headers=OWN)
    assert [different.status_code, short.status_code] == [422, 422]
    done = submit(registry, url, {"password": "brand new one", "again": "brand new one"}, headers=OWN)
    assert (done.status_code, done.headers["location"]) == (303, "/signin")
    assert person.get("/api/me").status_code == 401
    signed_in = submit(registry, "/signin", {"username": name, "password": "brand new one"})
    assert signed_in.status_code == 303
    again = {"password": PASSWORD, "again": PASSWORD}
    for response in (httpx.get(url), submit(registry, url, again, headers=OWN)):
        assert response.status_code == 410
        assert 'href="/reset_password"' in response.text


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_form_from_another_site_chooses_no_password(registry: Registry, site: str) -> None:
    headers = {"Origin": "null", "Sec-Fetch-Site": site}
    assert submit(registry, "/reset_password/x", {"password": PASSWORD}, headers=headers).status_code == 403


def test_over_plain_http_the_token_of_a_form_tells_where_it_is_from(registry: Registry) -> None:
    """Without a referrer, browsers send the origin `null`, and over plain HTTP nothing else."""
    sent, form = {"Origin": "null"}, {"password": PASSWORD, "again": PASSWORD}
    assert submit(registry, "/reset_password/x", form, headers=sent).status_code == 410
    forged = httpx.post(f"{registry.url}/reset_password/x", data=form, headers=sent)
    assert forged.status_code == 403
    assert "another site" in forged.text


@pytest.mark.parametrize("link", ["x", "%00", "a" * 5000, "<script>", "%F0%9F%92%A5"])
def test_an_invalid_link_gets_a_page(registry: Registry, link: str) -> None:
    page = httpx.get(f"{registry.url}/reset_password/{link}")
    assert page.status_code in (400, 410)
    assert "<script>" not in page.text


def test_the_page_after_a_bad_activation_link(registry: Registry) -> None:
    page = httpx.get(registry.url + "/activation_error")
    assert page.status_code == 200
    for way_out in ("/signin", "/signup"):
        assert f'href="{way_out}"' in page.text


def test_the_page_of_the_api_names_every_call(registry: Registry, anna: Person) -> None:
    page = httpx.get(registry.url + "/help/api")
    assert page.status_code == 200
    for path, item in httpx.get(registry.url + "/api/openapi.json").json()["paths"].items():
        assert f" {path}</code>" in page.text
        for operation in item.values():
            if "operationId" in operation:
                assert f'id="{operation["operationId"]}"' in page.text
