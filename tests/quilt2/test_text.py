"""Texts of all kinds in URLs, names, headers and README files."""

from __future__ import annotations

import codecs
import http.client
import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote_from_bytes

import httpx
import pytest
from hypothesis import given, settings, strategies as st
from litestar import Router

from quilt import manifest
from quilt_registry import catalog
from quilt_registry.api import quilt2, routing, system, v1
from tests import trees
from tests.browsers import browser, sign_in
from tests.registry import LocalRegistry, Person, new_name


@pytest.fixture(scope="module")
def running(new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    started = LocalRegistry(tmp_path_factory.mktemp("home"), new_database(), RATE_LIMITS="off").start()
    yield started
    assert not started.stop()


@pytest.fixture(scope="module")
def anna(running: LocalRegistry) -> Person:
    """Owns the package `p`."""
    person = running.make_person("anna")
    person.push("p", {"README": b"# Hi", "a": b"1"})
    return person


@pytest.fixture(scope="module")
def ada(running: LocalRegistry) -> Person:
    """An admin with a package `p`, to which anything may happen."""
    person = running.make_person("ada", is_admin=True)
    assert person.push("p", {"a": b"1"}) == TOP_HASH
    with browser(running) as client:
        assert sign_in(client, "ada").status_code == 303
        cookies = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
        person.http.headers["X-CSRF-Token"] = client.form_token()
    person.http.headers["Cookie"] = cookies
    return person


# ------------------------------------------------------------------------------------------------ any text in any URL

ENDS_SESSION = ("/api/logout", "/api/refresh", "/signout", "/profile/tokens/revoke-others")
TOP_HASH = trees.top_hash(trees.tree({"a": b"1"}))
# The values that lead farthest.
REAL = {"owner": "ada", "name": "p", "top_hash": TOP_HASH, "tag": "latest", "user": "ada", "event": "push"}
QUERIES = sorted(
    {each.name for route in [*quilt2.ROUTES, *system.ROUTES] for each in route.query}
    | {"user", "subject", "package", "kind", "since", "until", "limit", "before", "after", "next", "for", "signature"}
)


def all_routes() -> list[tuple[str, list[Any]]]:
    """Return method and path components of each route."""
    routers: list[Router] = [routing.router([*quilt2.ROUTES, *system.ROUTES]), v1.router(), catalog.router()]
    found = []
    for route in [route for router in routers for route in router.routes]:
        for method in sorted(set(getattr(route, "methods", ["GET"])) - {"OPTIONS", "HEAD"}):
            if route.path not in ENDS_SESSION:
                found.append((method, list(route.path_components) or [""]))
    static = ("GET", ["static", type("Parameter", (), {"name": "file"})])
    return [*found, static]


ROUTES = all_routes()


def path_of(components: list[Any], values: dict[str, bytes]) -> str:
    parts = [each if isinstance(each, str) else quote_from_bytes(values[each.name]) for each in components]
    return "/" + "/".join(parts)


def parameters(components: list[Any]) -> list[str]:
    return [each.name for each in components if not isinstance(each, str)]


def real(method: str, name: str) -> bytes:
    """Return a value for a parameter. Nothing is deleted from the package that all requests share."""
    return REAL.get(name, "x").encode() if method != "DELETE" or name != "name" else b"gone"


def send(person: Person, method: str, url: str) -> int:
    """Send a request with this URL, to the letter. Return the status."""
    connection = http.client.HTTPConnection("127.0.0.1", person.registry.port, timeout=60)
    headers = {name: person.http.headers.get(name, "") for name in ("Authorization", "Cookie", "X-CSRF-Token")}
    try:
        if method in ("POST", "PUT"):
            body = json.dumps({"hash": TOP_HASH})
            connection.request(method, url, body, {**headers, "Content-Type": "application/json"})
        else:
            connection.request(method, url, headers=headers)
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


ODD_BYTES = [
    b"\0", b"\xff", b"\xed\xa0\x80", b"9" * 4301, b"-1", b"1e999", b"x" * 300, b"\xc3\xa9" * 3000, b"1!" + b"9" * 60,
    b"9999-12-31T23:59:59-23:59", b"0001-01-01T00:00:00+23:59", b"..", b"a/b", b"%", b"\r\n", b"'\";--",
    b"\xf0\x9f\x98\x80",
]  # fmt: skip
texts = st.sampled_from(ODD_BYTES) | st.text(max_size=30).map(lambda text: text.encode("utf-8", "surrogatepass"))
texts = texts | st.binary(max_size=30) | st.integers().map(lambda number: str(number).encode())


@pytest.mark.parametrize(("method", "components"), ROUTES, ids=[f"{m} {i}" for i, (m, _) in enumerate(ROUTES)])
def test_no_odd_part_of_a_path_is_a_server_error(ada: Person, method: str, components: list[Any]) -> None:
    names = parameters(components)
    for odd in ODD_BYTES if names else []:
        values = {name: real(method, name) for name in names} | {names[-1]: odd}
        assert send(ada, method, path_of(components, values)) < 500, odd


def test_requests_to_pages_are_signed_in(ada: Person) -> None:
    assert send(ada, "GET", "/package/ada/p") == send(ada, "GET", "/code") == 200


@pytest.mark.drill
@given(st.data())
@settings(max_examples=400)
def test_no_text_in_any_url_is_a_server_error(ada: Person, data: st.DataObject) -> None:
    method, components = data.draw(st.sampled_from(ROUTES))
    values = {name: data.draw(st.just(real(method, name)) | texts, label=name) for name in parameters(components)}
    query = data.draw(st.dictionaries(st.sampled_from(QUERIES), texts, max_size=3), label="query")
    url = (
        path_of(components, values) + "?" + "&".join(f"{name}={quote_from_bytes(text)}" for name, text in query.items())
    )
    assert send(ada, method, url) < 500


@pytest.mark.parametrize(
    "url",
    [
        "/api/tag/anna/p/%FF", "/api/tag/anna/p/%ED%A0%80", "/api/package/%C3/p/", "/api/package_update/anna/p/a/%FE",
        "/api/search/?q=%FF", "/api/v1/audit?user=%C3%28", "/api/package/anna/p/x?subpath=%FF", "/package/anna/%FF",
        "/signin?next=/%FF", "/reset_password/%FF", "/static/%FF", "/activate/%FF", "/healthcheck?%FF",
    ],
)  # fmt: skip
def test_a_url_that_is_not_utf8_is_refused(anna: Person, url: str) -> None:
    method = "POST" if "package_update" in url else "GET"
    assert send(anna, method, url) == 400


def test_tags_that_are_not_utf8_are_not_one_tag(anna: Person) -> None:
    for tag in ("%FF", "%FE"):
        assert send(anna, "PUT", f"/api/tag/anna/p/{tag}") == 400
    assert anna.get("/api/tag/anna/p/").json()["tags"][0]["tag"] == "latest"


@pytest.mark.parametrize("version", ["9" * 4301, "1." * 2000 + "1", "1" + "0" * 64])
def test_a_long_version_is_refused(anna: Person, version: str) -> None:
    response = anna.get(f"/api/version/anna/p/{version}")
    assert (response.status_code, response.json()["message"]) == (400, "Malformed version: longer than 64 characters")


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 1999 + "x", "catalog.css/x", "%2e%2e/%2e%2e", "x" * 255])
def test_a_static_file_that_no_file_system_has_is_not_found(anna: Person, name: str) -> None:
    assert send(anna, "GET", f"/static/{name}") == 404


