"""Comments on packages (protocol §16)."""

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
    """A package of Anna's, shared with Ben."""
    name = new_name()
    anna.push(name, {"a": b"1"})
    anna.grant(name, "ben")
    return name


def post_comment(person: Person, name: str, contents: Any) -> httpx.Response:
    return person.post(f"/api/comments/anna/{name}/", json={"contents": contents})


def add_comment(person: Person, name: str, contents: str) -> Json:
    response = post_comment(person, name, contents)
    assert response.status_code == 200, response.text
    comment: Json = response.json()["comment"]
    return comment


def list_comments(person: Person, name: str, **query: Any) -> Json:
    response = person.get(f"/api/comments/anna/{name}/", params=query)
    assert response.status_code == 200, response.text
    found: Json = response.json()
    return found


def error(response: httpx.Response) -> tuple[int, str]:
    """Return the status and the message of an error response."""
    assert response.json().keys() == {"message"}
    return response.status_code, response.json()["message"]


# ------------------------------------------------------------------------------------------------ posting and reading


def test_the_owner_gets_an_email_about_comments_of_others_only(
    registry: Registry, ben: Person, mailbox: Mailbox
) -> None:
    owner = registry.make_person(new_name("olga"))
    owner.push("p", {"a": b"1"}, is_team=True)
    path = f"/api/comments/{owner.name}/p/"
    owner.post(path, json={"contents": "my own"}).raise_for_status()
    ben.post(path, json={"contents": "Is <b>this</b>\n\nin feet?"}).raise_for_status()
    email = mailbox.wait(f"{owner.name}@example.com", f"{owner.name}/p")
    for part in (email.text, email.html):
        assert "ben" in part
        assert f"{registry.url}/package/{owner.name}/p/comments" in part
    assert "Is <b>this</b>" in email.text
    assert "Is &lt;b&gt;this&lt;/b&gt;" in email.html
    assert len(mailbox.to(f"{owner.name}@example.com")) == 1


def test_a_reader_comments_and_others_read_it(anna: Person, ben: Person, name: str) -> None:
    comment = add_comment(ben, name, "The second column is in *feet*.")
    assert comment.keys() == {"id", "author", "created", "contents"}
    assert re.fullmatch("[0-9a-f]{16}", comment["id"])
    assert (comment["author"], comment["contents"]) == ("ben", "The second column is in *feet*.")
    assert abs(comment["created"] - time.time()) < 60
    assert list_comments(anna, name) == list_comments(ben, name) == {"comments": [comment]}


def test_comments_come_oldest_first(anna: Person, ben: Person, name: str) -> None:
    comments = [add_comment(person, name, f"{i}") for i, person in enumerate((ben, anna, ben, anna))]
    assert len({each["id"] for each in comments}) == 4
    assert list_comments(anna, name)["comments"] == comments


def test_a_package_without_comments(anna: Person, name: str) -> None:
    assert list_comments(anna, name) == {"comments": []}
    assert list_comments(anna, name, limit=5) == {"comments": [], "next": None}


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
    assert add_comment(anna, name, contents)["contents"] == contents
    assert list_comments(anna, name)["comments"][0]["contents"] == contents


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
    assert error(post_comment(anna, name, contents)) == (400, message)
    assert list_comments(anna, name) == {"comments": []}


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
    response = anna.post(f"/api/comments/anna/{name}/", content=body, headers=headers)
    assert error(response)[0] == 400
    assert list_comments(anna, name) == {"comments": []}


def test_the_path_works_without_the_final_slash(anna: Person, name: str) -> None:
    response = anna.post(f"/api/comments/anna/{name}", json={"contents": "x", "other": "fields are ignored"})
    assert [response.json()["comment"]] == anna.get(f"/api/comments/anna/{name}").json()["comments"]


# ------------------------------------------------------------------------------------------------ permissions


