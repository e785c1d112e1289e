"""Reports about users and packages for admins (protocol §17)."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

import httpx
import pytest

from tests.registry import Person, Registry, new_name
from tests.trees import Json

PATHS = [
    "/api/users/list",
    "/api/users/list_detailed",
    "/api/audit/anna/",
    "/api/audit/anna/nothing/",
    "/api/admin/package_list/anna",
    "/api/admin/package_summary",
    "/api/v1/audit",
]


def error(response: httpx.Response) -> tuple[int, str]:
    """Return the status and the message of an error response."""
    return response.status_code, response.json()["message"]


@pytest.mark.parametrize("path", PATHS)
def test_only_admins_may_read_reports(anna: Person, ada: Person, nobody: Person, path: str) -> None:
    assert error(nobody.get(path)) == (401, "Not logged in")
    assert error(anna.get(path)) == (403, "Must be authenticated as an admin to use this endpoint.")
    assert ada.get(path).status_code == 200
    assert ada.http.head(path).status_code == 200


@pytest.mark.parametrize("path", PATHS)
def test_a_former_admin_is_refused(registry: Registry, path: str) -> None:
    eve = registry.make_person(new_name("eve"), is_admin=True)
    registry.sql("UPDATE account SET is_admin = false WHERE name = $1", eve.name)
    assert eve.get(path).status_code == 403


def test_user_lists_that_are_off_are_off_for_everybody(local_registry: Callable[..., Registry]) -> None:
    registry = local_registry(ENABLE_USER_ENDPOINTS="off")
    eve = registry.make_person("eve", is_admin=True)
    dead = Person(registry, "", "dead")
    for path in ("/api/users/list", "/api/users/list_detailed"):
        for person in (eve, registry.nobody(), dead):
            assert error(person.get(path)) == (400, "This endpoint is not enabled.")
    assert eve.get("/api/audit/eve/").status_code == 200
    assert eve.get("/api/admin/package_list/eve/").status_code == 200


# ------------------------------------------------------------------------------------------------ users


def test_all_accounts_are_listed(registry: Registry, ada: Person) -> None:
    eve = registry.make_person(new_name("eve"), is_admin=True)
    dan = registry.make_person(new_name("dan"), is_active=False)
    results = ada.get("/api/users/list").json()["results"]
    names = [each["username"] for each in results]
    assert names == sorted(names)
    users = {each["username"]: each for each in results}
    joined, login = users[eve.name].pop("date_joined"), users[eve.name].pop("last_login")
    for each in (joined, login):
        assert abs((datetime.now(UTC) - datetime.fromisoformat(each)).total_seconds()) < 60
        assert each.endswith("+00:00")
    email = f"{eve.name}@example.com"
    assert users[eve.name] == {"username": eve.name, "email": email, "is_superuser": True, "is_active": True}
    assert users[dan.name]["last_login"] is None
    assert (users[dan.name]["is_superuser"], users[dan.name]["is_active"]) == (False, False)


def detailed(ada: Person, name: str) -> Json:
    found: Json = ada.get("/api/users/list_detailed").json()["users"][name]
    return found


def test_actions_of_a_user_are_counted(registry: Registry, ada: Person) -> None:
    eve, deleted, kept = registry.make_person(new_name("eve")), new_name(), new_name()
    for name in (deleted, kept):
        top_hash = eve.push(name, {"a": b"1"})
    eve.push(kept, {"a": b"2"})
    eve.install(eve.name, kept, top_hash)
    for _ in range(2):
        eve.get(f"/api/package_preview/{eve.name}/{kept}/{top_hash}").raise_for_status()
    eve.delete(f"/api/package/{eve.name}/{deleted}/").raise_for_status()
    shown = detailed(ada, eve.name)
    seen = datetime.fromisoformat(shown.pop("last_seen"))
    assert abs((datetime.now(UTC) - seen).total_seconds()) < 60
    assert shown == {
        "packages": 1, "installs": 1, "previews": 2, "pushes": 3, "deletes": 1, "status": "active", "is_admin": False,
    }  # fmt: skip


def test_a_user_who_was_never_seen(registry: Registry, ada: Person) -> None:
    dan = registry.make_person(new_name("dan"), is_active=False, is_admin=True)
    httpx.post(registry.url + "/api/login", json={"username": dan.name, "password": "a guess"})
    assert detailed(ada, dan.name) == {
        "packages": 0, "installs": 0, "previews": 0, "pushes": 0, "deletes": 0, "status": "disabled",
        "last_seen": None, "is_admin": True,
    }  # fmt: skip


def test_sign_ins_and_later_actions_count_as_last_seen(registry: Registry, ada: Person) -> None:
    eve, name = registry.make_person(new_name("eve")), new_name()
    login = ada.get("/api/users/list").json()["results"]
    login = next(each["last_login"] for each in login if each["username"] == eve.name)
    seen = detailed(ada, eve.name)["last_seen"]
    assert datetime.fromisoformat(seen) >= datetime.fromisoformat(login)
    eve.push(name, {"a": b"1"})
    pushed = detailed(ada, eve.name)["last_seen"]
    eve.post(f"/api/comments/{eve.name}/{name}/", json={"contents": "x"}).raise_for_status()
    commented = detailed(ada, eve.name)["last_seen"]
    assert seen < pushed < commented


# ------------------------------------------------------------------------------------------------ packages


@pytest.mark.parametrize("slash", ["", "/"])
def test_an_admin_lists_packages_that_they_may_not_read(registry: Registry, ada: Person, slash: str) -> None:
    olga = registry.make_person(new_name("olga"))
    for name in ("b", "a", "c"):
        olga.push(name, {"x": b"1"})
    olga.grant("c", "team")
    listed = ada.get(f"/api/admin/package_list/{olga.name}{slash}").json()
    assert listed == {
        "packages": [
            {"name": "a", "is_public": False, "is_team": False},
            {"name": "b", "is_public": False, "is_team": False},
            {"name": "c", "is_public": False, "is_team": True},
        ]
    }
    assert [each["name"] for each in ada.get(f"/api/package/{olga.name}/").json()["packages"]] == ["c"]
    assert ada.get(f"/api/package/{olga.name}/a/").status_code == 404


def test_the_package_list_of_an_unknown_user_is_empty(ada: Person) -> None:
    assert ada.get("/api/admin/package_list/nobody_at_all/").json() == {"packages": []}


def summary(ada: Person) -> Json:
    found: Json = ada.get("/api/admin/package_summary").json()["packages"]
    return found


def test_events_of_packages_are_summed_up(anna: Person, ben: Person, ada: Person) -> None:
    name = new_name()
    top_hash = anna.push(name, {"a": b"1"}, tag="")
    anna.push(name, {"a": b"2"}, tag="")
    anna.grant(name, "ben")
    for person in (anna, ben):
        person.install("anna", name, top_hash)
    counts = summary(ada)[f"anna/{name}"]
    for kind in ("pushes", "installs"):
        assert abs(counts[kind].pop("latest") - time.time()) < 60
    assert counts == {
        "pushes": {"count": 2}, "installs": {"count": 2}, "previews": {"count": 0}, "deletes": {"count": 0},
    }  # fmt: skip


def test_deleted_packages_are_summed_up_by_name(anna: Person, ada: Person) -> None:
    name = new_name()

    def make_and_delete() -> None:
        top_hash = anna.push(name, {"a": b"1"})
        anna.get(f"/api/package_preview/anna/{name}/{top_hash}").raise_for_status()
        anna.delete(f"/api/package/anna/{name}/").raise_for_status()

    def counts() -> dict[str, int]:
        return {kind: each["count"] for kind, each in summary(ada)[f"anna/{name}"].items()}

    make_and_delete()
    assert counts() == {"pushes": 1, "installs": 0, "previews": 1, "deletes": 1}
    make_and_delete()
    assert counts() == {"pushes": 2, "installs": 0, "previews": 2, "deletes": 2}
    anna.push(name, {"a": b"1"})
    assert counts() == {"pushes": 1, "installs": 0, "previews": 0, "deletes": 0}
    make_and_delete()
    assert counts() == {"pushes": 4, "installs": 0, "previews": 3, "deletes": 3}


def test_a_registry_without_packages(local_registry: Callable[..., Registry]) -> None:
    registry = local_registry()
    eve = registry.make_person("eve", is_admin=True)
    assert eve.get("/api/admin/package_summary").json() == {"packages": {}}
    assert eve.get("/api/users/list_detailed").json()["users"].keys() == {"eve"}
