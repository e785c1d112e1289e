"""Sessions: passwords, tokens and codes (protocol §4)."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from tests.registry import PASSWORD, Person, Registry, new_name

SECONDS_PER_DAY = 86_400


def exchange(registry: Registry, secret: str) -> httpx.Response:
    """Exchange a code or a refresh token, as `quilt login` and clients with an old token do."""
    return httpx.post(registry.url + "/api/token", data={"refresh_token": secret}, timeout=30)


def get_me(registry: Registry, header: str) -> httpx.Response:
    return httpx.get(registry.url + "/api/me", headers={"Authorization": header})


def is_valid(registry: Registry, token: str) -> bool:
    return get_me(registry, f"Bearer {token}").status_code == 200


@pytest.fixture
def eve(registry: Registry) -> Person:
    """A new user, whose tokens and codes no other test changes."""
    return registry.make_person(new_name("eve"))


def expire(registry: Registry, table: str, person: Person) -> None:
    """Let all tokens or codes of a user expire."""
    registry.sql(
        f"UPDATE {table} SET expires_at = now() WHERE account_id = (SELECT id FROM account WHERE name = $1)",
        person.name,
    )


# ------------------------------------------------------------------------------------------------ names and passwords


def test_a_name_and_its_password_give_a_token(registry: Registry, eve: Person) -> None:
    response = httpx.post(registry.url + "/api/login", json={"username": eve.name, "password": PASSWORD})
    assert response.json().keys() == {"token"}
    assert is_valid(registry, response.json()["token"])


def test_signing_in_is_dated(registry: Registry, eve: Person) -> None:
    registry.sql("UPDATE account SET last_login = NULL WHERE name = $1", eve.name)
    registry.sign_in(eve.name)
    (row,) = registry.sql("SELECT now() - last_login < '1 minute' AS recent FROM account WHERE name = $1", eve.name)
    assert row["recent"]


@pytest.mark.parametrize("case", ["wrong password", "unknown user", "other case", "inactive", "no password"])
def test_every_failed_sign_in_gets_the_same_response(registry: Registry, eve: Person, case: str) -> None:
    body = {"username": eve.name, "password": PASSWORD}
    if case == "wrong password":
        body["password"] += "!"
    elif case == "unknown user":
        body["username"] = "nobody_at_all"
    elif case == "other case":
        body["username"] = eve.name.upper()
    elif case == "inactive":
        registry.sql("UPDATE account SET is_active = false WHERE name = $1", eve.name)
    else:
        registry.sql("UPDATE account SET password = NULL WHERE name = $1", eve.name)
    response = httpx.post(registry.url + "/api/login", json=body)
    assert (response.status_code, response.json()) == (401, {"message": "Login attempt failed"})


# Hashes of "correct horse" from the libraries of the original.
OLD_PASSWORDS = [
    "$pbkdf2-sha512$1000$VAoBwJgzprRWyrn33pszZg$t2gm4DfjyX.jW.WBNKyMGn8GaIJiNNLojbFq2Czq/5m4NxuS6MN7haNTR4odlQqYbEfgAwKL8vOlKzXrnwYxgQ",
    "pbkdf2_sha256$1000$WS7TXEuOEucV$fGuOo6OpHnGMVgkGRtXzTONkGkVRTETO6NnJHM/+Bkg=",
]


@pytest.mark.parametrize("stored", OLD_PASSWORDS)
def test_a_password_hash_of_the_original_works_and_is_upgraded(registry: Registry, stored: str) -> None:
    person = registry.make_person(new_name("eve"), password=stored)
    (row,) = registry.sql("SELECT password FROM account WHERE name = $1", person.name)
    assert row["password"].startswith("$argon2id$")
    registry.sign_in(person.name)


@pytest.mark.parametrize(
    "stored", ["", "x", "$pbkdf2-sha512$", "$pbkdf2-sha512$x$y$z", "pbkdf2_sha256$1$a$b", *OLD_PASSWORDS]
)
def test_a_malformed_or_different_password_hash_signs_nobody_in(registry: Registry, eve: Person, stored: str) -> None:
    registry.sql("UPDATE account SET password = $2 WHERE name = $1", eve.name, stored)
    for password in ("another password", "nobody has this password"):
        body = {"username": eve.name, "password": password}
        assert httpx.post(registry.url + "/api/login", json=body).status_code == 401


def test_an_account_shows_itself(registry: Registry, ada: Person, eve: Person) -> None:
    email = f"{eve.name}@example.com"
    expected: dict[str, Any] = {"current_user": eve.name, "email": email, "is_active": True, "is_staff": False}
    assert eve.get("/api/me").json() == expected
    assert ada.get("/api/me").json()["is_staff"] is True


# ------------------------------------------------------------------------------------------------ Authorization header


def test_a_token_may_stand_in_the_header_alone(registry: Registry, eve: Person) -> None:
    assert get_me(registry, f"Bearer {eve.token}").json() == get_me(registry, f"{eve.token}").json()


@pytest.mark.parametrize("form", ["bearer {}", "BEARER {}", "Bearer  {}"])
def test_the_scheme_is_read_as_http_defines_it(registry: Registry, eve: Person, form: str) -> None:
    response = get_me(registry, form.format(eve.token))
    assert (response.status_code, response.json()) == (200, get_me(registry, f"Bearer {eve.token}").json())


@pytest.mark.parametrize("form", ["Token {}", "Basic {}", "{}x", "Bearer", "Bearer {} {}"])
def test_any_other_header_is_refused(registry: Registry, eve: Person, form: str) -> None:
    response = get_me(registry, form.format(eve.token, eve.token))
    assert (response.status_code, response.json()) == (401, {"message": "Token invalid."})


@pytest.mark.parametrize("path", ["/api/package/anna/", "/api/search/"])
def test_a_wrong_token_is_refused_where_none_is_needed(open_registry: Registry, path: str) -> None:
    assert open_registry.nobody().get(path).status_code == 200
    response = httpx.get(open_registry.url + path, headers={"Authorization": "Bearer wrong"})
    assert (response.status_code, response.json()) == (401, {"message": "Token invalid."})


@pytest.mark.parametrize("path", ["/api/me", "/api/code", "/api/package/anna/", "/api/search/"])
def test_in_team_mode_nobody_looks_without_signing_in(nobody: Person, path: str) -> None:
    response = nobody.get(path)
    assert (response.status_code, response.json()) == (401, {"message": "Not logged in"})


# ------------------------------------------------------------------------------------------------ codes


def test_a_client_signs_in_with_a_code(registry: Registry, eve: Person) -> None:
    response = exchange(registry, eve.get("/api/code").json()["code"])
    assert response.status_code == 200
    signed_in = response.json()
    assert signed_in.keys() == {"refresh_token", "access_token", "expires_at"}
    assert get_me(registry, f"Bearer {signed_in['access_token']}").json()["current_user"] == eve.name
    assert isinstance(signed_in["expires_at"], int)
    assert abs(signed_in["expires_at"] - time.time() - 90 * SECONDS_PER_DAY) < 600


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


def test_a_code_expires_after_ten_minutes(registry: Registry, eve: Person) -> None:
    code = eve.get("/api/code").json()["code"]
    (row,) = registry.sql(
        """SELECT extract(epoch FROM expires_at - now())::int AS seconds FROM code
           WHERE account_id = (SELECT id FROM account WHERE name = $1)""",
        eve.name,
    )
    assert 540 < row["seconds"] <= 600
    expire(registry, "code", eve)
    response = exchange(registry, code)
    assert (response.status_code, response.json()) == (401, {"message": "Code invalid"})


def test_a_code_of_a_disabled_account_is_refused(registry: Registry, eve: Person) -> None:
    code = eve.get("/api/code").json()["code"]
    registry.sql("UPDATE account SET is_active = false WHERE name = $1", eve.name)
    assert exchange(registry, code).status_code == 401


def test_a_code_is_no_token(registry: Registry, eve: Person) -> None:
    assert not is_valid(registry, eve.get("/api/code").json()["code"])


@pytest.mark.parametrize("form", [{}, {"refresh_token": ""}, {"other": "x"}])
def test_the_form_field_must_be_there(registry: Registry, form: dict[str, str]) -> None:
    response = httpx.post(registry.url + "/api/token", data=form)
    assert response.status_code == 400
    assert "refresh_token" in response.json()["message"]


def test_a_code_in_the_query_string_is_neither_accepted_nor_spent(registry: Registry, eve: Person) -> None:
    code = eve.get("/api/code").json()["code"]
    assert httpx.post(registry.url + "/api/token", params={"refresh_token": code}).status_code == 400
    assert exchange(registry, code).status_code == 200


# ------------------------------------------------------------------------------------------------ tokens


def test_a_token_is_renewed_by_itself(registry: Registry, eve: Person) -> None:
    assert eve.token
    renewed = exchange(registry, eve.token).json()
    assert renewed["access_token"] != eve.token
    assert get_me(registry, renewed["access_token"]).json()["current_user"] == eve.name


def test_a_renewed_token_ends_soon(registry: Registry, eve: Person) -> None:
    """It stays valid for a minute, because two runs of a client may renew it at the same time."""
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
    assert not is_valid(registry, eve.token)
    assert exchange(registry, eve.token).status_code == 401
    assert eve.post("/api/refresh").status_code == 401
    assert eve.post("/api/logout").status_code == 401


def test_refreshing_ends_the_token_used(registry: Registry, eve: Person) -> None:
    assert eve.token
    response = eve.post("/api/refresh").json()
    assert response.keys() == {"token"}
    assert is_valid(registry, response["token"])
    assert not is_valid(registry, eve.token)


def test_signing_out_ends_this_token_and_no_other(registry: Registry, eve: Person) -> None:
    assert eve.token
    elsewhere = registry.sign_in(eve.name)
    assert eve.post("/api/logout").json() == {}
    assert not is_valid(registry, eve.token)
    assert elsewhere.token
    assert is_valid(registry, elsewhere.token)


def test_a_bare_token_can_be_refreshed_and_signed_out(registry: Registry, eve: Person) -> None:
    header = {"Authorization": str(eve.token)}
    token = httpx.post(registry.url + "/api/refresh", headers=header).json()["token"]
    assert httpx.post(registry.url + "/api/logout", headers={"Authorization": token}).json() == {}
    assert not is_valid(registry, token)


def test_the_database_holds_no_token_and_no_code(registry: Registry, eve: Person) -> None:
    code = eve.get("/api/code").json()["code"]
    rows = registry.sql("SELECT digest FROM token UNION ALL SELECT digest FROM code")
    assert {len(row["digest"]) for row in rows} == {32}
    assert not {str(eve.token).encode(), code.encode()} & {bytes(row["digest"]) for row in rows}


@pytest.mark.parametrize("query", ["", "?x=1"])
def test_quilt_login_sends_the_browser_to_the_page_with_the_code(
    registry: Registry, nobody: Person, query: str
) -> None:
    response = nobody.get("/login" + query)
    assert (response.status_code, response.headers["location"]) == (302, registry.url + "/code")
