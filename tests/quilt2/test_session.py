"""Signing in: passwords, tokens, codes (protocol §4)."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from tests.registry import PASSWORD, Person, Registry, new_name

DAYS = 86_400


def exchange(registry: Registry, secret: str) -> httpx.Response:
    """What `quilt login` and a client with an old token send."""
    return httpx.post(registry.url + "/api/token", data={"refresh_token": secret}, timeout=30)


def who(registry: Registry, header: str) -> httpx.Response:
    return httpx.get(registry.url + "/api/me", headers={"Authorization": header})


def alive(registry: Registry, token: str) -> bool:
    return who(registry, f"Bearer {token}").status_code == 200


@pytest.fixture
def eve(registry: Registry) -> Person:
    """Somebody new, whose tokens and codes no other test touches."""
    return registry.make_person(new_name("eve"))


def expire(registry: Registry, table: str, person: Person) -> None:
    """Let all tokens or codes of somebody come to their end."""
    registry.sql(
        f"UPDATE {table} SET expires_at = now() WHERE account_id = (SELECT id FROM account WHERE name = $1)",
        person.name,
    )


# ------------------------------------------------------------------------------------------------ names and passwords


def test_a_name_and_its_password_give_a_token(registry: Registry, eve: Person) -> None:
    answer = httpx.post(registry.url + "/api/login", json={"username": eve.name, "password": PASSWORD})
    assert answer.json().keys() == {"token"}
    assert alive(registry, answer.json()["token"])


def test_signing_in_is_dated(registry: Registry, eve: Person) -> None:
    registry.sql("UPDATE account SET last_login = NULL WHERE name = $1", eve.name)
    registry.sign_in(eve.name)
    (row,) = registry.sql("SELECT now() - last_login < '1 minute' AS recent FROM account WHERE name = $1", eve.name)
    assert row["recent"]


@pytest.mark.parametrize("case", ["wrong password", "unknown user", "other case", "inactive", "no password"])
def test_whoever_cannot_sign_in_is_told_the_same(registry: Registry, eve: Person, case: str) -> None:
    asked = {"username": eve.name, "password": PASSWORD}
    if case == "wrong password":
        asked["password"] += "!"
    elif case == "unknown user":
        asked["username"] = "nobody_at_all"
    elif case == "other case":
        asked["username"] = eve.name.upper()
    elif case == "inactive":
        registry.sql("UPDATE account SET is_active = false WHERE name = $1", eve.name)
    else:
        registry.sql("UPDATE account SET password = NULL WHERE name = $1", eve.name)
    answer = httpx.post(registry.url + "/api/login", json=asked)
    assert (answer.status_code, answer.json()) == (401, {"message": "Login attempt failed"})


# Of "correct horse", as the original's libraries made them.
OLD_PASSWORDS = [
    "$pbkdf2-sha512$1000$VAoBwJgzprRWyrn33pszZg$t2gm4DfjyX.jW.WBNKyMGn8GaIJiNNLojbFq2Czq/5m4NxuS6MN7haNTR4odlQqYbEfgAwKL8vOlKzXrnwYxgQ",
    "pbkdf2_sha256$1000$WS7TXEuOEucV$fGuOo6OpHnGMVgkGRtXzTONkGkVRTETO6NnJHM/+Bkg=",
]


@pytest.mark.parametrize("kept", OLD_PASSWORDS)
def test_a_password_kept_by_the_original_is_good_and_kept_better_from_then_on(registry: Registry, kept: str) -> None:
    person = registry.make_person(new_name("eve"), password=kept)
    (row,) = registry.sql("SELECT password FROM account WHERE name = $1", person.name)
    assert row["password"].startswith("$argon2id$")
    registry.sign_in(person.name)


@pytest.mark.parametrize(
    "kept", ["", "x", "$pbkdf2-sha512$", "$pbkdf2-sha512$x$y$z", "pbkdf2_sha256$1$a$b", *OLD_PASSWORDS]
)
def test_a_password_that_is_kept_wrong_or_another_signs_nobody_in(registry: Registry, eve: Person, kept: str) -> None:
    registry.sql("UPDATE account SET password = $2 WHERE name = $1", eve.name, kept)
    for password in ("another password", "nobody has this password"):
        body = {"username": eve.name, "password": password}
        assert httpx.post(registry.url + "/api/login", json=body).status_code == 401


def test_an_account_shows_itself(registry: Registry, ada: Person, eve: Person) -> None:
    email = f"{eve.name}@example.com"
    expected: dict[str, Any] = {"current_user": eve.name, "email": email, "is_active": True, "is_staff": False}
    assert eve.get("/api/me").json() == expected
    assert ada.get("/api/me").json()["is_staff"] is True


# ------------------------------------------------------------------------------------------------ the header


def test_a_token_may_stand_in_the_header_alone(registry: Registry, eve: Person) -> None:
    assert who(registry, f"Bearer {eve.token}").json() == who(registry, f"{eve.token}").json()


@pytest.mark.parametrize("form", ["bearer {}", "Token {}", "Basic {}", "Bearer  {}", "{}x", "Bearer", "Bearer {} {}"])
def test_any_other_header_is_refused(registry: Registry, eve: Person, form: str) -> None:
    answer = who(registry, form.format(eve.token, eve.token))
    assert (answer.status_code, answer.json()) == (401, {"message": "Token invalid."})


@pytest.mark.parametrize("path", ["/api/package/anna/", "/api/search/"])
def test_a_wrong_token_is_refused_where_none_is_needed(open_registry: Registry, path: str) -> None:
    assert open_registry.nobody().get(path).status_code == 200
    answer = httpx.get(open_registry.url + path, headers={"Authorization": "Bearer wrong"})
    assert (answer.status_code, answer.json()) == (401, {"message": "Token invalid."})


@pytest.mark.parametrize("path", ["/api/me", "/api/code", "/api/package/anna/", "/api/search/"])
def test_in_team_mode_nobody_looks_without_signing_in(nobody: Person, path: str) -> None:
    answer = nobody.get(path)
    assert (answer.status_code, answer.json()) == (401, {"message": "Not logged in"})


# ------------------------------------------------------------------------------------------------ codes


def test_a_client_signs_in_with_a_code(registry: Registry, eve: Person) -> None:
    answer = exchange(registry, eve.get("/api/code").json()["code"])
    assert answer.status_code == 200
    signed_in = answer.json()
    assert signed_in.keys() == {"refresh_token", "access_token", "expires_at"}
    assert who(registry, f"Bearer {signed_in['access_token']}").json()["current_user"] == eve.name
    assert isinstance(signed_in["expires_at"], int)
    assert abs(signed_in["expires_at"] - time.time() - 90 * DAYS) < 600


def test_a_code_is_one_line_safe_to_copy(eve: Person) -> None:
    code = eve.get("/api/code").json()["code"]
    assert code.isascii()
    assert code.replace("-", "").replace("_", "").isalnum()


def test_a_code_works_once(registry: Registry, eve: Person) -> None:
    code = eve.get("/api/code").json()["code"]
    assert exchange(registry, code).status_code == 200
    assert exchange(registry, code).status_code == 401


def test_several_codes_may_be_alive(registry: Registry, eve: Person) -> None:
    codes = [eve.get("/api/code").json()["code"] for _ in range(3)]
    assert [exchange(registry, code).status_code for code in codes] == [200, 200, 200]


def test_a_code_ends_after_ten_minutes(registry: Registry, eve: Person) -> None:
    code = eve.get("/api/code").json()["code"]
    (row,) = registry.sql(
        """SELECT extract(epoch FROM expires_at - now())::int AS seconds FROM code
           WHERE account_id = (SELECT id FROM account WHERE name = $1)""",
        eve.name,
    )
    assert 540 < row["seconds"] <= 600
    expire(registry, "code", eve)
    answer = exchange(registry, code)
    assert (answer.status_code, answer.json()) == (401, {"message": "Code invalid"})


def test_a_code_of_an_account_disabled_meanwhile_is_worth_nothing(registry: Registry, eve: Person) -> None:
    code = eve.get("/api/code").json()["code"]
    registry.sql("UPDATE account SET is_active = false WHERE name = $1", eve.name)
    assert exchange(registry, code).status_code == 401


def test_a_code_is_no_token(registry: Registry, eve: Person) -> None:
    assert not alive(registry, eve.get("/api/code").json()["code"])


@pytest.mark.parametrize("form", [{}, {"refresh_token": ""}, {"other": "x"}])
def test_the_form_field_must_be_there(registry: Registry, form: dict[str, str]) -> None:
    answer = httpx.post(registry.url + "/api/token", data=form)
    assert answer.status_code == 400
    assert "refresh_token" in answer.json()["message"]


def test_a_code_in_the_address_is_neither_taken_nor_spent(registry: Registry, eve: Person) -> None:
    code = eve.get("/api/code").json()["code"]
    assert httpx.post(registry.url + "/api/token", params={"refresh_token": code}).status_code == 400
    assert exchange(registry, code).status_code == 200


# ------------------------------------------------------------------------------------------------ tokens


def test_a_token_is_renewed_by_itself(registry: Registry, eve: Person) -> None:
    assert eve.token
    renewed = exchange(registry, eve.token).json()
    assert renewed["access_token"] != eve.token
    assert who(registry, renewed["access_token"]).json()["current_user"] == eve.name


def test_a_renewed_token_ends_soon(registry: Registry, eve: Person) -> None:
    """Not at once: two runs of a client may renew at the same time."""
    assert eve.token
    exchange(registry, eve.token)
    (row,) = registry.sql(
        """SELECT extract(epoch FROM min(expires_at) - now())::int AS seconds FROM token
           WHERE account_id = (SELECT id FROM account WHERE name = $1)""",
        eve.name,
    )
    assert row["seconds"] <= 60
    assert exchange(registry, eve.token).status_code == 200


def test_an_expired_token_is_dead_for_everything(registry: Registry, eve: Person) -> None:
    assert eve.token
    expire(registry, "token", eve)
    assert not alive(registry, eve.token)
    assert exchange(registry, eve.token).status_code == 401
    assert eve.post("/api/refresh").status_code == 401
    assert eve.post("/api/logout").status_code == 401


def test_refreshing_ends_the_token_used(registry: Registry, eve: Person) -> None:
    assert eve.token
    answer = eve.post("/api/refresh").json()
    assert answer.keys() == {"token"}
    assert alive(registry, answer["token"])
    assert not alive(registry, eve.token)


def test_signing_out_ends_this_token_and_no_other(registry: Registry, eve: Person) -> None:
    assert eve.token
    elsewhere = registry.sign_in(eve.name)
    assert eve.post("/api/logout").json() == {}
    assert not alive(registry, eve.token)
    assert elsewhere.token
    assert alive(registry, elsewhere.token)


def test_a_bare_token_can_be_refreshed_and_signed_out(registry: Registry, eve: Person) -> None:
    header = {"Authorization": str(eve.token)}
    token = httpx.post(registry.url + "/api/refresh", headers=header).json()["token"]
    assert httpx.post(registry.url + "/api/logout", headers={"Authorization": token}).json() == {}
    assert not alive(registry, token)


def test_the_database_holds_no_token_and_no_code(registry: Registry, eve: Person) -> None:
    code = eve.get("/api/code").json()["code"]
    rows = registry.sql("SELECT digest FROM token UNION ALL SELECT digest FROM code")
    assert {len(row["digest"]) for row in rows} == {32}
    assert not {str(eve.token).encode(), code.encode()} & {bytes(row["digest"]) for row in rows}


@pytest.mark.parametrize("query", ["", "?x=1"])
def test_quilt_login_sends_the_browser_to_the_page_with_the_code(
    registry: Registry, nobody: Person, query: str
) -> None:
    answer = nobody.get("/login" + query)
    assert (answer.status_code, answer.headers["location"]) == (302, registry.url + "/code")
