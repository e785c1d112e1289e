"""Who may do what: the truth table, and a walk over every route of the wire, whose answers are those documented."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from quilt_registry.api import quilt2
from tests import openapi, trees
from tests.registry import Person, Registry, new_name

FILES = {"a": b"shown to some"}
OTHER = trees.tree({"b": b"pushed by somebody"})

# What somebody who does a thing to a package is answered. `part` is the push of a part, `own` stands for what only the
# owner may do: versions, removing tags, sharing, deleting. An admin has no more rights than any other member.
TEAM_MODE = """
    person  package   read  push  part  tag  own
    anna    private    200   200   200  200  200
    anna    shared     200   200   200  200  200
    anna    team       200   200   200  200  200
    ben     private    404   403   403  404  403
    ben     shared     200   403   403  403  403
    ben     team       200   200   200  200  403
    carl    private    404   403   403  404  403
    carl    shared     404   403   403  404  403
    carl    team       200   200   200  200  403
    carl    none       404   403   403  404  403
    ada     private    404   403   403  404  403
    ada     shared     404   403   403  404  403
    ada     team       200   200   200  200  403
    nobody  private    401   401   401  401  401
    nobody  shared     401   401   401  401  401
    nobody  team       401   401   401  401  401
    nobody  none       401   401   401  401  401
"""

OPEN_MODE = """
    person  package   read  push  part  tag  own
    anna    private    200   200   200  200  200
    anna    public     200   200   200  200  200
    ben     private    404   403   403  404  403
    ben     shared     200   403   403  403  403
    ben     public     200   403   403  403  403
    carl    private    404   403   403  404  403
    carl    shared     404   403   403  404  403
    carl    public     200   403   403  403  403
    ada     private    404   403   403  404  403
    ada     public     200   403   403  403  403
    nobody  private    404   401   401  401  401
    nobody  shared     404   401   401  401  401
    nobody  public     200   401   401  401  401
    nobody  none       404   401   401  401  401
"""

ACTIONS = ("read", "push", "part", "tag", "own")


def cells(table: str) -> list[Any]:
    """Each cell of a table: person, package, action, status."""
    found = []
    for line in table.strip().splitlines()[1:]:
        person, package, *statuses = line.split()
        for action, status in zip(ACTIONS, statuses, strict=True):
            found.append(pytest.param(person, package, action, int(status), id=f"{person}-{package}-{action}"))
    return found


class People:
    """Anna with a package of each kind, and the others, in one registry."""

    def __init__(self, registry: Registry):
        self.names = {name: new_name(name) for name in ("anna", "ben", "carl", "ada")}
        make = registry.make_person
        self.people = {name: make(full, is_admin=name == "ada") for name, full in self.names.items()}
        self.people["nobody"] = registry.nobody()
        self.anna = self.people["anna"]
        self.packages: dict[str, str] = {"none": new_name("none")}

    def package(self, kind: str) -> tuple[str, str]:
        """A package's name, and the top hash of what is in it. Made when it is asked for first."""
        if kind not in self.packages:
            self.packages[kind] = self.new_package(kind)
        return self.packages[kind], trees.top_hash(trees.tree(FILES))

    def new_package(self, kind: str) -> str:
        name = new_name(kind)
        self.anna.push(name, FILES)
        grantee = {"shared": self.names["ben"], "team": "team", "public": "public"}.get(kind)
        if grantee:
            self.anna.grant(name, grantee)
        return name

    def try_out(self, person: str, kind: str, action: str) -> int:
        who, owner = self.people[person], self.anna.name
        name, top_hash = self.package(kind)
        if action == "read":
            return who.get(f"/api/package/{owner}/{name}/{top_hash}").status_code
        if action == "push":
            return who.send_push(owner, name, OTHER, dry_run=True).status_code
        if action == "part":
            return who.send_push(owner, name, trees.file(b"x"), dry_run=True, path="x").status_code
        if action == "tag":
            return who.put(f"/api/tag/{owner}/{name}/stable", json={"hash": top_hash}).status_code
        version = f"1.{new_name('')}"
        return who.put(f"/api/version/{owner}/{name}/{version}", json={"hash": top_hash}).status_code


