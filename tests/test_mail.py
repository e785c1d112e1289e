"""Letters on their way: after the commit, by one sender, in spite of a mail server that refuses, hangs or is away."""

from __future__ import annotations

import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.mailbox import Mailbox
from tests.registry import Registry
from tests.waiting import wait_until

Start = Callable[..., Registry]


@pytest.fixture
def box() -> Iterator[Mailbox]:
    """A mail server for one test."""
    server = Mailbox().start()
    yield server
    server.stop()


def mailing(box: Mailbox, **more: str) -> dict[str, Any]:
    return {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(box.port), "RATE_LIMITS": "off", "SIGNUP": "open", **more}


def ask(registry: Registry, name: str) -> None:
    """Let a reset letter be written to somebody."""
    body = {"email": f"{name}@example.com"}
    assert httpx.post(registry.url + "/api/reset_password", json=body, timeout=30).json() == {}


def waiting(registry: Registry) -> list[Any]:
    return registry.sql("SELECT *, next_try - now() AS wait FROM letter ORDER BY id")


def due_now(registry: Registry) -> None:
    """Let all the letters that wait be tried at once."""
    registry.sql("UPDATE letter SET next_try = now(), problem = NULL WHERE next_try IS NOT NULL")


def wait_failed(registry: Registry, tries: int) -> None:
    """Wait until each letter's try of this number has failed, to its end: before, it would undo what a test sets."""
    assert waiting(registry)
    wait_until(lambda: all(row["tries"] == tries and row["problem"] for row in waiting(registry)))


# ------------------------------------------------------------------------------------------------ what a letter is


def test_a_letter_names_the_team_and_both_hosts(own_registry: Start, box: Mailbox) -> None:
    given = mailing(
        box,
        TEAM_ID="acme",
        TEAM_NAME="Äcme <Data> & Söhne",
        REGISTRY_URL="https://registry.acme.example",
        CATALOG_URL="https://catalog.acme.example",
        QUILT_DEFAULT_SENDER="Acme Data <data@acme.example>",
    )
    registry = own_registry(**given)
    ada = registry.make_person("ada", is_admin=True)
    ada.post("/api/users/create", json={"username": "fay", "email": "fay@example.com"}).raise_for_status()
    letter = box.wait("fay@example.com")
    assert letter.subject == "Welcome to Äcme <Data> & Söhne, fay"
    assert letter.message["From"] == "Acme Data <data@acme.example>"
    assert letter.message["To"] == "fay@example.com"
    assert letter.message["Message-ID"].endswith("@acme.example>")
    assert letter.message["Date"]
    assert letter.message.get_content_type() == "multipart/alternative"
    assert "Äcme <Data> & Söhne" in letter.text
    assert "Äcme &lt;Data&gt; &amp; Söhne" in letter.html
    for part in (letter.text, letter.html):
        assert "https://registry.acme.example" in part
        assert "quilt login acme" in part
        assert "https://catalog.acme.example/reset_password/" in part


def test_without_a_sender_the_registry_is_it(local_registry: Start, box: Mailbox) -> None:
    registry = local_registry(**mailing(box, REGISTRY_URL="https://registry.acme.example:8443"))
    registry.make_person("fay")
    ask(registry, "fay")
    assert box.wait("fay@example.com").message["From"] == "quilt@registry.acme.example"


def test_without_a_mail_server_the_letter_is_in_the_log(own_registry: Start) -> None:
    """So that whoever runs it on a laptop can follow the link."""
    registry = own_registry(SIGNUP="open")
    body = {"username": "fay", "email": "fay@example.com", "password": "long enough"}
    httpx.post(registry.url + "/api/register", json=body).raise_for_status()
    wait_until(lambda: "/activate/" in registry.log.read_text())
    link = registry.log.read_text().partition(f"{registry.url}/activate/")[2][:43]
    assert httpx.get(f"{registry.url}/activate/{link}").headers["location"].endswith("/signin")
    wait_until(lambda: waiting(registry) == [])
    assert "written to the log" in registry.command("check").stdout


# ------------------------------------------------------------------------------------------------ the way there


def test_a_server_that_is_away_loses_no_letter(local_registry: Start, box: Mailbox) -> None:
    """And nobody who waits for an answer notices."""
    registry = local_registry(**mailing(box))
    registry.make_person("fay")
    box.stop()
    ask(registry, "fay")
    ask(registry, "fay")
    wait_failed(registry, 1)
    assert len(waiting(registry)) == 2
    registry.sql("UPDATE letter SET created_at = created_at - interval '1 hour'")
    due_now(registry)
    wait_failed(registry, 2)
    box.start()
    due_now(registry)
    box.wait("fay@example.com", count=2)
    wait_until(lambda: waiting(registry) == [])


