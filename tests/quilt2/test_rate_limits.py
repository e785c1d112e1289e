"""How often somebody may try: counted for all workers together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.registry import PASSWORD, Registry, new_name
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def strict(new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry with its limits on, and two workers. What a proxy says of addresses is believed."""
    home = tmp_path_factory.mktemp("strict")
    running = Registry(home, new_database(), workers=2, SIGNUP="open", FORWARDED_ALLOW_IPS="127.0.0.1").start()
    yield running
    assert running.stop() == 0


@pytest.fixture(autouse=True)
def _start_again(strict: Registry) -> None:
    strict.sql("DELETE FROM allowance")


def post(registry: Registry, path: str, address: str = "10.0.0.1", **body: str) -> httpx.Response:
    """From an address, over a connection of its own, so that any worker may answer."""
    return httpx.post(registry.url + path, json=body, headers={"X-Forwarded-For": address}, timeout=30)


def sign_in(registry: Registry, name: str, password: str = PASSWORD, address: str = "10.0.0.1") -> httpx.Response:
    return post(registry, "/api/login", address, username=name, password=password)


def statuses(answers: list[httpx.Response]) -> list[int]:
    return [answer.status_code for answer in answers]


def end_windows(registry: Registry) -> None:
    registry.sql("UPDATE allowance SET ends_at = now()")


def check_wait(answer: httpx.Response, most: int) -> None:
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= most
    assert "Try again in" in answer.json()["message"]


def test_ten_wrong_passwords_and_then_not_even_the_right_one(strict: Registry) -> None:
    fay, gil = (strict.make_person(new_name(name)).name for name in ("fay", "gil"))
    strict.sql("DELETE FROM allowance")
    assert statuses([sign_in(strict, fay, "wrong") for _ in range(10)]) == [401] * 10
    check_wait(sign_in(strict, fay), 900)
    assert sign_in(strict, gil).status_code == 200, "somebody else at this address may"
    assert sign_in(strict, fay, address="10.0.0.2").status_code == 200, "the owner may, from elsewhere"
    end_windows(strict)
    assert sign_in(strict, fay).status_code == 200


def test_an_unknown_name_is_limited_alike(strict: Registry) -> None:
    answers = [sign_in(strict, "nobody_at_all", "wrong") for _ in range(11)]
    assert statuses(answers) == [401] * 10 + [429]


def test_many_guesses_at_once_count_too(strict: Registry) -> None:
    fay = strict.make_person(new_name("fay")).name
    strict.sql("DELETE FROM allowance")
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: sign_in(strict, fay, "wrong"), range(30)))
    assert sorted(statuses(answers)) == [401] * 10 + [429] * 20


def test_good_sign_ins_are_not_counted(strict: Registry) -> None:
    fay = strict.make_person(new_name("fay")).name
    assert statuses([sign_in(strict, fay) for _ in range(15)]) == [200] * 15


def test_guessing_at_many_names_from_one_address(strict: Registry) -> None:
    sign_in(strict, "user0", "wrong")
    strict.sql("UPDATE allowance SET used = 98")  # as after 98 guesses
    assert statuses([sign_in(strict, f"user{i}", "wrong") for i in range(1, 5)]) == [401, 401, 429, 429]
    assert sign_in(strict, "user5", "wrong", address="10.0.0.2").status_code == 401


def test_a_restart_forgets_nothing(local_registry: Callable[..., Registry], new_database: Callable[[], str]) -> None:
    url = new_database()
    first = local_registry(database_url=url)
    for _ in range(10):
        sign_in(first, "somebody", "wrong")
    first.stop()
    assert sign_in(local_registry(database_url=url), "somebody", "wrong").status_code == 429


