"""Delivery of emails: after the commit, by one sender, even if the mail server refuses, hangs or is unreachable."""

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


def mail_settings(box: Mailbox, **more: str) -> dict[str, Any]:
    return {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(box.port), "RATE_LIMITS": "off", "SIGNUP": "open", **more}


def request_reset(registry: Registry, name: str) -> None:
    """Request a password reset email for a user."""
    body = {"email": f"{name}@example.com"}
    assert httpx.post(registry.url + "/api/reset_password", json=body, timeout=30).json() == {}


def queued(registry: Registry) -> list[Any]:
    return registry.sql("SELECT *, next_try - now() AS wait FROM letter ORDER BY id")


def due_now(registry: Registry) -> None:
    """Make all queued emails due now."""
    registry.sql("UPDATE letter SET next_try = now(), problem = NULL WHERE next_try IS NOT NULL")


def wait_failed(registry: Registry, tries: int) -> None:
    """Wait until this attempt has failed for each email, and has been recorded: it would overwrite what a test sets."""
    assert queued(registry)
    wait_until(lambda: all(row["tries"] == tries and row["problem"] for row in queued(registry)))


# ------------------------------------------------------------------------------------------------ content of an email


def test_an_email_names_the_team_and_both_hosts(local_registry: Start, box: Mailbox) -> None:
    given = mail_settings(
        box,
        TEAM_ID="acme",
        TEAM_NAME="Äcme <Data> & Söhne",
        REGISTRY_URL="https://registry.acme.example",
        CATALOG_URL="https://catalog.acme.example",
        QUILT_DEFAULT_SENDER="Acme Data <data@acme.example>",
    )
    registry = local_registry(**given)
    ada = registry.make_person("ada", is_admin=True)
    ada.post("/api/users/create", json={"username": "fay", "email": "fay@example.com"}).raise_for_status()
    email = box.wait("fay@example.com")
    assert email.subject == "Welcome to Äcme <Data> & Söhne, fay"
    assert email.message["From"] == "Acme Data <data@acme.example>"
    assert email.message["To"] == "fay@example.com"
    assert email.message["Message-ID"].endswith("@acme.example>")
    assert email.message["Date"]
    assert email.message.get_content_type() == "multipart/alternative"
    assert "Äcme <Data> & Söhne" in email.text
    assert "Äcme &lt;Data&gt; &amp; Söhne" in email.html
    for part in (email.text, email.html):
        assert "https://registry.acme.example" in part
        assert "quilt login acme" in part
        assert "https://catalog.acme.example/reset_password/" in part


def test_without_a_configured_sender_the_registry_is_the_sender(local_registry: Start, box: Mailbox) -> None:
    registry = local_registry(**mail_settings(box, REGISTRY_URL="https://registry.acme.example:8443"))
    registry.make_person("fay")
    request_reset(registry, "fay")
    assert box.wait("fay@example.com").message["From"] == "quilt@registry.acme.example"


def test_without_a_mail_server_the_email_is_in_the_log(local_registry: Start, caplog: pytest.LogCaptureFixture) -> None:
    """A developer who runs the registry locally can follow the link."""
    caplog.set_level("INFO")
    registry = local_registry(SIGNUP="open")
    body = {"username": "fay", "email": "fay@example.com", "password": "long enough"}
    httpx.post(registry.url + "/api/register", json=body).raise_for_status()
    wait_until(lambda: "/activate/" in caplog.text)
    link = caplog.text.partition(f"{registry.url}/activate/")[2][:43]
    assert httpx.get(f"{registry.url}/activate/{link}").headers["location"].endswith("/signin")
    wait_until(lambda: queued(registry) == [])
    assert "written to the log" in registry.command("check").stdout


# ------------------------------------------------------------------------------------------------ delivery


def test_a_server_that_is_away_loses_no_email(local_registry: Start, box: Mailbox) -> None:
    """Requests are not delayed either."""
    registry = local_registry(**mail_settings(box))
    registry.make_person("fay")
    box.stop()
    request_reset(registry, "fay")
    request_reset(registry, "fay")
    wait_failed(registry, 1)
    assert len(queued(registry)) == 2
    registry.sql("UPDATE letter SET created_at = created_at - interval '1 hour'")
    due_now(registry)
    wait_failed(registry, 2)
    box.start()
    due_now(registry)
    box.wait("fay@example.com", count=2)
    wait_until(lambda: queued(registry) == [])


