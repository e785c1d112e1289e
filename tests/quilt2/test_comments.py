"""Comments (protocol §16)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.mailbox import Mailbox
from tests.registry import Person, Registry, new_name
from tests.trees import Json


@pytest.fixture
def name(anna: Person) -> str:
    """A package of Anna's that Ben may read."""
    name = new_name()
    anna.push(name, {"a": b"1"})
    anna.grant(name, "ben")
    return name


def post(person: Person, name: str, contents: Any) -> httpx.Response:
    return person.post(f"/api/comments/anna/{name}/", json={"contents": contents})


def say(person: Person, name: str, contents: str) -> Json:
    answer = post(person, name, contents)
    assert answer.status_code == 200, answer.text
    comment: Json = answer.json()["comment"]
    return comment


def read(person: Person, name: str, **query: Any) -> Json:
    answer = person.get(f"/api/comments/anna/{name}/", params=query)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


def refused(answer: httpx.Response) -> tuple[int, str]:
    assert answer.json().keys() == {"message"}
    return answer.status_code, answer.json()["message"]


# ------------------------------------------------------------------------------------------------ posting, reading


def test_the_owner_is_told_of_others_comments_only(registry: Registry, ben: Person, mailbox: Mailbox) -> None:
    owner = registry.make_person(new_name("olga"))
    owner.push("p", {"a": b"1"}, is_team=True)
    path = f"/api/comments/{owner.name}/p/"
    owner.post(path, json={"contents": "my own"}).raise_for_status()
    ben.post(path, json={"contents": "Is <b>this</b>\n\nin feet?"}).raise_for_status()
    letter = mailbox.wait(f"{owner.name}@example.com", f"{owner.name}/p")
    for part in (letter.text, letter.html):
        assert "ben" in part
        assert f"{registry.url}/package/{owner.name}/p/comments" in part
    assert "Is <b>this</b>" in letter.text
    assert "Is &lt;b&gt;this&lt;/b&gt;" in letter.html
    assert len(mailbox.to(f"{owner.name}@example.com")) == 1


def test_a_reader_comments_and_others_read_it(anna: Person, ben: Person, name: str) -> None:
    said = say(ben, name, "The second column is in *feet*.")
    assert said.keys() == {"id", "author", "created", "contents"}
    assert re.fullmatch("[0-9a-f]{16}", said["id"])
    assert (said["author"], said["contents"]) == ("ben", "The second column is in *feet*.")
    assert abs(said["created"] - time.time()) < 60
    assert read(anna, name) == read(ben, name) == {"comments": [said]}


def test_comments_come_oldest_first(anna: Person, ben: Person, name: str) -> None:
    said = [say(person, name, f"{i}") for i, person in enumerate((ben, anna, ben, anna))]
    assert len({each["id"] for each in said}) == 4
    assert read(anna, name)["comments"] == said


def test_a_package_without_comments(anna: Person, name: str) -> None:
    assert read(anna, name) == {"comments": []}
    assert read(anna, name, limit=5) == {"comments": [], "next": None}


