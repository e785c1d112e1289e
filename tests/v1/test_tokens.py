"""Personal tokens, for machines: named, ending, perhaps only reading, listed and revoked by their owner."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests import trees
from tests.registry import Person, Registry, new_name


def make(person: Person, **body: Any) -> httpx.Response:
    return person.post("/api/v1/tokens", json={"name": "ci", **body})


def with_token(person: Person, **body: Any) -> Person:
    """The same person, as a machine that has a personal token."""
    return Person(person.registry, person.name, make(person, **body).raise_for_status().json()["token"])


def listed(person: Person) -> list[Any]:
    return list(person.get("/api/v1/tokens").raise_for_status().json()["tokens"])


def test_a_token_works_and_is_shown_once(registry: Registry, eve: Person) -> None:
    answer = make(eve, days=7).json()
    assert answer.keys() == {"id", "name", "token", "read_only", "expires"}
    ends = datetime.fromisoformat(answer["expires"]) - datetime.now(UTC)
    assert timedelta(days=6, hours=23) < ends <= timedelta(days=7)
    machine = Person(registry, eve.name, answer["token"])
    machine.push("p", {"a": b"1"})
    assert machine.get("/api/me").json()["current_user"] == eve.name
    assert answer["token"] not in eve.get("/api/v1/tokens").text
    rows = registry.sql("SELECT digest FROM token WHERE id = $1", answer["id"])
    assert len(rows[0]["digest"]) == 32


def test_the_list_has_tokens_and_sign_ins(registry: Registry, eve: Person) -> None:
    made = make(eve).json()
    tokens = listed(eve)
    assert [token["name"] for token in tokens] == ["ci", None]
    assert [token["current"] for token in tokens] == [False, True]
    assert tokens[0] == {
        "id": made["id"], "name": "ci", "read_only": False, "created": tokens[0]["created"], "last_used": None,
        "expires": made["expires"], "current": False,
    }  # fmt: skip
    Person(registry, eve.name, made["token"]).get("/api/me").raise_for_status()
    used = datetime.fromisoformat(listed(eve)[0]["last_used"])
    assert abs(datetime.now(UTC) - used) < timedelta(minutes=1)


def test_revoking(eve: Person) -> None:
    machine = with_token(eve)
    (token_id,) = (token["id"] for token in listed(eve) if token["name"] == "ci")
    assert eve.delete(f"/api/v1/tokens/{token_id}").json() == {}
    assert machine.get("/api/me").status_code == 401
    assert eve.delete(f"/api/v1/tokens/{token_id}").status_code == 404


def test_ending_a_sign_in_elsewhere(registry: Registry, eve: Person) -> None:
    elsewhere = registry.sign_in(eve.name)
    (other,) = (token["id"] for token in listed(eve) if not token["current"])
    eve.delete(f"/api/v1/tokens/{other}").raise_for_status()
    assert elsewhere.get("/api/me").status_code == 401
    assert eve.get("/api/me").status_code == 200


@pytest.mark.parametrize("token_id", ["0", "x", "-1", "1e3", "9" * 30, "%00", "٣"])
def test_a_token_that_is_not_there(eve: Person, token_id: str) -> None:
    assert eve.delete(f"/api/v1/tokens/{token_id}").status_code in (400, 404)


def test_nobody_revokes_or_sees_anothers(eve: Person, carl: Person, ada: Person) -> None:
    token_id = make(eve).json()["id"]
    for person in (carl, ada):
        assert person.delete(f"/api/v1/tokens/{token_id}").status_code == 404
        assert token_id not in [token["id"] for token in listed(person)]


def test_an_expired_token_is_dead(registry: Registry, eve: Person) -> None:
    machine = with_token(eve)
    registry.sql("UPDATE token SET expires_at = now() WHERE id = $1", listed(eve)[0]["id"])
    assert machine.get("/api/me").status_code == 401
    assert make(eve).status_code == 200, "its name is free again"


# ------------------------------------------------------------------------------------------------ fewer rights


def test_a_token_that_only_reads(eve: Person, anna: Person) -> None:
    top_hash = eve.push("p", {"a": b"1"})
    reader = with_token(eve, read_only=True)
    reader.install(eve.name, "p", top_hash)
    assert reader.post("/api/get_objects", json=[trees.sha(b"1")]).json()["urls"]
    assert reader.get("/api/search/", params={"q": "p"}).status_code == 200
    refused = [
        reader.send_push(eve.name, "p", trees.tree({"b": b"2"}), dry_run=True),
        reader.put(f"/api/tag/{eve.name}/p/x", json={"hash": top_hash}),
        reader.put(f"/api/version/{eve.name}/p/1.0", json={"hash": top_hash}),
        reader.put(f"/api/access/{eve.name}/p/anna"),
        reader.delete(f"/api/package/{eve.name}/p/"),
        reader.post("/api/v1/tokens", json={"name": "more"}),
        reader.post("/api/logout"),
    ]
    assert {answer.status_code for answer in refused} == {403}
    assert "read-only" in refused[0].json()["message"]


def test_a_personal_token_ends_only_itself(registry: Registry, eve: Person) -> None:
    machine = with_token(eve)
    tokens = {token["current"]: token["id"] for token in listed(machine)}
    assert machine.delete(f"/api/v1/tokens/{tokens[False]}").status_code == 403
    assert machine.delete(f"/api/v1/tokens/{tokens[True]}").status_code == 200
    assert machine.get("/api/me").status_code == 401


@pytest.mark.parametrize("read_only", [True, False])
def test_a_personal_token_becomes_no_sign_in(registry: Registry, eve: Person, read_only: bool) -> None:
    """It ends when it was said to end, and can do no more than was said."""
    machine = with_token(eve, read_only=read_only)
    assert machine.get("/api/code").status_code == 403
    assert machine.post("/api/refresh").status_code == 403
    assert make(machine, name="child").status_code == 403
    assert httpx.post(registry.url + "/api/token", data={"refresh_token": machine.token}).status_code == 401
    page = httpx.get(registry.url + "/", cookies={"quilt_session": str(machine.token)})
    assert page.status_code == 302, "nor is it one in a browser"
    assert machine.get("/api/me").status_code == 200, "and none of this ends it"


def test_a_new_password_ends_personal_tokens(registry: Registry, ada: Person, eve: Person) -> None:
    machine = with_token(eve)
    ada.post("/api/users/reset_password", json={"username": eve.name}).raise_for_status()
    assert machine.get("/api/me").status_code == 401


def test_tokens_of_somebody_disabled(ada: Person, eve: Person) -> None:
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
    answer = make(eve, **body)
    assert answer.status_code == 400
    assert answer.json().keys() >= {"message"}
    assert [token["name"] for token in listed(eve)] == [None]


def test_a_name_twice(eve: Person, carl: Person) -> None:
    make(eve, name="twice").raise_for_status()
    assert make(eve, name="twice").status_code == 409
    name = new_name("other")
    make(eve, name=name).raise_for_status()
    assert make(carl, name=name).status_code == 200, "names are one's own"


def test_there_is_an_end_to_tokens(eve: Person) -> None:
    for i in range(50):
        make(eve, name=f"t{i}").raise_for_status()
    answer = make(eve, name="one more")
    assert answer.status_code == 409
    assert "50" in answer.json()["message"]


def test_the_audit_tells_of_tokens(registry: Registry, eve: Person) -> None:
    token_id = make(eve).json()["id"]
    eve.delete(f"/api/v1/tokens/{token_id}").raise_for_status()
    rows = registry.sql("SELECT kind, extra ->> 'name' AS name FROM event WHERE account = $1 ORDER BY id", eve.name)
    assert [tuple(row) for row in rows if row["kind"].startswith("TOKEN")] == [
        ("TOKEN_CREATE", "ci"),
        ("TOKEN_REVOKE", "ci"),
    ]
