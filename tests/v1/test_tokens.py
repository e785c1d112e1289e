"""Personal access tokens: expiry, read-only scope, listing and revocation."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests import trees
from tests.registry import Person, Registry, new_name


def create_token(person: Person, **body: Any) -> httpx.Response:
    return person.post("/api/v1/tokens", json={"name": "ci", **body})


def with_token(person: Person, **body: Any) -> Person:
    """Return the same user, signed in with a new personal token."""
    return Person(person.registry, person.name, create_token(person, **body).raise_for_status().json()["token"])


def list_tokens(person: Person) -> list[Any]:
    return list(person.get("/api/v1/tokens").raise_for_status().json()["tokens"])


def test_a_token_works_and_is_shown_once(registry: Registry, eve: Person) -> None:
    response = create_token(eve, days=7).json()
    assert response.keys() == {"id", "name", "token", "read_only", "expires"}
    ends = datetime.fromisoformat(response["expires"]) - datetime.now(UTC)
    assert timedelta(days=6, hours=23) < ends <= timedelta(days=7)
    machine = Person(registry, eve.name, response["token"])
    machine.push("p", {"a": b"1"})
    assert machine.get("/api/me").json()["current_user"] == eve.name
    assert response["token"] not in eve.get("/api/v1/tokens").text
    rows = registry.sql("SELECT digest FROM token WHERE id = $1", response["id"])
    assert len(rows[0]["digest"]) == 32


def test_the_list_has_tokens_and_sign_ins(registry: Registry, eve: Person) -> None:
    made = create_token(eve).json()
    tokens = list_tokens(eve)
    assert [token["name"] for token in tokens] == ["ci", None]
    assert [token["current"] for token in tokens] == [False, True]
    assert tokens[0] == {
        "id": made["id"], "name": "ci", "read_only": False, "created": tokens[0]["created"], "last_used": None,
        "expires": made["expires"], "current": False,
    }  # fmt: skip
    Person(registry, eve.name, made["token"]).get("/api/me").raise_for_status()
    used = datetime.fromisoformat(list_tokens(eve)[0]["last_used"])
    assert abs(datetime.now(UTC) - used) < timedelta(minutes=1)


def test_revoking(eve: Person) -> None:
    machine = with_token(eve)
    (token_id,) = (token["id"] for token in list_tokens(eve) if token["name"] == "ci")
    assert eve.delete(f"/api/v1/tokens/{token_id}").json() == {}
    assert machine.get("/api/me").status_code == 401
    assert eve.delete(f"/api/v1/tokens/{token_id}").status_code == 404


def test_ending_a_sign_in_elsewhere(registry: Registry, eve: Person) -> None:
    elsewhere = registry.sign_in(eve.name)
    (other,) = (token["id"] for token in list_tokens(eve) if not token["current"])
    eve.delete(f"/api/v1/tokens/{other}").raise_for_status()
    assert elsewhere.get("/api/me").status_code == 401
    assert eve.get("/api/me").status_code == 200


@pytest.mark.parametrize("token_id", ["0", "x", "-1", "1e3", "9" * 30, "%00", "٣"])
def test_a_token_that_is_not_there(eve: Person, token_id: str) -> None:
    assert eve.delete(f"/api/v1/tokens/{token_id}").status_code in (400, 404)


def test_users_neither_revoke_nor_see_tokens_of_others(eve: Person, carl: Person, ada: Person) -> None:
    token_id = create_token(eve).json()["id"]
    for person in (carl, ada):
        assert person.delete(f"/api/v1/tokens/{token_id}").status_code == 404
        assert token_id not in [token["id"] for token in list_tokens(person)]


def test_an_expired_token_is_dead(registry: Registry, eve: Person) -> None:
    machine = with_token(eve)
    registry.sql("UPDATE token SET expires_at = now() WHERE id = $1", list_tokens(eve)[0]["id"])
    assert machine.get("/api/me").status_code == 401
    assert create_token(eve).status_code == 200, "the name of an expired token can be used again"


# ------------------------------------------------------------------------------------------------ restricted rights


def test_a_token_that_only_reads(eve: Person, anna: Person) -> None:
    top_hash = eve.push("p", {"a": b"1"})
    reader = with_token(eve, read_only=True)
    reader.install(eve.name, "p", top_hash)
    assert reader.post("/api/get_objects", json=[trees.sha(b"1")]).json()["urls"]
    assert reader.get("/api/search/", params={"q": "p"}).status_code == 200
    forbidden = [
        reader.send_push(eve.name, "p", trees.tree({"b": b"2"}), dry_run=True),
        reader.put(f"/api/tag/{eve.name}/p/x", json={"hash": top_hash}),
        reader.put(f"/api/version/{eve.name}/p/1.0", json={"hash": top_hash}),
        reader.put(f"/api/access/{eve.name}/p/anna"),
        reader.delete(f"/api/package/{eve.name}/p/"),
        reader.post("/api/v1/tokens", json={"name": "more"}),
        reader.post("/api/logout"),
    ]
    assert {response.status_code for response in forbidden} == {403}
    assert "read-only" in forbidden[0].json()["message"]


def test_a_personal_token_ends_only_itself(registry: Registry, eve: Person) -> None:
    machine = with_token(eve)
    tokens = {token["current"]: token["id"] for token in list_tokens(machine)}
    assert machine.delete(f"/api/v1/tokens/{tokens[False]}").status_code == 403
    assert machine.delete(f"/api/v1/tokens/{tokens[True]}").status_code == 200
    assert machine.get("/api/me").status_code == 401


@pytest.mark.parametrize("read_only", [True, False])
def test_a_personal_token_cannot_become_a_session(registry: Registry, eve: Person, read_only: bool) -> None:
    """Otherwise a token could outlive its expiry date or exceed its scope."""
    machine = with_token(eve, read_only=read_only)
    assert machine.get("/api/code").status_code == 403
    assert machine.post("/api/refresh").status_code == 403
    assert create_token(machine, name="child").status_code == 403
    assert httpx.post(registry.url + "/api/token", data={"refresh_token": machine.token}).status_code == 401
    page = httpx.get(registry.url + "/", cookies={"quilt_session": str(machine.token)})
    assert page.status_code == 302, "it is no browser session either"
    assert machine.get("/api/me").status_code == 200, "the token itself stays valid"


def test_a_new_password_ends_personal_tokens(registry: Registry, ada: Person, eve: Person) -> None:
    machine = with_token(eve)
    ada.post("/api/users/reset_password", json={"username": eve.name}).raise_for_status()
    assert machine.get("/api/me").status_code == 401


def test_tokens_of_a_disabled_user_are_refused(ada: Person, eve: Person) -> None:
    machine = with_token(eve)
    ada.post("/api/users/disable", json={"username": eve.name}).raise_for_status()
    assert machine.get("/api/me").status_code == 401


# ------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    "body",
    [
        {"name": ""}, {"name": " x"}, {"name": "x" * 65}, {"name": "a\nb"}, {"name": "a\0"}, {"name": "\u202e"},
        {"name": 1}, {"days": 0}, {"days": 366}, {"days": -1}, {"days": 1.5}, {"days": True}, {"days": 2**70},
        {"read_only": "yes"}, {"more": 1}, {"name": None},
    ],
)  # fmt: skip
def test_a_token_that_cannot_be_made(eve: Person, body: dict[str, Any]) -> None:
    response = create_token(eve, **body)
    assert response.status_code == 400
    assert response.json().keys() >= {"message"}
    assert [token["name"] for token in list_tokens(eve)] == [None]


def test_a_name_twice(eve: Person, carl: Person) -> None:
    create_token(eve, name="twice").raise_for_status()
    assert create_token(eve, name="twice").status_code == 409
    name = new_name("other")
    create_token(eve, name=name).raise_for_status()
    assert create_token(carl, name=name).status_code == 200, "token names are unique only within an account"


def test_the_number_of_tokens_is_limited(eve: Person) -> None:
    for i in range(50):
        create_token(eve, name=f"t{i}").raise_for_status()
    response = create_token(eve, name="one more")
    assert response.status_code == 409
    assert "50" in response.json()["message"]


def test_tokens_are_in_the_audit(registry: Registry, eve: Person) -> None:
    token_id = create_token(eve).json()["id"]
    eve.delete(f"/api/v1/tokens/{token_id}").raise_for_status()
    rows = registry.sql("SELECT kind, extra ->> 'name' AS name FROM event WHERE account = $1 ORDER BY id", eve.name)
    assert [tuple(row) for row in rows if row["kind"].startswith("TOKEN")] == [
        ("TOKEN_CREATE", "ci"),
        ("TOKEN_REVOKE", "ci"),
    ]