@pytest.fixture(scope="module")
def team(registry: Registry) -> People:
    return People(registry)


@pytest.fixture(scope="module")
def open_mode(open_registry: Registry) -> People:
    return People(open_registry)


@pytest.mark.parametrize(("person", "package", "action", "status"), cells(TEAM_MODE))
def test_team_mode(team: People, person: str, package: str, action: str, status: int) -> None:
    assert team.try_out(person, package, action) == status


@pytest.mark.parametrize(("person", "package", "action", "status"), cells(OPEN_MODE))
def test_open_mode(open_mode: People, person: str, package: str, action: str, status: int) -> None:
    assert open_mode.try_out(person, package, action) == status


@pytest.mark.parametrize("person", ["carl", "ada"])
def test_what_one_may_not_see_answers_as_what_is_not_there(team: People, person: str) -> None:
    name, top_hash = team.package("private")
    missing = team.packages["none"]
    who, owner = team.people[person], team.anna.name
    for path in PACKAGE_PATHS:
        secret = who.get(path.format(owner=owner, name=name, top_hash=top_hash))
        none = who.get(path.format(owner=owner, name=missing, top_hash=top_hash))
        assert secret.status_code == none.status_code == 404
        assert secret.json()["message"] == none.json()["message"].replace(missing, name)


PACKAGE_PATHS = [
    "/api/package/{owner}/{name}/",
    "/api/package/{owner}/{name}/{top_hash}",
    "/api/package_preview/{owner}/{name}/{top_hash}",
    "/api/tag/{owner}/{name}/",
    "/api/tag/{owner}/{name}/latest",
    "/api/version/{owner}/{name}/",
    "/api/version/{owner}/{name}/1.0",
    "/api/log/{owner}/{name}/",
    "/api/access/{owner}/{name}/",
    "/api/comments/{owner}/{name}/",
    "/api/package_timeseries/{owner}/{name}/push",
]


# ------------------------------------------------------------------------------------------------ every route

# Nobody, a stranger and a reader (Carl, Ben: of a private package that Ben is shared), a member (Carl: of a team
# package), the owner, an admin. A route that is not here fails the test below: decide who may use it, then add its row.
WHO = (
    ("nobody", "shared"),
    ("carl", "shared"),
    ("ben", "shared"),
    ("carl", "team"),
    ("anna", "shared"),
    ("ada", "shared"),
)
OPEN_TO_ALL, UNSIGNED = [200] * 6, [403] * 6
MEMBERS = [401, 200, 200, 200, 200, 200]
READERS = [401, 404, 200, 200, 200, 404]
WRITERS = [401, 403, 403, 200, 200, 403]
TAGGERS = [401, 404, 403, 200, 200, 404]
OWNER = [401, 403, 403, 403, 200, 403]
ADMINS = [401, 403, 403, 403, 403, 200]

