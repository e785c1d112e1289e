"""Outgoing emails, one function each. Each function queues its email in the caller's transaction.

`templates/` has a text and an HTML body for each email. Links are on a line of their own in the text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from quilt_registry.database import Connection
from quilt_registry.mail import outbox
from quilt_registry.mail.outbox import Email
from quilt_registry.mail.site import Site

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=select_autoescape(["html"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


class MailedPackage(Protocol):
    """A package that an email is about."""

    @property
    def owner(self) -> str: ...
    @property
    def name(self) -> str: ...


async def activation(db: Connection, site: Site, user: str, email: str, link: str, *, again: bool = False) -> None:
    """Send a new user the link that activates the account. `again`: the link was sent before."""
    subject = f"Activate your account at {site.title}"
    url = f"{site.registry_url}/activate/{link}"
    await _queue(db, site, "activation", [email], subject, user=user, url=url, again=again)


async def welcome(db: Connection, site: Site, user: str, email: str, link: str | None = None) -> None:
    """Welcome a user. `link`: to choose a password, if an admin created the account."""
    url = f"{site.catalog_url}/reset_password/{link}" if link else None
    await _queue(db, site, "welcome", [email], f"Welcome to {site.title}, {user}", user=user, url=url)


async def user_joined(db: Connection, site: Site, admins: list[str], user: str, email: str) -> None:
    """Tell all admins about a new user."""
    if admins:
        await _queue(db, site, "user_joined", admins, f"{user} joined {site.title}", user=user, email=email)


async def reset(db: Connection, site: Site, user: str, email: str, link: str) -> None:
    """Send a user the link to choose a new password."""
    url = f"{site.catalog_url}/reset_password/{link}"
    await _queue(db, site, "reset", [email], f"Reset your password at {site.title}", user=user, url=url)


async def invitation(db: Connection, site: Site, email: str, package: MailedPackage, link: str) -> None:
    """Invite an email address to a package. `link`: the secret that accepts the invitation."""
    subject = f"{package.owner} shared data with you at {site.title}"
    values = {"email": email, "owner": package.owner, "package": package.name, "link": link}
    await _queue(db, site, "invitation", [email], subject, **values)


async def comment(db: Connection, site: Site, email: str, package: MailedPackage, author: str, contents: str) -> None:
    """Tell the owner of a package about a comment."""
    owner, name = package.owner, package.name
    subject = f"New comment on {owner}/{name}"
    url = f"{site.catalog_url}/package/{owner}/{name}/comments"
    await _queue(
        db, site, "comment", [email], subject, user=owner, package=name, author=author, contents=contents, url=url
    )  # fmt: skip


async def _queue(db: Connection, site: Site, kind: str, recipients: list[str], subject: str, **values: Any) -> None:
    text, html = (
        _templates.get_template(f"{kind}.{form}").render(site=site, subject=subject, **values)
        for form in ("txt", "html")
    )
    await outbox.queue(db, Email(kind, recipients, subject, text, html))