@pytest.mark.parametrize(
    "contents",
    [
        "x",
        "  kept as it is\r\n\n\t",
        "<script>alert(1)</script><b onclick='x'>bold</b> &amp; [a](javascript:x)",
        "x" * 10_240,
        "\U0001f600" * 10_240,
        "e\u0301" * 5_120,
        "\u202e\u200b right to left",
        "'; DROP TABLE comment; --",
        "\x01\x1f\x7f",
    ],
    ids=lambda contents: repr(contents)[:20],
)
def test_a_text_is_kept_as_it_is(anna: Person, name: str, contents: str) -> None:
    assert say(anna, name, contents)["contents"] == contents
    assert read(anna, name)["comments"][0]["contents"] == contents


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ("", "A comment must not be blank."),
        (" \n\t\u3000", "A comment must not be blank."),
        ("x" * 10_241, "A comment has at most 10,240 characters; this one has 10,241."),
        ("\U0001f600" * 10_241, "A comment has at most 10,240 characters; this one has 10,241."),
        ("a\0b", "A comment must not contain NUL characters."),
        (7, "The request body is not as expected: Expected `str`, got `int` - at `$.contents`"),
        (["a"], "The request body is not as expected: Expected `str`, got `array` - at `$.contents`"),
        ({"a": "b"}, "The request body is not as expected: Expected `str`, got `object` - at `$.contents`"),
        (None, "The request body is not as expected: Expected `str`, got `null` - at `$.contents`"),
        (True, "The request body is not as expected: Expected `str`, got `bool` - at `$.contents`"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_text_that_cannot_be_kept(anna: Person, name: str, contents: Any, message: str) -> None:
    assert refused(post(anna, name, contents)) == (400, message)
    assert read(anna, name) == {"comments": []}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'"text"',
        b'{"content": "x"}',
        b'{"contents": "x"',
        b'{"contents": "\\ud800"}',
        b'{"contents": "\\udc00\\ud800"}',
        b'{"contents": "\xed\xa0\x80"}',
        b'{"contents": "\xff"}',
    ],
)
def test_a_body_that_holds_no_text(anna: Person, name: str, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    answer = anna.post(f"/api/comments/anna/{name}/", content=body, headers=headers)
    assert refused(answer)[0] == 400
    assert read(anna, name) == {"comments": []}


def test_the_address_works_without_the_slash(anna: Person, name: str) -> None:
    answer = anna.post(f"/api/comments/anna/{name}", json={"contents": "x", "other": "fields are ignored"})
    assert [answer.json()["comment"]] == anna.get(f"/api/comments/anna/{name}").json()["comments"]


# ------------------------------------------------------------------------------------------------ who may


def test_a_package_that_is_hidden_takes_no_comments(anna: Person, carl: Person, ada: Person, name: str) -> None:
    for person in (carl, ada):
        for answer in (post(person, name, "Hello"), person.get(f"/api/comments/anna/{name}/")):
            assert refused(answer) == (404, f"Package anna/{name} does not exist")
    assert read(anna, name) == {"comments": []}


def test_people_who_are_not_signed_in_read_public_comments_and_write_none(open_registry: Registry) -> None:
    olga, name = open_registry.make_person(new_name("olga")), new_name()
    olga.push(name, {"a": b"1"}, is_public=True)
    place = f"/api/comments/{olga.name}/{name}/"
    olga.post(place, json={"contents": "Welcome"}).raise_for_status()
    nobody = open_registry.nobody()
    assert [each["contents"] for each in nobody.get(place).json()["comments"]] == ["Welcome"]
    assert refused(nobody.post(place, json={"contents": "Hello"})) == (401, "Not logged in")


def test_a_token_that_may_only_read_comments_nothing(registry: Registry, anna: Person, name: str) -> None:
    made = anna.post("/api/v1/tokens", json={"name": new_name("token"), "read_only": True}).json()
    machine = Person(registry, "anna", made["token"])
    assert refused(post(machine, name, "Hello"))[0] == 403
    assert read(machine, name) == {"comments": []}


# ------------------------------------------------------------------------------------------------ deleting


def delete(person: Person, name: str, comment_id: str) -> httpx.Response:
    return person.delete(f"/api/comments/anna/{name}/{comment_id}")


@pytest.mark.parametrize("who", ["anna", "ben"])
def test_the_author_and_the_owner_delete_a_comment(anna: Person, ben: Person, name: str, who: str) -> None:
    said, kept = say(ben, name, "Not mine to keep"), say(anna, name, "Stays")
    person = {"anna": anna, "ben": ben}[who]
    assert delete(person, name, said["id"]).json() == {}
    assert read(ben, name)["comments"] == [kept]
    assert refused(delete(person, name, said["id"])) == (404, "There is no such comment.")


def test_nobody_else_deletes_a_comment(anna: Person, ben: Person, carl: Person, ada: Person, name: str) -> None:
    said = say(anna, name, "Stays")
    assert refused(delete(ben, name, said["id"])) == (
        403,
        "Only its author and the package owner can delete a comment.",
    )
    for person in (carl, ada):
        assert refused(delete(person, name, said["id"])) == (404, f"Package anna/{name} does not exist")
    assert read(anna, name)["comments"] == [said]


def test_an_author_who_may_read_no_more_deletes_nothing(anna: Person, ben: Person, name: str) -> None:
    said = say(ben, name, "Stays")
    anna.delete(f"/api/access/anna/{name}/ben").raise_for_status()
    assert refused(delete(ben, name, said["id"]))[0] == 404
    assert read(anna, name)["comments"] == [said]


@pytest.mark.parametrize("comment_id", ["0" * 16, "1", "x", "' OR true --", "%ff", "0" * 5000])
def test_a_comment_that_is_not_there(anna: Person, name: str, comment_id: str) -> None:
    assert refused(delete(anna, name, comment_id)) == (404, "There is no such comment.")


def test_a_comment_is_one_of_its_package(anna: Person, name: str) -> None:
    other = new_name()
    anna.push(other, {"a": b"1"})
    said = say(anna, name, "Here")
    assert refused(delete(anna, other, said["id"]))[0] == 404
    assert read(anna, name)["comments"] == [said]


def test_comments_go_with_their_package(anna: Person, ben: Person, name: str) -> None:
    say(ben, name, "Gone with it")
    anna.delete(f"/api/package/anna/{name}/").raise_for_status()
    anna.push(name, {"a": b"1"})
    assert read(anna, name) == {"comments": []}


# ------------------------------------------------------------------------------------------------ pages


def test_comments_are_read_page_by_page(anna: Person, name: str) -> None:
    said = [say(anna, name, f"{i}") for i in range(5)]
    found, page = [], read(anna, name, limit=2)
    while True:
        assert len(page["comments"]) <= 2
        found += page["comments"]
        if page["next"] is None:
            break
        page = read(anna, name, limit=2, after=page["next"])
    assert found == said


def test_pages_go_on_where_they_were_when_a_comment_is_deleted(anna: Person, name: str) -> None:
    said = [say(anna, name, f"{i}") for i in range(4)]
    page = read(anna, name, limit=2)
    delete(anna, name, said[1]["id"]).raise_for_status()
    assert read(anna, name, after=page["next"])["comments"] == said[2:]


def test_more_comments_than_are_read_at_once_are_all_sent(registry: Registry, anna: Person, name: str) -> None:
    registry.sql(
        """
        INSERT INTO comment (key, package_id, author, contents)
        SELECT left(md5(p.id || '.' || g.n), 16), p.id, 'anna', g.n::text
        FROM package p, generate_series(1, 350) g (n) WHERE p.name = $1 ORDER BY g.n
        """,
        name,
    )
    assert [each["contents"] for each in read(anna, name)["comments"]] == [f"{n}" for n in range(1, 351)]
    assert len(read(anna, name, after=0)["comments"]) == 100


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "limit=-1", "limit=", "after=x", f"after={2**63}"]
)
def test_a_page_that_is_none(anna: Person, name: str, query: str) -> None:
    status, message = refused(anna.get(f"/api/comments/anna/{name}/?{query}"))
    assert (status, message[:26]) == (400, f"{query.partition('=')[0]} must be a whole number"[:26])


