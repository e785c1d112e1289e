"""Sign-up, activation, password reset, and account management by admins (protocol §5, §17)."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.mailbox import Mailbox
from tests.registry import PASSWORD, Person, Registry, new_name
from tests.waiting import wait_until

OVER_A_DAY = "interval '24 hours 1 second'"


@pytest.fixture
def name() -> str:
    """An unused username."""
    return new_name("fay")


def email_of(name: str) -> str:
    return f"{name}@example.org"


def register(registry: Registry, name: str, email: str | None = None, password: str = PASSWORD) -> httpx.Response:
    body = {"username": name, "email": email or email_of(name), "password": password}
    return httpx.post(registry.url + "/api/register", json=body, timeout=30)


def login(registry: Registry, name: str, password: str = PASSWORD) -> int:
    body = {"username": name, "password": password}
    return httpx.post(registry.url + "/api/login", json=body, timeout=30).status_code


def follow(registry: Registry, link: str, method: str = "GET", **headers: str) -> str:
    """Return the path that an activation link redirects to."""
    response = httpx.request(method, f"{registry.url}/activate/{link}", headers=headers)
    assert response.status_code == 302
    return str(response.headers["location"]).removeprefix(registry.url)


def request_reset(registry: Registry, email: str) -> httpx.Response:
    return httpx.post(registry.url + "/api/reset_password", json={"email": email}, timeout=30)


def change_password(registry: Registry, link: str, password: str) -> httpx.Response:
    return httpx.post(registry.url + "/api/change_password", json={"link": link, "password": password}, timeout=30)


def error(response: httpx.Response) -> tuple[int, str]:
    """Return the status and the message of an error response."""
    assert response.json().keys() == {"message"}
    return response.status_code, response.json()["message"]


def make_member(registry: Registry, name: str) -> Person:
    """Create a user whose emails arrive in the mailbox."""
    return registry.make_person(name, email=email_of(name))


# ------------------------------------------------------------------------------------------------ signing up


def test_signing_up(open_registry: Registry, mailbox: Mailbox, name: str) -> None:
    admin = open_registry.make_person(new_name("ada"), is_admin=True, email=f"{name}.admin@example.org")
    assert register(open_registry, name).json() == {}
    assert login(open_registry, name) == 401, "the account is not activated yet"
    email = mailbox.wait(email_of(name), "Activate")
    assert name in email.text
    assert follow(open_registry, email.link("activate")) == "/signin"
    assert login(open_registry, name) == 200
    welcome = mailbox.wait(email_of(name), "Welcome")
    for part in (welcome.text, welcome.html):
        assert name in part
        assert open_registry.url in part
        assert "reset_password" not in part
    notice = mailbox.wait(f"{admin.name.replace(admin.name, name)}.admin@example.org", name)
    assert email_of(name) in notice.text
    assert name in notice.html


def test_an_activation_link_works_once(open_registry: Registry, mailbox: Mailbox, name: str) -> None:
    register(open_registry, name)
    link = mailbox.wait(email_of(name)).link("activate")
    assert follow(open_registry, link) == "/signin"
    assert follow(open_registry, link) == "/activation_error"
    assert login(open_registry, name) == 200


def test_head_and_prefetch_requests_do_not_use_up_the_link(
    open_registry: Registry, mailbox: Mailbox, name: str
) -> None:
    register(open_registry, name)
    link = mailbox.wait(email_of(name)).link("activate")
    assert follow(open_registry, link, "HEAD") == "/signin"
    assert follow(open_registry, link, **{"Sec-Purpose": "prefetch;prerender"}) == "/signin"
    assert login(open_registry, name) == 401
    assert follow(open_registry, link) == "/signin"
    assert login(open_registry, name) == 200


def test_a_bad_activation_link(open_registry: Registry, mailbox: Mailbox, name: str) -> None:
    register(open_registry, name)
    link = mailbox.wait(email_of(name)).link("activate")
    for bad in (link[:-1], link + "x", link.swapcase(), "x", "%00", "%F0%9F%92%A5", "x" * 5000):
        response = httpx.get(f"{open_registry.url}/activate/{bad}")
        assert response.status_code in (302, 400)
        assert response.status_code == 400 or response.headers["location"].endswith("/activation_error")
    open_registry.sql(f"UPDATE link SET expires_at = expires_at - {OVER_A_DAY}")
    assert follow(open_registry, link) == "/activation_error"
    assert login(open_registry, name) == 401


def test_links_serve_one_purpose(open_registry: Registry, mailbox: Mailbox, name: str) -> None:
    register(open_registry, name)
    activation = mailbox.wait(email_of(name)).link("activate")
    assert change_password(open_registry, activation, "another password").status_code == 401
    request_reset(open_registry, email_of(name))
    reset = mailbox.wait(email_of(name), "password").link("reset_password")
    assert follow(open_registry, reset) == "/activation_error"
    assert follow(open_registry, activation) == "/signin"


def test_links_need_no_escaping_and_hold_no_dot(open_registry: Registry, mailbox: Mailbox, name: str) -> None:
    register(open_registry, name)
    link = mailbox.wait(email_of(name)).link("activate")
    assert set(link) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_~-")
    rows = open_registry.sql("SELECT digest FROM link")
    assert link.encode() not in {bytes(row["digest"]) for row in rows}


BAD_NAMES = [
    "", "Bo", "9x", "_x", "a-b", "a b", "a\n", "é", "\u0440\u0430\u0443", "ana\u200bb", "a" * 65, "a\0",
    "team", "public", "anonymous", "quilt",
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD_NAMES)
def test_an_invalid_username_is_refused(open_registry: Registry, name: str, bad: str) -> None:
    """Usernames are plain ASCII, so look-alikes from other alphabets are refused too."""
    assert error(register(open_registry, bad, email_of(name))) == (400, "Invalid username.")


BAD_EMAILS = [
    "", "x", "a@", "@b", "a b@c", "a@b c", "a@b@c", "a@b\nBcc: all@example.org", "a@b\r\n", "a\0@b", "x" * 320 + "@b",
    "a,b@c", "<a@b>", '"a"@b;c', '"a,b"@c', "-a@b", "a@-b", "a@b-.org", "a@" + "b" * 64 + ".org",
    "a@[127.0.0.1]", "Ann <ann@example.org>", "a\u202e@b", "ann@ex\u0430mple.org",
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD_EMAILS)
def test_an_invalid_email_is_refused(open_registry: Registry, name: str, bad: str) -> None:
    """Header lines and further recipients are refused too, because the address goes into email headers."""
    body = {"username": name, "email": bad, "password": PASSWORD}
    assert error(httpx.post(open_registry.url + "/api/register", json=body)) == (400, "Invalid email.")


def test_the_longest_usernames_and_emails_work(open_registry: Registry, mailbox: Mailbox, name: str) -> None:
    long_name = name + "x" * (64 - len(name))
    email = f"{'y' * (64 - len(name))}{name}@{'d' * 60}.{'e' * 60}.example.org"
    assert register(open_registry, long_name, email).json() == {}
    assert follow(open_registry, mailbox.wait(email).link("activate")) == "/signin"


@pytest.mark.parametrize("password", ["", "1234567", "💥" * 7])
def test_a_short_password(open_registry: Registry, name: str, password: str) -> None:
    assert error(register(open_registry, name, password=password)) == (
        400,
        "Password must be at least 8 characters long.",
    )


@pytest.mark.parametrize("password", ["12345678", "💥" * 8, "x" * 4096, " " * 8])
def test_passwords_are_counted_in_characters(
    open_registry: Registry, mailbox: Mailbox, name: str, password: str
) -> None:
    assert register(open_registry, name, password=password).status_code == 200
    follow(open_registry, mailbox.wait(email_of(name)).link("activate"))
    assert login(open_registry, name, password) == 200


def test_a_password_that_is_too_long(open_registry: Registry, name: str) -> None:
    status, message = error(register(open_registry, name, password="x" * 4097))
    assert status == 400
    assert "Password must be" in message


def test_taken_usernames_and_emails_are_refused(open_registry: Registry, name: str) -> None:
    taken = make_member(open_registry, new_name("gil"))
    assert error(register(open_registry, taken.name, email_of(name))) == (409, "Username already taken.")
    assert error(register(open_registry, name, email_of(taken.name))) == (409, "Email already taken.")
    assert error(register(open_registry, name, email_of(taken.name).upper())) == (409, "Email already taken.")


def test_the_order_of_refusals(open_registry: Registry, name: str) -> None:
    taken = make_member(open_registry, new_name("gil"))
    short = "x"
    assert error(register(open_registry, "Bo", "none", short))[1] == "Invalid username."
    assert error(register(open_registry, taken.name, "none", short))[1] == "Invalid email."
    assert error(register(open_registry, taken.name, email_of(taken.name), short))[1] == "Username already taken."
    assert error(register(open_registry, name, email_of(taken.name), short))[1] == "Email already taken."


@pytest.mark.parametrize(
    "body",
    [
        None, [], {}, {"username": "x"}, {"username": "x", "password": "x" * 8, "email": "a@b", "more": 1},
        {"username": 1, "password": "x" * 8, "email": "a@b"}, {"username": None, "password": "x" * 8, "email": "a@b"},
    ],
)  # fmt: skip
def test_a_malformed_registration_is_refused(open_registry: Registry, body: Any) -> None:
    status, message = error(httpx.post(open_registry.url + "/api/register", json=body))
    assert status == 400
    assert len(message) < 400


def test_signing_up_again_sends_the_email_again(open_registry: Registry, mailbox: Mailbox, name: str) -> None:
    """Name and first password stay as they are, because the second request may come from another person."""
    register(open_registry, name)
    first = mailbox.wait(email_of(name)).link("activate")
    assert error(register(open_registry, name)) == (409, "Username already taken.")
    open_registry.sql("UPDATE link SET created_at = created_at - interval '61 seconds'")
    assert error(register(open_registry, name, password="somebody else's"))[0] == 409
    again = mailbox.wait(email_of(name), count=2)
    assert "chose the first time" in again.text
    assert follow(open_registry, again.link("activate")) == "/signin"
    assert follow(open_registry, first) == "/activation_error", "there is nothing left to activate"
    assert login(open_registry, name) == 200
    assert login(open_registry, name, "somebody else's") == 401


def test_an_account_whose_link_expired_lapses(open_registry: Registry, mailbox: Mailbox, name: str) -> None:
    """Its grants are deleted too, because the next user of the name is another person."""
    olga = open_registry.make_person(new_name("olga"))
    olga.push("p", {"a": b"1"})
    register(open_registry, name)
    olga.grant("p", name)
    mailbox.wait(email_of(name))
    open_registry.sql(f"UPDATE link SET expires_at = expires_at - {OVER_A_DAY}")
    assert register(open_registry, name, f"other.{name}@example.org").status_code == 200
    assert olga.get(f"/api/access/{olga.name}/p/").json()["users"] == [olga.name]
    assert open_registry.sql("SELECT FROM event WHERE kind = 'ACCOUNT_LAPSE' AND subject = $1", name)
    follow(open_registry, mailbox.wait(f"other.{name}@example.org").link("activate"))
    assert login(open_registry, name) == 200


def test_two_registrations_at_once(open_registry: Registry, mailbox: Mailbox, name: str) -> None:
    """Concurrent registrations with one username, and with one email address."""
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda i: register(open_registry, name, f"{name}.{i}@example.org"), range(4)))
        assert sorted(response.status_code for response in responses) == [200, 409, 409, 409]
        emails = [email_of(name), email_of(name).upper()] * 2
        responses = list(pool.map(lambda i: register(open_registry, f"{name}_{i}", emails[i]), range(4)))
        assert sorted(response.status_code for response in responses) == [200, 409, 409, 409]


def test_sign_up_that_is_closed(local_registry: Any) -> None:
    registry = local_registry(SIGNUP="closed")
    assert error(register(registry, "fay")) == (501, "Signup is disabled.")
    response = httpx.post(registry.url + "/api/register", json={"username": "fay"})
    assert response.status_code == 400, "an invalid body is reported first"


def test_in_a_team_only_invited_people_sign_up(registry: Registry, anna: Person, mailbox: Mailbox, name: str) -> None:
    uninvited = error(register(registry, name))
    assert uninvited[0] == 403
    assert "by invitation" in uninvited[1]
    existing_email = error(register(registry, name, "ben@example.com"))
    assert existing_email == uninvited, "the response does not reveal who has an account"
    package = new_name()
    anna.push(package, {"a": b"1"})
    anna.grant(package, email_of(name).title())
    assert register(registry, name, email_of(name).upper()).status_code == 200
    follow(registry, mailbox.wait(email_of(name).upper(), "Activate").link("activate"))
    assert login(registry, name) == 200


def test_users_of_a_signup_domain_sign_up(local_registry: Any) -> None:
    registry = local_registry(SIGNUP_DOMAINS="acme.example, Other.example", RATE_LIMITS="off")
    for domain, status in (
        ("acme.example", 200),
        ("OTHER.example", 200),
        ("sub.acme.example", 403),
        ("acme.exampl", 403),
    ):
        assert register(registry, new_name("fay"), f"{new_name()}@{domain}").status_code == status


# ------------------------------------------------------------------------------------------------ password reset


def test_a_forgotten_password(registry: Registry, mailbox: Mailbox, name: str) -> None:
    person = make_member(registry, name)
    assert request_reset(registry, email_of(name).upper()).json() == {}
    email = mailbox.wait(email_of(name))
    assert name in email.text
    assert person.get("/api/me").status_code == 200, "the old password and tokens stay valid until the link is used"
    assert login(registry, name) == 200
    code = person.get("/api/code").json()["code"]
    assert change_password(registry, email.link("reset_password"), "brand new password").json() == {}
    assert person.get("/api/me").status_code == 401
    assert httpx.post(registry.url + "/api/token", data={"refresh_token": code}).status_code == 401
    assert login(registry, name) == 401
    assert login(registry, name, "brand new password") == 200


def test_a_reset_link_works_once_and_only_the_newest(registry: Registry, mailbox: Mailbox, name: str) -> None:
    make_member(registry, name)
    request_reset(registry, email_of(name))
    older = mailbox.wait(email_of(name)).link("reset_password")
    request_reset(registry, email_of(name))
    newer = mailbox.wait(email_of(name), count=2).link("reset_password")
    bad = (401, "Reset token invalid")
    assert error(change_password(registry, older, "some password")) == bad
    assert error(change_password(registry, newer + "x", "some password")) == bad
    assert change_password(registry, newer, "some password").status_code == 200
    assert error(change_password(registry, newer, "some password")) == bad


def test_a_reset_link_expires_after_a_day(registry: Registry, mailbox: Mailbox, name: str) -> None:
    make_member(registry, name)
    request_reset(registry, email_of(name))
    link = mailbox.wait(email_of(name)).link("reset_password")
    (row,) = registry.sql("SELECT max(expires_at) - now() BETWEEN '23 hours' AND '24 hours' AS fine FROM link")
    assert row["fine"]
    registry.sql(f"UPDATE link SET expires_at = expires_at - {OVER_A_DAY}")
    assert change_password(registry, link, "some password").status_code == 401


def test_a_short_password_does_not_spend_the_link(registry: Registry, mailbox: Mailbox, name: str) -> None:
    make_member(registry, name)
    request_reset(registry, email_of(name))
    link = mailbox.wait(email_of(name)).link("reset_password")
    assert error(change_password(registry, link, "short")) == (400, "Password must be at least 8 characters long.")
    assert change_password(registry, link, "long enough").status_code == 200


def test_a_link_is_spent_by_one_of_many_at_once(registry: Registry, mailbox: Mailbox, name: str) -> None:
    make_member(registry, name)
    request_reset(registry, email_of(name))
    link = mailbox.wait(email_of(name)).link("reset_password")
    with ThreadPoolExecutor(4) as pool:
        responses = list(pool.map(lambda i: change_password(registry, link, f"password {i}").status_code, range(4)))
    assert sorted(responses) == [200, 401, 401, 401]


def test_an_unknown_email_gets_the_same_response_in_the_same_time(
    registry: Registry, mailbox: Mailbox, name: str
) -> None:
    make_member(registry, name)
    times: dict[str, list[float]] = {email_of(name): [], "nobody@example.org": []}
    for _ in range(5):
        for email, seconds in times.items():
            start = time.perf_counter()
            answer = request_reset(registry, email)
            assert (answer.status_code, answer.json()) == (200, {})
            seconds.append(time.perf_counter() - start)
    known, unknown = map(min, times.values())  # the minimum, because load only adds time
    assert known == pytest.approx(unknown, rel=0.25)
    assert mailbox.to("nobody@example.org") == []


@pytest.mark.parametrize("email", ["", "x", "a\0b@c", "x" * 5000, "é@é"])
def test_an_invalid_email_gets_the_same_response(registry: Registry, email: str) -> None:
    assert request_reset(registry, email).json() == {}


def test_a_disabled_user_can_reset_the_password_but_not_sign_in(
    registry: Registry, mailbox: Mailbox, name: str
) -> None:
    registry.make_person(name, email=email_of(name), is_active=False)
    request_reset(registry, email_of(name))
    link = mailbox.wait(email_of(name)).link("reset_password")
    assert change_password(registry, link, "some password").status_code == 200
    assert login(registry, name, "some password") == 401


def test_a_password_reset_sends_the_activation_email_again(
    open_registry: Registry, mailbox: Mailbox, name: str
) -> None:
    register(open_registry, name)
    mailbox.wait(email_of(name), "Activate")
    request_reset(open_registry, email_of(name))
    mailbox.wait(email_of(name), "password")
    assert follow(open_registry, mailbox.wait(email_of(name), "Activate", count=2).link("activate")) == "/signin"
    assert login(open_registry, name) == 200


# ------------------------------------------------------------------------------------------------ account management


def manage_user(admin: Person, what: str, **body: Any) -> httpx.Response:
    return admin.post(f"/api/users/{what}", json=body)


def test_an_admin_makes_an_account(registry: Registry, ada: Person, mailbox: Mailbox, name: str) -> None:
    assert manage_user(ada, "create", username=name, email=email_of(name)).json() == {}
    assert login(registry, name) == 401, "there is no password yet"
    email = mailbox.wait(email_of(name), "Welcome")
    assert name in email.text
    assert registry.url in email.text
    assert change_password(registry, email.link("reset_password"), "mine alone").status_code == 200
    assert login(registry, name, "mine alone") == 200


@pytest.mark.parametrize(
    ("username", "email", "status", "message"),
    [
        ("Bo", "x@example.org", 400, "Username is not valid."),
        ("a" * 65, "x@example.org", 400, "Username is not valid."),
        ("team", "x@example.org", 400, "Invalid username."),
        ("ok_name", "none", 400, "Invalid email."),
        ("ben", "x@example.org", 409, "Username already taken."),
        ("ok_name", "BEN@example.com", 409, "Email already taken."),
    ],
)
def test_an_account_that_an_admin_cannot_make(
    ada: Person, ben: Person, username: str, email: str, status: int, message: str
) -> None:
    response = manage_user(ada, "create", username=username, email=email)
    assert response.status_code == status
    assert response.json()["message"].startswith(message)


def test_disabling_and_enabling(registry: Registry, ada: Person, name: str) -> None:
    person = make_member(registry, name)
    code = person.get("/api/code").json()["code"]
    assert manage_user(ada, "disable", username=name).json() == {}
    assert person.get("/api/me").status_code == 401
    assert httpx.post(registry.url + "/api/token", data={"refresh_token": code}).status_code == 401
    assert login(registry, name) == 401
    assert manage_user(ada, "enable", username=name).json() == {}
    assert person.get("/api/me").status_code == 401, "old tokens stay revoked"
    assert login(registry, name) == 200


def test_packages_of_a_disabled_user_stay(registry: Registry, ada: Person, carl: Person, name: str) -> None:
    person = make_member(registry, name)
    top_hash = person.push("kept", {"a": b"1"}, is_team=True)
    manage_user(ada, "disable", username=name).raise_for_status()
    carl.install(name, "kept", top_hash)


def test_a_user_disabled_before_activation_stays_out(local_registry: Any, mailbox: Mailbox, name: str) -> None:
    registry = local_registry(SIGNUP="open", SMTP_HOST="127.0.0.1", SMTP_PORT=str(mailbox.port))
    ada = registry.make_person("ada", is_admin=True)
    register(registry, name)
    link = mailbox.wait(email_of(name), "Activate").link("activate")
    manage_user(ada, "disable", username=name).raise_for_status()
    assert follow(registry, link) == "/activation_error"
    assert login(registry, name) == 401
    assert register(registry, name).status_code == 409, "the name stays taken"


def test_an_admin_enables_a_user_whose_activation_email_was_lost(local_registry: Any, name: str) -> None:
    registry = local_registry(SIGNUP="open")
    ada = registry.make_person("ada", is_admin=True)
    register(registry, name)
    manage_user(ada, "enable", username=name).raise_for_status()
    assert login(registry, name) == 200


def test_admins_make_admins(registry: Registry, ada: Person, name: str) -> None:
    person = make_member(registry, name)
    assert manage_user(person, "create", username="x", email="x@y").status_code == 403
    assert manage_user(ada, "grant_admin", username=name).json() == {}
    assert person.get("/api/me").json()["is_staff"] is True
    assert manage_user(ada, "revoke_admin", username=name).json() == {}
    assert person.get("/api/me").json()["is_staff"] is False


def test_an_admin_resets_a_password(registry: Registry, ada: Person, mailbox: Mailbox, name: str) -> None:
    person = make_member(registry, name)
    assert manage_user(ada, "reset_password", username=name).json() == {}
    assert person.get("/api/me").status_code == 401
    assert login(registry, name) == 401
    link = mailbox.wait(email_of(name)).link("reset_password")
    assert change_password(registry, link, "next password").status_code == 200
    assert login(registry, name, "next password") == 200


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("disable", "User to disable not found"),
        ("enable", "User to enable not found"),
        ("grant_admin", ""),
        ("revoke_admin", ""),
        ("reset_password", "User not found."),
    ],
)
@pytest.mark.parametrize("username", ["nobody_at_all", "", "Ben", "ben\0", "x" * 5000])
def test_an_unknown_user(ada: Person, ben: Person, what: str, message: str, username: str) -> None:
    response = manage_user(ada, what, username=username)
    assert response.status_code == 404
    assert message in response.json()["message"]


def test_an_admin_cannot_disable_or_demote_oneself(ada: Person) -> None:
    assert error(manage_user(ada, "disable", username="ada")) == (403, "Can't disable yourself")
    assert error(manage_user(ada, "revoke_admin", username="ada")) == (403, "Can't revoke yourself")


@pytest.mark.parametrize("what", ["disable", "revoke_admin"])
def test_two_admins_cannot_take_the_last_rights_from_each_other(local_registry: Any, what: str) -> None:
    registry = local_registry()
    people = [registry.make_person(name, is_admin=True) for name in ("ada", "bea")]
    for _ in range(5):
        tokens = [registry.sign_in(person.name) for person in people]
        with ThreadPoolExecutor(2) as pool:
            done = list(
                pool.map(
                    lambda pair: manage_user(pair[0], what, username=pair[1].name).status_code, [tokens, tokens[::-1]]
                )
            )
        assert min(done) == 200
        (row,) = registry.sql("SELECT count(*) AS admins FROM account WHERE is_admin AND is_active")
        assert row["admins"] == 1, done
        registry.sql("UPDATE account SET is_admin = true, is_active = true")


def test_no_sign_in_survives_a_reset_that_it_overlaps(registry: Registry, ada: Person) -> None:
    """Neither a sign-in, a code, a renewed token nor a personal token survives, in whichever order they run."""
    for delay in (0.0, 0.01, 0.03, 0.06):
        person = make_member(registry, new_name("fay"))
        code = person.get("/api/code").json()["code"]
        form = {"refresh_token": code}
        tries = [
            lambda person=person: httpx.post(
                registry.url + "/api/login", json={"username": person.name, "password": PASSWORD}, timeout=30
            ),
            lambda form=form: httpx.post(registry.url + "/api/token", data=form, timeout=30),
            lambda person=person: person.post("/api/refresh"),
            lambda person=person: person.post("/api/v1/tokens", json={"name": "ci"}),
        ]
        with ThreadPoolExecutor(5) as pool:
            futures = [pool.submit(each) for each in tries]
            time.sleep(delay)
            manage_user(ada, "reset_password", username=person.name).raise_for_status()
            responses = [each.result() for each in futures]
        assert {response.status_code for response in responses} <= {200, 401}
        (row,) = registry.sql(
            "SELECT count(*) AS tokens FROM token WHERE account_id = (SELECT id FROM account WHERE name = $1)",
            person.name,
        )
        assert row["tokens"] == 0


def test_deleting_is_off_for_everybody(ada: Person, nobody: Person) -> None:
    for person in (ada, nobody):
        assert error(manage_user(person, "delete", username="ben")) == (400, "This endpoint is not enabled.")


def test_user_endpoints_that_are_off(local_registry: Any) -> None:
    registry = local_registry(ENABLE_USER_ENDPOINTS="off")
    ada = registry.make_person("ada", is_admin=True)
    for what in ("create", "disable", "enable", "grant_admin", "revoke_admin", "reset_password", "delete"):
        for person in (ada, registry.nobody()):
            for path in (what, "%63reate" if what == "create" else what):
                assert error(manage_user(person, path)) == (400, "This endpoint is not enabled.")


def test_account_changes_are_in_the_audit(registry: Registry, ada: Person, mailbox: Mailbox, name: str) -> None:
    manage_user(ada, "create", username=name, email=email_of(name)).raise_for_status()
    change_password(registry, mailbox.wait(email_of(name)).link("reset_password"), PASSWORD).raise_for_status()
    login(registry, name, "wrong one")
    login(registry, name)
    for what in ("grant_admin", "revoke_admin", "reset_password", "disable", "enable"):
        manage_user(ada, what, username=name).raise_for_status()
    rows = registry.sql("SELECT kind, account FROM event WHERE subject = $1 OR account = $1 ORDER BY id", name)
    assert [(row["kind"], row["account"]) for row in rows] == [
        ("ACCOUNT_CREATE", "ada"),
        ("PASSWORD_CHANGE", name),
        ("SIGN_IN_FAILED", None),
        ("SIGN_IN", name),
        ("ADMIN_GRANT", "ada"),
        ("ADMIN_REVOKE", "ada"),
        ("PASSWORD_RESET", "ada"),
        ("ACCOUNT_DISABLE", "ada"),
        ("ACCOUNT_ENABLE", "ada"),
    ]


def test_an_unknown_username_is_not_stored(registry: Registry) -> None:
    """It may be a password typed into the wrong field."""
    login(registry, "hunter2hunter2")
    rows = registry.sql("SELECT to_jsonb(event)::text AS row FROM event")
    assert not [row for row in rows if "hunter2" in row["row"]]


def test_sent_emails_are_deleted_from_the_outbox(registry: Registry, mailbox: Mailbox, name: str) -> None:
    """They contain links, so they must not be stored."""
    make_member(registry, name)
    request_reset(registry, email_of(name))
    mailbox.wait(email_of(name))
    wait_until(lambda: registry.sql("SELECT FROM letter WHERE recipients = $1", [email_of(name)]) == [])