def test_tries_come_ever_later_and_end(local_registry: Start, box: Mailbox) -> None:
    registry = local_registry(**mailing(box))
    registry.make_person("fay")
    box.mood = "refuses for now"
    ask(registry, "fay")
    waits = []
    for tries in range(1, 5):
        wait_failed(registry, tries)
        waits.append(waiting(registry)[0]["wait"].total_seconds())
        due_now(registry)
    assert waits == pytest.approx([15, 30, 60, 120], abs=5)
    wait_failed(registry, 5)
    registry.sql("UPDATE letter SET tries = 50, next_try = now()")
    wait_until(lambda: 600 < waiting(registry)[0]["wait"].total_seconds() <= 900)
    registry.sql("UPDATE letter SET created_at = created_at - interval '25 hours', next_try = now()")
    wait_until(lambda: waiting(registry)[0]["next_try"] is None)
    checked = registry.command("check").stdout
    assert "reset to fay@example.com" in checked
    assert "come back later" in checked


@pytest.mark.parametrize("mood", ["refuses the address", "refuses the letter"])
def test_what_cannot_be_delivered_is_told(own_registry: Start, box: Mailbox, mood: Any) -> None:
    registry = own_registry(**mailing(box))
    registry.make_person("fay")
    box.mood = mood
    ask(registry, "fay")
    wait_until(lambda: bool(waiting(registry)) and waiting(registry)[0]["next_try"] is None)
    (row,) = waiting(registry)
    assert row["tries"] == 1
    checked = registry.command("check")
    assert "reset to fay@example.com" in checked.stdout
    assert "/reset_password/" not in checked.stdout + registry.log.read_text()


def test_a_server_that_drops_the_connection_gets_the_letter_again(local_registry: Start, box: Mailbox) -> None:
    registry = local_registry(**mailing(box))
    registry.make_person("fay")
    box.mood = "drops"
    ask(registry, "fay")
    wait_until(lambda: bool(waiting(registry)[0]["problem"]))
    box.mood = "takes"
    box.letters.clear()
    due_now(registry)
    box.wait("fay@example.com")


def test_a_server_that_hangs_holds_nobody_up(local_registry: Start, box: Mailbox) -> None:
    registry = local_registry(**mailing(box))
    registry.make_person("fay")
    box.mood = "hangs"
    ask(registry, "fay")
    wait_until(lambda: waiting(registry)[0]["tries"] == 1)
    ask(registry, "fay")
    assert httpx.get(registry.url + "/healthcheck", timeout=5).text == "ok"
    claimed = waiting(registry)[0]["wait"].total_seconds()
    assert 60 < claimed <= 300, "nobody else sends it meanwhile; if this worker dies, somebody will"
    began = time.monotonic()
    assert registry.stop() == 0
    assert time.monotonic() - began < 15, "nor does it hold up the end"


def test_two_processes_with_two_workers_send_each_letter_once(
    own_registry: Start, new_database: Callable[[], str], tmp_path: Path, box: Mailbox
) -> None:
    url = new_database()
    registries = [own_registry(tmp_path / str(i), url, workers=2, **mailing(box)) for i in range(2)]
    for i in range(40):
        registries[0].make_person(f"fay{i}", is_active=False)
    threads = [threading.Thread(target=ask, args=(registries[i % 2], f"fay{i}")) for i in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: waiting(registries[0]) == [])
    assert sorted(letter.recipients[0] for letter in box.letters) == sorted(f"fay{i}@example.com" for i in range(40))


def test_a_letter_survives_the_end_of_its_sender(
    own_registry: Start, box: Mailbox, new_database: Callable[[], str]
) -> None:
    url = new_database()
    first = own_registry(database_url=url, **mailing(box))
    first.make_person("fay")
    box.mood = "hangs"
    ask(first, "fay")
    wait_until(lambda: waiting(first)[0]["tries"] == 1)
    first.kill()
    box.mood = "takes"
    second = own_registry(database_url=url, **mailing(box))
    due_now(second)  # as when the claim of the first has ended
    box.wait("fay@example.com")