def test_retries_become_less_frequent_and_end(local_registry: Start, box: Mailbox) -> None:
    registry = local_registry(**mail_settings(box))
    registry.make_person("fay")
    box.mood = "refuses for now"
    request_reset(registry, "fay")
    waits = []
    for tries in range(1, 5):
        wait_failed(registry, tries)
        waits.append(queued(registry)[0]["wait"].total_seconds())
        due_now(registry)
    assert waits == pytest.approx([15, 30, 60, 120], abs=5)
    wait_failed(registry, 5)
    registry.sql("UPDATE letter SET tries = 50, next_try = now()")
    wait_until(lambda: 600 < queued(registry)[0]["wait"].total_seconds() <= 900)
    registry.sql("UPDATE letter SET created_at = created_at - interval '25 hours', next_try = now()")
    wait_until(lambda: queued(registry)[0]["next_try"] is None)
    checked = registry.command("check").stdout
    assert "reset to fay@example.com" in checked
    assert "come back later" in checked


@pytest.mark.parametrize("mood", ["refuses the recipient", "refuses the email"])
def test_undeliverable_emails_are_reported(
    local_registry: Start, box: Mailbox, mood: Any, caplog: pytest.LogCaptureFixture
) -> None:
    registry = local_registry(**mail_settings(box))
    registry.make_person("fay")
    box.mood = mood
    request_reset(registry, "fay")
    wait_until(lambda: bool(queued(registry)) and queued(registry)[0]["next_try"] is None)
    (row,) = queued(registry)
    assert row["tries"] == 1
    checked = registry.command("check")
    assert "reset to fay@example.com" in checked.stdout
    assert "email (reset)" in caplog.text
    assert "/reset_password/" not in checked.stdout + caplog.text


def test_a_server_that_drops_the_connection_gets_the_email_again(local_registry: Start, box: Mailbox) -> None:
    registry = local_registry(**mail_settings(box))
    registry.make_person("fay")
    box.mood = "drops"
    request_reset(registry, "fay")
    wait_until(lambda: bool(queued(registry)[0]["problem"]))
    box.mood = "takes"
    box.emails.clear()
    due_now(registry)
    box.wait("fay@example.com")


def test_a_server_that_hangs_blocks_no_request(local_registry: Start, box: Mailbox) -> None:
    registry = local_registry(**mail_settings(box))
    registry.make_person("fay")
    box.mood = "hangs"
    request_reset(registry, "fay")
    wait_until(lambda: queued(registry)[0]["tries"] == 1)
    request_reset(registry, "fay")
    assert httpx.get(registry.url + "/healthcheck", timeout=5).text == "ok"
    claimed = queued(registry)[0]["wait"].total_seconds()
    assert 60 < claimed <= 300, "the claim is too short to exclude other senders, or too long to recover from a crash"
    began = time.monotonic()
    assert registry.stop() == 0
    assert time.monotonic() - began < 15, "shutdown waits for the mail server"


@pytest.mark.drill
def test_two_processes_with_two_workers_send_each_email_once(
    own_registry: Start, new_database: Callable[[], str], tmp_path: Path, box: Mailbox
) -> None:
    url = new_database()
    registries = [own_registry(tmp_path / str(i), url, workers=2, **mail_settings(box)) for i in range(2)]
    for i in range(40):
        registries[0].make_person(f"fay{i}", is_active=False)
    threads = [threading.Thread(target=request_reset, args=(registries[i % 2], f"fay{i}")) for i in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: queued(registries[0]) == [])
    assert sorted(email.recipients[0] for email in box.emails) == sorted(f"fay{i}@example.com" for i in range(40))


@pytest.mark.drill
def test_an_email_survives_the_end_of_its_sender(
    own_registry: Start, local_registry: Start, box: Mailbox, new_database: Callable[[], str]
) -> None:
    url = new_database()
    first = own_registry(database_url=url, **mail_settings(box))
    first.make_person("fay")
    box.mood = "hangs"
    request_reset(first, "fay")
    wait_until(lambda: queued(first)[0]["tries"] == 1)
    first.kill()
    box.mood = "takes"
    second = local_registry(database_url=url, **mail_settings(box))
    due_now(second)  # as if the first process's claim had expired
    box.wait("fay@example.com")


