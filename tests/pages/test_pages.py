"""The pages that people read: signing in and out, the code for a client, packages, refusals."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html import unescape
from importlib.metadata import version
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.registry import PASSWORD, Person, Registry, new_name

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
    "",
]


def browser(registry: Registry) -> httpx.Client:
    return httpx.Client(base_url=registry.url, timeout=30)


def sign_in(page: httpx.Client, name: str, password: str = PASSWORD, **fields: str) -> httpx.Response:
    return page.post("/signin", data={"username": name, "password": password, **fields})


@pytest.fixture
def visitor(registry: Registry) -> Iterator[httpx.Client]:
    """A browser in which nobody is signed in."""
    with browser(registry) as client:
        yield client


@pytest.fixture(scope="module")
def annas_browser(registry: Registry, anna: Person) -> Iterator[httpx.Client]:
    with browser(registry) as client:
        assert sign_in(client, "anna").status_code == 303
        yield client


@pytest.fixture(scope="module")
def carls_browser(registry: Registry, carl: Person) -> Iterator[httpx.Client]:
    with browser(registry) as client:
        assert sign_in(client, "carl").status_code == 303
        yield client


def events(registry: Registry, name: str, kind: str) -> list[str]:
    return [event["account"] for event in registry.events("anna", name) if event["kind"] == kind]


# ------------------------------------------------------------------------------------------------ signing in


def test_signing_in_leads_home_and_shows_who_is_signed_in(visitor: httpx.Client, anna: Person) -> None:
    answer = sign_in(visitor, " anna ")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert "anna" in visitor.get("/").text


def test_the_foot_of_a_page_tells_the_release(visitor: httpx.Client) -> None:
    assert f"Quilt Registry {version('quilt-registry')}" in visitor.get("/signin").text


def test_a_wrong_password_keeps_the_name_and_not_the_password(visitor: httpx.Client, anna: Person) -> None:
    answer = sign_in(visitor, "anna", "wrong password", next="/code")
    assert answer.status_code == 422
    assert 'value="anna"' in answer.text
    assert 'name="next" value="/code"' in answer.text
    assert "do not go together" in answer.text
    assert "wrong password" not in answer.text
    assert "set-cookie" not in answer.headers


def test_unknown_inactive_and_mistyped_are_told_the_same(
    registry: Registry, visitor: httpx.Client, anna: Person
) -> None:
    registry.make_person("ina_pages", is_active=False)
    texts = {
        sign_in(visitor, name, password).text.replace(name, "someone")
        for name, password in [("anna", "wrong password"), ("unknown", PASSWORD), ("ina_pages", PASSWORD)]
    }
    assert len(texts) == 1


@pytest.mark.parametrize("name", ['"><script>alert(1)</script>', "a\0b", "ü" * 200, "", "\ufffd"])
def test_any_text_can_be_typed_as_a_name(visitor: httpx.Client, name: str) -> None:
    answer = sign_in(visitor, name)
    assert answer.status_code == 422
    assert "<script" not in answer.text


@pytest.mark.parametrize("target", ["/code", "/package/anna/data", "/package/anna/data?a=1&b=%2F"])
def test_after_signing_in_people_are_where_they_wanted_to_be(visitor: httpx.Client, anna: Person, target: str) -> None:
    first = visitor.get(target)
    assert first.status_code == 302
    form = visitor.get(first.headers["location"])
    wanted = re.search(r'name="next" value="([^"]*)"', form.text)
    assert wanted is not None
    assert sign_in(visitor, "anna", next=unescape(wanted[1])).headers["location"] == target


@pytest.mark.parametrize("target", ELSEWHERE)
def test_signing_in_never_leads_to_another_site(visitor: httpx.Client, anna: Person, target: str) -> None:
    form = visitor.get("/signin", params={"next": target})
    assert 'name="next" value="/"' in form.text
    assert 'name="next" value="/"' in sign_in(visitor, "anna", "wrong password", next=target).text
    assert sign_in(visitor, "anna", next=target).headers["location"] == "/"
    assert visitor.get("/signin", params={"next": target}).headers["location"] == "/"


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(visitor: httpx.Client, anna: Person) -> None:
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
        answer = page.get("/login", params={"next": "//evil.example"})
    assert (answer.status_code, answer.headers["location"]) == (302, "https://quilt.example.com/code")


def test_the_cookie_is_no_key_to_the_api(annas_browser: httpx.Client) -> None:
    assert annas_browser.get("/api/me").status_code == 401


def test_a_disabled_member_is_signed_out_in_the_browser_too(registry: Registry, visitor: httpx.Client) -> None:
    registry.make_person("dora_pages")
    assert sign_in(visitor, "dora_pages").status_code == 303
    registry.sql("UPDATE account SET is_active = false WHERE name = 'dora_pages'")
    assert visitor.get("/").headers["location"] == "/signin"


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
    visitor: httpx.Client, headers: dict[str, str], content: bytes, status: int
) -> None:
    answer = visitor.post("/signin", content=content, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")


# ------------------------------------------------------------------------------------------------ the code


def test_the_code_shown_signs_a_client_in_once(registry: Registry, annas_browser: httpx.Client) -> None:
    page = annas_browser.get("/code")
    shown = re.search(r'<output class="code">([^<\s]+)</output>', page.text)
    assert page.status_code == 200
    assert shown is not None
    answer = httpx.post(registry.url + "/api/token", data={"refresh_token": shown[1]})
    token = answer.raise_for_status().json()["access_token"]
    me = httpx.get(registry.url + "/api/me", headers={"Authorization": f"Bearer {token}"})
    assert me.json()["current_user"] == "anna"
    assert httpx.post(registry.url + "/api/token", data={"refresh_token": shown[1]}).status_code == 401


def test_a_code_is_for_those_who_are_signed_in(visitor: httpx.Client) -> None:
    answer = visitor.get("/code")
    assert answer.status_code == 302
    address = urlsplit(answer.headers["location"])
    assert (address.netloc, address.path, parse_qs(address.query)) == ("", "/signin", {"next": ["/code"]})


def test_asking_for_the_head_of_the_code_page_makes_no_code(registry: Registry, annas_browser: httpx.Client) -> None:
    before = registry.sql("SELECT count(*) FROM code")
    answer = annas_browser.head("/code")
    assert (answer.status_code, answer.content) == (200, b"")
    assert registry.sql("SELECT count(*) FROM code") == before


def test_the_client_is_sent_to_the_code_page(registry: Registry, visitor: httpx.Client) -> None:
    answer = visitor.get("/login")
    assert (answer.status_code, answer.headers["location"]) == (302, registry.url + "/code")


# ------------------------------------------------------------------------------------------------ signing out


def test_signing_out_takes_a_click(registry: Registry, visitor: httpx.Client, anna: Person) -> None:
    sign_in(visitor, "anna")
    cookie = visitor.cookies["quilt_session"]
    page = visitor.get("/signout")
    assert '<form method="post" action="/signout">' in page.text
    assert visitor.get("/code").status_code == 200

    answer = visitor.post("/signout")
    assert (answer.status_code, answer.headers["location"]) == (303, "/signin")
    assert "quilt_session" not in visitor.cookies
    stolen = httpx.get(registry.url + "/code", cookies={"quilt_session": cookie})
    assert stolen.status_code == 302


def test_signing_out_twice_is_fine(visitor: httpx.Client) -> None:
    assert visitor.get("/signout").status_code == 200
    assert visitor.post("/signout").status_code == 303


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://localhost"])
@pytest.mark.parametrize("path", ["/signin", "/signout"])
def test_a_form_of_another_site_is_refused(visitor: httpx.Client, anna: Person, path: str, origin: str) -> None:
    sign_in(visitor, "anna")
    answer = visitor.post(path, data={"username": "anna", "password": PASSWORD}, headers={"Origin": origin})
    assert answer.status_code == 403
    assert "another site" in answer.text
    assert "set-cookie" not in answer.headers
    assert visitor.get("/code").status_code == 200


def test_a_form_of_this_site_is_taken(registry: Registry, visitor: httpx.Client, anna: Person) -> None:
    answer = visitor.post("/signin", data={"username": "anna", "password": PASSWORD}, headers={"Origin": registry.url})
    assert answer.status_code == 303


# ------------------------------------------------------------------------------------------------ packages


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


def test_a_stranger_is_told_the_same_as_of_a_missing_package(carls_browser: httpx.Client, package: str) -> None:
    hidden = carls_browser.get(f"/package/anna/{package}")
    missing = carls_browser.get("/package/anna/missing")
    assert hidden.status_code == missing.status_code == 404
    assert hidden.text.replace(package, "missing") == missing.text
    assert hidden.headers["content-type"].startswith("text/html")


def test_a_package_page_of_somebody_who_is_not_signed_in_asks_to_sign_in(visitor: httpx.Client, package: str) -> None:
    answers = [visitor.get(f"/package/anna/{name}") for name in (package, "missing")]
    assert [answer.status_code for answer in answers] == [302, 302]
    assert answers[0].headers["location"] == f"/signin?next=/package/anna/{package}"


def test_looking_at_a_package_is_recorded_once(
    registry: Registry, anna: Person, annas_browser: httpx.Client, carls_browser: httpx.Client
) -> None:
    name = new_name()
    anna.push(name, {"a": b"1"})
    annas_browser.get(f"/package/anna/{name}")
    assert annas_browser.head(f"/package/anna/{name}").status_code == 200
    carls_browser.get(f"/package/anna/{name}")
    assert events(registry, name, "PREVIEW") == ["anna"]


def test_home_lists_what_one_may_read(annas_browser: httpx.Client, carls_browser: httpx.Client, package: str) -> None:
    address = f"/package/anna/{package}"
    assert address in annas_browser.get("/").text
    assert address not in carls_browser.get("/").text


def test_a_package_without_latest_has_a_page(anna: Person, annas_browser: httpx.Client) -> None:
    name = new_name()
    anna.push(name, {"a": b"1"}, tag="")
    page = annas_browser.get(f"/package/anna/{name}")
    assert page.status_code == 200
    assert "Nothing is tagged" in page.text


def test_an_empty_package_has_a_page(anna: Person, annas_browser: httpx.Client) -> None:
    name = new_name()
    anna.push(name, {})
    assert "Empty." in annas_browser.get(f"/package/anna/{name}").text


def test_in_open_mode_anybody_sees_public_packages(open_registry: Registry) -> None:
    owner = open_registry.make_person("anna_pages")
    owner.push("open_data", {"a": b"1"}, is_public=True)
    owner.push("own_data", {"a": b"1"})
    with browser(open_registry) as page:
        assert "open_data" in page.get("/").text
        assert "own_data" not in page.get("/").text
        assert "public" in page.get("/package/anna_pages/open_data").text
        assert page.get("/package/anna_pages/own_data").status_code == 404


# ------------------------------------------------------------------------------------------------ every page


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/code", 200),
        ("/signout", 200),
        ("/signin", 302),
        ("/package/anna/missing", 404),
        ("/no/page", 404),
    ],
)
def test_every_page_answers_head_like_get_without_a_body(annas_browser: httpx.Client, path: str, status: int) -> None:
    get, head = annas_browser.get(path), annas_browser.head(path)
    assert get.status_code == head.status_code == status
    assert head.content == b""
    assert get.headers["content-type"] == head.headers["content-type"]


@pytest.mark.parametrize("path", ["/", "/code", "/signout", "/package/anna/missing", "/no/page"])
def test_every_page_says_what_a_browser_may_do_with_it(annas_browser: httpx.Client, path: str) -> None:
    headers = annas_browser.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "script-src" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cache-control"] == "private, no-store"
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/no/page", 404),
        ("GET", "/package/anna", 404),
        ("GET", "/package/anna/a%00b", 400),
        ("GET", "/package/%FF/%ED%A0%80", 404),
        ("GET", "/package/anna/" + "x" * 5000, 404),
        ("DELETE", "/signin", 405),
        ("POST", "/", 405),
        ("GET", "/static/nothing.css", 404),
        ("GET", "/static/..%2f..%2fapp.py", 404),
    ],
)
def test_a_page_says_no_in_html(annas_browser: httpx.Client, method: str, path: str, status: int) -> None:
    answer = annas_browser.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")
    assert "<h1>" in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/nothing", 404),
        ("GET", "/api/me", 401),
        ("GET", "/api/package/anna/missing/", 401),
        ("DELETE", "/api/me", 405),
        ("GET", "/objects/nothing", 403),
    ],
)
def test_the_api_says_no_in_json(annas_browser: httpx.Client, method: str, path: str, status: int) -> None:
    answer = annas_browser.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.json()["message"]


def test_pages_come_with_their_style_and_mark(visitor: httpx.Client) -> None:
    page = visitor.get("/signin").text
    linked = re.findall(r'(?:href|src)="(/static/[^"]+)"', page)
    assert len(linked) >= 2
    assert {visitor.get(path).status_code for path in linked} == {200}
