"""Sharing with email addresses, and the profile, which claims invitations (protocol §12, §14)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import httpx
import pytest

from tests.mailbox import Mailbox
from tests.registry import PASSWORD, Person, Registry, new_name


@pytest.fixture
def name(anna: Person) -> str:
    """A private package of Anna's."""
    name = new_name()
    anna.push(name, {"a": b"shared or not"})
    return name


@pytest.fixture
def fay(registry: Registry) -> Person:
    """A new user. Her email address has upper-case letters, to test that case is ignored."""
    name = new_name("fay")
    return registry.make_person(name, email=f"{name}@Example.org")


def email_of(person: Person) -> str:
    return f"{person.name}@example.org"


def invite(person: Person, name: str, email: str, owner: str = "anna") -> httpx.Response:
    return person.put(f"/api/access/{owner}/{name}/{email}")


def my_invitations(person: Person) -> list[Any]:
    response = person.get("/api/invite/")
    assert response.status_code == 200
    return list(response.json()["invitations"])


def shared_packages(person: Person) -> list[Any]:
    return list(person.get("/api/profile").json()["packages"]["shared"])


def may_read(person: Person, name: str) -> bool:
    return person.get(f"/api/package/anna/{name}/").status_code == 200


def test_an_invitation_becomes_access(anna: Person, fay: Person, mailbox: Mailbox, name: str) -> None:
    assert invite(anna, name, email_of(fay).upper()).json() == {}
    email = mailbox.wait(email_of(fay), "anna shared data")
    for part in (email.text, email.html):
        assert f"anna/{name}" in part
        assert f"{anna.registry.url}/signup" in part
    (row,) = my_invitations(fay)
    assert row.keys() == {"invitation_id", "owner", "package", "email", "invited_at"}
    assert (row["owner"], row["package"], row["email"]) == ("anna", name, email_of(fay))
    assert isinstance(row["invitation_id"], int)
    assert datetime.fromisoformat(row["invited_at"]).tzinfo
    assert row["invited_at"].endswith("+00:00")
    assert not may_read(fay, name)
    assert {"owner": "anna", "name": name, "is_public": False, "is_team": False} in shared_packages(fay)
    assert may_read(fay, name)
    assert my_invitations(fay) == []
    assert fay.name in anna.get(f"/api/access/anna/{name}/").json()["users"]


def test_signing_in_on_a_page_claims(registry: Registry, anna: Person, fay: Person, name: str) -> None:
    invite(anna, name, email_of(fay)).raise_for_status()
    form = {"username": fay.name, "password": PASSWORD, "next": "/"}
    assert httpx.post(registry.url + "/signin", data=form).status_code == 303
    assert may_read(fay, name)


def test_signing_a_client_in_claims(registry: Registry, anna: Person, fay: Person, name: str) -> None:
    code = fay.get("/api/code").json()["code"]
    invite(anna, name, email_of(fay)).raise_for_status()
    httpx.post(registry.url + "/api/token", data={"refresh_token": code}).raise_for_status()
    assert may_read(fay, name)


def test_repeated_invitations_count_once(anna: Person, fay: Person, mailbox: Mailbox, name: str) -> None:
    """Concurrent invitations of a user who already has access do not break that user's profile."""
    anna.grant(name, fay.name)
    with ThreadPoolExecutor(4) as pool:
        responses = list(pool.map(lambda _: invite(anna, name, email_of(fay)).status_code, range(4)))
    assert responses == [200] * 4
    assert len(my_invitations(fay)) == 1
    with ThreadPoolExecutor(4) as pool:
        responses = list(pool.map(lambda _: fay.get("/api/profile").status_code, range(4)))
    assert responses == [200] * 4
    assert my_invitations(fay) == []
    assert len([row for row in shared_packages(fay) if row["name"] == name]) == 1
    mailbox.wait(email_of(fay), "shared")


def test_an_invitation_whose_email_was_lost_is_sent_again(
    registry: Registry, anna: Person, fay: Person, mailbox: Mailbox, name: str
) -> None:
    invite(anna, name, email_of(fay)).raise_for_status()
    invite(anna, name, email_of(fay)).raise_for_status()
    mailbox.wait(email_of(fay), "shared")
    registry.sql(
        "UPDATE invitation SET invited_at = invited_at - interval '11 minutes' WHERE email = $1", email_of(fay)
    )
    invite(anna, name, email_of(fay)).raise_for_status()
    mailbox.wait(email_of(fay), "shared", count=2)
    assert len(my_invitations(fay)) == 1


def test_a_read_only_token_or_a_head_request_claims_nothing(anna: Person, fay: Person, name: str) -> None:
    invite(anna, name, email_of(fay)).raise_for_status()
    made = fay.post("/api/v1/tokens", json={"name": new_name("ci"), "read_only": True}).json()
    assert Person(fay.registry, fay.name, made["token"]).get("/api/profile").status_code == 200
    assert fay.http.head("/api/profile").status_code == 200
    assert not may_read(fay, name)