# ------------------------------------------------------------------------------------------------ what is recorded


def test_comments_are_in_the_audit(registry: Registry, anna: Person, ben: Person, name: str) -> None:
    said = say(ben, name, "Recorded, but not what it says")
    read(anna, name)
    anna.http.head(f"/api/comments/anna/{name}/").raise_for_status()
    delete(anna, name, said["id"]).raise_for_status()
    assert registry.events("anna", name, ("COMMENT", "COMMENT_DELETE")) == [
        {"kind": "COMMENT", "account": "ben", "hash": None, "extra": {"id": said["id"]}},
        {"kind": "COMMENT_DELETE", "account": "anna", "hash": None, "extra": {"id": said["id"]}},
    ]


def test_a_comment_that_was_refused_is_not_recorded(
    registry: Registry, anna: Person, ben: Person, carl: Person, name: str
) -> None:
    said = say(anna, name, "Stays")
    post(anna, name, "")
    post(carl, name, "Hello")
    delete(ben, name, said["id"])
    delete(anna, name, "0" * 16)
    assert len(registry.events("anna", name, ("COMMENT", "COMMENT_DELETE"))) == 1


def test_who_comments_too_often_waits(local_registry: Callable[..., Registry]) -> None:
    registry = local_registry()
    eve, fay, name = registry.make_person("eve"), registry.make_person("fay"), new_name()
    eve.push(name, {"a": b"1"}, is_team=True)

    def comment(person: Person, contents: str) -> httpx.Response:
        return person.post(f"/api/comments/eve/{name}/", json={"contents": contents})

    assert comment(eve, "").status_code == 400, "what is refused does not count"
    assert [comment(eve, f"{i}").status_code for i in range(12)] == [200] * 10 + [429] * 2
    answer = comment(eve, "one more")
    assert re.fullmatch(r"Too many comments\. Try again in \d+ seconds\.", refused(answer)[1])
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert comment(fay, "of another").status_code == 200
    assert len(eve.get(f"/api/comments/eve/{name}/").json()["comments"]) == 11
    registry.sql("UPDATE allowance SET ends_at = now()")
    assert comment(eve, "later").status_code == 200
