"""How letters leave: an outbox in the database, and a task of each worker that empties it.

A letter is queued in the transaction that it tells of: it leaves after the commit, and never without it. Whoever claims
a letter is its only sender for a while; one that could not be sent waits longer each time, and after a day, or when the
server says that the address is none, it stays in the outbox as undeliverable, for `quilt-registry check` to show.
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

POLL_INTERVAL = 0.3  # seconds between looks at the outbox
SENDING = 60  # seconds that sending one letter may take
CLAIM = timedelta(minutes=5)  # how long a letter is its sender's; longer than sending takes
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=15), timedelta(minutes=15)
GIVE_UP = timedelta(days=1)
TLS_FROM_THE_START = (465, 2465)


class Email(Struct, frozen=True):
    """A letter on its way. One letter may have several recipients."""

    kind: str
    recipients: list[str]
    subject: str
    text: str
    html: str


class ClaimedEmail(Struct, frozen=True):
    """A letter that this worker alone sends."""

    id: int
    letter: Email
    created_at: datetime
    tries: int


class Undeliverable(Exception):
    """The mail server says that there is no such address, or that it never takes this letter."""


async def queue(connection: Connection, letter: Email) -> None:
    """Put a letter into the outbox; it leaves when the transaction has been committed."""
    await connection.execute(
        "INSERT INTO letter (kind, recipients, subject, body_text, body_html) VALUES ($1, $2, $3, $4, $5)",
        letter.kind, letter.recipients, letter.subject, letter.text, letter.html,
    )  # fmt: skip


async def status(db: Database) -> tuple[int, list[str]]:
    """How many letters wait, and of each undeliverable one a line that says what it was and why."""
    waiting = await db.fetchval("SELECT count(*) FROM letter WHERE next_try IS NOT NULL")
    rows = await db.fetch(
        "SELECT kind, recipients, created_at, problem FROM letter WHERE next_try IS NULL ORDER BY id DESC LIMIT 20"
    )
    return waiting, [
        f"{row['kind']} to {', '.join(row['recipients'])}, {row['created_at']:%Y-%m-%d %H:%M} UTC: {row['problem']}"
        for row in rows
    ]


# ------------------------------------------------------------------------------------------------ the way out


class SmtpTransport:
    """The mail server, or the log where none is set."""

    def __init__(self, settings: Settings):
        self.settings = settings

    async def send(self, claimed: ClaimedEmail) -> list[str]:
        """Hand a letter over; returns the recipients that the server refused for now.

        Raises Undeliverable, aiosmtplib.SMTPException, OSError, TimeoutError.
        """
        if self.settings.smtp_host is None:
            _print(claimed.letter)
            return []
        message = _message(claimed, self.settings.quilt_default_sender)
        try:
            async with asyncio.timeout(SENDING), self._client() as client:
                refused, _ = await client.send_message(message)
        except aiosmtplib.SMTPRecipientsRefused as error:
            if all(each.code >= 500 for each in error.recipients):
                raise Undeliverable(f"the server refuses the address: {error.recipients[0].message}") from None
            raise
        except aiosmtplib.SMTPDataError as error:
            if error.code >= 500:
                raise Undeliverable(f"the server refuses the letter: {error.message}") from None
            raise
        for address in refused:
            log.warning("The mail server refuses %s as a recipient of a %s letter.", address, claimed.letter.kind)
        return [address for address, answer in refused.items() if answer.code < 500]

    async def self_test(self) -> str:
        """Connect and sign in, without sending; returns what answered. Raises Unavailable with the reason."""
        host, port = self.settings.smtp_host, self.settings.smtp_port
        if host is None:
            return "no SMTP_HOST is set; letters are printed to the log"
        try:
            async with asyncio.timeout(20), self._client() as client:
                await client.noop()
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            raise Unavailable(f"The mail server {host}:{port} does not work: {_reason(error)}.") from None
        return f"{host}:{port} answers"

    def _client(self) -> aiosmtplib.SMTP:
        given = self.settings
        from_the_start = given.smtp_port in TLS_FROM_THE_START
        # None upgrades if the server can. A password is sent through an encrypted connection unless told otherwise.
        start_tls = given.smtp_use_tls if given.smtp_use_tls is not None else (True if given.smtp_username else None)
        return aiosmtplib.SMTP(
            hostname=given.smtp_host,
            port=given.smtp_port,
            username=given.smtp_username,
            password=given.smtp_password.get_secret_value() if given.smtp_password else None,
            use_tls=from_the_start,
            start_tls=False if from_the_start else start_tls,
            timeout=SENDING / 2,
        )


def _message(claimed: ClaimedEmail, sender: str) -> EmailMessage:
    """A letter as text and HTML. Its identifier stays the same at each try, so that a repetition can be told."""
    letter = claimed.letter
    message = EmailMessage(policy=policy.SMTP.clone(max_line_length=900))  # links stay in one piece
    message["From"] = sender
    try:
        message["To"] = [Address(addr_spec=address) for address in letter.recipients]
    except (ValueError, MessageError):
        raise Undeliverable("the address cannot be written into a letter") from None
    message["Subject"] = " ".join(letter.subject.split())
    message["Date"] = format_datetime(claimed.created_at)
    domain = parseaddr(sender)[1].rpartition("@")[2]
    message["Message-ID"] = f"<letter-{claimed.id}-{claimed.created_at:%Y%m%d%H%M%S%f}@{domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(letter.text)
    message.add_alternative(letter.html, subtype="html")
    return message


def _print(letter: Email) -> None:
    to = ", ".join(letter.recipients)
    text = "".join(each for each in letter.text if each.isprintable() or each == "\n")  # people write in letters, too
    log.info("No mail server is set. This letter would go to %s: %s\n\n%s", to, letter.subject, text)


# ------------------------------------------------------------------------------------------------ the task


async def send_forever(db: Database, transport: SmtpTransport) -> None:
    """Empty the outbox, again and again. An outage of the database is not logged here: requests report it."""

    async def send() -> None:
        while claimed := await _claim(db):
            await _try(db, transport, claimed)

    failure = "Emails could not be sent."
    await background.repeat(send, interval=POLL_INTERVAL, failure=failure, outage_level=logging.DEBUG)


async def _claim(db: Database) -> ClaimedEmail | None:
    """A letter that is due, from now on this worker's."""
    row = await db.fetchrow(
        """
        UPDATE letter SET tries = tries + 1, next_try = now() + $1::interval
        WHERE id = (SELECT id FROM letter WHERE next_try <= now() ORDER BY next_try LIMIT 1 FOR UPDATE SKIP LOCKED)
        RETURNING id, kind, recipients, subject, body_text, body_html, created_at, tries
        """,
        CLAIM,
    )
    return ClaimedEmail(row[0], Email(*row[1:6]), row[6], row[7]) if row else None


