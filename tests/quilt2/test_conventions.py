"""Rules for every route: bodies, errors, paths, cross-origin rules, names and limits (protocol §2, §3)."""

from __future__ import annotations

import gzip
import json
import socket
import zlib
from typing import Any

import httpx
import pytest

from quilt_registry.api import quilt2, routing, system, v1
from tests import trees
from tests.registry import PASSWORD, Person, Registry, new_name

JSON = {"Content-Type": "application/json"}
METHODS = {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"}


def login(registry: Registry, content: bytes | None = None, **headers: str) -> httpx.Response:
    """Sign in as Anna with the given body and headers."""
    good = json.dumps({"username": "anna", "password": PASSWORD}).encode()
    return httpx.post(registry.url + "/api/login", content=good if content is None else content, headers=headers)


# ------------------------------------------------------------------------------------------------ bodies


@pytest.mark.parametrize(
    "kind", ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/json;x=y"]
)
def test_the_json_content_type_may_have_parameters(registry: Registry, anna: Person, kind: str) -> None:
    assert login(registry, **{"Content-Type": kind}).status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""])
def test_any_other_content_type_is_refused(registry: Registry, anna: Person, kind: str) -> None:
    response = login(registry, **{"Content-Type": kind})
    assert response.status_code == 400
    assert "application/json" in response.json()["message"]


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("identity", bytes), ("GZIP", gzip.compress)])
def test_bodies_may_be_plain_or_gzip(registry: Registry, anna: Person, encoding: str, pack: Any) -> None:
    body = pack(json.dumps({"username": "anna", "password": PASSWORD}).encode())
    assert login(registry, body, **JSON, **{"Content-Encoding": encoding}).status_code == 200


@pytest.mark.parametrize(("encoding", "pack"), [("deflate", zlib.compress), ("br", bytes), ("gzip, gzip", bytes)])
def test_any_other_encoding_is_refused(registry: Registry, anna: Person, encoding: str, pack: Any) -> None:
    response = login(registry, pack(b"{}"), **JSON, **{"Content-Encoding": encoding})
    assert response.status_code == 400
    assert "Unsupported content encoding" in response.json()["message"]


def test_a_form_may_be_gzip_too(registry: Registry, anna: Person) -> None:
    code = anna.get("/api/code").json()["code"]
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Content-Encoding": "gzip"}
    body = gzip.compress(f"refresh_token={code}".encode())
    assert httpx.post(registry.url + "/api/token", content=body, headers=headers).status_code == 200


def test_a_get_with_a_json_content_type_and_no_body_is_fine(anna: Person) -> None:
    assert anna.get("/api/me", headers=JSON).json()["current_user"] == "anna"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/login", {"username": "anna", "password": PASSWORD, "more": 1}),
        ("POST", "/api/login", {"username": "anna"}),
        ("POST", "/api/login", {"username": 1, "password": PASSWORD}),
        ("POST", "/api/login", []),
        ("POST", "/api/login", None),
        ("PUT", "/api/tag/anna/{name}/latest", {}),
        ("PUT", "/api/tag/anna/{name}/latest", {"hash": None}),
        ("PUT", "/api/version/anna/{name}/1.0", {"hash": 7}),
        ("POST", "/api/get_objects", {}),
        ("POST", "/api/get_objects", ["0" * 63]),
        ("POST", "/api/get_objects", ["A" * 64]),
        ("POST", "/api/get_objects", [None]),
        ("POST", "/api/log", {}),
        ("POST", "/api/log", [{"type": "other"}]),
    ],
)
def test_a_body_of_another_shape_is_refused(anna: Person, method: str, path: str, body: Any) -> None:
    name = new_name()
    anna.push(name, {"a": b"1"})
    response = anna.http.request(method, path.format(name=name), json=body)
    assert response.status_code == 400
    assert response.json().keys() == {"message"}


def test_tags_and_versions_take_more_fields_than_they_know(anna: Person) -> None:
    name = new_name()
    top_hash = anna.push(name, {"a": b"1"})
    for path in (f"/api/tag/anna/{name}/x", f"/api/version/anna/{name}/1.0"):
        assert anna.put(path, json={"hash": top_hash, "more": {"type": 1}}).status_code == 200


