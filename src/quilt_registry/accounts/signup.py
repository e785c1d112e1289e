"""Signing up: an account that waits until its letter's link is followed. packages/joining.py asks who may sign up."""

from __future__ import annotations

from datetime import timedelta

from msgspec import Struct

from quilt_registry import audit
from quilt_registry.accounts import email_links, passwords, users
from quilt_registry.accounts.users import Account
from quilt_registry.database import Connection, Database
from quilt_registry.mail import emails
from quilt_registry.mail.site import Site

# Whoever signs up once more gets a second letter, unless the first left just now.
AGAIN_AFTER = timedelta(minutes=1)


class Registration(Struct, frozen=True):
    """A sign-up, as it was sent."""

    username: str
    email: str
    password: str


async def register(db: Database, site: Site, new: Registration) -> None:
    """Make an account and mail the link that activates it. Raises Invalid, Conflict.

    A second try with the same name and address is refused as any taken name is, but sends the letter again. When the
    link has expired unused, the account lapses: name and address are free.
    """
    name, email = new.username, new.email
    async with db.transaction() as connection:
        await _let_lapse(connection, name, email)
        waiting = await _waiting(connection, name, email)
        if waiting:
            await _write_again(connection, site, waiting)
    if await db.fetchval("SELECT EXISTS (SELECT FROM account WHERE name = $1)", name):
        raise users.name_taken()
    if await db.fetchval("SELECT EXISTS (SELECT FROM account WHERE lower(email) = lower($1))", email):
        raise users.email_taken()
    digest = await passwords.hash(new.password)
    async with db.transaction() as connection:
        account_id = await users.insert(connection, name, email, digest, awaits_activation=True)
        link = await email_links.create(connection, account_id, "activation")
        await emails.activation(connection, site, name, email, link)
        await audit.record(connection, "ACCOUNT_REGISTER", name, subject=name)


async def _let_lapse(connection: Connection, name: str, email: str) -> None:
    """Delete accounts of that name or address that were never activated in time.

    What was shared with such a name goes along: the next one to have it is somebody else.
    """
    rows = await connection.fetch(
        """
        DELETE FROM account a WHERE awaits_activation AND (name = $1 OR lower(email) = lower($2)) AND NOT EXISTS
            (SELECT FROM link l WHERE l.account_id = a.id AND l.purpose = 'activation' AND l.expires_at > now())
        RETURNING name
        """,
        name,
        email,
    )
    for row in rows:
        await connection.execute("DELETE FROM access WHERE grantee = $1", row["name"])
        await audit.record(connection, "ACCOUNT_LAPSE", None, subject=row["name"])


async def _waiting(connection: Connection, name: str, email: str) -> Account | None:
    """The account of that name and address, if it waits and its letter did not leave just now."""
    row = await connection.fetchrow(
        """
        SELECT id, name, email, is_admin, is_active FROM account a
        WHERE name = $1 AND lower(email) = lower($2) AND awaits_activation AND NOT EXISTS
            (SELECT FROM link l WHERE l.account_id = a.id AND l.created_at > now() - $3::interval)
        FOR UPDATE
        """,
        name, email, AGAIN_AFTER,
    )  # fmt: skip
    return Account(*row) if row else None


async def _write_again(connection: Connection, site: Site, account: Account) -> None:
    link = await email_links.create(connection, account.id, "activation")
    await emails.activation(connection, site, account.name, account.email, link, again=True)


async def resend_activation(connection: Connection, site: Site, account: Account) -> None:
    """Mail a new activation link to an account that waits; nothing for any other."""
    if await connection.fetchval("SELECT awaits_activation FROM account WHERE id = $1", account.id):
        await _write_again(connection, site, account)


async def activate(db: Database, site: Site, link: str) -> bool:
    """Make the account of a link active, welcome its user, tell all admins. False if the link is not good."""
    async with db.transaction() as connection:
        account_id = await email_links.redeem(connection, link, "activation")
        row = await connection.fetchrow(
            """
            UPDATE account SET is_active = true, awaits_activation = false
            WHERE id = $1 AND awaits_activation RETURNING name, email
            """,
            account_id,
        )
        if row is None:
            return False
        await emails.welcome(connection, site, row["name"], row["email"])
        await emails.user_joined(connection, site, await users.admin_emails(connection), row["name"], row["email"])
        await audit.record(connection, "ACCOUNT_ACTIVATE", row["name"], subject=row["name"])
        return True
