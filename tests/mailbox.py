"""A real mail server in the test process, and the letters that it takes. It can also refuse, hang, or hang up."""

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

Mood = Literal["takes", "refuses the address", "refuses for now", "refuses the letter", "hangs", "drops"]


class Letter:
    """A letter that arrived."""

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
        """The secret at the end of the address with this path, which stands on a line of its own."""
        (found,) = set(re.findall(rf"^https?://[^/\s]+/{path}/([A-Za-z0-9_~-]+)$", self.text, re.MULTILINE))
        assert f'/{path}/{found}"' in self.html
        return str(found)


class Mailbox:
    """The server, on a port that stays the same when it is stopped and started again."""

    def __init__(self, port: int | None = None, **options: Any):
        self.port, self.options = port or free_port(), options
        self.letters: list[Letter] = []
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
        """Takes one user name and password."""
        assert isinstance(data, LoginPassword)
        if (data.login, data.password) != (b"registry", b"let me in"):
            return AuthResult(success=False, handled=False)
        self.signed_in.append(data.login.decode())
        return AuthResult(success=True)

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.mood == "refuses the address":
            return "550 5.1.1 nobody of that name"
        if self.mood == "refuses for now":
            return "451 4.3.0 come back later"
        envelope.rcpt_tos.append(address)
        return "250 fine"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.mood == "hangs":
            await asyncio.sleep(600)
        if self.mood == "drops":
            assert server.transport is not None
            server.transport.abort()
        if self.mood == "refuses the letter":
            return "554 5.7.1 not from you"
        self.encrypted.append(session.ssl is not None)
        assert isinstance(envelope.content, bytes)
        self.letters.append(Letter(list(envelope.rcpt_tos), envelope.content))
        return "250 taken"

    def to(self, address: str) -> list[Letter]:
        return [letter for letter in self.letters if address in letter.recipients]

    def wait(self, address: str, subject: str = "", count: int = 1, seconds: float = 20) -> Letter:
        """The newest letter to an address with a word in its subject, once there are `count`."""
        found: list[Letter] = []

        def arrived() -> bool:
            found[:] = [letter for letter in self.to(address) if subject in letter.subject]
            return len(found) >= count

        wait_until(arrived, seconds, lambda: f"{len(found)} letters to {address} with {subject!r} in the subject")
        assert len(found) == count
        return found[-1]