def test_a_package_that_is_hidden_takes_no_comments(anna: Person, carl: Person, ada: Person, name: str) -> None:
    for person in (carl, ada):
        for response in (post_comment(person, name, "Hello"), person.get(f"/api/comments/anna/{name}/")):
            assert error(response) == (404, f"Package anna/{name} does not exist")
    assert list_comments(anna, name) == {"comments": []}


def test_anonymous_users_read_public_comments_and_write_none(open_registry: Registry) -> None:
    olga, name = open_registry.make_person(new_name("olga")), new_name()
    olga.push(name, {"a": b"1"}, is_public=True)
    path = f"/api/comments/{olga.name}/{name}/"
    olga.post(path, json={"contents": "Welcome"}).raise_for_status()
    nobody = open_registry.nobody()
    assert [each["contents"] for each in nobody.get(path).json()["comments"]] == ["Welcome"]
    assert error(nobody.post(path, json={"contents": "Hello"})) == (401, "Not logged in")


def test_a_token_that_may_only_read_comments_nothing(registry: Registry, anna: Person, name: str) -> None:
    made = anna.post("/api/v1/tokens", json={"name": new_name("token"), "read_only": True}).json()
    machine = Person(registry, "anna", made["token"])
    assert error(post_comment(machine, name, "Hello"))[0] == 403
    assert list_comments(machine, name) == {"comments": []}


# ------------------------------------------------------------------------------------------------ deleting


def delete_comment(person: Person, name: str, comment_id: str) -> httpx.Response:
    return person.delete(f"/api/comments/anna/{name}/{comment_id}")


@pytest.mark.parametrize("who", ["anna", "ben"])
def test_the_author_and_the_owner_delete_a_comment(anna: Person, ben: Person, name: str, who: str) -> None:
    comment, kept = add_comment(ben, name, "Not mine to keep"), add_comment(anna, name, "Stays")
    person = {"anna": anna, "ben": ben}[who]
    assert delete_comment(person, name, comment["id"]).json() == {}
    assert list_comments(ben, name)["comments"] == [kept]
    assert error(delete_comment(person, name, comment["id"])) == (404, "There is no such comment.")


def test_nobody_else_deletes_a_comment(anna: Person, ben: Person, carl: Person, ada: Person, name: str) -> None:
    comment = add_comment(anna, name, "Stays")
    assert error(delete_comment(ben, name, comment["id"])) == (
        403,
        "Only its author and the package owner can delete a comment.",
    )
    for person in (carl, ada):
        assert error(delete_comment(person, name, comment["id"])) == (404, f"Package anna/{name} does not exist")
    assert list_comments(anna, name)["comments"] == [comment]


def test_an_author_without_read_access_deletes_nothing(anna: Person, ben: Person, name: str) -> None:
    comment = add_comment(ben, name, "Stays")
    anna.delete(f"/api/access/anna/{name}/ben").raise_for_status()
    assert error(delete_comment(ben, name, comment["id"]))[0] == 404
    assert list_comments(anna, name)["comments"] == [comment]


@pytest.mark.parametrize("comment_id", ["0" * 16, "1", "x", "' OR true --", "0" * 5000])
def test_a_comment_that_is_not_there(anna: Person, name: str, comment_id: str) -> None:
    assert error(delete_comment(anna, name, comment_id)) == (404, "There is no such comment.")


def test_a_comment_is_deleted_through_its_own_package_only(anna: Person, name: str) -> None:
    other = new_name()
    anna.push(other, {"a": b"1"})
    comment = add_comment(anna, name, "Here")
    assert error(delete_comment(anna, other, comment["id"]))[0] == 404
    assert list_comments(anna, name)["comments"] == [comment]


def test_comments_go_with_their_package(anna: Person, ben: Person, name: str) -> None:
    add_comment(ben, name, "Gone with it")
    anna.delete(f"/api/package/anna/{name}/").raise_for_status()
    anna.push(name, {"a": b"1"})
    assert list_comments(anna, name) == {"comments": []}


# ------------------------------------------------------------------------------------------------ pagination


