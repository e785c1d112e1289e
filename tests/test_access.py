"""Access as truth tables: packages over HTTP, every route for each kind of caller, and each rule by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from litestar import Router
from litestar.routes import HTTPRoute

from quilt_registry import catalog
from quilt_registry.accounts import rights
from quilt_registry.accounts.rights import Who
from quilt_registry.accounts.sessions import Session
from quilt_registry.accounts.users import Account
from quilt_registry.api import quilt2, routing, system, v1
from quilt_registry.errors import Forbidden, Invalid, NotOffered, Refusal, SignInNeeded
from quilt_registry.packages import access
from quilt_registry.packages.access import AccessPolicy, Caller, Member, Package
from quilt_registry.settings import Settings
from tests import openapi, trees
from tests.browsers import browser, sign_in
from tests.registry import Person, Registry, new_name

FILES = {"a": b"shown to some"}
OTHER = trees.tree({"b": b"pushed by another user"})

# The status of each action on a package. `part` is the push of a part. `own` stands for the actions of owners alone:
# creating versions, deleting tags, sharing, deleting. An admin has no more rights than any other member.
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
    """Return the cells of a table: person, package, action, status."""
    found = []
    for line in table.strip().splitlines()[1:]:
        person, package, *statuses = line.split()
        for action, status in zip(ACTIONS, statuses, strict=True):
            found.append(pytest.param(person, package, action, int(status), id=f"{person}-{package}-{action}"))
    return found


class People:
    """The callers of one registry, and a package of Anna's of each kind."""

    def __init__(self, registry: Registry):
        self.names = {name: new_name(name) for name in ("anna", "ben", "carl", "ada")}
        make = registry.make_person
        self.people = {name: make(full, is_admin=name == "ada") for name, full in self.names.items()}
        self.people["nobody"] = registry.nobody()
        self.anna = self.people["anna"]
        self.packages: dict[str, str] = {"none": new_name("none")}

    def package(self, kind: str) -> tuple[str, str]:
        """Return the name of a package of a kind, created on first use, and its top hash."""
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

    def attempt(self, person: str, kind: str, action: str) -> int:
        caller, owner = self.people[person], self.anna.name
        name, top_hash = self.package(kind)
        if action == "read":
            return caller.get(f"/api/package/{owner}/{name}/{top_hash}").status_code
        if action == "push":
            return caller.send_push(owner, name, OTHER, dry_run=True).status_code
        if action == "part":
            return caller.send_push(owner, name, trees.file(b"x"), dry_run=True, path="x").status_code
        if action == "tag":
            return caller.put(f"/api/tag/{owner}/{name}/stable", json={"hash": top_hash}).status_code
        version = f"1.{new_name('')}"
        return caller.put(f"/api/version/{owner}/{name}/{version}", json={"hash": top_hash}).status_code


@pytest.fixture(scope="module")
def team(registry: Registry) -> People:
    return People(registry)


@pytest.fixture(scope="module")
def open_mode(open_registry: Registry) -> People:
    return People(open_registry)


@pytest.mark.parametrize(("person", "package", "action", "status"), cells(TEAM_MODE))
def test_team_mode(team: People, person: str, package: str, action: str, status: int) -> None:
    assert team.attempt(person, package, action) == status


@pytest.mark.parametrize(("person", "package", "action", "status"), cells(OPEN_MODE))
def test_open_mode(open_mode: People, person: str, package: str, action: str, status: int) -> None:
    assert open_mode.attempt(person, package, action) == status


@pytest.mark.parametrize("person", ["carl", "ada"])
def test_a_hidden_package_looks_like_a_missing_one(team: People, person: str) -> None:
    name, top_hash = team.package("private")
    missing = team.packages["none"]
    caller, owner = team.people[person], team.anna.name
    for path in PACKAGE_PATHS:
        secret = caller.get(path.format(owner=owner, name=name, top_hash=top_hash))
        none = caller.get(path.format(owner=owner, name=missing, top_hash=top_hash))
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