def test_what_is_rolled_back_sends_no_email(local_registry: Start, box: Mailbox) -> None:
    registry = local_registry(**mail_settings(box))
    ada = registry.make_person("ada", is_admin=True)
    registry.make_person("fay")
    for _ in range(3):
        assert ada.post("/api/users/create", json={"username": "fay", "email": "x@example.com"}).status_code == 409
    request_reset(registry, "ada")
    box.wait("ada@example.com")
    assert box.to("x@example.com") == []


# ------------------------------------------------------------------------------------------------ encryption, sign-in


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a certificate for 127.0.0.1 and its key."""
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
def test_starttls(
    local_registry: Start, certificate: Path, given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))  # of the process that sends
    box = Mailbox(tls_context=_tls(certificate), require_starttls=True, auth_require_tls=True)
    box.options["authenticator"] = box
    box.start()
    registry = local_registry(**mail_settings(box, **given))
    registry.make_person("fay")
    request_reset(registry, "fay")
    box.wait("fay@example.com")
    assert box.encrypted == [True]
    assert box.signed_in == (["registry"] if given == SIGN_IN else [])
    box.stop()


def test_without_the_required_encryption_a_server_gets_no_email(local_registry: Start, box: Mailbox) -> None:
    """No password either: with a username, encryption is required unless it is switched off."""
    for given in ({"SMTP_USE_TLS": "on"}, SIGN_IN):
        registry = local_registry(**mail_settings(box, **given))
        registry.make_person("fay")
        request_reset(registry, "fay")
        wait_until(lambda registry=registry: bool(queued(registry)[0]["problem"]))
        checked = registry.command("check")
        assert checked.returncode == 1
        assert "mail      failed" in checked.stdout
        registry.stop()
    assert box.emails == []


def test_an_untrusted_certificate_is_refused(local_registry: Start, certificate: Path) -> None:
    box = Mailbox(tls_context=_tls(certificate)).start()
    registry = local_registry(**mail_settings(box, SMTP_USE_TLS="on"))
    registry.make_person("fay")
    request_reset(registry, "fay")
    wait_until(lambda: "certificate" in str(queued(registry)[0]["problem"]).lower())
    assert box.emails == []
    box.stop()


def test_credentials_without_encryption_when_it_is_switched_off(local_registry: Start) -> None:
    box = Mailbox(auth_require_tls=False)
    box.options["authenticator"] = box
    box.start()
    registry = local_registry(**mail_settings(box, SMTP_USE_TLS="off", **SIGN_IN))
    registry.make_person("fay")
    request_reset(registry, "fay")
    box.wait("fay@example.com")
    assert box.signed_in == ["registry"]
    assert box.encrypted == [False]
    box.stop()


def test_a_wrong_password_for_the_mail_server_is_retried_and_reported(
    local_registry: Start, caplog: pytest.LogCaptureFixture
) -> None:
    box = Mailbox(auth_require_tls=False)
    box.options["authenticator"] = box
    box.start()
    registry = local_registry(
        **mail_settings(box, SMTP_USE_TLS="off", SMTP_USERNAME="registry", SMTP_PASSWORD="wrong-secret")
    )
    registry.make_person("fay")
    request_reset(registry, "fay")
    wait_until(lambda: bool(queued(registry)[0]["problem"]))
    assert queued(registry)[0]["next_try"] is not None
    checked = registry.command("check")
    assert checked.returncode == 1
    assert "email (reset)" in caplog.text
    assert "wrong-secret" not in checked.stdout + caplog.text
    box.stop()


def test_check_reports_that_the_mail_server_works(local_registry: Start, box: Mailbox) -> None:
    registry = local_registry(**mail_settings(box))
    checked = registry.command("check")
    assert checked.returncode == 0
    assert f"mail      ok: 127.0.0.1:{box.port} responds" in checked.stdout
    box.stop()
    checked = registry.command("check")
    assert checked.returncode == 1
    assert f"127.0.0.1:{box.port} does not work" in checked.stdout