MATRIX: dict[str, list[int]] = {
    "GET /login": [302] * 6,
    "POST /api/login": OPEN_TO_ALL,
    "POST /api/token": OPEN_TO_ALL,
    "POST /api/register": OPEN_TO_ALL,
    "GET /activate/{link}": [302] * 6,
    "POST /api/reset_password": OPEN_TO_ALL,
    "POST /api/change_password": [401] * 6,  # a link that is none
    "POST /api/refresh": MEMBERS,
    "POST /api/logout": MEMBERS,
    "GET /api/me": MEMBERS,
    "GET /api/code": MEMBERS,
    "PUT /api/package/{owner}/{name}/{top_hash}": WRITERS,
    "POST /api/package_update/{owner}/{name}/{path}": WRITERS,
    "GET /api/package/{owner}/{name}/{top_hash}": READERS,
    "POST /api/get_objects": MEMBERS,
    "GET /api/package/{owner}": MEMBERS,
    "GET /api/package/{owner}/{name}": READERS,
    "DELETE /api/package/{owner}/{name}": OWNER,
    "GET /api/package_preview/{owner}/{name}/{top_hash}": READERS,
    "GET /api/search": MEMBERS,
    "GET /api/tag/{owner}/{name}": READERS,
    "GET /api/tag/{owner}/{name}/{tag}": READERS,
    "PUT /api/tag/{owner}/{name}/{tag}": TAGGERS,
    "DELETE /api/tag/{owner}/{name}/{tag}": OWNER,
    "GET /api/version/{owner}/{name}": READERS,
    "GET /api/version/{owner}/{name}/{version}": READERS,
    "PUT /api/version/{owner}/{name}/{version}": OWNER,
    "GET /api/log/{owner}/{name}": READERS,
    "GET /api/package_timeseries/{owner}/{name}/{event}": READERS,
    "GET /api/recent_packages": MEMBERS,
    "GET /api/comments/{owner}/{name}": READERS,
    "POST /api/comments/{owner}/{name}": READERS,
    "DELETE /api/comments/{owner}/{name}/{comment_id}": [401, 404, 403, 403, 200, 404],  # of Anna's
    "GET /api/access/{owner}/{name}": READERS,
    "GET /api/access/{owner}/{name}/{user}": OWNER,
    "PUT /api/access/{owner}/{name}/{user}": OWNER,
    "DELETE /api/access/{owner}/{name}/{user}": OWNER,
    "GET /api/invite": MEMBERS,
    "GET /api/invite/{owner}/{name}": READERS,
    "GET /api/profile": MEMBERS,
    "POST /api/users/create": ADMINS,
    "POST /api/users/disable": ADMINS,
    "POST /api/users/enable": ADMINS,
    "POST /api/users/grant_admin": ADMINS,
    "POST /api/users/revoke_admin": ADMINS,
    "POST /api/users/reset_password": ADMINS,
    "POST /api/users/delete": [400] * 6,  # off for good
    "GET /api/users/list": ADMINS,
    "GET /api/users/list_detailed": ADMINS,
    "GET /api/audit/{owner}": ADMINS,
    "GET /api/audit/{owner}/{name}": ADMINS,
    "GET /api/admin/package_list/{owner}": ADMINS,
    "GET /api/admin/package_summary": ADMINS,
    "GET /api/v1/audit": ADMINS,
    "GET /api/v1/tokens": MEMBERS,
    "POST /api/v1/tokens": MEMBERS,
    "DELETE /api/v1/tokens/{token_id}": MEMBERS,
    "POST /api/log": MEMBERS,
    "GET /api/openapi.json": OPEN_TO_ALL,
    "GET /healthcheck": OPEN_TO_ALL,
    "GET /readyz": OPEN_TO_ALL,
    "GET /metrics": [404] * 6,  # where no METRICS_TOKEN is set; otherwise it asks for that, and no sign-in is good
    "GET /robots.txt": OPEN_TO_ALL,
    "GET /objects/{key}": UNSIGNED,
    "PUT /objects/{key}": UNSIGNED,
}


def routes() -> set[str]:
    """Every method and path of the wire, but for HEAD and OPTIONS."""
    found = set()
    for route in quilt2.router().routes:
        names = [part if isinstance(part, str) else f"{{{part.name}}}" for part in route.path_components]
        found |= {f"{method} /{'/'.join(names)}" for method in route.methods - {"HEAD", "OPTIONS"}}
    return found


def test_every_route_has_a_row() -> None:
    assert routes() == MATRIX.keys()


def _body(call: str, person: Person, top_hash: str) -> dict[str, Any]:
    """What makes a request of this route a good one."""
    from_contents = {"description": "", "sizes": {}, "dry_run": True}
    bodies: dict[str, dict[str, Any]] = {
        "POST /api/login": {"json": {"username": "carl", "password": "correct horse"}},
        "POST /api/get_objects": {"json": []},
        "POST /api/reset_password": {"json": {"email": "nobody@example.com"}},
        "POST /api/change_password": {"json": {"link": "x", "password": "long enough"}},
        "POST /api/log": {"json": []},
        "POST /api/comments/{owner}/{name}": {"json": {"contents": "Good data."}},
        "PUT /api/package/{owner}/{name}/{top_hash}": {"json": {"contents": trees.tree(FILES), **from_contents}},
        "POST /api/package_update/{owner}/{name}/{path}": {"json": {"contents": trees.file(b"x"), **from_contents}},
    }
    new = new_name("new")
    if call.startswith(("PUT /api/tag", "PUT /api/version")):
        return {"json": {"hash": top_hash}}
    if call == "POST /api/register":
        return {"json": {"username": new, "email": f"{new}@welcome.example", "password": "long enough"}}
    if call == "POST /api/users/create":
        return {"json": {"username": new, "email": f"{new}@example.com"}}
    if call.startswith("POST /api/users/"):
        return {"json": {"username": person.registry.make_person(new).name}}
    if call == "POST /api/v1/tokens":
        return {"json": {"name": new}}
    return bodies.get(call, {})


