"""Access lists: users, the team and the public (protocol §14)."""

from __future__ import annotations

import httpx
import pytest

from tests.registry import Person, Registry, download, new_name


@pytest.fixture
def name(anna: Person) -> str:
    """A private package of Anna's."""
    name = new_name()
    anna.push(name, {"a": b"shared or not"})
    return name


@pytest.fixture(scope="module")
def olga(open_registry: Registry) -> Person:
    """A package owner in open mode."""
    return open_registry.make_person(new_name("olga"))


def error(response: httpx.Response) -> tuple[int, str]:
    """Return the status and the message of an error response."""
    assert response.json().keys() == {"message"}
    return response.status_code, response.json()["message"]


def path(name: str, user: str = "", owner: str = "anna") -> str:
    return f"/api/access/{owner}/{name}/{user}"


def may_read(person: Person, name: str, owner: str = "anna") -> bool:
    return person.get(f"/api/package/{owner}/{name}/").status_code == 200


def test_sharing_and_taking_back(anna: Person, ben: Person, carl: Person, name: str) -> None:
    assert not may_read(ben, name)
    assert anna.put(path(name, "ben")).json() == {}
    assert may_read(ben, name)
    assert not may_read(carl, name)
    assert anna.get(path(name, "ben")).json() == {}
    assert anna.delete(path(name, "ben")).json() == {}
    assert not may_read(ben, name)


def test_sharing_with_the_team(anna: Person, carl: Person, nobody: Person, name: str) -> None:
    anna.grant(name, "team")
    assert may_read(carl, name)
    assert nobody.get(f"/api/package/anna/{name}/").status_code == 401
    anna.delete(path(name, "team")).raise_for_status()
    assert not may_read(carl, name)


def test_sharing_with_the_public(open_registry: Registry, olga: Person) -> None:
    name, nobody = new_name(), open_registry.nobody()
    top_hash = olga.push(name, {"a": b"for everybody"})
    assert not may_read(nobody, name, olga.name)
    olga.grant(name, "public")
    nobody.install(olga.name, name, top_hash)
    olga.delete(path(name, "public", olga.name)).raise_for_status()
    assert not may_read(nobody, name, olga.name)


def test_the_list_has_the_owner_and_everybody(anna: Person, ben: Person, name: str) -> None:
    anna.grant(name, "ben")
    anna.grant(name, "team")
    for person in (anna, ben):
        assert sorted(person.get(path(name)).json()["users"]) == ["anna", "ben", "team"]


def test_the_list_takes_a_token_even_of_a_public_package(open_registry: Registry, olga: Person) -> None:
    name = new_name()
    olga.push(name, {"a": b"1"}, is_public=True)
    assert open_registry.nobody().get(path(name, owner=olga.name)).status_code == 401


def test_a_stranger_sees_no_list(anna: Person, carl: Person, name: str) -> None:
    assert error(carl.get(path(name))) == (404, f"Package anna/{name} does not exist")


@pytest.mark.parametrize("twice", ["ben", "team", "anna"])
def test_granting_access_twice_is_a_conflict(anna: Person, ben: Person, name: str, twice: str) -> None:
    if twice != "anna":
        anna.grant(name, twice)
    assert error(anna.put(path(name, twice))) == (409, "The user already has access")


def test_a_switch_that_is_off(anna: Person, olga: Person, name: str) -> None:
    assert error(anna.put(path(name, "public"))) == (403, "Public access not allowed")
    olga.push(name, {"a": b"1"})
    assert error(olga.put(path(name, "team", olga.name))) == (403, "Team access not allowed")


@pytest.mark.parametrize("user", ["nobody_at_all", "quilt"])
def test_an_unknown_user(anna: Person, name: str, user: str) -> None:
    assert error(anna.put(path(name, user))) == (404, f"User {user} does not exist")


@pytest.mark.parametrize("user", ["Ben", "1", "b-n", "b n", "ben%0a", "b" * 65, "%C3%A9"])
def test_an_invalid_username_is_refused(anna: Person, ben: Person, name: str, user: str) -> None:
    for method in ("PUT", "GET", "DELETE"):
        status, message = error(anna.http.request(method, path(name, user)))
        assert (status, message[:22]) == (400, "Username is not valid.")
    assert anna.get(path(name)).json()["users"] == ["anna"]


def test_an_inactive_user_can_be_granted(registry: Registry, anna: Person, name: str) -> None:
    dan = registry.make_person(new_name("dan"), is_active=False)
    assert anna.put(path(name, dan.name)).status_code == 200


@pytest.mark.parametrize(
    ("method", "what"), [("PUT", "grant access"), ("GET", "view access"), ("DELETE", "revoke access")]
)
def test_only_the_owner_may_and_others_learn_nothing(
    anna: Person, ben: Person, carl: Person, ada: Person, name: str, method: str, what: str
) -> None:
    anna.grant(name, "ben")
    for person in (ben, carl, ada):
        for package in (name, "nothing_here"):
            response = person.http.request(method, path(package, "ben"))
            assert error(response) == (403, f"Only the package owner can {what}")


@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE"])
def test_a_package_that_is_not_there(anna: Person, ben: Person, method: str) -> None:
    response = anna.http.request(method, path("nothing_here", "ben"))
    assert error(response) == (404, "Package anna/nothing_here does not exist")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("user", ["carl", "team", "nobody_at_all"])
def test_a_grantee_without_access_is_not_found(anna: Person, carl: Person, name: str, method: str, user: str) -> None:
    response = anna.http.request(method, path(name, user))
    assert error(response) == (404, f"Package anna/{name} does not exist")


def test_the_owner_keeps_access(anna: Person, name: str) -> None:
    assert error(anna.delete(path(name, "anna"))) == (403, "Cannot revoke the owner's access")
    assert may_read(anna, name)


def test_presigned_urls_stay_valid_after_access_is_revoked(anna: Person, ben: Person, name: str) -> None:
    top_hash = anna.get(f"/api/tag/anna/{name}/latest").json()["hash"]
    anna.grant(name, "ben")
    (url,) = ben.install("anna", name, top_hash)["urls"].values()
    anna.delete(path(name, "ben")).raise_for_status()
    assert download(url, len(b"shared or not")) == b"shared or not"
