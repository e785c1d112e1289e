"""Sign-up and activation. An account is inactive until the link in its email is followed.

onboarding.py decides who may sign up.
"""

from __future__ import annotations

from datetime import timedelta

import asyncpg
from msgspec import Struct

from quilt_registry import audit
from quilt_registry.accounts import email_links, passwords, users
from quilt_registry.accounts.users import Account
from quilt_registry.database import Connection, Database
from quilt_registry.mail import emails
from quilt_registry.mail.site import Site

# A repeated sign-up sends the activation email again, but not more often than this.
RESEND_INTERVAL = timedelta(minutes=1)


class Registration(Struct, frozen=True):
    """A completed sign-up form. `invitation`: the secret in the link of an invitation that led to it."""

    username: str
    email: str
    password: str
    invitation: str = ""


async def register(db: Database, site: Site, new: Registration, *, email_proven: bool) -> str:
    """Create an account and email the link that activates it. Return the link's secret. Raise Invalid or Conflict.

    `email_proven`: the user reads the mailbox. If the same username and email address still wait for activation, send
    the email again, but raise Conflict all the same. If the link of an earlier sign-up has expired unused, delete that
    account first, which releases its username and email address.
    """
    name, email = new.username, new.email
    async with db.transaction() as connection:
        await _delete_lapsed(connection, name, email)
        if email_proven:
            await _delete_unproven(connection, email)
        waiting = await _find_waiting(connection, name, email)
        if waiting:
            await _send_activation_again(connection, site, waiting)
    if await db.fetchval("SELECT EXISTS (SELECT FROM account WHERE name = $1)", name):
        raise users.NameTaken()
    if await db.fetchval("SELECT EXISTS (SELECT FROM account WHERE lower(email) = lower($1))", email):
        raise users.EmailTaken()
    password_hash = await passwords.hash(new.password)
    async with db.transaction() as connection:
        account_id = await users.insert(connection, name, email, password_hash, awaits_activation=True)
        link = await email_links.create(connection, account_id, "activation")
        await emails.activation(connection, site, name, email, link)
        await audit.record(connection, "ACCOUNT_REGISTER", name, subject=name)
        if email_proven:
            await users.prove_email(connection, account_id)
        return link


async def _delete_lapsed(connection: Connection, name: str, email: str) -> None:
    """Delete accounts with this username or email address that were not activated in time."""
    rows = await connection.fetch(
        """
        DELETE FROM account a WHERE awaits_activation AND (name = $1 OR lower(email) = lower($2)) AND NOT EXISTS
            (SELECT FROM link l WHERE l.account_id = a.id AND l.purpose = 'activation' AND l.expires_at > now())
        RETURNING name
        """,
        name,
        email,
    )
    await _record_lapse(connection, rows)


async def _delete_unproven(connection: Connection, email: str) -> None:
    """Delete a sign-up with an email address that nothing proved, because the mailbox's user signs up now."""
    rows = await connection.fetch(
        "DELETE FROM account WHERE awaits_activation AND NOT email_proven AND lower(email) = lower($1) RETURNING name",
        email,
    )
    await _record_lapse(connection, rows)


async def _record_lapse(connection: Connection, rows: list[asyncpg.Record]) -> None:
    """Revoke access that was granted to a deleted username, because its next owner may be a different person."""
    for row in rows:
        await connection.execute("DELETE FROM access WHERE grantee = $1", row["name"])
        await audit.record(connection, "ACCOUNT_LAPSE", None, subject=row["name"])


async def _find_waiting(connection: Connection, name: str, email: str) -> Account | None:
    """Return the account if it waits for activation and has not been emailed just now."""
    row = await connection.fetchrow(
        """
        SELECT id, name, email, is_admin, is_active FROM account a
        WHERE name = $1 AND lower(email) = lower($2) AND awaits_activation AND NOT EXISTS
            (SELECT FROM link l WHERE l.account_id = a.id AND l.created_at > now() - $3::interval)
        FOR UPDATE
        """,
        name, email, RESEND_INTERVAL,
    )  # fmt: skip
    return Account(*row) if row else None


async def _send_activation_again(connection: Connection, site: Site, account: Account) -> None:
    link = await email_links.create(connection, account.id, "activation")
    await emails.activation(connection, site, account.name, account.email, link, again=True)


async def resend_activation(connection: Connection, site: Site, account: Account) -> None:
    """Email a new activation link if an account waits for activation."""
    if await connection.fetchval("SELECT awaits_activation FROM account WHERE id = $1", account.id):
        await _send_activation_again(connection, site, account)


async def activate(db: Database, site: Site, link: str) -> Account | None:
    """Activate the account of a link, and email its user and all admins. Return None if the link is invalid."""
    async with db.transaction() as connection:
        account_id = await email_links.redeem(connection, link, "activation")
        row = await connection.fetchrow(
            """
            UPDATE account SET is_active = true, awaits_activation = false
            WHERE id = $1 AND awaits_activation RETURNING id, name, email, is_admin, is_active
            """,
            account_id,
        )
        if row is None:
            return None
        await emails.welcome(connection, site, row["name"], row["email"])
        await emails.user_joined(connection, site, await users.admin_emails(connection), row["name"], row["email"])
        await audit.record(connection, "ACCOUNT_ACTIVATE", row["name"], subject=row["name"])
        return Account(*row)