def test_what_is_rolled_back_writes_no_letter(local_registry: Start, box: Mailbox) -> None:
    registry = local_registry(**mailing(box))
    ada = registry.make_person("ada", is_admin=True)
    registry.make_person("fay")
    for _ in range(3):
        assert ada.post("/api/users/create", json={"username": "fay", "email": "x@example.com"}).status_code == 409
    ask(registry, "ada")
    box.wait("ada@example.com")
    assert box.to("x@example.com") == []


# ------------------------------------------------------------------------------------------------ encryption, sign-in


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 with its key, in one file."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    )
    made = subprocess.run(
        [*command.split(), "-keyout", str(path) + ".key", "-out", str(path) + ".crt"], capture_output=True, check=True
    )
    assert made.returncode == 0
    path.write_bytes(Path(str(path) + ".key").read_bytes() + Path(str(path) + ".crt").read_bytes())
    return path


def _tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


SIGN_IN = {"SMTP_USERNAME": "registry", "SMTP_PASSWORD": "let me in"}


@pytest.mark.parametrize("given", [{}, {"SMTP_USE_TLS": "on"}, SIGN_IN])
def test_starttls(own_registry: Start, certificate: Path, given: dict[str, str]) -> None:
    box = Mailbox(tls_context=_tls(certificate), require_starttls=True, auth_require_tls=True)
    box.options["authenticator"] = box
    box.start()
    registry = own_registry(**mailing(box, SSL_CERT_FILE=str(certificate), **given))
    registry.make_person("fay")
    ask(registry, "fay")
    box.wait("fay@example.com")
    assert box.encrypted == [True]
    assert box.signed_in == (["registry"] if given == SIGN_IN else [])
    box.stop()


def test_a_server_without_encryption_gets_no_letter_where_it_must_have_it(local_registry: Start, box: Mailbox) -> None:
    """Nor a password: with a user name, encryption is asked for unless it is switched off."""
    for given in ({"SMTP_USE_TLS": "on"}, SIGN_IN):
        registry = local_registry(**mailing(box, **given))
        registry.make_person("fay")
        ask(registry, "fay")
        wait_until(lambda registry=registry: bool(waiting(registry)[0]["problem"]))
        checked = registry.command("check")
        assert checked.returncode == 1
        assert "mail      failed" in checked.stdout
        registry.stop()
    assert box.letters == []


def test_a_certificate_that_nobody_vouches_for(local_registry: Start, certificate: Path) -> None:
    box = Mailbox(tls_context=_tls(certificate)).start()
    registry = local_registry(**mailing(box, SMTP_USE_TLS="on"))
    registry.make_person("fay")
    ask(registry, "fay")
    wait_until(lambda: "certificate" in str(waiting(registry)[0]["problem"]).lower())
    assert box.letters == []
    box.stop()


def test_credentials_without_encryption_when_it_is_switched_off(local_registry: Start) -> None:
    box = Mailbox(auth_require_tls=False)
    box.options["authenticator"] = box
    box.start()
    registry = local_registry(**mailing(box, SMTP_USE_TLS="off", **SIGN_IN))
    registry.make_person("fay")
    ask(registry, "fay")
    box.wait("fay@example.com")
    assert box.signed_in == ["registry"]
    assert box.encrypted == [False]
    box.stop()


def test_a_wrong_password_for_the_mail_server_is_tried_again_and_told(own_registry: Start) -> None:
    box = Mailbox(auth_require_tls=False)
    box.options["authenticator"] = box
    box.start()
    registry = own_registry(**mailing(box, SMTP_USE_TLS="off", SMTP_USERNAME="registry", SMTP_PASSWORD="wrong-secret"))
    registry.make_person("fay")
    ask(registry, "fay")
    wait_until(lambda: bool(waiting(registry)[0]["problem"]))
    assert waiting(registry)[0]["next_try"] is not None
    checked = registry.command("check")
    assert checked.returncode == 1
    assert "wrong-secret" not in checked.stdout + registry.log.read_text()
    box.stop()


def test_check_says_that_the_mail_server_works(local_registry: Start, box: Mailbox) -> None:
    registry = local_registry(**mailing(box))
    checked = registry.command("check")
    assert checked.returncode == 0
    assert f"mail      ok: 127.0.0.1:{box.port} responds" in checked.stdout
    box.stop()
    checked = registry.command("check")
    assert checked.returncode == 1
    assert f"127.0.0.1:{box.port} does not work" in checked.stdout
