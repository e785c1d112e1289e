"""A real mail server in the test process that records emails. It can also refuse, hang or drop the connection."""

from __future__ import annotations

import asyncio
import re
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, Literal

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.registry import free_port
from tests.waiting import wait_until

Mood = Literal["takes", "refuses the recipient", "refuses for now", "refuses the email", "hangs", "drops"]


class Email:
    """A received email."""

    def __init__(self, recipients: list[str], data: bytes):
        self.recipients = recipients
        message = message_from_bytes(data, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.message = message
        self.subject = str(message["Subject"])
        self.text, self.html = (self._part(kind) for kind in ("plain", "html"))

    def _part(self, kind: str) -> str:
        part = self.message.get_body((kind,))
        assert part is not None, f"no {kind} part"
        return str(part.get_content()).replace("\r\n", "\n")

    def link(self, path: str) -> str:
        """Return the secret at the end of the link with this path. The link must be on a line of its own."""
        (found,) = set(re.findall(rf"^https?://[^/\s]+/{path}/([A-Za-z0-9_~-]+)$", self.text, re.MULTILINE))
        assert f'/{path}/{found}"' in self.html
        return str(found)


class Mailbox:
    """The mail server. It keeps its port when it is stopped and started again."""

    def __init__(self, port: int | None = None, **options: Any):
        self.port, self.options = port or free_port(), options
        self.emails: list[Email] = []
        self.mood: Mood = "takes"
        self.signed_in: list[str] = []
        self.encrypted: list[bool] = []
        self.controller: Controller | None = None

    def start(self) -> Mailbox:
        self.controller = Controller(self, hostname="127.0.0.1", port=self.port, **self.options)
        self.controller.start()
        return self

    def stop(self) -> None:
        if self.controller:
            self.controller.stop()
            self.controller = None

    def __call__(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        """Authenticate; one username and password are valid."""
        assert isinstance(data, LoginPassword)
        if (data.login, data.password) != (b"registry", b"let me in"):
            return AuthResult(success=False, handled=False)
        self.signed_in.append(data.login.decode())
        return AuthResult(success=True)

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, recipient: str, options: list[str]
    ) -> str:
        if self.mood == "refuses the recipient":
            return "550 5.1.1 no such user"
        if self.mood == "refuses for now":
            return "451 4.3.0 come back later"
        envelope.rcpt_tos.append(recipient)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.mood == "hangs":
            await asyncio.sleep(600)
        if self.mood == "drops":
            assert server.transport is not None
            server.transport.abort()
        if self.mood == "refuses the email":
            return "554 5.7.1 not from you"
        self.encrypted.append(session.ssl is not None)
        assert isinstance(envelope.content, bytes)
        self.emails.append(Email(list(envelope.rcpt_tos), envelope.content))
        return "250 OK"

    def to(self, recipient: str) -> list[Email]:
        return [email for email in self.emails if recipient in email.recipients]

    def wait(self, recipient: str, subject: str = "", count: int = 1, seconds: float = 20) -> Email:
        """Wait for exactly `count` emails to a recipient with this text in the subject, and return the newest."""
        found: list[Email] = []

        def arrived() -> bool:
            found[:] = [email for email in self.to(recipient) if subject in email.subject]
            return len(found) >= count

        wait_until(arrived, seconds, lambda: f"{len(found)} emails to {recipient} with {subject!r} in the subject")
        assert len(found) == count
        return found[-1]
