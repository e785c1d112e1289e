"""Differences from the original registry, named by their number in protocol §18."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests import trees
from tests.registry import PASSWORD, Person, Registry, new_name

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def team_package(anna: Person) -> str:
    """A team package of Anna's, to which every member may push."""
    name = new_name("team")
    anna.push(name, {"open": b"for the team"}, is_team=True)
    return name


@pytest.fixture(scope="module")
def secret(anna: Person) -> bytes:
    """The contents of an object in a private package of Anna's."""
    data = b"anna's secret"
    anna.push(new_name("private"), {"secret": data})
    return data


def at_once(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Call `work` concurrently with 0 to `count` - 1. Return the results."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, range(count)))


def scalar(registry: Registry, query: str, *values: Any) -> Any:
    """Return the single value that a query selects."""
    return registry.sql(query, *values)[0][0]


# ------------------------------------------------------------------------------------------------ A: permissions


@pytest.mark.parametrize("place", ["file", "README"])
def test_a1_a2_a_member_cannot_name_what_only_the_owner_may_read(
    anna: Person, carl: Person, team_package: str, secret: bytes, place: str
) -> None:
    node = trees.root({place: trees.file(secret)})
    response = carl.send_push("anna", team_package, node, sizes=trees.sizes([secret]))
    assert 400 <= response.status_code < 404
    assert trees.sha(secret) in response.json()["message"]
    assert carl.get(f"/api/package/anna/{team_package}/{trees.top_hash(node)}").status_code == 404
    assert carl.post("/api/get_objects", json=[trees.sha(secret)]).json() == {"urls": {}, "sizes": {}}


def test_a1_a_member_who_uploads_the_same_bytes_may(
    anna: Person, carl: Person, team_package: str, secret: bytes
) -> None:
    top_hash = carl.push(team_package, {"mine": secret}, owner="anna", tag="")
    carl.install("anna", team_package, top_hash)


def test_a3_no_url_for_an_upload_reaches_an_object_that_counts(
    registry: Registry, anna: Person, carl: Person, team_package: str
) -> None:
    data = b"must stay as it is"
    top_hash = anna.push(team_package, {"x": data}, tag="")
    for person in (anna, carl):
        urls = person.send_push("anna", team_package, trees.tree({"x": data}), dry_run=True).json()["upload_urls"]
        httpx.put(urls[trees.sha(data)]["put"], content=b"evil")
        assert httpx.put(urls[trees.sha(data)]["put"], content=data).status_code == 200
    anna.install("anna", team_package, top_hash)


def test_a4_a_head_tells_a_member_nothing_about_private_objects(anna: Person, carl: Person, team_package: str) -> None:
    anna.push(new_name(), {"x": b"another secret"})

    def heads(data: bytes) -> int:
        response = carl.send_push("anna", team_package, trees.tree({"x": data}), dry_run=True)
        return httpx.head(response.json()["upload_urls"][trees.sha(data)]["head"]).status_code

    assert heads(b"another secret") == heads(b"bytes that nobody has") == 404
    assert heads(b"for the team") == 200


@pytest.mark.parametrize("name", ["../carl/" + "0" * 64, "zz" + "0" * 64, "A" * 64, "0" * 63, "0" * 65, ""])
def test_a5_an_invalid_object_name_is_refused(anna: Person, name: str) -> None:
    node = trees.root({"x": {"type": "FILE", "hashes": [name]}})
    response = anna.send_push("anna", new_name(), node, dry_run=True)
    assert response.status_code == 400
    assert "object name" in response.json()["message"]


def test_a6_a_leftover_team_row_counts_for_nothing_without_team_access(open_registry: Registry) -> None:
    owner, other = open_registry.make_person("owen"), open_registry.make_person("oscar")
    owner.push("left", {"x": b"1"})
    open_registry.sql("INSERT INTO access SELECT id, 'team' FROM package WHERE name = 'left'")
    response = other.send_push("owen", "left", trees.tree({"x": b"1"}), dry_run=True)
    assert response.status_code == 403
    assert other.get("/api/tag/owen/left/latest").status_code == 404


def test_a7_a_push_to_a_private_package_is_refused_like_one_to_a_missing_package(anna: Person, carl: Person) -> None:
    name, missing = new_name(), new_name()
    top_hash = anna.push(name, {"x": b"1"})
    node = trees.tree({"x": b"1"})
    responses = [carl.send_push("anna", each, node, dry_run=True) for each in (name, missing)]
    assert [(each.status_code, each.json()) for each in responses] == 2 * [
        (403, {"message": "Only the package owner can create packages."})
    ]
    tagged = [carl.put(f"/api/tag/anna/{each}/t", json={"hash": top_hash}) for each in (name, missing)]
    assert [(each.status_code, each.json()) for each in tagged] == 2 * [
        (404, {"message": "Package hash does not exist"})
    ]


def test_a11_objects_fetched_by_name_are_recorded(registry: Registry, anna: Person) -> None:
    name, data = new_name(), b"fetched by name"
    anna.push(name, {"x": data})
    assert list(anna.post("/api/get_objects", json=[trees.sha(data)]).json()["urls"]) == [trees.sha(data)]
    assert registry.events("anna", name)[-1]["kind"] == "INSTALL"


def test_a12_a_member_does_not_rewrite_the_metadata_of_a_version(anna: Person, carl: Person) -> None:
    name = new_name()

    def node(note: str) -> trees.Json:
        return trees.root({"x": trees.file(b"1", metadata={"note": note})})

    def note_of(top_hash: str) -> str:
        note: str = anna.install("anna", name, top_hash)["contents"]["children"]["x"]["metadata"]["note"]
        return note

    top_hash = anna.push_tree(name, node("first"), [b"1"], is_team=True)
    carl.push_tree(name, node("carl's"), [b"1"], owner="anna")
    assert note_of(top_hash) == "carl's"
    anna.put(f"/api/version/anna/{name}/1.0", json={"hash": top_hash}).raise_for_status()
    carl.push_tree(name, node("again"), [b"1"], owner="anna")
    assert note_of(top_hash) == "carl's"
    anna.push_tree(name, node("anna's"), [b"1"])
    assert note_of(top_hash) == "anna's"


def test_a13_i2_sizes_come_from_the_store(anna: Person) -> None:
    data = b"seven.."
    node = trees.tree({"x": data})
    for wrong in (0, 6, 8, -1, 2**63, 2**70):
        name = new_name()
        anna.upload("anna", name, node, [data])
        response = anna.send_push("anna", name, node, sizes={trees.sha(data): wrong})
        assert response.status_code == 400, wrong
        assert trees.sha(data) in response.json()["message"]
    anna.push(new_name(), {"x": data})
    assert anna.send_push("anna", new_name(), node, sizes={trees.sha(data): 6}).status_code == 400


# ------------------------------------------------------------------------------------------------ C: request checks


def test_c1_the_token_is_looked_at_before_the_body(registry: Registry) -> None:
    response = httpx.put(
        f"{registry.url}/api/package/anna/x/{'0' * 64}",
        content=b"\xff" * 1000,
        headers={**JSON, "Authorization": "nobody's"},
    )
    assert (response.status_code, response.json()) == (401, {"message": "Token invalid."})


def test_c2_bodies_are_bounded_before_and_after_unpacking(anna: Person) -> None:
    path = f"/api/package/anna/x/{'0' * 64}"
    bomb = gzip.compress(b" " * 300_000_000, 9)
    assert anna.put(path, content=bomb, headers={**JSON, "Content-Encoding": "gzip"}).status_code == 413
    assert anna.put(path, content=b" " * 101_000_000, headers=JSON).status_code == 413
    assert anna.put("/api/tag/anna/x/y", content=b" " * 2_000_000, headers=JSON).status_code == 413


def test_c3_a_refusal_names_the_place_and_stays_short(anna: Person) -> None:
    files = {f"f{i}": trees.file(b"1") for i in range(2000)}
    files["f7"] = {"type": "FILE"}
    response = anna.send_push("anna", new_name(), trees.root(files), top_hash="0" * 64)
    assert response.status_code == 400
    assert "hashes" in response.json()["message"]
    assert len(response.text) < 500


def test_c4_names_match_as_a_whole(anna: Person) -> None:
    node = trees.root({})
    for bad in ("name%0A", "1name", "na-me", "x" * 65):
        response = anna.put(
            f"/api/package/anna/{bad}/{trees.top_hash(node)}", json={"contents": node, "description": "", "sizes": {}}
        )
        assert (response.status_code, response.json()) == (400, {"message": "Invalid package name"})
    assert anna.put(f"/api/access/anna/{new_name()}/ben%0A").status_code in (400, 404)


def test_c8_a_secret_in_the_query_string_is_refused(registry: Registry, anna: Person) -> None:
    code = anna.get("/api/code").json()["code"]
    assert httpx.post(f"{registry.url}/api/token?refresh_token={code}").status_code == 400
    assert httpx.post(f"{registry.url}/api/token", data={"refresh_token": code}).status_code == 200


# ------------------------------------------------------------------------------------------------ I: data integrity


def test_i1_a_push_without_its_objects_stores_nothing(registry: Registry, anna: Person) -> None:
    name, node = new_name(), trees.tree({"x": b"never uploaded", "y": b"nor this"})
    response = anna.send_push("anna", name, node, sizes=trees.sizes([b"never uploaded", b"nor this"]))
    assert response.status_code == 400
    assert all(trees.sha(data) in response.json()["message"] for data in (b"never uploaded", b"nor this"))
    assert scalar(registry, "SELECT count(*) FROM package WHERE name = $1", name) == 0


def test_i1_a_missing_readme_has_the_message_of_the_original(anna: Person) -> None:
    node = trees.tree({"README": b"a readme that is nowhere"})
    response = anna.send_push("anna", new_name(), node, sizes=trees.sizes([b"a readme that is nowhere"]))
    assert response.status_code == 403
    assert response.json()["message"].startswith("Failed to download the README: File does not exist")


def test_i3_a_part_does_not_hide_the_rest(anna: Person) -> None:
    name = new_name()
    anna.push(name, {"README": b"albatross", "a": b"12345"})
    response = anna.push_part(name, "b/c", trees.file(b"678"), [b"678"])
    shown = anna.get(f"/api/package_preview/anna/{name}/{response.json()['package_hash']}").json()
    assert shown["total_size_uncompressed"] == len(b"albatross") + 5 + 3
    assert shown["readme_preview"] == "albatross"


def test_i4_the_log_names_who_pushed(anna: Person, carl: Person) -> None:
    name = new_name()
    anna.push(name, {"x": b"1"}, is_team=True)
    carl.push(name, {"x": b"2"}, owner="anna")
    assert [entry["author"] for entry in anna.get(f"/api/log/anna/{name}/").json()["logs"]] == ["anna", "carl"]


def test_i5_a_new_package_counts_from_nothing(anna: Person) -> None:
    name = new_name()
    for data in (b"1", b"2"):
        anna.push(name, {"x": data})
    anna.delete(f"/api/package/anna/{name}/").raise_for_status()
    top_hash = anna.push(name, {"x": b"3"})
    assert anna.get(f"/api/package_preview/anna/{name}/{top_hash}").json()["log_count"] == 1


def test_i6_a_long_readme_is_shown_from_its_beginning(anna: Person) -> None:
    name, text = new_name(), b"The beginning. " + b"x" * 700_000 + b"The end."
    top_hash = anna.push(name, {"README": text})
    shown = anna.get(f"/api/package_preview/anna/{name}/{top_hash}").json()["readme_preview"]
    assert shown == text[: 640 * 1024].decode()


@pytest.mark.parametrize("name", ["", "a/b", "nul\0", "x" * 256])
def test_i7_names_that_cannot_be_addressed_are_refused(anna: Person, name: str) -> None:
    node = trees.root({"g": trees.group({name: trees.file(b"1")})})
    response = anna.send_push("anna", new_name(), node, dry_run=True)
    assert response.status_code == 400
    assert "name" in response.json()["message"]


@pytest.mark.parametrize("path", ["a//b", "/a", "a/"])
def test_i7_empty_names_in_a_path_are_refused(anna: Person, path: str) -> None:
    assert anna.send_push("anna", new_name(), trees.file(b"1"), dry_run=True, path=path).status_code == 400


def test_i8_an_empty_readme_is_fine(anna: Person) -> None:
    name = new_name()
    top_hash = anna.push(name, {"README": b""})
    assert anna.get(f"/api/package_preview/anna/{name}/{top_hash}").json()["readme_preview"] == ""


@pytest.mark.parametrize(("text", "objects"), [("", 2), ("false", 2), ("true", 1), ("True", 1)])
def test_i9_meta_only_is_read_as_a_boolean(anna: Person, text: str, objects: int) -> None:
    name, meta = new_name(), b'{"a":1}'
    node = trees.root({"x": trees.file(b"1", metadata_hash=trees.sha(meta))})
    top_hash = anna.push_tree(name, node, [b"1", meta])
    response = anna.get(f"/api/package/anna/{name}/{top_hash}", params={"meta_only": text}).json()
    assert len(response["urls"]) == len(response["sizes"]) == objects


def test_i10_a_head_records_nothing(registry: Registry, anna: Person) -> None:
    name = new_name()
    top_hash = anna.push(name, {"x": b"1"})
    for path in ("package", "package_preview"):
        assert anna.http.head(f"/api/{path}/anna/{name}/{top_hash}").status_code == 200
    assert [event["kind"] for event in registry.events("anna", name)] == ["PUSH"]


@pytest.mark.parametrize(
    "metadata", [{"type": 1}, {"a": {"type": "FILE", "hashes": []}}, {"a": [{"type": None}]}, [], None, 1, "x"]
)
def test_i11_metadata_that_old_clients_would_take_for_a_node_is_refused(anna: Person, metadata: Any) -> None:
    node = trees.root({"x": trees.file(b"1", metadata=metadata)})
    response = anna.send_push("anna", new_name(), node, dry_run=True)
    assert response.status_code == 400
    assert "metadata of 'x'" in response.json()["message"]


# ------------------------------------------------------------------------------------------------ D: malformed requests


def deep(levels: int) -> str:
    return '{"type":"GROUP","children":{"g":' * levels + '{"type":"GROUP","children":{}}' + "}}" * levels


CONTENTS = [
    '{"type":"ROOT","children":{"x":{"hashes":[]}}}',
    '{"type":"ROOT","children":{"x":{"type":"GROUP"}}}',
    '{"type":"ROOT","children":{"x":{"type":"GROUP","children":{},"hashes":[]}}}',
    '{"type":"ROOT","children":{"x":{"type":"TABLE","hashes":[]}}}',
    '{"type":"ROOT","children":{"x":{"type":"TABLE","hashes":[],"format":"HDF5"}}}',
    '{"type":"ROOT","children":{"x":{"type":"FILE","hashes":[],"extra":1}}}',
    '{"type":"ROOT","children":{"x":{"type":"FILE","hashes":[],"metadata":{"a":NaN}}}}',
    '{"type":"ROOT","children":{"x":{"type":"FILE","hashes":[],"metadata_hash":null}}}',
    '{"type":"ROOT","children":{"\\u0000":{"type":"FILE","hashes":[]}}}',
    '{"type":"ROOT","children":{"\\ud800":{"type":"FILE","hashes":[]}}}',
    '{"type":"ROOT","children":{"x":{"type":"ROOT","children":{}}}}',
    '{"type":"GROUP","children":{}}',
    '{"type":"ROOT","children":{"g":' + deep(80) + "}}",
    '{"type":"ROOT","children":{"g":' + deep(5000) + "}}",
    "null",
    "[" * 100_000,
]


@pytest.mark.parametrize("contents", CONTENTS, ids=range(len(CONTENTS)))
def test_d_contents_that_break_the_rules_are_refused(anna: Person, contents: str) -> None:
    body = f'{{"contents":{contents},"description":"","sizes":{{}}}}'
    response = anna.put(f"/api/package/anna/{new_name()}/{'0' * 64}", content=body, headers=JSON)
    assert response.status_code == 400
    assert 0 < len(response.json()["message"]) < 500
    assert "top hash" not in response.json()["message"], "refused for the contents, not for the top hash in the path"


@pytest.mark.parametrize("hashes", [[], [b"1", b"2"]])
def test_d_a_readme_is_one_object(anna: Person, hashes: list[bytes]) -> None:
    node = trees.root({"README": trees.file(*hashes)})
    name = new_name()
    anna.upload("anna", name, node, hashes)
    response = anna.send_push("anna", name, node, sizes=trees.sizes(hashes))
    assert response.status_code == 400
    assert "README" in response.json()["message"]


def test_d_a_readme_with_a_nul_byte_and_broken_utf8_is_accepted(anna: Person) -> None:
    name = new_name()
    top_hash = anna.push(name, {"README": b"a\0b\xffc"})
    assert anna.get(f"/api/package_preview/anna/{name}/{top_hash}").json()["readme_preview"] == "abc"


GOOD = gzip.compress(b'{"contents":{"type":"ROOT","children":{}},"description":"","sizes":{}}')


@pytest.mark.parametrize(
    "data",
    [b"not gzip", GOOD[:-9], GOOD + b"junk", b"", gzip.compress(b"{"), gzip.compress(b"\xff")],
    ids=["not gzip", "cut off", "too long", "empty", "half an object", "no text"],
)
def test_d_broken_bodies_are_refused(anna: Person, data: bytes) -> None:
    response = anna.put(
        f"/api/package/anna/{new_name()}/{'0' * 64}", content=data, headers={**JSON, "Content-Encoding": "gzip"}
    )
    assert response.status_code == 400
    assert response.json()["message"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/api/tag/anna/{name}/" + "t" * 65, {"hash": "{hash}"}),
        ("PUT", "/api/tag/anna/{name}/%00", {"hash": "{hash}"}),
        ("PUT", "/api/version/anna/{name}/1." + "0" * 70, {"hash": "{hash}"}),
        ("PUT", "/api/version/anna/{name}/nonsense", {"hash": "{hash}"}),
        ("PUT", "/api/tag/anna/{name}/t", {"hash": 1}),
        ("PUT", "/api/tag/anna/{name}/t", []),
        ("PUT", "/api/access/anna/{name}/Not_Valid", None),
        ("POST", "/api/get_objects", ["x"]),
        ("POST", "/api/get_objects", {}),
        ("POST", "/api/log", [{}]),
        ("GET", "/api/package/anna/{name}/{hash}?meta_only=perhaps", None),
    ],
)
def test_d_requests_that_crashed_the_original_are_400(anna: Person, method: str, path: str, body: Any) -> None:
    name = new_name()
    top_hash = anna.push(name, {"x": b"1"})
    text = json.dumps(body).replace("{hash}", top_hash)
    response = anna.http.request(
        method, path.replace("{name}", name).replace("{hash}", top_hash), content=text, headers=JSON
    )
    assert response.status_code == 400, response.text
    assert response.json()["message"]