# The callers and the package that they request: an anonymous caller; a stranger (Carl) and a reader (Ben) of a private
# package shared with Ben; a member (Carl) and a team package; the owner; an admin. A route without a row fails the
# test below: decide who may use it, then add its row.
CALLERS = (
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
    "POST /api/change_password": [401] * 6,  # an invalid link
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
    "DELETE /api/comments/{owner}/{name}/{comment_id}": [401, 404, 403, 403, 200, 404],  # a comment of Anna's
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
    "POST /api/users/delete": [400] * 6,  # always disabled
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
    "GET /metrics": [404] * 6,  # without the setting METRICS_TOKEN
    "GET /robots.txt": OPEN_TO_ALL,
    "GET /objects/{key}": UNSIGNED,
    "PUT /objects/{key}": UNSIGNED,
}


def who_of(router: Router) -> dict[str, Who]:
    """Return the `who` of each method and path of a router, but for HEAD, OPTIONS and static files."""
    found: dict[str, Who] = {}
    for route in router.routes:
        assert isinstance(route, HTTPRoute)
        names = [part if isinstance(part, str) else f"{{{part.name}}}" for part in route.path_components]
        for handler in route.route_handlers:
            for method in handler.http_methods - {"HEAD", "OPTIONS"}:
                if "who" in handler.opt:
                    found[f"{method} /{'/'.join(names)}"] = handler.opt["who"]
    return found


API_WHO = who_of(routing.router([*quilt2.ROUTES, *system.ROUTES])) | who_of(v1.router())
PAGE_WHO = who_of(catalog.router())


def test_every_route_has_a_row() -> None:
    assert API_WHO.keys() == MATRIX.keys()
    assert PAGE_WHO.keys() == PAGES.keys()


@pytest.mark.parametrize("call", MATRIX)
def test_the_matrix_agrees_with_who(call: str) -> None:
    """The guard checks `who` first. The operation can only refuse more callers."""
    who, statuses = API_WHO[call], MATRIX[call]
    if who == "admin":
        assert statuses == ADMINS
    elif who in ("caller", "member"):
        assert [status == 401 for status in statuses] == [True, False, False, False, False, False]
    else:
        assert len(set(statuses)) == 1, "every caller gets the same status"


def _body(call: str, person: Person, top_hash: str) -> dict[str, Any]:
    """Return the body of a valid request of a route."""
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
def send_request(team: People, registry: Registry, carl: Person) -> Callable[[str, str, str], httpx.Response]:
    """Return a function that sends a valid request of a route as a person, for a package of a kind."""

    def send(call: str, person: str, kind: str) -> httpx.Response:
        method, path = call.split(" ")
        caller, (name, top_hash) = team.people[person], team.package(kind)
        if method in ("DELETE", "PUT") and "/api/" in path:
            name = team.new_package(kind)
        version_path = f"/api/version/{team.anna.name}/{name}/1.0"
        if "{version}" in path and method == "GET":
            team.anna.put(version_path, json={"hash": top_hash})
        values = {
            "owner": team.anna.name, "name": name, "top_hash": top_hash, "path": "x", "tag": "latest", "version": "1.0",
            "user": carl.name if method == "PUT" else team.names["ben"], "key": "objs/anna/" + "0" * 64,
            "link": "x", "token_id": "1", "event": "push",
        }  # fmt: skip
        if "{comment_id}" in path:
            comment = team.anna.post(f"/api/comments/{team.anna.name}/{name}/", json={"contents": "Mine."})
            values["comment_id"] = comment.json()["comment"]["id"]
        if kind == "team" and method == "DELETE" and "{user}" in path:
            values["user"] = "team"
        if person != "nobody" and "{token_id}" in path:
            values["token_id"] = caller.post("/api/v1/tokens", json={"name": new_name("token")}).json()["id"]
        if person != "nobody" and path in ("/api/refresh", "/api/logout"):  # these revoke the token used
            caller = registry.sign_in(team.names[person])
        if path == "/api/token":
            code = team.anna.get("/api/code").json()["code"]
            return caller.post(path, data={"refresh_token": code})
        return caller.http.request(method, path.format(**values), **_body(call, caller, top_hash))

    return send


