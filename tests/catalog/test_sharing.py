"""The sharing page, which is also a dialog."""

from __future__ import annotations

import re

import pytest

from tests.browsers import Browser, browser, sign_in
from tests.mailbox import Mailbox
from tests.registry import Person, Registry, new_name

PART = {"HX-Request": "true"}


@pytest.fixture
def name(anna: Person, ben: Person) -> str:
    name = new_name()
    anna.push(name, {"a": b"1"})
    anna.grant(name, ben.name)
    return name


def path_of(name: str) -> str:
    return f"/package/anna/{name}/sharing"


def grantees(anna: Person, name: str) -> list[str]:
    return [*anna.get(f"/api/access/anna/{name}").json()["users"]]


def problem(page: str) -> str:
    found = re.search('id="who-problem">([^<]+)', page)
    assert found
    return found[1]


def test_the_owner_sees_who_has_access(annas_browser: Browser, name: str) -> None:
    page = annas_browser.get(path_of(name))
    assert page.status_code == 200
    assert "Only you and the people below can read this package." in page.text
    assert 'href="/user/ben"' in page.text
    assert "can read since" in page.text


def test_the_dialog_is_the_same_without_the_rest_of_the_page(annas_browser: Browser, name: str) -> None:
    part = annas_browser.get(path_of(name), headers=PART)
    assert "HX-Request" in part.headers["vary"]
    assert "<html" not in part.text
    assert 'href="/user/ben"' in part.text


@pytest.mark.parametrize("headers", [{}, PART], ids=["page", "dialog"])
def test_a_user_gets_access_at_once(
    annas_browser: Browser, carl: Person, anna: Person, name: str, headers: dict[str, str]
) -> None:
    response = annas_browser.submit(path_of(name), {"who": " carl "}, headers=headers)
    assert response.headers["location"] == path_of(name)
    assert "carl can read this package now." in annas_browser.get(path_of(name), headers=headers).text
    assert grantees(anna, name) == ["anna", "ben", "carl"]
    assert carl.get(f"/api/package/anna/{name}/").status_code == 200


def test_the_email_address_of_a_member_stands_for_the_member(
    annas_browser: Browser, carl: Person, anna: Person, name: str
) -> None:
    assert annas_browser.submit(path_of(name), {"who": "Carl@Example.com"}).status_code == 303
    assert carl.name in grantees(anna, name)


@pytest.mark.parametrize(
    ("who", "status", "expected"),
    [
        ("", 422, "Username is not valid"),
        ("nobody_here", 422, "User nobody_here does not exist"),
        ("ben", 409, "already has access"),
        ("team", 422, "reserved name"),
        ("anna", 422, "yours already"),
        ("anna@example.com", 422, "yours already"),
        ("x@", 422, "Invalid email"),
    ],
)
def test_what_is_rejected_stays_in_the_field(
    annas_browser: Browser, name: str, who: str, status: int, expected: str
) -> None:
    page = annas_browser.submit(path_of(name), {"who": who})
    part = annas_browser.submit(path_of(name), {"who": who}, headers=PART)
    assert page.status_code == status
    assert part.status_code == 422
    for each in (page, part):
        assert expected in problem(each.text)
        assert f'value="{who}"' in each.text
        assert 'href="#who"' in each.text


def test_others_are_invited_by_email(annas_browser: Browser, anna: Person, name: str, mailbox: Mailbox) -> None:
    email = f"{name}@elsewhere.example"
    assert annas_browser.submit(path_of(name), {"who": email}).status_code == 303
    assert email in annas_browser.get(path_of(name)).text
    mailbox.wait(email)
    assert "already invited" in problem(annas_browser.submit(path_of(name), {"who": email}).text)
    resent = annas_browser.submit(f"{path_of(name)}/{email}/resend")
    assert "less than 10 minutes ago" in annas_browser.get(resent.headers["location"]).text
    path = f"{path_of(name)}/{email}/remove"
    assert "Cancel the invitation" in annas_browser.get(path).text
    assert annas_browser.submit(path).status_code == 303
    assert email not in annas_browser.get(path_of(name)).text.partition("<main")[2].partition('class="plain people"')[2]
    assert annas_browser.get(path).status_code == 404
    assert grantees(anna, name) == ["anna", "ben"]


