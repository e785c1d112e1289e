"""Signing in and out, and the code page for clients."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from importlib.metadata import version
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.browsers import Browser, browser, sign_in, without_tokens
from tests.registry import PASSWORD, Person, Registry

ELSEWHERE = [
    "//evil.example/",
    "///evil.example/",
    "https://evil.example/",
    "https:evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/\t/evil.example",
    "\t//evil.example",
    "/\n/evil.example",
    "javascript:alert(1)",
    "evil.example",
    "http://[",
    "//[",
    "",
]


def test_signing_in_leads_home_and_shows_who_is_signed_in(visitor: Browser, anna: Person) -> None:
    response = sign_in(visitor, " anna ")
    assert (response.status_code, response.headers["location"]) == (303, "/")
    assert "anna" in visitor.get("/").text


def test_the_footer_shows_the_release(visitor: Browser) -> None:
    assert f"Quilt Registry {version('quilt-registry')}" in visitor.get("/signin").text


def test_a_wrong_password_keeps_the_name_and_not_the_password(visitor: Browser, anna: Person) -> None:
    response = sign_in(visitor, "anna", "wrong password", next="/code")
    assert response.status_code == 422
    assert 'value="anna"' in response.text
    assert 'name="next" value="/code"' in response.text
    assert "Wrong username or password" in response.text
    assert "wrong password" not in response.text
    assert "set-cookie" not in response.headers


def test_each_blank_field_is_named(visitor: Browser) -> None:
    response = sign_in(visitor, " ", "")
    assert response.status_code == 422
    for field, problem in (("username", "Enter your username."), ("password", "Enter your password.")):
        assert f'<a href="#{field}">{problem}</a>' in response.text
        assert f'id="{field}-problem">{problem}<' in response.text


def test_a_session_that_has_ended_is_explained(registry: Registry, visitor: Browser, eve: Person) -> None:
    assert "has ended" not in visitor.get("/signin").text
    sign_in(visitor, eve.name)
    registry.sql(
        "UPDATE token SET last_used = now() - interval '14 days' WHERE made_by = 'page' AND account_id ="
        " (SELECT id FROM account WHERE name = $1)",
        eve.name,
    )
    response = visitor.get("/profile")
    assert response.headers["location"] == "/signin?next=/profile"
    assert "Your sign-in has ended." in visitor.get(response.headers["location"]).text


def test_unknown_inactive_and_mistyped_get_the_same_response(
    registry: Registry, visitor: Browser, anna: Person
) -> None:
    registry.make_person("ina_pages", is_active=False)
    texts = {
        without_tokens(sign_in(visitor, name, password).text).replace(name, "someone")
        for name, password in [("anna", "wrong password"), ("unknown", PASSWORD), ("ina_pages", PASSWORD)]
    }
    assert len(texts) == 1


@pytest.mark.parametrize("name", ['"><script>alert(1)</script>', "a\0b", "ü" * 200, "", "\ufffd"])
def test_any_text_can_be_typed_as_a_name(visitor: Browser, name: str) -> None:
    response = sign_in(visitor, name)
    assert response.status_code == 422
    assert "<script>" not in response.text


@pytest.mark.parametrize("target", ["/code", "/package/anna/data", "/package/anna/data?a=1&b=%2F"])
def test_signing_in_leads_to_the_requested_page(visitor: Browser, anna: Person, target: str) -> None:
    first = visitor.get(target)
    assert first.status_code == 302
    form = visitor.get(first.headers["location"])
    wanted = re.search(r'name="next" value="([^"]*)"', form.text)
    assert wanted is not None
    assert sign_in(visitor, "anna", next=unescape(wanted[1])).headers["location"] == target


@pytest.mark.parametrize("target", ELSEWHERE)
def test_signing_in_never_leads_to_another_site(visitor: Browser, anna: Person, target: str) -> None:
    form = visitor.get("/signin", params={"next": target})
    assert 'name="next" value="/"' in form.text
    assert 'name="next" value="/"' in sign_in(visitor, "anna", "wrong password", next=target).text
    assert sign_in(visitor, "anna", next=target).headers["location"] == "/"
    assert visitor.get("/signin", params={"next": target}).headers["location"] == "/"


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(visitor: Browser, anna: Person) -> None:
    cookie = sign_in(visitor, "anna").headers["set-cookie"].lower()
    assert cookie.startswith("quilt_session=")
    assert {"httponly", "samesite=lax", "path=/"} <= set(cookie.split("; "))
    assert "secure" not in cookie
    assert "domain" not in cookie


def test_behind_https_the_cookie_is_secure_and_login_leads_to_the_catalog(
    own_registry: Callable[..., Registry],
) -> None:
    registry = own_registry(CATALOG_URL="https://quilt.example.com")
    registry.make_person("anna")
    with browser(registry) as page:
        assert "secure" in sign_in(page, "anna").headers["set-cookie"].lower().split("; ")
        response = page.get("/login")
    assert (response.status_code, response.headers["location"]) == (302, "https://quilt.example.com/code")


def test_the_cookie_is_no_key_to_the_api(annas_browser: Browser) -> None:
    assert annas_browser.get("/api/me").status_code == 401


def test_a_disabled_member_is_signed_out_in_the_browser_too(registry: Registry, visitor: Browser) -> None:
    registry.make_person("dora_pages")
    assert sign_in(visitor, "dora_pages").status_code == 303
    registry.sql("UPDATE account SET is_active = false WHERE name = 'dora_pages'")
    assert visitor.get("/").headers["location"] == "/signin?next=/"


@pytest.mark.parametrize(
    ("headers", "content", "status"),
    [
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"username=" + b"x" * 170_000, 413),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"%ff&&&=&username=%ed%a0%80", 422),
        ({"Content-Type": "application/json"}, b'{"username": "anna"}', 422),
        ({"Content-Type": "application/json"}, b"{", 422),
        ({"Content-Type": "multipart/form-data"}, b"username=anna", 400),
        ({"Content-Type": "multipart/form-data; boundary=x"}, b"--x\r\nnonsense", 400),
        ({"Content-Type": "nonsense"}, b"username=anna", 422),
        ({}, b"", 422),
    ],
    ids=["large", "bad bytes", "json", "broken json", "no boundary", "broken parts", "odd type", "empty"],
)
def test_a_strange_form_is_refused_with_a_page(
    visitor: Browser, headers: dict[str, str], content: bytes, status: int
) -> None:
    headers |= {"X-CSRF-Token": visitor.form_token()}
    response = visitor.post("/signin", content=content, headers=headers)
    assert response.status_code == status
    assert response.headers["content-type"].startswith("text/html")


def test_the_code_shown_signs_a_client_in_once(registry: Registry, annas_browser: Browser) -> None:
    page = annas_browser.get("/code")
    shown = re.search(r"<textarea id=\"code\"[^>]*>([^<\s]+)</textarea>", page.text)
    assert page.status_code == 200
    assert "UTC</time> (10 minutes), works once" in page.text
    assert shown is not None
    response = httpx.post(registry.url + "/api/token", data={"refresh_token": shown[1]})
    token = response.raise_for_status().json()["access_token"]
    me = httpx.get(registry.url + "/api/me", headers={"Authorization": f"Bearer {token}"})
    assert me.json()["current_user"] == "anna"
    assert httpx.post(registry.url + "/api/token", data={"refresh_token": shown[1]}).status_code == 401


def test_a_code_is_for_those_who_are_signed_in(visitor: Browser) -> None:
    response = visitor.get("/code")
    assert response.status_code == 302
    location = urlsplit(response.headers["location"])
    assert (location.netloc, location.path, parse_qs(location.query)) == ("", "/signin", {"next": ["/code"]})


def test_a_head_request_to_the_code_page_creates_no_code(registry: Registry, annas_browser: Browser) -> None:
    before = registry.sql("SELECT count(*) FROM code")
    response = annas_browser.head("/code")
    assert (response.status_code, response.content) == (200, b"")
    assert registry.sql("SELECT count(*) FROM code") == before


def test_the_client_is_sent_to_the_code_page(registry: Registry, visitor: Browser) -> None:
    response = visitor.get("/login")
    assert (response.status_code, response.headers["location"]) == (302, registry.url + "/code")


@pytest.mark.parametrize(("target", "shown"), [("/search?q=a&b=%2F", "/search?q=a&amp;b=%2F"), ("//evil.example", "/")])
def test_a_link_of_the_original_to_sign_in_keeps_its_target(
    registry: Registry, visitor: Browser, target: str, shown: str
) -> None:
    response = visitor.get("/login", params={"next": target})
    assert response.headers["location"].startswith(registry.url + "/signin?next=")
    assert f'name="next" value="{shown}"' in visitor.get(response.headers["location"]).text


def test_signing_out_takes_a_click(registry: Registry, visitor: Browser, anna: Person) -> None:
    sign_in(visitor, "anna")
    cookie = visitor.cookies["quilt_session"]
    page = visitor.get("/signout")
    assert '<form method="post" action="/signout">' in page.text
    assert visitor.get("/code").status_code == 200

    response = visitor.submit("/signout")
    assert (response.status_code, response.headers["location"]) == (303, "/signin")
    assert response.headers["clear-site-data"] == '"storage"'
    assert "You are signed out." in visitor.get("/signin").text
    assert "quilt_session" not in visitor.cookies
    stolen = httpx.get(registry.url + "/code", cookies={"quilt_session": cookie})
    assert stolen.status_code == 302


def test_signing_out_twice_is_fine(visitor: Browser) -> None:
    assert visitor.get("/signout").headers["location"] == "/"
    assert visitor.submit("/signout").status_code == 303


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1:1", "http://localhost"])
@pytest.mark.parametrize("path", ["/signin", "/signout"])
def test_a_form_of_another_site_is_refused(visitor: Browser, anna: Person, path: str, origin: str) -> None:
    sign_in(visitor, "anna")
    response = visitor.submit(path, {"username": "anna", "password": PASSWORD}, headers={"Origin": origin})
    assert response.status_code == 403
    assert "another site" in response.text
    assert "set-cookie" not in response.headers
    assert visitor.get("/code").status_code == 200


def test_a_form_of_this_site_is_taken(registry: Registry, visitor: Browser, anna: Person) -> None:
    visitor.headers["Origin"] = registry.url
    response = sign_in(visitor, "anna")
    assert response.status_code == 303