@pytest.mark.parametrize("call", MATRIX)
def test_every_route_checks_its_caller(send_request: Callable[[str, str, str], httpx.Response], call: str) -> None:
    responses = [send_request(call, person, kind) for person, kind in CALLERS]
    assert [response.status_code for response in responses] == MATRIX[call]
    for response in responses:
        openapi.check(call, response)


@pytest.mark.parametrize("call", [call for call in MATRIX if API_WHO[call] != "anybody"])
def test_an_invalid_token_is_refused_on_every_route(registry: Registry, call: str) -> None:
    method, path = call.split(" ")
    response = httpx.request(method, registry.url + path, headers={"Authorization": "Bearer invalid"})
    code = {"code": "sign_in_needed"} if "/v1/" in path else {}
    assert (response.status_code, response.json()) == (401, {"message": "Token invalid.", **code})


@pytest.mark.parametrize("call", [call for call in MATRIX if API_WHO[call] != "anybody"])
def test_an_inactive_account_is_refused_on_every_route(registry: Registry, team: People, call: str) -> None:
    caller = _inactive(registry)
    method, path = call.split(" ")
    response = caller.http.request(method, path)
    assert response.status_code == 403
    assert response.json()["message"] == "Account is inactive. Must have an active account."


def _inactive(registry: Registry) -> Person:
    """Return a person whose account was disabled while they were signed in."""
    caller = registry.make_person(new_name("dan"))
    registry.sql("UPDATE account SET is_active = false WHERE name = $1", caller.name)
    return caller


# ------------------------------------------------------------------------------------------------ every page

