"""Accounts: their names, addresses and passwords."""

from __future__ import annotations

import re
from email.errors import MessageError
from email.headerregistry import Address

import asyncpg
from msgspec import Struct

from quilt_registry import audit
from quilt_registry.accounts import passwords
from quilt_registry.database import Connection, Database
from quilt_registry.errors import Conflict, Invalid

RESERVED = {"team", "public", "anonymous", "quilt"}
LONGEST_EMAIL = 320  # characters
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL = re.compile(rf'[^\s@"-][^\s@"]*@{_LABEL}(\.{_LABEL})*')


class Account(Struct, frozen=True):
    """Somebody who may sign in. A name never changes; only one that was never activated is given away again."""

    id: int
    name: str
    email: str
    is_admin: bool
    is_active: bool


def is_user_name(name: str) -> bool:
    """Whether a text has the form of a user name; reserved ones have it too."""
    return _NAME.fullmatch(name) is not None


def is_email(email: str) -> bool:
    """Whether a text is a mail address that a letter can be sent to."""
    if not _EMAIL.fullmatch(email) or not email.isascii() or not email.isprintable():
        return False
    try:
        return Address(addr_spec=email).addr_spec == email
    except (ValueError, MessageError):
        return False


def check(name: str, email: str) -> None:
    """Raises Invalid for what cannot be an account's name or address, worded as the original's catalog compares it."""
    if not is_user_name(name) or name in RESERVED:
        raise Invalid("Invalid username.")
    if len(email) > LONGEST_EMAIL or not is_email(email):
        raise Invalid("Invalid email.")


async def insert(
    db: Database | Connection,
    name: str,
    email: str,
    password: str | None,
    *,
    is_admin: bool = False,
    awaits_activation: bool = False,
) -> int:
    """Store an account, `password` as it is kept; returns its id. Raises Conflict if name or address are taken."""
    try:
        return await db.value(
            int,
            """
            INSERT INTO account (name, email, password, is_admin, is_active, awaits_activation)
            VALUES ($1, $2, $3, $4, NOT $5, $5) RETURNING id
            """,
            name, email, password, is_admin, awaits_activation,
        )  # fmt: skip
    except asyncpg.UniqueViolationError as error:
        raise (name_taken() if error.constraint_name == "account_name" else email_taken()) from None


def invalid_username() -> Invalid:
    """The refusal for a text that cannot be a user name."""
    return Invalid(
        "Username is not valid. It starts with a lower-case letter, followed by lower-case letters, digits and _."
    )


def name_taken() -> Conflict:
    """The refusal for a user name that somebody has."""
    return Conflict("Username already taken.")


def email_taken() -> Conflict:
    """The refusal for an address that another account has."""
    return Conflict("Email already taken.")


async def create(db: Database, name: str, email: str, password: str, *, is_admin: bool = False) -> None:
    """Make an active account with a password, at the command line. Raises Invalid, Conflict."""
    check(name, email)
    digest = await passwords.hash(password)
    async with db.transaction() as connection:
        await insert(connection, name, email, digest, is_admin=is_admin)
        await audit.record(connection, "ACCOUNT_CREATE", None, subject=name, admin=is_admin)


async def any_admin(db: Database) -> bool:
    """Whether there is an active admin."""
    return await db.value(bool, "SELECT EXISTS (SELECT FROM account WHERE is_admin AND is_active)")


async def admin_emails(db: Database | Connection) -> list[str]:
    """The addresses of all active admins."""
    rows = await db.fetch("SELECT email FROM account WHERE is_admin AND is_active ORDER BY id")
    return [row["email"] for row in rows]