def test_an_old_invitation_is_sent_again(
    registry: Registry, annas_browser: Browser, name: str, mailbox: Mailbox
) -> None:
    email = f"{name}@elsewhere.example"
    annas_browser.submit(path_of(name), {"who": email})
    mailbox.wait(email)
    registry.sql("UPDATE invitation SET invited_at = now() - interval '1 hour' WHERE email = $1", email)
    resent = annas_browser.submit(f"{path_of(name)}/{email}/resend")
    assert "again" in annas_browser.get(resent.headers["location"]).text
    mailbox.wait(email, count=2)


def test_removing_a_user_asks_first(annas_browser: Browser, ben: Person, anna: Person, name: str) -> None:
    path = f"{path_of(name)}/ben/remove"
    assert "Remove ben from" in annas_browser.get(path).text
    assert grantees(anna, name) == ["anna", "ben"]
    assert annas_browser.submit(path).status_code == 303
    assert grantees(anna, name) == ["anna"]
    assert ben.get(f"/api/package/anna/{name}/").status_code == 404
    assert annas_browser.get(path).status_code == 404
    assert annas_browser.get(f"{path_of(name)}/anna/remove").status_code == 403


def test_sharing_with_the_team_tells_that_members_push(annas_browser: Browser, anna: Person, name: str) -> None:
    assert "could read it <strong>and push new versions</strong>" in annas_browser.get(path_of(name)).text
    assert "push new versions" in annas_browser.get(f"{path_of(name)}/team/add").text
    assert annas_browser.submit(f"{path_of(name)}/team/add").status_code == 303
    assert "team" in grantees(anna, name)
    page = annas_browser.get(path_of(name)).text
    assert "can read this package <strong>and push new versions</strong>" in page
    assert "Stop sharing with the team" in annas_browser.get(f"{path_of(name)}/team/remove").text
    assert annas_browser.submit(f"{path_of(name)}/team/remove").status_code == 303
    assert "team" not in grantees(anna, name)


def test_nothing_is_public_in_team_mode(annas_browser: Browser, name: str) -> None:
    assert "Make public" not in annas_browser.get(path_of(name)).text
    assert annas_browser.get(f"{path_of(name)}/public/add").status_code == 403
    assert annas_browser.submit(f"{path_of(name)}/public/add").status_code == 403
    assert annas_browser.get(f"{path_of(name)}/carl/add").status_code == 404


def test_in_open_mode_packages_become_public(open_registry: Registry) -> None:
    olga = open_registry.make_person(new_name("olga"))
    guest = open_registry.make_person(new_name("guest"))
    olga.push("p", {"a": b"1"})
    path = f"/package/{olga.name}/p/sharing"
    with browser(open_registry) as client, browser(open_registry) as visitor:
        sign_in(client, olga.name)
        assert "Make public" in client.get(path).text
        assert f"{olga.name}/p" in client.get(f"{path}/public/add").text
        assert client.submit(f"{path}/public/add").status_code == 303
        assert visitor.get(f"/package/{olga.name}/p").status_code == 200
        assert client.submit(f"{path}/public/remove").status_code == 303
        assert visitor.get(f"/package/{olga.name}/p").status_code == 404
        # Who has an account is not revealed.
        assert client.submit(path, {"who": f"{guest.name}@example.com"}).status_code == 303
        assert "We have sent an invitation" in client.get(path).text


def test_names_are_suggested(annas_browser: Browser, bens_browser: Browser, carl: Person, name: str) -> None:
    assert f'value="{carl.name}"' in annas_browser.get(f"{path_of(name)}/suggestions", params={"who": "ca"}).text
    assert annas_browser.get(f"{path_of(name)}/suggestions", params={"who": ""}).text.strip() == ""
    assert annas_browser.get(f"{path_of(name)}/suggestions", params={"who": "%"}).text.strip() == ""
    assert bens_browser.get(f"{path_of(name)}/suggestions", params={"who": "ca"}).status_code == 403


def test_only_the_owner_shares(bens_browser: Browser, carls_browser: Browser, anna: Person, name: str) -> None:
    paths = ["", "/team/add", "/ben/remove", "/suggestions"]
    for path in paths:
        assert bens_browser.get(path_of(name) + path).status_code == 403
        assert carls_browser.get(path_of(name) + path).status_code == 404
    for path in ["", "/team/add", "/ben/remove", "/a@b.example/resend"]:
        assert bens_browser.submit(path_of(name) + path, {"who": "carl"}).status_code == 403
        assert carls_browser.submit(path_of(name) + path, {"who": "carl"}).status_code == 404
    assert "data-dialog" not in bens_browser.get(f"/package/anna/{name}").text
    assert grantees(anna, name) == ["anna", "ben"]