# An anonymous visitor, a member and an admin; then an anonymous visitor in open mode, who sees public packages.
PAGE_READERS = ("nobody", "carl", "ada")
SIGN_IN, SIGN_IN_FORM, HOME = "302 /signin", "303 /signin", "303 /"
PASSWORDS = {"password": "long enough", "again": "long enough"}
ENDS_SESSIONS = ("POST /profile/tokens/revoke-others",)  # those of other tests
PAGES: dict[str, tuple[str, str, str, str]] = {
    "GET /": (SIGN_IN, "200", "200", "200"),
    "GET /search": (SIGN_IN, "200", "200", "200"),
    "GET /user/{owner}": (SIGN_IN, "200", "200", "404"),
    "GET /package/{owner}": (SIGN_IN, "200", "200", "404"),
    "GET /package/{owner}/{name}": (SIGN_IN, "404", "404", "404"),
    "GET /package/{owner}/{name}/files": (SIGN_IN, "404", "404", "404"),
    "GET /package/{owner}/{name}/files/{path}": (SIGN_IN, "404", "404", "404"),
    "GET /package/{owner}/{name}/download/{path}": (SIGN_IN, "404", "404", "404"),
    "GET /package/{owner}/{name}/revisions": (SIGN_IN, "404", "404", "404"),
    "POST /package/{owner}/{name}/revisions": (SIGN_IN_FORM, "404", "404", SIGN_IN_FORM),
    "GET /package/{owner}/{name}/tags/{tag}/remove": (SIGN_IN, "404", "404", SIGN_IN),
    "POST /package/{owner}/{name}/tags/{tag}/remove": (SIGN_IN_FORM, "404", "404", SIGN_IN_FORM),
    "GET /package/{owner}/{name}/activity": (SIGN_IN, "404", "404", "404"),
    "GET /package/{owner}/{name}/comments": (SIGN_IN, "404", "404", "404"),
    "POST /package/{owner}/{name}/comments": (SIGN_IN_FORM, "404", "404", SIGN_IN_FORM),
    "GET /package/{owner}/{name}/comments/{key}/delete": (SIGN_IN, "404", "404", SIGN_IN),
    "POST /package/{owner}/{name}/comments/{key}/delete": (SIGN_IN_FORM, "404", "404", SIGN_IN_FORM),
    "GET /package/{owner}/{name}/sharing": (SIGN_IN, "404", "404", SIGN_IN),
    "POST /package/{owner}/{name}/sharing": (SIGN_IN_FORM, "404", "404", SIGN_IN_FORM),
    "GET /package/{owner}/{name}/sharing/suggestions": (SIGN_IN, "404", "404", SIGN_IN),
    "GET /package/{owner}/{name}/sharing/{grantee}/add": (SIGN_IN, "404", "404", SIGN_IN),
    "POST /package/{owner}/{name}/sharing/{grantee}/add": (SIGN_IN_FORM, "404", "404", SIGN_IN_FORM),
    "GET /package/{owner}/{name}/sharing/{grantee}/remove": (SIGN_IN, "404", "404", SIGN_IN),
    "POST /package/{owner}/{name}/sharing/{grantee}/remove": (SIGN_IN_FORM, "404", "404", SIGN_IN_FORM),
    "POST /package/{owner}/{name}/sharing/{grantee}/resend": (SIGN_IN_FORM, "404", "404", SIGN_IN_FORM),
    "GET /package/{owner}/{name}/settings": (SIGN_IN, "404", "404", SIGN_IN),
    "POST /package/{owner}/{name}/settings": (SIGN_IN_FORM, "404", "404", SIGN_IN_FORM),
    "GET /code": (SIGN_IN, "200", "200", SIGN_IN),
    "POST /code": (SIGN_IN_FORM, "303 /code", "303 /code", SIGN_IN_FORM),
    "GET /profile": (SIGN_IN, "200", "200", SIGN_IN),
    "GET /profile/tokens": (SIGN_IN, "200", "200", SIGN_IN),
    "POST /profile/tokens": (SIGN_IN_FORM, "422", "422", SIGN_IN_FORM),
    "GET /profile/tokens/revoke-others": (SIGN_IN, "200", "200", SIGN_IN),
    "POST /profile/tokens/revoke-others": (SIGN_IN_FORM, "303 /profile/tokens", "303 /profile/tokens", SIGN_IN_FORM),
    "POST /profile/tokens/sign-out-browsers": (
        *(SIGN_IN_FORM, "303 /profile/tokens", "303 /profile/tokens", SIGN_IN_FORM),
    ),
    "GET /profile/tokens/{token_id}/revoke": (SIGN_IN, "404", "404", SIGN_IN),
    "POST /profile/tokens/{token_id}/revoke": (SIGN_IN_FORM, "404", "404", SIGN_IN_FORM),
    "GET /profile/account": (SIGN_IN, "200", "200", SIGN_IN),
    "POST /profile/account": (SIGN_IN_FORM, "422", "422", SIGN_IN_FORM),
    "GET /profile/admin": (SIGN_IN, "403", "200", SIGN_IN),
    "GET /profile/admin/users": (SIGN_IN, "403", "200", SIGN_IN),
    "POST /profile/admin/users": (SIGN_IN_FORM, "403", "422", SIGN_IN_FORM),
    "GET /profile/admin/users/{name}/{act}": (SIGN_IN, "403", "404", SIGN_IN),
    "POST /profile/admin/users/{name}/{act}": (SIGN_IN_FORM, "403", "404", SIGN_IN_FORM),
    "GET /profile/admin/packages": (SIGN_IN, "403", "200", SIGN_IN),
    "GET /profile/admin/audit": (SIGN_IN, "403", "200", SIGN_IN),
    "GET /profile/admin/audit/export": (SIGN_IN, "403", "200", SIGN_IN),
    "GET /profile/admin/system": (SIGN_IN, "403", "200", SIGN_IN),
    "GET /profile/admin/sign-out": (SIGN_IN, "403", "200", SIGN_IN),
    "POST /profile/admin/sign-out": (SIGN_IN_FORM, "403", "422", SIGN_IN_FORM),
    "POST /preferences": (HOME, HOME, HOME, HOME),
    "GET /signin": ("200", HOME, HOME, "200"),
    "POST /signin": ("422", "422", "422", "422"),
    "GET /signout": (HOME, "200", "200", HOME),
    "POST /signout": (SIGN_IN_FORM, SIGN_IN_FORM, SIGN_IN_FORM, HOME),
    "GET /signup": ("200", HOME, HOME, "200"),
    "POST /signup": ("422", "422", "422", "422"),
    "GET /activation_error": ("200", "200", "200", "200"),
    "GET /reset_password": ("200", "200", "200", "200"),
    "POST /reset_password": ("422", "422", "422", "422"),
    "GET /reset_password/{link}": ("410", "410", "410", "410"),
    "POST /reset_password/{link}": ("410", "410", "410", "410"),
    "GET /help/start": ("200", "200", "200", "200"),
    "GET /help/api": ("200", "200", "200", "200"),
    "GET /preferences/components": (SIGN_IN, "200", "200", SIGN_IN),
    "GET /logo": ("404", "404", "404", "404"),  # without the setting TEAM_LOGO
    "GET /sw.js": ("200", "200", "200", "200"),
    "GET /static/{path}": ("404", "404", "404", "404"),
}


