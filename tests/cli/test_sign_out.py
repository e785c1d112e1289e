"""The command that ends sessions."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from tests.browsers import browser, sign_in
from tests.commands import refuses, succeeds
from tests.registry import LocalRegistry


def test_one_user_or_all_users_are_signed_out(local_registry: Callable[..., LocalRegistry]) -> None:
    registry = local_registry()
    anna, ben, carl = (registry.make_person(name) for name in ("anna", "ben", "carl"))
    machine = ben.post("/api/v1/tokens", json={"name": "ci"}).json()["token"]
    code = ben.get("/api/code").json()["code"]

    def signed_in() -> list[bool]:
        return [each.get("/api/me").status_code == 200 for each in (anna, ben, carl)]

    def works(token: str) -> bool:
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.get(registry.url + "/api/me", headers=headers).status_code == 200

    with browser(registry) as page:
        sign_in(page, "ben")
        assert succeeds(registry.command("sign-out", "ben")) == "Signed out ben.\n"
        assert page.get("/code").status_code == 302
    assert signed_in() == [True, False, True]
    assert httpx.post(registry.url + "/api/token", data={"refresh_token": code}).status_code == 401
    assert works(machine)
    assert succeeds(registry.command("sign-out", "ben")) == "ben was not signed in.\n"

    assert succeeds(registry.command("sign-out", "--all-users", "--personal-tokens")) == "Signed out 3 users.\n"
    assert signed_in() == [False] * 3
    assert not works(machine)
    assert registry.sign_in("ben").get("/api/me").status_code == 200, "the password stays valid"
    rows = registry.sql("SELECT account, subject FROM event WHERE kind = 'SIGN_OUT' ORDER BY id")
    assert [tuple(row) for row in rows] == [(None, name) for name in ("ben", "anna", "ben", "carl")]
    refuses(registry.command("sign-out", "dora"), "There is no user 'dora'.")


@pytest.mark.parametrize("arguments", [[], ["anna", "--all-users"]])
def test_sign_out_names_a_user_or_all(local_registry: Callable[..., LocalRegistry], arguments: list[str]) -> None:
    done = local_registry().command("sign-out", *arguments)
    assert done.returncode == 2
    assert "Name a user, or use --all-users." in done.stderr


def test_a_new_key_ends_no_session(
    local_registry: Callable[..., LocalRegistry], new_database: Callable[[], str]
) -> None:
    url = new_database()
    first = local_registry(database_url=url)
    first.make_person("anna")
    with browser(first) as page:
        sign_in(page, "anna")
        cookies = page.cookies
    first.stop()
    second = local_registry(database_url=url, QUILT_SECRET_KEY="another key of at least 16 characters")
    with browser(second) as page:
        page.cookies = cookies
        assert page.get("/code").status_code == 200
