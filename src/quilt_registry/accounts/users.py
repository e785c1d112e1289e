"""Accounts: usernames, email addresses and their validation."""

from __future__ import annotations

import re
from datetime import datetime
from email.errors import MessageError
from email.headerregistry import Address

import asyncpg
from msgspec import Struct

from quilt_registry import audit
from quilt_registry.accounts import passwords
from quilt_registry.database import Connection, Database
from quilt_registry.errors import Conflict, Invalid

RESERVED_USERNAMES = {"team", "public", "anonymous", "quilt"}
MAX_EMAIL_LENGTH = 320  # characters
MAX_SUGGESTIONS = 8
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL = re.compile(rf'[^\s@"-][^\s@"]*@{_LABEL}(\.{_LABEL})*')


class Account(Struct, frozen=True):
    """A user account. Its name never changes, and is reused only if the account was never activated."""

    id: int
    name: str
    email: str
    is_admin: bool
    is_active: bool


def is_username(name: str) -> bool:
    """Return whether a text has the form of a username. Reserved names have it too."""
    return _NAME.fullmatch(name) is not None


def is_email(email: str) -> bool:
    """Return whether a text is an email address that can receive email."""
    if not _EMAIL.fullmatch(email) or not email.isascii() or not email.isprintable():
        return False
    try:
        return Address(addr_spec=email).addr_spec == email
    except (ValueError, MessageError):
        return False


class Profile(Struct, frozen=True):
    """What a user's page shows. The email address is for admins only."""

    name: str
    email: str
    created_at: datetime
    is_admin: bool
    is_active: bool


async def find_profile(db: Database, name: str) -> Profile | None:
    """Return the profile of a user, or None if there is none or the account was never activated."""
    row = await db.fetchrow(
        """
        SELECT name, email, created_at, is_admin, is_active FROM account
        WHERE name = $1 AND NOT awaits_activation
        """,
        name,
    )
    return Profile(*row) if row else None


def may_be_email(email: str) -> bool:
    """Return whether a new user may have an email address."""
    return len(email) <= MAX_EMAIL_LENGTH and is_email(email)


def check(name: str, email: str) -> None:
    """Raise Invalid unless username and email address are acceptable. The original catalog compares the texts."""
    if not is_username(name) or name in RESERVED_USERNAMES:
        raise Invalid("Invalid username.")
    if not may_be_email(email):
        raise Invalid("Invalid email.")


async def insert(
    db: Database | Connection,
    name: str,
    email: str,
    password_hash: str | None,
    *,
    is_admin: bool = False,
    awaits_activation: bool = False,
) -> int:
    """Store an account and return its id. Raise Conflict if the username or the email address is taken.

    The email address of an account that awaits activation is not proven yet (`prove_email`).
    """
    try:
        return await db.value(
            int,
            """
            INSERT INTO account (name, email, password, is_admin, is_active, awaits_activation, email_proven)
            VALUES ($1, $2, $3, $4, NOT $5, $5, NOT $5) RETURNING id
            """,
            name, email, password_hash, is_admin, awaits_activation,
        )  # fmt: skip
    except asyncpg.UniqueViolationError as error:
        raise (NameTaken() if error.constraint_name == "account_name" else EmailTaken()) from None


async def prove_email(db: Database | Connection, account_id: int) -> None:
    """Record that the user of an account reads the mailbox, so that invitations for its address are for this user."""
    await db.execute("UPDATE account SET email_proven = true WHERE id = $1 AND NOT email_proven", account_id)


async def find_by_email(db: Database, email: str) -> str | None:
    """Return the name of the active account with a proven email address, if any."""
    name: str | None = await db.fetchval(
        "SELECT name FROM account WHERE lower(email) = lower($1) AND email_proven AND is_active", email
    )
    return name


async def suggest(db: Database, prefix: str) -> list[str]:
    """Return the first names of active accounts that begin with a text, by name."""
    rows = await db.fetch(
        "SELECT name FROM account WHERE is_active AND starts_with(name, $1) ORDER BY name LIMIT $2",
        prefix, MAX_SUGGESTIONS,
    )  # fmt: skip
    return [row["name"] for row in rows]


def invalid_username() -> Invalid:
    """Return the error for a malformed username."""
    return Invalid("Username is not valid. Use a lower-case letter, followed by lower-case letters, digits and _.")


class NameTaken(Conflict):
    """Another account has the username."""

    def __init__(self) -> None:
        super().__init__("Username already taken.")


class EmailTaken(Conflict):
    """Another account has the email address."""

    def __init__(self) -> None:
        super().__init__("Email already taken.")


async def create(db: Database, name: str, email: str, password: str, *, is_admin: bool = False) -> None:
    """Create an active account with a password, from the command line. Raise Invalid or Conflict."""
    check(name, email)
    password_hash = await passwords.hash(password)
    async with db.transaction() as connection:
        await insert(connection, name, email, password_hash, is_admin=is_admin)
        await audit.record(connection, "ACCOUNT_CREATE", None, subject=name, admin=is_admin)


async def find(db: Database, name: str) -> Account | None:
    """Return the account with a username, if any."""
    row = await db.fetchrow("SELECT id, name, email, is_admin, is_active FROM account WHERE name = $1", name)
    return Account(*row) if row else None


async def has_admin(db: Database) -> bool:
    """Return whether an active admin exists."""
    return await db.value(bool, "SELECT EXISTS (SELECT FROM account WHERE is_admin AND is_active)")


async def admin_emails(db: Database | Connection) -> list[str]:
    """Return the email addresses of all active admins."""
    rows = await db.fetch("SELECT email FROM account WHERE is_admin AND is_active ORDER BY id")
    return [row["email"] for row in rows]