@pytest.mark.parametrize("name", ["nul\0", "x" * 5000, ""])
@pytest.mark.parametrize("password", ["x" * 5000, "nul\0", ""])
def test_d_odd_names_and_passwords_do_not_sign_in(registry: Registry, name: str, password: str) -> None:
    response = httpx.post(f"{registry.url}/api/login", json={"username": name, "password": password}, timeout=30)
    if "\0" in name:
        assert (response.status_code, response.json()) == (400, {"message": "The username contains a NUL character."})
    else:
        assert (response.status_code, response.json()) == (401, {"message": "Login attempt failed"})


@pytest.mark.parametrize("secret", ["e30=", "eyJhbGciOiJub25lIn0.e30.", "\0", "x" * 100_000])
def test_d_invalid_codes_are_refused(registry: Registry, secret: str) -> None:
    response = httpx.post(f"{registry.url}/api/token", data={"refresh_token": secret})
    assert (response.status_code, response.json()) == (401, {"message": "Token invalid."})


# ------------------------------------------------------------------------------------------------ R: race conditions


def test_r_first_pushes_of_one_package_all_succeed(anna: Person) -> None:
    name, files = new_name(), {"x": b"race"}
    at_once(4, lambda _: anna.push(name, files))
    assert len(anna.get(f"/api/log/anna/{name}/").json()["logs"]) == 4