@pytest.mark.usefixtures("anna")
@pytest.mark.parametrize("page", PAGES)
def test_every_page_checks_its_visitor(registry: Registry, open_registry: Registry, team: People, page: str) -> None:
    names = team.names if page not in ENDS_SESSIONS else _newcomers(registry)
    statuses = [_visit(registry, page, names.get(person)) for person in PAGE_READERS]
    assert (*statuses, _visit(open_registry, page, None)) == PAGES[page]


def _newcomers(registry: Registry) -> dict[str, str]:
    return {
        "carl": registry.make_person(new_name("carl")).name,
        "ada": registry.make_person(new_name("ada"), is_admin=True).name,
    }


def _visit(registry: Registry, page: str, name: str | None) -> str:
    """Open a page, or send its form with two passwords. Return the status, and where a redirect leads."""
    method, path = page.split(" ")
    path = path.format(
        owner="anna", name="missing", link="x", path="x", token_id="x", tag="x", key="x", grantee="x", act="x"
    )
    with browser(registry) as client:
        if name:
            assert sign_in(client, name).status_code == 303
        response = client.get(path) if method == "GET" else client.submit(path, PASSWORDS)
    location = response.headers.get("location", "").partition("?")[0]
    return f"{response.status_code} {location}".strip()


# ------------------------------------------------------------------------------------------------ packages/access.py

TEAM, OPEN = AccessPolicy(team=True, anonymous=False), AccessPolicy(team=False, anonymous=True)


def account(name: str, *, is_admin: bool = False, is_active: bool = True) -> Account:
    return Account(1, name, f"{name}@example.com", is_admin, is_active)


def member(name: str, policy: AccessPolicy = TEAM) -> Member:
    return Member(account(name), policy)


def package(*, public: bool = False, team: bool = False) -> Package:
    return Package(1, 1, "anna", "data", 1, has_public=public, has_team=team)


def refusal(check: Callable[..., None], *args: Any, **flags: Any) -> type[Refusal] | None:
    """Return the class of the error that a check raises."""
    try:
        check(*args, **flags)
    except Refusal as error:
        return type(error)
    return None


@pytest.mark.parametrize(
    ("name", "policy", "grants"),
    [
        (None, TEAM, []),
        (None, OPEN, ["public"]),
        ("ben", TEAM, ["ben", "team"]),
        ("ben", OPEN, ["public", "ben"]),
        ("ben", AccessPolicy(team=True, anonymous=True), ["public", "ben", "team"]),
    ],
)
def test_the_entries_that_let_a_caller_read(name: str | None, policy: AccessPolicy, grants: list[str]) -> None:
    assert Caller(account(name) if name else None, policy).grants == grants