@pytest.fixture(scope="module")
def ask(team: People, registry: Registry, carl: Person) -> Callable[[str, str, str], httpx.Response]:
    """Sends a good request of a route as somebody, about a new package of a kind."""

    def send(call: str, person: str, kind: str) -> httpx.Response:
        method, path = call.split(" ")
        who, (name, top_hash) = team.people[person], team.package(kind)
        if method in ("DELETE", "PUT") and "/api/" in path:
            name = team.new_package(kind)
        place = f"/api/version/{team.anna.name}/{name}/1.0"
        if "{version}" in path and method == "GET":
            team.anna.put(place, json={"hash": top_hash})
        values = {
            "owner": team.anna.name, "name": name, "top_hash": top_hash, "path": "x", "tag": "latest", "version": "1.0",
            "user": carl.name if method == "PUT" else team.names["ben"], "key": "objs/anna/" + "0" * 64,
            "link": "x", "token_id": "1", "event": "push",
        }  # fmt: skip
        if "{comment_id}" in path:
            said = team.anna.post(f"/api/comments/{team.anna.name}/{name}/", json={"contents": "Mine."})
            values["comment_id"] = said.json()["comment"]["id"]
        if kind == "team" and method == "DELETE" and "{user}" in path:
            values["user"] = "team"
        if person != "nobody" and "{token_id}" in path:
            values["token_id"] = who.post("/api/v1/tokens", json={"name": new_name("token")}).json()["id"]
        if person != "nobody" and path in ("/api/refresh", "/api/logout"):  # these end the token that they use
            who = registry.sign_in(team.names[person])
        if path == "/api/token":
            code = team.anna.get("/api/code").json()["code"]
            return who.post(path, data={"refresh_token": code})
        return who.http.request(method, path.format(**values), **_body(call, who, top_hash))

    return send


@pytest.mark.parametrize("call", MATRIX)
def test_every_route_knows_who_is_asking(ask: Callable[[str, str, str], httpx.Response], call: str) -> None:
    answers = [ask(call, person, kind) for person, kind in WHO]
    assert [answer.status_code for answer in answers] == MATRIX[call]
    for answer in answers:
        openapi.check(call, answer)


# A token is sent to `token` as a form; `users/delete` is off before anything else is asked.
UNASKED = ("POST /api/token", "POST /api/users/delete")


@pytest.mark.parametrize("call", [call for call in MATRIX if "/api/" in call and call not in UNASKED])
def test_a_dead_token_is_refused_on_every_route(registry: Registry, call: str) -> None:
    method, path = call.split(" ")
    answer = httpx.request(method, registry.url + path, headers={"Authorization": "Bearer dead"})
    code = {"code": "sign_in_needed"} if "/v1/" in path else {}
    assert (answer.status_code, answer.json()) == (401, {"message": "Token invalid.", **code})


@pytest.mark.parametrize("call", [call for call, statuses in MATRIX.items() if statuses[0] == 401])
def test_an_inactive_account_is_refused_on_every_route(registry: Registry, team: People, call: str) -> None:
    who = _inactive(registry)
    method, path = call.split(" ")
    answer = who.http.request(method, path)
    assert answer.status_code == 403
    assert answer.json()["message"] == "Account is inactive. Must have an active account."


def _inactive(registry: Registry) -> Person:
    """Somebody whose account was disabled while they were signed in."""
    who = registry.make_person(new_name("dan"))
    registry.sql("UPDATE account SET is_active = false WHERE name = $1", who.name)
    return who
