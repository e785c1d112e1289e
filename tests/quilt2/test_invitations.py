"""Sharing with email addresses, and the profile, which claims invitations (protocol §12, §14)."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.browsers import Browser, browser, sign_in, submit
from tests.mailbox import Email, Mailbox
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
    with signed_in(registry, fay.name) as client:
        assert f"anna shared anna/{name} with you." in client.get("/profile").text
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


# ------------------------------------------------------------------------------------------------ proof of the mailbox


@pytest.fixture
def invited(anna: Person, mailbox: Mailbox, name: str) -> Email:
    """The invitation of somebody without an account to Anna's package."""
    email = f"{new_name('guest')}@example.org"
    invite(anna, name, email).raise_for_status()
    return mailbox.wait(email, "anna shared")


def address(email: Email) -> str:
    return email.recipients[0]


def links(email: Email) -> dict[str, str]:
    """The links of an invitation, by the page that they lead to."""
    found = re.findall(r"^(https?://[^/]+(/signup|/package)\S*)$", email.text, re.MULTILINE)
    assert all(url in email.html for url, _ in found)
    assert all(re.fullmatch(r"\S+\?invitation=[A-Za-z0-9_-]{43}", url) for url, _ in found)
    return {page: url for url, page in found}


def sign_up(registry: Registry, email: str, client: Browser | None = None, **form: str) -> str:
    """Sign up on the page, in a browser that stays open or in another one. Return the username."""
    username = new_name("guest")
    form |= {"username": username, "email": email, "password": PASSWORD, "again": PASSWORD}
    (client or browser(registry)).submit("/signup", form).raise_for_status()
    return username


def activate(registry: Registry, mailbox: Mailbox, email: str, browser: httpx.Client | None = None) -> None:
    link = mailbox.wait(email, "Activate").link("activate")
    response = (browser or httpx).get(f"{registry.url}/activate/{link}")
    assert response.headers["location"].endswith("/signin")


@contextlib.contextmanager
def signed_in(registry: Registry, username: str) -> Iterator[Browser]:
    with browser(registry) as client:
        assert sign_in(client, username).status_code == 303
        yield client


@pytest.mark.parametrize("way", ["page", "API"])
def test_who_signs_up_with_an_invited_address_of_others_gets_nothing(
    registry: Registry, mailbox: Mailbox, invited: Email, name: str, way: str
) -> None:
    """The user of the mailbox, or a program that checks its email, opens the link that activates the account."""
    email = address(invited) if way == "page" else address(invited).upper()
    if way == "page":
        username = sign_up(registry, email, invitation="guessed")
    else:
        username = new_name("guest")
        body = {"username": username, "email": email, "password": PASSWORD}
        httpx.post(registry.url + "/api/register", json=body).raise_for_status()
    activate(registry, mailbox, email)
    thief = registry.sign_in(username)
    code = thief.get("/api/code").json()["code"]
    httpx.post(registry.url + "/api/token", data={"refresh_token": code}).raise_for_status()
    with signed_in(registry, username) as client:
        assert client.get(f"/package/anna/{name}").status_code == 404
        assert client.get(f"/package/anna/{name}?invitation=guessed").headers["location"] == f"/package/anna/{name}"
        assert client.get("/signup?invitation=guessed").headers["location"] == "/"
    assert shared_packages(thief) == my_invitations(thief) == []
    assert not may_read(thief, name)

    # A password that is chosen over a link from the mailbox is the proof, and ends what the thief has.
    httpx.post(registry.url + "/api/reset_password", json={"email": email}).raise_for_status()
    link = mailbox.wait(email, "Reset").link("reset_password")
    body = {"link": link, "password": "another password"}
    httpx.post(registry.url + "/api/change_password", json=body).raise_for_status()
    assert thief.get("/api/profile").status_code == 401
    token = httpx.post(registry.url + "/api/login", json={"username": username, "password": "another password"}).json()
    owner = Person(registry, username, token["token"])
    assert [row["name"] for row in shared_packages(owner)] == [name]


def test_from_the_link_of_an_invitation_to_the_package(
    registry: Registry, mailbox: Mailbox, invited: Email, name: str
) -> None:
    """The activation link may be opened in another browser."""
    page = httpx.get(links(invited)["/signup"]).text
    assert f'value="{address(invited)}"' in page
    secret = re.search(r'name="invitation" value="([^"]+)"', page)
    assert secret
    short = {"username": "x", "email": address(invited), "password": "x", "again": "x", "invitation": secret[1]}
    assert secret[0] in submit(registry, "/signup", short).text, "a mistake in the form loses nothing"
    username = sign_up(registry, address(invited), invitation=secret[1])
    activate(registry, mailbox, address(invited))
    with signed_in(registry, username) as client:
        assert client.get(f"/package/anna/{name}").status_code == 200


def test_signing_up_and_activating_in_one_browser_is_a_proof(
    registry: Registry, mailbox: Mailbox, invited: Email, name: str
) -> None:
    with browser(registry) as client:
        username = sign_up(registry, address(invited), client)
        activate(registry, mailbox, address(invited), client)
    assert [row["name"] for row in shared_packages(registry.sign_in(username))] == [name]