PUSH = {"contents": trees.root({}), "description": "", "sizes": {}}


@pytest.mark.parametrize(
    "change",
    [
        {"more": 1},
        {"contents": None},
        {"contents": []},
        {"description": None},
        {"description": 1},
        {"sizes": []},
        {"sizes": {"0" * 64: 1.5}},
        {"sizes": {"0" * 64: True}},
        {"sizes": {"0" * 64: None}},
        {"sizes": {"0" * 64: "1"}},
        {"dry_run": "yes"},
        {"dry_run": None},
        {"dry_run": 1},
        {"is_public": "no"},
        {"is_team": None},
        {"public": 0},
    ],
)
def test_a_push_has_exactly_its_fields_and_types(anna: Person, change: dict[str, Any]) -> None:
    path = f"/api/package/anna/{new_name()}/{trees.top_hash(trees.root({}))}"
    assert anna.put(path, json={**PUSH, **change}).status_code == 400
    assert anna.put(path, json=PUSH).status_code == 200


@pytest.mark.parametrize("left_out", list(PUSH))
def test_a_push_needs_each_of_its_fields(anna: Person, left_out: str) -> None:
    body = {field: value for field, value in PUSH.items() if field != left_out}
    response = anna.put(f"/api/package/anna/{new_name()}/{trees.top_hash(trees.root({}))}", json=body)
    assert response.status_code == 400
    assert left_out in response.json()["message"]


