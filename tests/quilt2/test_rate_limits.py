"""Rate limits, which all workers share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from quilt_registry.rate_limits import SIGN_IN_PAIR, _key
from tests.browsers import browser
from tests.registry import PASSWORD, Registry, new_name
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def strict(new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry with rate limits and two workers, which trusts the client IP in `X-Forwarded-For`."""
    home = tmp_path_factory.mktemp("strict")
    running = Registry(home, new_database(), workers=2, SIGNUP="open", FORWARDED_ALLOW_IPS="127.0.0.1").start()
    yield running
    assert running.stop() == 0


@pytest.fixture(autouse=True)
def _start_again(strict: Registry) -> None:
    strict.sql("DELETE FROM allowance")


def post(registry: Registry, path: str, client_ip: str = "10.0.0.1", **body: str) -> httpx.Response:
    """Send a request from a client IP, over a new connection, so that either worker may respond."""
    return httpx.post(registry.url + path, json=body, headers={"X-Forwarded-For": client_ip}, timeout=30)


def sign_in(registry: Registry, name: str, password: str = PASSWORD, client_ip: str = "10.0.0.1") -> httpx.Response:
    return post(registry, "/api/login", client_ip, username=name, password=password)


def statuses(responses: list[httpx.Response]) -> list[int]:
    return [response.status_code for response in responses]


def end_windows(registry: Registry) -> None:
    registry.sql("UPDATE allowance SET ends_at = now()")


def check_wait(response: httpx.Response, max_seconds: int) -> None:
    """Assert that a response is 429 and says how long to wait."""
    assert response.status_code == 429
    assert 0 < int(response.headers["retry-after"]) <= max_seconds
    assert "Try again in" in response.json()["message"]


def test_ten_wrong_passwords_and_then_not_even_the_right_one(strict: Registry) -> None:
    fay, gil = (strict.make_person(new_name(name)).name for name in ("fay", "gil"))
    strict.sql("DELETE FROM allowance")
    assert statuses([sign_in(strict, fay, "wrong") for _ in range(10)]) == [401] * 10
    check_wait(sign_in(strict, fay), 900)
    assert sign_in(strict, gil).status_code == 200, "another user at this client IP can sign in"
    assert sign_in(strict, fay, client_ip="10.0.0.2").status_code == 200, "the user can sign in from another client IP"
    end_windows(strict)
    assert sign_in(strict, fay).status_code == 200


def test_an_unknown_username_has_the_same_limit(strict: Registry) -> None:
    responses = [sign_in(strict, "nobody_at_all", "wrong") for _ in range(11)]
    assert statuses(responses) == [401] * 10 + [429]


def test_many_guesses_at_once_count_too(strict: Registry) -> None:
    fay = strict.make_person(new_name("fay")).name
    strict.sql("DELETE FROM allowance")
    with ThreadPoolExecutor(16) as pool:
        responses = list(pool.map(lambda _: sign_in(strict, fay, "wrong"), range(30)))
    assert sorted(statuses(responses)) == [401] * 10 + [429] * 20


def test_good_sign_ins_are_not_counted(strict: Registry) -> None:
    fay = strict.make_person(new_name("fay")).name
    assert statuses([sign_in(strict, fay) for _ in range(15)]) == [200] * 15


def test_guessing_at_many_names_from_one_client_ip(strict: Registry) -> None:
    sign_in(strict, "user0", "wrong")
    strict.sql("UPDATE allowance SET used = 98")  # as after 98 guesses
    assert statuses([sign_in(strict, f"user{i}", "wrong") for i in range(1, 5)]) == [401, 401, 429, 429]
    assert sign_in(strict, "user5", "wrong", client_ip="10.0.0.2").status_code == 401


def test_a_restart_forgets_nothing(local_registry: Callable[..., Registry], new_database: Callable[[], str]) -> None:
    url = new_database()
    first = local_registry(database_url=url)
    for _ in range(10):
        sign_in(first, "somebody", "wrong")
    first.stop()
    assert sign_in(local_registry(database_url=url), "somebody", "wrong").status_code == 429


def test_sign_ups(strict: Registry) -> None:
    def register(client_ip: str) -> httpx.Response:
        name = new_name("hal")
        return post(strict, "/api/register", client_ip, username=name, email=f"{name}@example.org", password=PASSWORD)

    assert statuses([register("10.0.1.1") for _ in range(3)]) == [200] * 3
    strict.sql("UPDATE allowance SET used = 19")
    invalid = {"username": "Bo", "email": "x@example.org", "password": PASSWORD}
    assert statuses([post(strict, "/api/register", "10.0.1.1", **invalid) for _ in range(3)]) == [400] * 3
    taken = {"username": "somebody", "email": "somebody@example.org", "password": PASSWORD}
    assert post(strict, "/api/register", "10.0.1.1", **taken).status_code == 200, "invalid requests were not counted"
    check_wait(post(strict, "/api/register", "10.0.1.1", **taken), 3600)
    assert register("10.0.1.2").status_code == 200


