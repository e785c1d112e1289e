"""The outbox: a table of emails, and a background task of each worker that sends them.

An email is queued in the transaction that causes it, so it leaves after the commit, and only then. The worker that
claims an email is its only sender for some minutes. A failed email is retried with growing delays. After a day, or when
the server rejects the email or its recipients for good, it stays in the outbox as undeliverable, and
`quilt-registry check` shows it.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta
from email import policy
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr

import aiosmtplib
from msgspec import Struct

from quilt_registry import background
from quilt_registry.database import Connection, Database
from quilt_registry.errors import Unavailable
from quilt_registry.settings import Settings

log = logging.getLogger(__name__)

POLL_INTERVAL = 0.3  # seconds
SEND_TIMEOUT = 60  # seconds for one email
SELF_TEST_TIMEOUT = 20  # seconds
CAN_SEND_TIMEOUT = 3  # seconds, for which a user waits
CLAIM_DURATION = timedelta(minutes=5)  # longer than SEND_TIMEOUT, so that no other worker sends the same email
FIRST_RETRY_DELAY, MAX_RETRY_DELAY = timedelta(seconds=15), timedelta(minutes=15)
GIVE_UP_AFTER = timedelta(days=1)
IMPLICIT_TLS_PORTS = (465, 2465)


class Email(Struct, frozen=True):
    """An email to send. It can have several recipients."""

    kind: str
    recipients: list[str]
    subject: str
    text: str
    html: str


class ClaimedEmail(Struct, frozen=True):
    """An email that only this worker sends at present."""

    id: int
    email: Email
    created_at: datetime
    tries: int


class Undeliverable(Exception):
    """The mail server rejects the email or its recipients for good."""


async def queue(connection: Connection, email: Email) -> None:
    """Add an email to the outbox. It is sent after the transaction has been committed."""
    await connection.execute(
        "INSERT INTO letter (kind, recipients, subject, body_text, body_html) VALUES ($1, $2, $3, $4, $5)",
        email.kind, email.recipients, email.subject, email.text, email.html,
    )  # fmt: skip


async def status(db: Database) -> tuple[int, list[str]]:
    """Return the number of waiting emails, and a line with kind, recipients and problem of each undeliverable one."""
    waiting = await db.fetchval("SELECT count(*) FROM letter WHERE next_try IS NOT NULL")
    rows = await db.fetch(
        "SELECT kind, recipients, created_at, problem FROM letter WHERE next_try IS NULL ORDER BY id DESC LIMIT 20"
    )
    return waiting, [
        f"{row['kind']} to {', '.join(row['recipients'])}, {row['created_at']:%Y-%m-%d %H:%M} UTC: {row['problem']}"
        for row in rows
    ]


# ------------------------------------------------------------------------------------------------ SMTP


class SmtpTransport:
    """The mail server, or the log if no server is set."""

    def __init__(self, settings: Settings):
        self.settings = settings

    async def send(self, claimed: ClaimedEmail) -> list[str]:
        """Send an email. Return the recipients that the server refused temporarily.

        Raise Undeliverable, aiosmtplib.SMTPException, OSError or TimeoutError.
        """
        if self.settings.smtp_host is None:
            _print(claimed.email)
            return []
        message = _message(claimed, self.settings.quilt_default_sender)
        try:
            async with asyncio.timeout(SEND_TIMEOUT), self._client() as client:
                refused, _ = await client.send_message(message)
        except aiosmtplib.SMTPRecipientsRefused as error:
            if all(each.code >= 500 for each in error.recipients):
                raise Undeliverable(f"the server rejected the recipient: {error.recipients[0].message}") from None
            raise
        except aiosmtplib.SMTPDataError as error:
            if error.code >= 500:
                raise Undeliverable(f"the server rejected the email: {error.message}") from None
            raise
        for recipient in refused:
            log.warning("The mail server rejected the recipient %s of an email (%s).", recipient, claimed.email.kind)
        return [recipient for recipient, response in refused.items() if response.code < 500]

    async def self_test(self) -> str:
        """Connect and sign in without sending, and return a sentence about the result. Raise Unavailable."""
        host, port = self.settings.smtp_host, self.settings.smtp_port
        if host is None:
            return "SMTP_HOST is not set; emails are written to the log"
        try:
            async with asyncio.timeout(SELF_TEST_TIMEOUT), self._client() as client:
                await client.noop()
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            raise Unavailable(f"The mail server {host}:{port} does not work: {_reason(error)}.") from None
        return f"{host}:{port} responds"

    def _client(self) -> aiosmtplib.SMTP:
        settings = self.settings
        implicit_tls = settings.smtp_port in IMPLICIT_TLS_PORTS
        start_tls = settings.smtp_use_tls  # None: upgrade if the server can
        if start_tls is None and settings.smtp_username:
            start_tls = True  # so that the password is never sent in the clear by default
        return aiosmtplib.SMTP(
            hostname=settings.smtp_host,
            port=settings.smtp_port,
            username=settings.smtp_username,
            password=settings.smtp_password.get_secret_value() if settings.smtp_password else None,
            use_tls=implicit_tls,
            start_tls=False if implicit_tls else start_tls,
            timeout=SEND_TIMEOUT / 2,
        )


def _message(claimed: ClaimedEmail, sender: str) -> EmailMessage:
    """Return the MIME message. Its Message-ID is the same at each try, so that duplicates can be recognized."""
    email = claimed.email
    message = EmailMessage(policy=policy.SMTP.clone(max_line_length=900))  # so that links are not broken
    message["From"] = sender
    try:
        message["To"] = [Address(addr_spec=recipient) for recipient in email.recipients]
    except (ValueError, MessageError):
        raise Undeliverable("the recipient is not a valid email address") from None
    message["Subject"] = " ".join(email.subject.split())
    message["Date"] = format_datetime(claimed.created_at)
    domain = parseaddr(sender)[1].rpartition("@")[2]
    message["Message-ID"] = f"<email-{claimed.id}-{claimed.created_at:%Y%m%d%H%M%S%f}@{domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(email.text)
    message.add_alternative(email.html, subtype="html")
    return message


def _print(email: Email) -> None:
    recipients = ", ".join(email.recipients)
    # Comments of users are part of the text, so control characters are removed.
    text = "".join(character for character in email.text if character.isprintable() or character == "\n")
    log.info("SMTP_HOST is not set. Email to %s: %s\n\n%s", recipients, email.subject, text)


async def can_send(settings: Settings) -> bool:
    """Return whether emails leave at present: a mail server is set, and it responds soon."""
    if settings.smtp_host is None:
        return False
    try:
        async with asyncio.timeout(CAN_SEND_TIMEOUT):
            await SmtpTransport(settings).self_test()
    except (Unavailable, TimeoutError):
        return False
    return True


# ------------------------------------------------------------------------------------------------ background task


async def send_forever(db: Database, transport: SmtpTransport) -> None:
    """Send the emails of the outbox, forever. A database outage is logged at debug level: requests report it."""

    async def send_due() -> None:
        while claimed := await _claim(db):
            await _send(db, transport, claimed)

    failure = "Emails could not be sent."
    await background.repeat(send_due, interval=POLL_INTERVAL, failure=failure, outage_level=logging.DEBUG)


async def _claim(db: Database) -> ClaimedEmail | None:
    row = await db.fetchrow(
        """
        UPDATE letter SET tries = tries + 1, next_try = now() + $1::interval
        WHERE id = (SELECT id FROM letter WHERE next_try <= now() ORDER BY next_try LIMIT 1 FOR UPDATE SKIP LOCKED)
        RETURNING id, kind, recipients, subject, body_text, body_html, created_at, tries
        """,
        CLAIM_DURATION,
    )
    return ClaimedEmail(row[0], Email(*row[1:6]), row[6], row[7]) if row else None


async def _send(db: Database, transport: SmtpTransport, claimed: ClaimedEmail) -> None:
    try:
        refused = await transport.send(claimed)
    except Undeliverable as error:
        await _give_up(db, claimed, str(error))
    except Exception as error:  # of any kind, because the next try may succeed; the last problem is stored
        await _retry_later(db, claimed, _reason(error))
    else:
        if refused:
            await db.execute("UPDATE letter SET recipients = $2 WHERE id = $1", claimed.id, refused)
            await _retry_later(db, claimed, "the server rejected the recipient temporarily")
        else:
            await db.execute("DELETE FROM letter WHERE id = $1", claimed.id)


async def _retry_later(db: Database, claimed: ClaimedEmail, problem: str) -> None:
    age = await db.fetchval("SELECT now() - created_at FROM letter WHERE id = $1", claimed.id)
    if age is None or age > GIVE_UP_AFTER:
        await _give_up(db, claimed, problem)
        return
    delay = min(FIRST_RETRY_DELAY * 2 ** min(claimed.tries - 1, 10), MAX_RETRY_DELAY)
    log.warning("An email (%s) could not be sent. Retrying in %s: %s", claimed.email.kind, delay, problem)
    await db.execute(
        "UPDATE letter SET next_try = now() + $2::interval, problem = $3 WHERE id = $1", claimed.id, delay, problem
    )


async def _give_up(db: Database, claimed: ClaimedEmail, problem: str) -> None:
    log.error("An email (%s) is undeliverable: %s", claimed.email.kind, problem)
    await db.execute("UPDATE letter SET next_try = NULL, problem = $2 WHERE id = $1", claimed.id, problem)


def _reason(error: BaseException) -> str:
    """Return why sending failed, on one line."""
    if isinstance(error, TimeoutError | aiosmtplib.SMTPTimeoutError):
        return "it did not respond in time"
    return " ".join(str(error).split())[:300] or type(error).__name__