def test_sign_ups(strict: Registry) -> None:
    def register(address: str) -> httpx.Response:
        name = new_name("hal")
        return post(strict, "/api/register", address, username=name, email=f"{name}@example.org", password=PASSWORD)

    assert statuses([register("10.0.1.1") for _ in range(3)]) == [200] * 3
    strict.sql("UPDATE allowance SET used = 19")
    slip = {"username": "Bo", "email": "x@example.org", "password": PASSWORD}
    assert statuses([post(strict, "/api/register", "10.0.1.1", **slip) for _ in range(3)]) == [400] * 3
    taken = {"username": "somebody", "email": "somebody@example.org", "password": PASSWORD}
    assert post(strict, "/api/register", "10.0.1.1", **taken).status_code == 200, "slips were not counted"
    check_wait(post(strict, "/api/register", "10.0.1.1", **taken), 3600)
    assert register("10.0.1.2").status_code == 200


def test_requests_for_a_new_password(strict: Registry) -> None:
    """By address for the answer; by account only the letters, as the answer must not tell that there is one."""
    fay = strict.make_person(new_name("fay"))
    email = f"{fay.name}@example.com"
    for email_asked, place in ((email, "10.1.0.1"), ("nobody@example.com", "10.1.0.2")):
        post(strict, "/api/reset_password", place, email="first@example.com")
        strict.sql("UPDATE allowance SET used = 14 WHERE used = 1")
        answers = [post(strict, "/api/reset_password", place, email=email_asked) for _ in range(7)]
        assert statuses(answers) == [200] * 6 + [429]
        strict.sql("DELETE FROM allowance WHERE used > 6")
    others = [post(strict, "/api/reset_password", f"10.2.0.{i}", email=email) for i in range(4)]
    assert statuses(others) == [200] * 4
    assert len(strict.sql("SELECT FROM event WHERE kind = 'PASSWORD_RESET' AND subject = $1", fay.name)) == 5


def test_invitations(strict: Registry) -> None:
    fay = strict.make_person(new_name("fay"))
    fay.push("p", {"a": b"1"})
    answers = [fay.put(f"/api/access/{fay.name}/p/x{i}@example.org") for i in range(21)]
    assert statuses(answers) == [200] * 20 + [429]
    check_wait(answers[-1], 3600)


def test_a_household_with_many_addresses_is_one(strict: Registry) -> None:
    """Of IPv6, whoever has an address has 2^64 of them."""
    answers = [sign_in(strict, "somebody", "wrong", address=f"2001:db8:1:2::{i:x}") for i in range(11)]
    assert statuses(answers) == [401] * 10 + [429]
    assert sign_in(strict, "somebody", "wrong", address="2001:db8:1:3::1").status_code == 401


def test_letters_about_comments(strict: Registry) -> None:
    """However much is said, nobody's mailbox is filled with it."""
    fay, gil = (strict.make_person(new_name(name)) for name in ("fay", "gil"))
    fay.push("p", {"a": b"1"}, is_team=True)
    strict.sql("DELETE FROM allowance")
    path = f"/api/comments/{fay.name}/p/"
    gil.post(path, json={"contents": "the first"}).raise_for_status()
    wait_until(lambda: "the first" in strict.log.read_text())
    strict.sql("UPDATE allowance SET used = used + 20")
    assert gil.post(path, json={"contents": "too many"}).status_code == 429
    strict.sql("DELETE FROM allowance WHERE used = 22")  # what he may say; what she is written stays counted
    gil.post(path, json={"contents": "unannounced"}).raise_for_status()
    strict.sql("DELETE FROM allowance")
    gil.post(path, json={"contents": "announced"}).raise_for_status()
    wait_until(lambda: "announced" in strict.log.read_text())
    assert "unannounced" not in strict.log.read_text()


def test_an_address_that_nobody_vouches_for_is_not_believed(local_registry: Callable[..., Registry]) -> None:
    registry = local_registry(FORWARDED_ALLOW_IPS="10.9.9.9")
    answers = [sign_in(registry, "somebody", "wrong", address=f"10.0.0.{i}") for i in range(11)]
    assert answers[-1].status_code == 429


def test_a_page_says_how_long_to_wait(strict: Registry) -> None:
    form = {"username": "somebody", "password": "wrong", "next": "/"}
    pages = [httpx.post(strict.url + "/signin", data=form) for _ in range(11)]
    assert statuses(pages) == [422] * 10 + [429]
    assert "Try again in 15 minutes" in pages[-1].text
    assert pages[-1].headers["retry-after"]