def test_the_user_of_the_mailbox_replaces_a_sign_up_of_others(
    registry: Registry, mailbox: Mailbox, invited: Email, name: str
) -> None:
    squatter = sign_up(registry, address(invited))
    first = mailbox.wait(address(invited), "Activate").link("activate")
    secret = links(invited)["/signup"].partition("=")[2]
    username = sign_up(registry, address(invited), invitation=secret)
    assert httpx.get(f"{registry.url}/activate/{first}").headers["location"].endswith("/activation_error")
    second = mailbox.wait(address(invited), "Activate", count=2).link("activate")
    assert httpx.get(f"{registry.url}/activate/{second}").headers["location"].endswith("/signin")
    assert [row["name"] for row in shared_packages(registry.sign_in(username))] == [name]
    assert not registry.sql("SELECT FROM account WHERE name = $1", squatter)


def test_another_address_with_the_secret_proves_nothing(
    registry: Registry, anna: Person, mailbox: Mailbox, invited: Email
) -> None:
    other, package = f"{new_name('other')}@example.org", new_name()
    anna.push(package, {"a": b"1"})
    invite(anna, package, other).raise_for_status()
    username = sign_up(registry, other, invitation=links(invited)["/signup"].partition("=")[2])
    activate(registry, mailbox, other)
    assert shared_packages(registry.sign_in(username)) == []


@pytest.mark.parametrize("page", ["/signup", "/package"])
def test_a_member_who_is_signed_in_opens_the_link(
    registry: Registry, invited: Email, eve: Person, carl: Person, name: str, page: str
) -> None:
    """Also a member with another email address: the link is the proof."""
    url = links(invited)[page]
    assert httpx.get(url).status_code in (200, 302)
    with signed_in(registry, eve.name) as client:
        for headers in ({"Sec-Purpose": "prefetch"}, {"Purpose": "prefetch"}):
            client.get(url, headers=headers)
        client.head(url)
        assert not may_read(eve, name), "what a browser does in advance accepts nothing"
        response = client.get(url)
        assert (response.status_code, response.headers["location"]) == (302, f"/package/anna/{name}")
        page = client.get(f"/package/anna/{name}")
        assert page.status_code == 200
        assert f"anna shared anna/{name} with you." in page.text
    events = registry.sql(
        "SELECT account, extra ->> 'email' AS email FROM event WHERE kind = 'INVITE_CLAIM' AND package = $1", name
    )
    assert [tuple(row) for row in events] == [(eve.name, address(invited))]
    with signed_in(registry, "carl") as client:
        client.get(url)
        assert client.get(f"/package/anna/{name}").status_code == 404, "a link works once"


def test_the_link_leads_past_the_sign_in(registry: Registry, carl: Person, invited: Email, name: str) -> None:
    with browser(registry) as client:
        first = client.get(links(invited)["/package"])
        target = parse_qs(urlsplit(first.headers["location"]).query)["next"][0]
        client.get(sign_in(client, "carl", next=target).headers["location"])
        assert client.get(f"/package/anna/{name}").status_code == 200


def test_without_anonymous_access_to_it_the_link_asks_to_sign_in(open_registry: Registry) -> None:
    page = httpx.get(open_registry.url + "/package/nobody/nothing?invitation=x")
    assert page.headers["location"].startswith("/signin?next=")


def test_a_member_invited_since_the_sign_in_opens_the_package(
    registry: Registry, anna: Person, fay: Person, name: str
) -> None:
    with signed_in(registry, fay.name) as client:
        assert client.get(f"/package/anna/{name}").status_code == 404
        invite(anna, name, email_of(fay)).raise_for_status()
        assert client.get(f"/package/anna/{name}", headers={"Sec-Purpose": "prefetch"}).status_code == 404
        page = client.get(f"/package/anna/{name}")
        assert page.status_code == 200
        assert f"anna shared anna/{name} with you." in page.text


def test_a_withdrawn_invitation_has_no_link(
    registry: Registry, anna: Person, eve: Person, invited: Email, name: str
) -> None:
    anna.delete(f"/api/access/anna/{name}/{address(invited)}").raise_for_status()
    with signed_in(registry, eve.name) as client:
        client.get(links(invited)["/package"])
    assert not may_read(eve, name)


def test_who_was_invited_after_the_activation_is_a_member_like_others(
    open_registry: Registry, mailbox: Mailbox
) -> None:
    """The protocol lets the profile claim it, because the address was not an invited one at the sign-up."""
    olga, username = open_registry.make_person(new_name("olga")), new_name("guest")
    olga.push("p", {"a": b"1"})
    email = f"{username}@example.org"
    body = {"username": username, "email": email, "password": PASSWORD}
    httpx.post(open_registry.url + "/api/register", json=body).raise_for_status()
    activate(open_registry, mailbox, email)
    guest = open_registry.sign_in(username)
    invite(olga, "p", email, olga.name).raise_for_status()
    assert [row["name"] for row in shared_packages(guest)] == ["p"]