def test_taking_an_invitation_back(anna: Person, fay: Person, name: str) -> None:
    invite(anna, name, email_of(fay)).raise_for_status()
    path = f"/api/access/anna/{name}/{email_of(fay).upper()}"
    assert anna.delete(path).json() == {}
    assert my_invitations(fay) == []
    shared_packages(fay)
    assert not may_read(fay, name)
    response = anna.delete(path)
    assert (response.status_code, response.json()) == (404, {"message": f"Package anna/{name} does not exist"})


def test_only_the_owner_invites_and_takes_back(anna: Person, ben: Person, carl: Person, ada: Person, name: str) -> None:
    anna.grant(name, "ben")
    for person in (ben, carl, ada):
        assert invite(person, name, "x@example.org").status_code == 403
        assert person.delete(f"/api/access/anna/{name}/x@example.org").status_code == 403


def test_emails_are_shown_to_the_owner_only(anna: Person, ben: Person, carl: Person, ada: Person, name: str) -> None:
    anna.grant(name, "ben")
    invite(anna, name, "secret@example.org").raise_for_status()
    path = f"/api/invite/anna/{name}/"
    assert [row["email"] for row in anna.get(path).json()["invitations"]] == ["secret@example.org"]
    assert "secret" not in ben.get(path).text
    for person in (carl, ada):
        assert person.get(path).status_code == 404


def test_without_a_token_there_are_no_invitations(open_registry: Registry) -> None:
    olga = open_registry.make_person(new_name("olga"))
    olga.push("p", {"a": b"1"}, is_public=True)
    for path in ("/api/invite/", f"/api/invite/{olga.name}/p/", "/api/profile"):
        assert open_registry.nobody().get(path).status_code == 401


@pytest.mark.parametrize(
    "email",
    ["@", "a@", "@b", "a%20b@c", "a@b@c", "a@b%0ABcc:%20x@y", "a,b@c.org", "<a@b>", "x" * 250 + "@b.org", "é@b"],
)
def test_an_invalid_email_is_refused(anna: Person, name: str, email: str) -> None:
    response = invite(anna, name, email)
    assert (response.status_code, response.json()) == (400, {"message": "Invalid email."})
    assert anna.get(f"/api/invite/anna/{name}/").json() == {"invitations": []}


def test_deleting_a_package_withdraws_its_invitations(anna: Person, fay: Person, name: str) -> None:
    invite(anna, name, email_of(fay)).raise_for_status()
    anna.delete(f"/api/package/anna/{name}/").raise_for_status()
    assert my_invitations(fay) == []
    anna.push(name, {"b": b"another package of that name"})
    shared_packages(fay)
    assert not may_read(fay, name)


def test_an_invited_email_adds_no_headers(anna: Person, fay: Person, mailbox: Mailbox, name: str) -> None:
    """User input reaches the headers of an email only after validation."""
    invite(anna, name, email_of(fay)).raise_for_status()
    message = mailbox.wait(email_of(fay)).message
    assert message["To"] == email_of(fay)
    assert message.get_all("Bcc") is None
    assert message["Auto-Submitted"] == "auto-generated"


def test_the_profile(registry: Registry, anna: Person, ada: Person, fay: Person) -> None:
    first, second, theirs, team = (new_name(each) for each in ("B", "a", "theirs", "team"))
    fay.push(first, {"a": b"1"})
    fay.push(second, {"a": b"1"}, is_team=True)
    anna.push(theirs, {"a": b"1"})
    anna.push(team, {"a": b"1"}, is_team=True)
    anna.grant(theirs, fay.name)
    response = fay.get("/api/profile").json()
    assert response == {
        "packages": {
            "own": [
                {"owner": fay.name, "name": second, "is_public": False, "is_team": True},
                {"owner": fay.name, "name": first, "is_public": False, "is_team": False},
            ],
            "shared": [{"owner": "anna", "name": theirs, "is_public": False, "is_team": False}],
        },
        "is_admin": False,
        "plan": None,
        "have_credit_card": None,
    }
    assert ada.get("/api/profile").json()["is_admin"] is True


def test_sharing_is_in_the_audit(registry: Registry, anna: Person, fay: Person, name: str) -> None:
    anna.grant(name, "team")
    anna.delete(f"/api/access/anna/{name}/team").raise_for_status()
    for email in (email_of(fay), "other@example.org"):
        invite(anna, name, email).raise_for_status()
    anna.delete(f"/api/access/anna/{name}/other@example.org").raise_for_status()
    fay.get("/api/profile").raise_for_status()
    rows = registry.sql(
        "SELECT kind, account, subject, extra ->> 'email' AS email FROM event WHERE package = $1 ORDER BY id", name
    )
    assert [tuple(row) for row in rows if row["kind"] not in ("PUSH", "TAG_SET")] == [
        ("ACCESS_GRANT", "anna", "team", None),
        ("ACCESS_REVOKE", "anna", "team", None),
        ("INVITE", "anna", None, email_of(fay)),
        ("INVITE", "anna", None, "other@example.org"),
        ("INVITE_CANCEL", "anna", None, "other@example.org"),
        ("INVITE_CLAIM", fay.name, None, None),
    ]