def test_requests_for_a_new_password(strict: Registry) -> None:
    """Responses are limited by client IP, emails by account, so that responses do not reveal accounts."""
    fay = strict.make_person(new_name("fay"))
    email = f"{fay.name}@example.com"
    for requested_email, client_ip in ((email, "10.1.0.1"), ("nobody@example.com", "10.1.0.2")):
        post(strict, "/api/reset_password", client_ip, email="first@example.com")
        strict.sql("UPDATE allowance SET used = 14 WHERE used = 1")
        with ThreadPoolExecutor(7) as threads:  # at once, because each response takes a third of a second
            waiting = [
                threads.submit(post, strict, "/api/reset_password", client_ip, email=requested_email) for _ in range(7)
            ]
        assert sorted(statuses([each.result() for each in waiting])) == [200] * 6 + [429]
        strict.sql("DELETE FROM allowance WHERE used > 6")
    others = [post(strict, "/api/reset_password", f"10.2.0.{i}", email=email) for i in range(4)]
    assert statuses(others) == [200] * 4
    assert len(strict.sql("SELECT FROM event WHERE kind = 'PASSWORD_RESET' AND subject = $1", fay.name)) == 5


def test_invitations(strict: Registry) -> None:
    fay = strict.make_person(new_name("fay"))
    fay.push("p", {"a": b"1"})
    responses = [fay.put(f"/api/access/{fay.name}/p/x{i}@example.org") for i in range(21)]
    assert statuses(responses) == [200] * 20 + [429]
    check_wait(responses[-1], 3600)


def test_ipv6_addresses_of_one_network_count_together(strict: Registry) -> None:
    """An IPv6 client usually has 2^64 addresses."""
    responses = [sign_in(strict, "somebody", "wrong", client_ip=f"2001:db8:1:2::{i:x}") for i in range(11)]
    assert statuses(responses) == [401] * 10 + [429]
    assert sign_in(strict, "somebody", "wrong", client_ip="2001:db8:1:3::1").status_code == 401


def test_emails_about_comments_are_limited(strict: Registry) -> None:
    """Many comments do not flood the owner's mailbox."""
    fay, gil = (strict.make_person(new_name(name)) for name in ("fay", "gil"))
    fay.push("p", {"a": b"1"}, is_team=True)
    strict.sql("DELETE FROM allowance")
    path = f"/api/comments/{fay.name}/p/"
    gil.post(path, json={"contents": "the first"}).raise_for_status()
    wait_until(lambda: "the first" in strict.log.read_text())
    strict.sql("UPDATE allowance SET used = used + 20")
    assert gil.post(path, json={"contents": "too many"}).status_code == 429
    strict.sql("DELETE FROM allowance WHERE used = 22")  # Gil's comments; the count of Fay's emails stays
    gil.post(path, json={"contents": "unannounced"}).raise_for_status()
    strict.sql("DELETE FROM allowance")
    gil.post(path, json={"contents": "announced"}).raise_for_status()
    wait_until(lambda: "announced" in strict.log.read_text())
    assert "unannounced" not in strict.log.read_text()


def test_a_forwarded_ip_from_an_untrusted_proxy_is_ignored(local_registry: Callable[..., Registry]) -> None:
    registry = local_registry(FORWARDED_ALLOW_IPS="10.9.9.9")
    responses = [sign_in(registry, "somebody", "wrong", client_ip=f"10.0.0.{i}") for i in range(11)]
    assert responses[-1].status_code == 429


def test_a_page_says_how_long_to_wait(strict: Registry) -> None:
    form = {"username": "somebody", "password": "wrong", "next": "/"}
    with browser(strict) as client:
        pages = [client.submit("/signin", form) for _ in range(11)]
    assert statuses(pages) == [422] * 10 + [429]
    assert "Try again in 15 minutes" in pages[-1].text
    assert pages[-1].headers["retry-after"]


def exhaust(registry: Registry, client_ip: str, name: str) -> None:
    """Use up the attempts on an account, and those of a client IP, as a hundred guesses at many names would."""
    registry.sql("DELETE FROM allowance")
    sign_in(registry, name, "wrong", client_ip="2001:db8:1:2::1")
    sign_in(registry, "another", "wrong", client_ip=client_ip)
    registry.sql("UPDATE allowance SET used = 100")
    registry.sql("DELETE FROM allowance WHERE subject = $1", _key(SIGN_IN_PAIR, ("another", client_ip)))


def test_others_lock_nobody_out_of_a_familiar_place(strict: Registry) -> None:
    """The guesses come from many networks of one IPv6 site, or from neighbors behind the same IP."""
    fay = strict.make_person(new_name("fay")).name
    home, office = "192.0.2.1", "192.0.2.2"
    assert sign_in(strict, fay, client_ip=home).status_code == 200
    exhaust(strict, home, fay)
    check_wait(sign_in(strict, fay, client_ip=office), 900)
    assert sign_in(strict, fay, client_ip=home).status_code == 200
    assert sign_in(strict, fay, client_ip=f"::ffff:{home}").status_code == 200, "the same place"
    check_wait(sign_in(strict, "another", client_ip=home), 900)
    assert statuses([sign_in(strict, fay, "wrong", client_ip=home) for _ in range(11)]) == [401] * 10 + [429]
    check_wait(sign_in(strict, fay, client_ip=home), 900)


def test_a_place_becomes_unfamiliar(strict: Registry) -> None:
    fay = strict.make_person(new_name("fay")).name
    strict.sql(
        """INSERT INTO event (kind, account, created_at, extra)
           VALUES ('SIGN_IN', $1, now() - interval '31 days', '{"address": "192.0.2.1"}')""",
        fay,
    )
    exhaust(strict, "192.0.2.1", fay)
    check_wait(sign_in(strict, fay, client_ip="192.0.2.1"), 900)