@pytest.mark.parametrize(
    ("name", "policy", "shared", "writes"),
    [
        ("anna", TEAM, package(), True),
        ("ben", TEAM, package(), False),
        ("ben", TEAM, package(team=True), True),
        ("ben", OPEN, package(team=True), False),  # the entry dates from team mode
        ("ben", OPEN, package(public=True), False),
    ],
)
def test_who_pushes_and_moves_tags(name: str, policy: AccessPolicy, shared: Package, writes: bool) -> None:
    caller, expected = member(name, policy), None if writes else Forbidden
    assert access.may_write(caller, shared) is writes
    assert refusal(access.check_push, caller, "anna", shared) is expected
    assert refusal(access.check_tag, caller, shared) is expected


@pytest.mark.parametrize(("name", "expected"), [("anna", None), ("ben", Forbidden)])
def test_what_only_the_owner_does(name: str, expected: type[Refusal] | None) -> None:
    assert refusal(access.check_push, member(name), "anna", None) is expected
    assert refusal(access.check_owner, member(name), "anna", "delete packages.") is expected


@pytest.mark.parametrize(
    ("name", "versioned", "replaces"),
    [("anna", False, True), ("anna", True, True), ("ben", False, True), ("ben", True, False)],
)
def test_who_replaces_the_metadata_of_an_instance(name: str, versioned: bool, replaces: bool) -> None:
    assert access.may_replace(member(name), "anna", versioned=versioned) is replaces


@pytest.mark.parametrize(("name", "expected"), [("anna", True), ("ben", False), ("ada", False)])
def test_only_the_owner_reads_all_objects_and_sees_invitations(name: str, expected: bool) -> None:
    assert access.may_read_all_objects(member(name), "anna") is expected
    assert access.may_upload_directly(member(name), "anna") is expected
    assert access.may_see_invitations(member(name), package(team=True)) is expected


def test_who_is_not_signed_in_sees_no_invitations() -> None:
    assert not access.may_see_invitations(Caller(None, OPEN), package(public=True))


@pytest.mark.parametrize(
    ("grantee", "expected"), [("anna", Forbidden), ("ben", None), ("team", None), ("public", None)]
)
def test_the_owners_access_is_not_revoked(grantee: str, expected: type[Refusal] | None) -> None:
    assert refusal(access.check_revoke, "anna", grantee) is expected


@pytest.mark.parametrize(
    ("name", "author", "expected"),
    [("anna", "ben", None), ("ben", "ben", None), ("carl", "ben", Forbidden), ("ada", "ben", Forbidden)],
)
def test_who_deletes_a_comment(name: str, author: str, expected: type[Refusal] | None) -> None:
    assert refusal(access.check_remove_comment, member(name), package(team=True), author) is expected


@pytest.mark.parametrize(
    ("policy", "grantee", "expected"),
    [
        (TEAM, "team", None), (TEAM, "public", Forbidden), (TEAM, "ben", None),
        (OPEN, "team", Forbidden), (OPEN, "public", None), (OPEN, "ben", None),
    ],
)  # fmt: skip
def test_what_the_settings_let_an_owner_grant(
    policy: AccessPolicy, grantee: str, expected: type[Refusal] | None
) -> None:
    assert refusal(access.check_grantable, policy, grantee) is expected
    flags = {"public": grantee == "public", "team": grantee == "team"}
    assert refusal(access.check_visibility, policy, "acme", None, "anna/data", **flags) is expected


def test_a_push_does_not_widen_access() -> None:
    for flags in ({"public": True, "team": False}, {"public": False, "team": True}):
        policy = AccessPolicy(team=True, anonymous=True)
        assert refusal(access.check_visibility, policy, "acme", package(), "anna/data", **flags) is Forbidden
        assert refusal(access.check_visibility, policy, "acme", package(**flags), "anna/data", **flags) is None


# ------------------------------------------------------------------------------------------------ accounts/rights.py


def session(*, personal: bool = False, read_only: bool = False, is_admin: bool = False, active: bool = True) -> Session:
    return Session(account("anna", is_admin=is_admin, is_active=active), 7, personal, read_only)