def test_r_packages_with_the_same_new_objects_all_succeed(anna: Person) -> None:
    files = {f"f{i}": f"shared by all {i}".encode() for i in range(300)}
    names = [new_name() for _ in range(4)]
    node, data = trees.tree(files), trees.contents(files)
    anna.upload("anna", names[0], node, data)
    responses = at_once(4, lambda i: anna.send_push("anna", names[i], node, sizes=trees.sizes(data)))
    assert [response.status_code for response in responses] == [200] * 4


def test_r_parts_that_create_a_package_are_all_kept(anna: Person) -> None:
    name = new_name()
    responses = at_once(4, lambda i: anna.push_part(name, f"part{i}", trees.file(b"%d" % i), [b"%d" % i]))
    assert [response.status_code for response in responses] == [200] * 4
    latest = anna.get(f"/api/tag/anna/{name}/latest").json()["hash"]
    children = anna.install("anna", name, latest)["contents"]["children"]
    assert sorted(children) == ["part0", "part1", "part2", "part3"]


def test_r_one_new_tag_all_succeed_and_one_version_has_one_winner(anna: Person) -> None:
    name = new_name()
    top_hash = anna.push(name, {"x": b"1"}, tag="")
    tags = at_once(4, lambda _: anna.put(f"/api/tag/anna/{name}/new", json={"hash": top_hash}))
    assert [response.status_code for response in tags] == [200] * 4
    versions = at_once(4, lambda _: anna.put(f"/api/version/anna/{name}/1.0", json={"hash": top_hash}))
    assert sorted(response.status_code for response in versions) == [200, 409, 409, 409]