# ------------------------------------------------------------------------------------------------ names


@pytest.mark.parametrize("name", ["%2E", "%2E%2E"])
def test_dots_are_no_names(anna: Person, name: str) -> None:
    """A browser or proxy would take them for folders, and never send them."""
    top_hash = anna.get("/api/tag/anna/p/latest").json()["hash"]
    assert anna.put(f"/api/tag/anna/p/{name}", json={"hash": top_hash}).status_code == 400
    for path in (name, f"a/{name}", f"{name}/a"):
        body = {"contents": trees.file(b"1"), "description": "", "sizes": {}, "dry_run": True}
        response = anna.post(f"/api/package_update/anna/p/{path}", json=body)
        assert response.status_code == 400
        assert "not allowed" in response.json()["message"]


def test_older_trees_with_such_names_stay_readable_and_grow(anna: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    name, odd = new_name(), b'{"q_path":"a.csv","x":1e999}'
    node = trees.root({"..": trees.group({".": trees.file(b"1", metadata={"odd": 1})}), "b": trees.file(b"2")})
    with monkeypatch.context() as patch:
        patch.setattr(manifest, "_RESERVED_NAMES", ("",))
        patch.setattr(manifest, "_may_have_large_number", lambda _: False)
        anna.upload("anna", name, node, [b"1", b"2"])
        body = {"contents": node, "description": "", "sizes": trees.sizes([b"1", b"2"])}
        text = json.dumps(body).encode().replace(b'{"odd": 1}', odd)
        path, headers = f"/api/package/anna/{name}/{trees.top_hash(node)}", {"Content-Type": "application/json"}
        assert anna.put(path, content=text, headers=headers).status_code == 200
    assert anna.put(path, content=text, headers=headers).status_code == 400
    top_hash = trees.top_hash(node)
    assert anna.put(f"/api/tag/anna/{name}/latest", json={"hash": top_hash}).status_code == 200
    assert odd in anna.get(path).content
    assert anna.get(path.replace("/package/", "/package_preview/")).json()["file_types"] == {".csv": 1, "": 1}
    response = anna.push_part(name, "b", trees.file(b"3"), [b"3"])
    assert response.status_code == 200, response.text
    grown = response.json()["package_hash"]
    assert odd in anna.get(f"/api/package/anna/{name}/{grown}").content
    assert anna.get(f"/api/package_preview/anna/{name}/{grown}").json()["file_types"] == {".csv": 1, "": 1}


# ------------------------------------------------------------------------------------------------ README


@pytest.mark.parametrize(
    "data",
    [
        "Straße 日本".encode(),
        codecs.BOM_UTF8 + "Straße 日本".encode(),
        "Straße 日本".encode("utf-16"),
        codecs.BOM_UTF16_BE + "Straße 日本".encode("utf-16-be"),
        codecs.BOM_UTF16_LE + "Straße 日本".encode("utf-16-le") + b"\0",
    ],
    ids=["plain", "utf-8", "utf-16", "big endian", "cut"],
)
def test_a_readme_may_begin_with_a_byte_order_mark(anna: Person, data: bytes) -> None:
    name = new_name()
    top_hash = anna.push(name, {"README": data})
    assert anna.get(f"/api/package_preview/anna/{name}/{top_hash}").json()["readme_preview"] == "Straße 日本"
    found = anna.get("/api/search/", params={"q": f"{name} strasse"}).json()["packages"]
    assert [each["name"] for each in found] == [name]


# ------------------------------------------------------------------------------------------------ headers


@pytest.mark.parametrize(
    ("accepted", "is_gzip"),
    [
        ("gzip", True), ("GZIP, deflate", True), ("deflate, gzip;q=0.5", True), ("*", True), ("gzip;q=1.0", True),
        ("gzip;q=0", False), ("gzip; q=0", False), ("gzip;q=0.000, *", False), ("*;q=0", False), ("identity", False),
        ("", False), ("x-gzipped", False), ("br;q=1, gzip ; Q=0", False), ("*;q=0, gzip", True),
    ],
)  # fmt: skip
def test_accept_encoding_is_read_as_a_list_of_qualities(anna: Person, accepted: str, is_gzip: bool) -> None:
    path = f"/api/package/anna/p/{anna.get('/api/tag/anna/p/latest').json()['hash']}"
    response = anna.get(path, headers={"Accept-Encoding": accepted})
    assert response.headers.get("content-encoding") == ("gzip" if is_gzip else None)
    assert response.json()["created_by"] == "anna"


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER  ", ""])
def test_the_scheme_of_a_token_may_have_any_case(anna: Person, scheme: str) -> None:
    response = httpx.get(anna.registry.url + "/api/me", headers={"Authorization": f"{scheme}{anna.token}"})
    assert response.json()["current_user"] == "anna"


@pytest.mark.parametrize("header", ["Bearer{}", "Basic {}", "bearer bearer {}", "x{}", "Bearer {}x"])
def test_other_headers_hold_no_token(anna: Person, header: str) -> None:
    headers = {"Authorization": header.format(anna.token)}
    assert httpx.get(anna.registry.url + "/api/me", headers=headers).status_code == 401
