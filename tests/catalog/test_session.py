"""The cookie, where it works, whose forms count, and the end of all sessions."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.browsers import Browser, browser, cookie_of, sign_in
from tests.registry import LocalRegistry, Person, Registry, new_name

Start = Callable[..., LocalRegistry]
HTTPS = {"REGISTRY_URL": "https://registry.example.com", "CATALOG_URL": "https://quilt.example.com"}


def may_use_pages(registry: Registry, cookie: dict[str, str]) -> bool:
    return httpx.get(registry.url + "/code", headers=cookie).status_code == 200


def me(registry: Registry, token: str) -> int:
    return httpx.get(registry.url + "/api/me", headers={"Authorization": f"Bearer {token}"}).status_code


# ------------------------------------------------------------------------------------------------ one place each


def test_a_cookie_works_on_pages_alone(registry: Registry, visitor: Browser, eve: Person) -> None:
    sign_in(visitor, eve.name)
    cookie = visitor.cookies["quilt_session"]
    assert me(registry, cookie) == 401
    for path in ("/api/refresh", "/api/logout"):
        assert httpx.post(registry.url + path, headers={"Authorization": cookie}).status_code == 401
    assert httpx.post(registry.url + "/api/token", data={"refresh_token": cookie}).status_code == 401
    assert visitor.get("/code").status_code == 200, "the session has not ended"


def tokens_of(eve: Person) -> dict[str, str]:
    """A token of each way to get one."""
    url = eve.registry.url
    exchanged = httpx.post(url + "/api/token", data={"refresh_token": eve.get("/api/code").json()["code"]}).json()
    renewed = httpx.post(url + "/api/token", data={"refresh_token": exchanged["refresh_token"]}).json()
    personal = eve.post("/api/v1/tokens", json={"name": new_name("ci")}).json()["token"]
    signed_in = eve.registry.sign_in(eve.name)
    return {
        "code": exchanged["access_token"],
        "renewal": renewed["access_token"],
        "personal": personal,
        "refresh": signed_in.post("/api/refresh").json()["token"],
        "sign-in": str(eve.token),
    }


def test_a_token_works_in_the_api_alone(registry: Registry, eve: Person) -> None:
    for kind, token in tokens_of(eve).items():
        assert me(registry, token) == 200, kind
        cookie = {"Cookie": f"quilt_session={token}"}
        assert not may_use_pages(registry, cookie), kind
        with browser(registry, cookie) as client:
            assert client.submit("/signout").status_code == 303
        assert me(registry, token) == 200, f"{kind}: a page does not end it either"


def test_tokens_of_the_previous_release_work_where_they_did(registry: Registry, eve: Person) -> None:
    registry.sql(
        "UPDATE token SET purpose = NULL WHERE account_id = (SELECT id FROM account WHERE name = $1)", eve.name
    )
    assert me(registry, str(eve.token)) == 200
    assert may_use_pages(registry, {"Cookie": f"quilt_session={eve.token}"})


# ------------------------------------------------------------------------------------------------ https


def test_with_https_the_cookie_is_bound_to_the_host(local_registry: Start) -> None:
    registry = local_registry(**HTTPS)
    anna = registry.make_person("anna")
    with browser(registry) as client:
        signed_in = sign_in(client, "anna")
    attributes = signed_in.headers["set-cookie"].lower().split("; ")
    assert attributes[0].startswith("__host-quilt_session=")
    assert {"secure", "httponly", "path=/", "samesite=lax"} <= set(attributes)
    assert not [each for each in attributes if each.startswith("domain")]
    cookie = cookie_of(signed_in)
    assert may_use_pages(registry, cookie)
    planted = {"Cookie": cookie["Cookie"].removeprefix("__Host-")}
    assert not may_use_pages(registry, planted), "another host of the domain may have set this one"

    registry.sql("UPDATE token SET purpose = NULL WHERE digest = sha256($1)", str(anna.token).encode())
    old = {"Cookie": f"quilt_session={anna.token}"}
    assert may_use_pages(registry, old), "an upgrade signs nobody out"
    for each in (cookie, old):
        with browser(registry, each) as client:
            signed_out = client.submit("/signout")
        cookies = [each.lower() for each in signed_out.headers.get_list("set-cookie")]
        deleted = [each for each in cookies if "_session=" in each]
        assert {each.partition("=")[0] for each in deleted} == {"quilt_session", "__host-quilt_session"}
        assert all("max-age=0" in each and "secure" in each for each in deleted)
        assert not may_use_pages(registry, each)


def test_with_https_browsers_keep_to_it(local_registry: Start) -> None:
    mixed = HTTPS | {"REGISTRY_URL": "http://quilt.example.com:5000"}
    for environment, expected in ((HTTPS, "max-age=31536000"), ({}, None), (mixed, None)):
        registry = local_registry(**environment)
        for path in ("/", "/signin", "/static/quilt.css", "/no/page", "/api/me", "/healthcheck"):
            header = httpx.get(registry.url + path).headers.get("strict-transport-security")
            assert header == expected, (environment, path)


# ------------------------------------------------------------------------------------------------ origins


ORIGINS = {
    "http://quilt.example.com": 303,
    "http://registry.example.com:5000": 303,
    "http://quilt.example.com:80": 403,
    "http://quilt.example.com.evil.example": 403,
    "https://quilt.example.com": 403,
    "http://inside:8080": 303,
    "http://inside": 403,
    "null": 303,  # what pages without a referrer send; the form has its token
    "": 403,
    "http://[": 403,
}


def test_a_proxy_may_rewrite_the_host(local_registry: Start) -> None:
    registry = local_registry(
        REGISTRY_URL="http://registry.example.com:5000", CATALOG_URL="http://Quilt.example.com:80"
    )
    registry.make_person("anna")
    for origin, status in ORIGINS.items():
        with browser(registry) as client:
            client.headers.update({"Host": "inside:8080", "Origin": origin})
            assert sign_in(client, "anna").status_code == status, origin


# ------------------------------------------------------------------------------------------------ codes


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Purpose": "prefetch"},
        {"Sec-Purpose": "prefetch;prerender"},
        {"Sec-Purpose": "prefetch;anonymous-client-ip"},
        {"Purpose": "prefetch"},
        {"X-Purpose": "preview"},
        {"X-Moz": "Prefetch"},
    ],
)
def test_a_page_loaded_in_advance_creates_no_code(
    registry: Registry, annas_browser: Browser, anna: Person, headers: dict[str, str]
) -> None:
    before = registry.sql("SELECT count(*) FROM code")
    page = annas_browser.get("/code", headers=headers)
    assert page.status_code == 200
    assert 'id="code"' not in page.text
    assert 'href="/code"' in page.text
    assert anna.get("/api/code", headers=headers).json() == {"code": ""}
    assert registry.sql("SELECT count(*) FROM code") == before


def test_the_latest_five_codes_are_valid(registry: Registry, eve: Person, visitor: Browser) -> None:
    sign_in(visitor, eve.name)
    codes = [eve.get("/api/code").json()["code"] for _ in range(3)]
    for _ in range(4):
        shown = re.search(r'<textarea id="code"[^>]*>([^<]+)', visitor.get("/code").text)
        assert shown
        codes.append(shown[1])
    used = [httpx.post(registry.url + "/api/token", data={"refresh_token": code}).status_code for code in codes]
    assert used == [401] * 2 + [200] * 5


@pytest.mark.parametrize("form", [" {} ", "{}\n", "\t{}\r\n", "\u00a0{}", "{0:.16}\n{1}"])
def test_a_pasted_code_may_have_space_around_it(registry: Registry, eve: Person, form: str) -> None:
    code = eve.get("/api/code").json()["code"]
    pasted = form.format(code, code[16:])
    assert httpx.post(registry.url + "/api/token", data={"refresh_token": pasted}).status_code == 200


# ------------------------------------------------------------------------------------------------ the end


def test_signing_out_everywhere(registry: Registry, visitor: Browser, eve: Person, anna: Person) -> None:
    tokens = tokens_of(eve)
    code = eve.get("/api/code").json()["code"]
    sign_in(visitor, eve.name)
    with browser(registry) as other:
        sign_in(other, eve.name)
        assert 'name="everywhere"' in visitor.get("/signout").text
        assert visitor.submit("/signout", {"everywhere": "1"}).status_code == 303
        assert [each.get("/code").status_code for each in (visitor, other)] == [302, 302]
    assert {kind for kind, token in tokens.items() if me(registry, token) == 200} == {"personal"}
    assert httpx.post(registry.url + "/api/token", data={"refresh_token": code}).status_code == 401
    assert anna.get("/api/me").status_code == 200
    rows = registry.sql("SELECT account, subject FROM event WHERE kind = 'SIGN_OUT' AND subject = $1", eve.name)
    assert [tuple(row) for row in rows] == [(eve.name, eve.name)]

    sign_in(visitor, eve.name)
    visitor.submit("/signout", {"everywhere": "1", "personal_tokens": "1"})
    assert me(registry, tokens["personal"]) == 401


# ------------------------------------------------------------------------------------------------ error pages


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/package/anna/missing", {}, 404),
        ("GET", "/no/page", {}, 404),
        ("GET", "/static/nothing.css", {}, 404),
        ("DELETE", "/signin", {}, 405),
        ("GET", "/package/anna/a%00b", {}, 400),
        ("POST", "/reset_password", {"Origin": "https://evil.example"}, 403),
    ],
)
def test_an_error_page_shows_who_is_signed_in(
    annas_browser: Browser, visitor: Browser, method: str, path: str, headers: Any, status: int
) -> None:
    page = annas_browser.request(method, path, headers=headers)
    assert page.status_code == status
    assert "<summary>anna</summary>" in page.text
    stranger = visitor.request(method, path, headers=headers)
    assert "<summary>" not in stranger.text