def test_r_a_code_is_spent_once(registry: Registry, anna: Person) -> None:
    code = anna.get("/api/code").json()["code"]
    responses = at_once(4, lambda _: httpx.post(f"{registry.url}/api/token", data={"refresh_token": code}))
    assert sorted(response.status_code for response in responses) == [200, 401, 401, 401]


# ------------------------------------------------------------------------------------------------ H: errors, W: waste


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/nothing", 404),
        ("PATCH", "/api/me", 405),
        ("DELETE", "/api/version/a/b/1", 405),
        ("GET", "/api/me/", 404),
    ],
)
def test_h1_every_error_under_api_is_json_with_a_message(anna: Person, method: str, path: str, status: int) -> None:
    response = anna.http.request(method, path)
    assert response.status_code == status
    assert response.headers["content-type"].startswith("application/json")
    assert response.json()["message"]


@pytest.mark.parametrize("body", [b"{", b"", b"\xff", b"[]", b"1"])
def test_h1_malformed_json_is_refused_with_a_message(registry: Registry, body: bytes) -> None:
    response = httpx.post(f"{registry.url}/api/login", content=body, headers=JSON)
    assert response.status_code == 400
    assert response.json()["message"]


def test_h1_another_content_type_is_refused_with_a_message(registry: Registry) -> None:
    body = json.dumps({"username": "anna", "password": PASSWORD})
    response = httpx.post(f"{registry.url}/api/login", content=body, headers={"Content-Type": "text/plain"})
    assert response.status_code == 400
    assert "application/json" in response.json()["message"]


def test_w_a_second_version_adds_what_changed(registry: Registry, anna: Person) -> None:
    name = new_name()
    files = {f"g{i}": {f"f{j}": b"%d %d" % (i, j) for j in range(30)} for i in range(5)}
    anna.push(name, files)
    rows = "SELECT (SELECT count(*) FROM object) + (SELECT count(*) FROM package_object) + (SELECT count(*) FROM page)"
    before = scalar(registry, rows)
    for i in range(10):
        files["g3"][f"f{i}"] = b"changed %d" % i
    anna.push(name, files)
    assert scalar(registry, rows) - before <= 2 * 10 + 4


def test_w_install_answers_are_compact_and_gzipped_on_request(anna: Person) -> None:
    name = new_name()
    top_hash = anna.push(name, {f"f{i}": b"%d" % i for i in range(200)})
    path = f"/api/package/anna/{name}/{top_hash}"
    plain = anna.get(path, headers={"Accept-Encoding": "identity"})
    packed = anna.get(path, headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.json()["contents"] == plain.json()["contents"]
    assert b'"urls":{"' in plain.content