@pytest.mark.parametrize(
    ("who", "anonymous", "nobody", "user", "admin"),
    [
        ("anybody", False, None, None, None),
        ("visitor", False, None, None, None),
        ("caller", False, SignInNeeded, None, None),
        ("caller", True, None, None, None),
        ("member", True, SignInNeeded, None, None),
        ("admin", True, SignInNeeded, Forbidden, None),
    ],
)
def test_who_may_use_a_route(who: Who, anonymous: bool, nobody: Any, user: Any, admin: Any) -> None:
    sessions = (None, session(), session(is_admin=True))
    refusals = tuple(refusal(rights.check_who, who, each, anonymous=anonymous) for each in sessions)
    assert refusals == (nobody, user, admin)


# A session, a personal token, and a read-only one; `own` and `other`: which token it revokes.
TOKEN_RIGHTS = """
    right    session  personal  read_only
    change     yes      yes        no
    claim      yes      yes        no
    page       yes       no        no
    renew      yes       no        no
    code       yes       no        no
    create     yes       no        no
    own        yes      yes       yes
    other      yes       no        no
"""
TOKEN_CHECKS: dict[str, Callable[[Session], object]] = {
    "change": rights.check_may_change,
    "claim": rights.may_claim_invitations,
    "page": rights.may_use_pages,
    "renew": rights.check_renew,
    "code": rights.check_issue_code,
    "create": rights.check_create_token,
    "own": lambda session: rights.check_revoke_token(session, 7),
    "other": lambda session: rights.check_revoke_token(session, 8),
}


@pytest.mark.parametrize(
    "row", [line.split() for line in TOKEN_RIGHTS.strip().splitlines()[1:]], ids=lambda row: row[0]
)
def test_what_a_personal_token_may_do(row: list[str]) -> None:
    right, *expected = row
    sessions = (session(), session(personal=True), session(personal=True, read_only=True))
    assert ["yes" if _allows(TOKEN_CHECKS[right], each) else "no" for each in sessions] == expected


def _allows(check: Callable[[Session], object], session: Session) -> bool:
    """Return whether a check passes: it neither returns False nor raises Forbidden."""
    try:
        return check(session) is not False
    except Forbidden:
        return False


def test_a_disabled_account_may_do_nothing() -> None:
    assert refusal(rights.check_active, account("dan", is_active=False)) is Forbidden
    assert refusal(rights.check_active, account("dan")) is None
    assert not rights.may_use_pages(session(active=False))


def test_admins_keep_their_own_account_and_rights() -> None:
    for check in (rights.check_disable, rights.check_revoke_admin):
        assert refusal(check, account("ada", is_admin=True), "ada") is Forbidden
        assert refusal(check, account("ada", is_admin=True), "ben") is None


@pytest.mark.parametrize(("enabled", "expected"), [(True, None), (False, Invalid)])
def test_account_management_may_be_off(enabled: bool, expected: type[Refusal] | None) -> None:
    assert refusal(rights.check_user_endpoints, enabled=enabled) is expected


@pytest.mark.parametrize(
    ("signup", "email", "invited", "expected"),
    [
        ("open", "new@other.example", False, None),
        ("invited", "new@other.example", False, Forbidden),
        ("invited", "new@other.example", True, None),
        ("invited", "new@acme.example", False, None),
        ("invited", "new@ACME.example", False, None),
        ("invited", "new@sub.acme.example", False, Forbidden),
        ("invited", "acme.example@other.example", False, Forbidden),
        ("closed", "new@acme.example", True, NotOffered),
    ],
)
def test_who_may_sign_up(signup: str, email: str, invited: bool, expected: type[Refusal] | None) -> None:
    settings = Settings.model_construct(signup=signup, signup_domains="acme.example")
    offered = refusal(rights.check_signup_offered, settings)
    assert (offered or refusal(rights.check_may_sign_up, settings, email, invited=invited)) is expected