def test_comments_are_read_page_by_page(anna: Person, name: str) -> None:
    comments = [add_comment(anna, name, f"{i}") for i in range(5)]
    found, page = [], list_comments(anna, name, limit=2)
    while True:
        assert len(page["comments"]) <= 2
        found += page["comments"]
        if page["next"] is None:
            break
        page = list_comments(anna, name, limit=2, after=page["next"])
    assert found == comments


def test_pages_go_on_where_they_were_when_a_comment_is_deleted(anna: Person, name: str) -> None:
    comments = [add_comment(anna, name, f"{i}") for i in range(4)]
    page = list_comments(anna, name, limit=2)
    delete_comment(anna, name, comments[1]["id"]).raise_for_status()
    assert list_comments(anna, name, after=page["next"])["comments"] == comments[2:]


def test_more_comments_than_are_read_at_once_are_all_sent(registry: Registry, anna: Person, name: str) -> None:
    registry.sql(
        """
        INSERT INTO comment (key, package_id, author, contents)
        SELECT left(md5(p.id || '.' || g.n), 16), p.id, 'anna', g.n::text
        FROM package p, generate_series(1, 350) g (n) WHERE p.name = $1 ORDER BY g.n
        """,
        name,
    )
    assert [each["contents"] for each in list_comments(anna, name)["comments"]] == [f"{n}" for n in range(1, 351)]
    assert len(list_comments(anna, name, after=0)["comments"]) == 100


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "limit=-1", "limit=", "after=x", f"after={2**63}"]
)
def test_an_invalid_page_is_refused(anna: Person, name: str, query: str) -> None:
    status, message = error(anna.get(f"/api/comments/anna/{name}/?{query}"))
    assert (status, message[:26]) == (400, f"{query.partition('=')[0]} must be a whole number"[:26])


# ------------------------------------------------------------------------------------------------ audit and rate limit


def test_comments_are_in_the_audit(registry: Registry, anna: Person, ben: Person, name: str) -> None:
    comment = add_comment(ben, name, "Recorded, but not what it says")
    list_comments(anna, name)
    anna.http.head(f"/api/comments/anna/{name}/").raise_for_status()
    delete_comment(anna, name, comment["id"]).raise_for_status()
    assert registry.events("anna", name, ("COMMENT", "COMMENT_DELETE")) == [
        {"kind": "COMMENT", "account": "ben", "hash": None, "extra": {"id": comment["id"]}},
        {"kind": "COMMENT_DELETE", "account": "anna", "hash": None, "extra": {"id": comment["id"]}},
    ]


def test_a_comment_that_was_refused_is_not_recorded(
    registry: Registry, anna: Person, ben: Person, carl: Person, name: str
) -> None:
    comment = add_comment(anna, name, "Stays")
    post_comment(anna, name, "")
    post_comment(carl, name, "Hello")
    delete_comment(ben, name, comment["id"])
    delete_comment(anna, name, "0" * 16)
    assert len(registry.events("anna", name, ("COMMENT", "COMMENT_DELETE"))) == 1


def test_comments_are_rate_limited(local_registry: Callable[..., Registry]) -> None:
    registry = local_registry()
    eve, fay, name = registry.make_person("eve"), registry.make_person("fay"), new_name()
    eve.push(name, {"a": b"1"}, is_team=True)

    def comment(person: Person, contents: str) -> httpx.Response:
        return person.post(f"/api/comments/eve/{name}/", json={"contents": contents})

    assert comment(eve, "").status_code == 400, "a refused comment does not count"
    assert [comment(eve, f"{i}").status_code for i in range(12)] == [200] * 10 + [429] * 2
    response = comment(eve, "one more")
    assert re.fullmatch(r"Too many comments\. Try again in \d+ seconds\.", error(response)[1])
    assert 1 <= int(response.headers["retry-after"]) <= 60
    assert comment(fay, "of another").status_code == 200
    assert len(eve.get(f"/api/comments/eve/{name}/").json()["comments"]) == 11
    registry.sql("UPDATE allowance SET ends_at = now()")
    assert comment(eve, "later").status_code == 200