def test_a_form_with_many_fields_is_refused(registry: Registry) -> None:
    response = httpx.post(registry.url + "/api/token", data={f"f{i}": "x" for i in range(100)})
    assert response.status_code == 400
    assert response.json()["message"]


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_a_body_announced_too_large_is_refused_before_it_is_sent(
    registry: Registry, anna: Person, encoding: str
) -> None:
    head = (
        f"PUT /api/package/anna/x/{'0' * 64} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {anna.token}\r\n"
        f"Content-Encoding: {encoding}\r\nContent-Type: application/json\r\nContent-Length: 100000001\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", registry.port), timeout=20) as connection:
        connection.sendall(head.encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_a_small_call_takes_no_large_body_without_a_length_either(anna: Person) -> None:
    pieces = (b" " * 100_000 for _ in range(11))
    response = anna.post("/api/log", content=pieces, headers=JSON)
    assert response.status_code == 413
    assert response.json()["message"]


# ------------------------------------------------------------------------------------------------ errors and paths


def api_routes() -> list[tuple[str, set[str], bool]]:
    """Return path, methods, and whether the path ends with a slash, of each route below /api."""
    found = []
    routers = (routing.router([*quilt2.ROUTES, *system.ROUTES]), v1.router())
    for route in [route for router in routers for route in router.routes]:
        names = [part if isinstance(part, str) else f"{{{part.name}}}" for part in route.path_components]
        if names[:1] == ["api"]:
            handlers = route.route_handlers  # type: ignore[union-attr]
            found.append(("/" + "/".join(names), set(route.methods), handlers[0].opt.get("slash", False)))
    return found


@pytest.mark.parametrize(("path", "methods", "slash"), api_routes())
def test_a_wrong_method_is_405_with_a_message(anna: Person, path: str, methods: set[str], slash: bool) -> None:
    for method in METHODS - methods - {"HEAD"}:
        response = anna.http.request(method, path)
        assert response.status_code == 405, method
        assert response.json()["message"]


@pytest.mark.parametrize("path", [path for path, methods, slash in api_routes() if not slash and "{path}" not in path])
def test_a_path_written_without_a_final_slash_is_not_found_with_it(anna: Person, path: str) -> None:
    methods = next(methods for each, methods, _ in api_routes() if each == path) - {"HEAD", "OPTIONS"}
    for method in methods:
        response = anna.http.request(method, path + "/")
        assert response.status_code == 404
        assert response.json()["message"]


@pytest.mark.parametrize(
    "path",
    [
        "/api/package/anna",
        "/api/package/anna/{name}",
        "/api/tag/anna/{name}",
        "/api/version/anna/{name}",
        "/api/log/anna/{name}",
        "/api/access/anna/{name}",
        "/api/search",
    ],
)
def test_a_path_written_with_a_final_slash_works_without_it(anna: Person, path: str) -> None:
    name = new_name()
    anna.push(name, {"a": b"1"})
    with_slash, without = anna.get(path.format(name=name) + "/"), anna.get(path.format(name=name))
    if without.is_redirect:
        without = anna.http.get(path.format(name=name), follow_redirects=True)
    assert with_slash.status_code == without.status_code == 200
    assert with_slash.json() == without.json()


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/nothing", "/api/package", "/api/package/a/b/c/d", "/api/me/x"])
def test_an_unknown_path_is_404_for_every_caller(anna: Person, nobody: Person, path: str) -> None:
    assert anna.get(path).status_code == nobody.get(path).status_code == 404


@pytest.mark.parametrize("path", ["/api/nothing", "/api/package/a/b/c/d", "/api/login/"])
def test_an_unknown_path_below_api_has_a_message(nobody: Person, path: str) -> None:
    response = nobody.get(path)
    assert response.headers["content-type"].startswith("application/json")
    assert response.json()["message"]


@pytest.mark.parametrize(
    "part", ["%00", "%ff", "%ed%a0%80", "..%2f..", "%0a", "%F0%9F%98%80", "%25", "'\"", "x" * 3000]
)
def test_odd_paths_get_an_error_message(anna: Person, part: str) -> None:
    for path in (f"/api/package/anna/{part}/", f"/api/package/{part}/x/{part}", f"/api/tag/anna/x/{part}"):
        response = anna.get(path)
        assert response.status_code in (400, 404)
        assert response.json()["message"]


def test_names_in_paths_are_percent_encoded_utf8(anna: Person) -> None:
    name = new_name("naïve_数据")
    top_hash = anna.push(name, {"a": b"1"}, tag="grüße 1")
    assert anna.get(f"/api/tag/anna/{name}/").json()["tags"] == [{"tag": "grüße 1", "hash": top_hash}]
    assert anna.get(f"/api/tag/anna/{name}/gr%C3%BC%C3%9Fe%201").json()["hash"] == top_hash


@pytest.mark.parametrize(
    "path", ["/api/me", "/api/package/anna/", "/api/search/", "/login", "/healthcheck", "/robots.txt"]
)
def test_head_answers_as_get_without_the_body(anna: Person, path: str) -> None:
    head, get = anna.http.head(path), anna.get(path)
    assert head.status_code == get.status_code
    assert head.content == b""
    assert head.headers["content-type"] == get.headers["content-type"]


@pytest.mark.parametrize(
    ("path", "text"), [("/healthcheck", "ok"), ("/robots.txt", "User-agent: *\nDisallow: /\n")]
)  # fmt: skip
def test_monitors_and_robots_need_no_token(nobody: Person, path: str, text: str) -> None:
    response = nobody.get(path)
    assert response.text == text
    assert response.headers["content-type"].startswith("text/plain")


def test_build_reports_of_old_clients_are_taken(anna: Person) -> None:
    report = [{"type": "build", "package": "a/b", "status": "success", "exact": [1, {"x": None}]}]
    assert anna.post("/api/log", json=report).json() == {}


# ------------------------------------------------------------------------------------------------ cross-origin requests

ORIGIN = "https://catalog.example.com"


@pytest.mark.parametrize(
    ("path", "status"), [("/api/me", 200), ("/api/package/a/b/", 404), ("/api/nothing", 404), ("/api/login", 405)]
)
def test_pages_of_other_origins_may_read_answers_and_errors(anna: Person, path: str, status: int) -> None:
    response = anna.get(path, headers={"Origin": ORIGIN})
    assert response.status_code == status
    assert response.headers["access-control-allow-origin"] == ORIGIN
    assert "Origin" in response.headers["vary"]
    assert "access-control-allow-credentials" not in response.headers


def test_without_an_origin_any_may_read(nobody: Person) -> None:
    assert nobody.get("/api/me").headers["access-control-allow-origin"] == "*"


def test_a_large_answer_keeps_both_reasons_to_vary(anna: Person) -> None:
    name = new_name()
    top_hash = anna.push(name, {"a": b"1"})
    response = anna.get(f"/api/package/anna/{name}/{top_hash}", headers={"Origin": ORIGIN})
    assert {"Origin", "Accept-Encoding"} <= {each.strip() for each in response.headers["vary"].split(",")}


@pytest.mark.parametrize("path", ["/api/me", "/api/package/anna/x/" + "0" * 64, "/api/nothing"])
def test_anybody_gets_a_preflight_response(nobody: Person, path: str) -> None:
    preflight = {"Origin": ORIGIN, "Access-Control-Request-Method": "PUT"}
    preflight["Access-Control-Request-Headers"] = "accepts, authorization, content-type"
    response = nobody.http.options(path, headers=preflight)
    assert response.status_code == 200
    allowed = {each.strip() for each in response.headers["access-control-allow-methods"].split(",")}
    assert allowed == METHODS
    assert response.headers["access-control-allow-headers"] == "accepts, authorization, content-type"
    assert response.headers["access-control-allow-origin"] == ORIGIN
    assert response.headers["access-control-max-age"] == "86400"
    assert "access-control-allow-credentials" not in response.headers


@pytest.mark.parametrize("path", ["/login", "/healthcheck"])
def test_outside_of_api_no_origin_is_allowed(nobody: Person, path: str) -> None:
    assert "access-control-allow-origin" not in nobody.get(path, headers={"Origin": ORIGIN}).headers


# ------------------------------------------------------------------------------------------------ names and limits


def push_empty(anna: Person, name: str) -> httpx.Response:
    return anna.send_push("anna", name, trees.root({}))


@pytest.mark.parametrize("name", ["a", "Z9", "a_b", "naïve", "x" * 64, "q数据"])
def test_names_that_packages_may_have(anna: Person, name: str) -> None:
    assert push_empty(anna, name).status_code == 200
    assert anna.delete(f"/api/package/anna/{name}/").status_code == 200


@pytest.mark.parametrize("name", ["1a", "_a", "a-b", "a.b", "a b", "数据", "x" * 65, "a%0a", "-"])
def test_names_that_packages_may_not_have(anna: Person, name: str) -> None:
    response = push_empty(anna, name)
    assert (response.status_code, response.json()["message"]) == (400, "Invalid package name")


def test_package_names_that_differ_in_case_only_are_one_name(anna: Person) -> None:
    name = new_name("Mixed")
    anna.push(name, {"a": b"1"})
    response = push_empty(anna, name.lower())
    assert (response.status_code, response.json()["message"]) == (403, f"Package already exists: anna/{name}")
    assert anna.get(f"/api/package/anna/{name.lower()}/").status_code == 404


@pytest.mark.parametrize(("tag", "status"), [("x" * 64, 200), ("x" * 65, 400), ("ü" * 64, 200), ("1.0 beta!", 200)])
def test_tags_have_at_most_64_characters(anna: Person, tag: str, status: int) -> None:
    name = new_name()
    top_hash = anna.push(name, {"a": b"1"})
    assert anna.put(f"/api/tag/anna/{name}/{tag}", json={"hash": top_hash}).status_code == status


@pytest.mark.parametrize(("length", "status"), [(255, 200), (256, 400)])
def test_node_names_have_a_bound(anna: Person, length: int, status: int) -> None:
    node = trees.root({"n" * length: trees.group({})})
    assert anna.send_push("anna", new_name(), node).status_code == status


@pytest.mark.parametrize(("depth", "status"), [(72, 200), (73, 400), (150, 400)])
def test_groups_have_a_bound_of_depth(anna: Person, depth: int, status: int) -> None:
    node = trees.group({})
    for _ in range(depth - 1):
        node = trees.group({"g": node})
    assert anna.send_push("anna", new_name(), trees.root({"g": node})).status_code == status