async def _try(db: Database, transport: SmtpTransport, claimed: ClaimedEmail) -> None:
    try:
        refused = await transport.send(claimed)
    except Undeliverable as error:
        await _give_up(db, claimed, str(error))
    except Exception as error:  # whatever it is: the next try may succeed, and the last one is told
        await _try_later(db, claimed, _reason(error))
    else:
        if refused:
            await db.execute("UPDATE letter SET recipients = $2 WHERE id = $1", claimed.id, refused)
            await _try_later(db, claimed, "the server refuses the address for now")
        else:
            await db.execute("DELETE FROM letter WHERE id = $1", claimed.id)


async def _try_later(db: Database, claimed: ClaimedEmail, problem: str) -> None:
    age = await db.fetchval("SELECT now() - created_at FROM letter WHERE id = $1", claimed.id)
    if age is None or age > GIVE_UP:
        await _give_up(db, claimed, problem)
        return
    wait = min(FIRST_WAIT * 2 ** min(claimed.tries - 1, 10), LONGEST_WAIT)
    log.warning("A %s letter could not be sent and is tried again in %s: %s", claimed.letter.kind, wait, problem)
    await db.execute(
        "UPDATE letter SET next_try = now() + $2::interval, problem = $3 WHERE id = $1", claimed.id, wait, problem
    )


async def _give_up(db: Database, claimed: ClaimedEmail, problem: str) -> None:
    log.error("A %s letter cannot be delivered: %s", claimed.letter.kind, problem)
    await db.execute("UPDATE letter SET next_try = NULL, problem = $2 WHERE id = $1", claimed.id, problem)


def _reason(error: BaseException) -> str:
    """Why sending failed, in a line."""
    if isinstance(error, TimeoutError | aiosmtplib.SMTPTimeoutError):
        return "it did not answer in time"
    return " ".join(str(error).split())[:300] or type(error).__name__
